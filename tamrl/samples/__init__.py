"""Samples: drivers, labels and masks as arrays (`arrays`), splits of towers, sites on the grid."""
