"""Samples: drivers, labels and masks as arrays, and splits of towers.

Read `arrays` first; `splits` chooses training towers, `site_attributes` are those of the grid,
`satellites` removes satellite data.
"""
