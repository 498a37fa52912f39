"""Towers, predictors and grids as xarray Datasets with units, from registry, cache or a user."""

from tamrl.data.towers import fetch_towers

__all__ = ["fetch_towers"]
