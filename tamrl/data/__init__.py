"""Towers, predictors and grids as xarray Datasets with units, from registry, cache or a user."""
