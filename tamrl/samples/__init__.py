"""From towers to arrays, masks and splits: what every model is trained and scored on.

Read `arrays` first; `splits` says which towers are trained on, `site_attributes` what the grid
knows of a place, `satellites` what is left without them.
"""
