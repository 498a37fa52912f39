"""Towers, predictors and grids as xarray Datasets with units, from registry, cache or a user."""

from tamrl.data.grid import fetch_grid, grid_at
from tamrl.data.own.user import open_towers
from tamrl.data.reference import carbon_budget_2019, fetch_reccap, fetch_reference_gpp
from tamrl.data.sites import fetch_annual_towers, fetch_methane_towers, fetch_tower_predictors
from tamrl.data.towers import fetch_towers

__all__ = [
    "carbon_budget_2019", "fetch_annual_towers", "fetch_grid", "fetch_methane_towers",
    "fetch_reccap", "fetch_reference_gpp", "fetch_tower_predictors", "fetch_towers", "grid_at",
    "open_towers",
]  # fmt: skip
