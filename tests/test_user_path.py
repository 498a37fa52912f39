"""The path of a user is the path of the benchmark: the same weights and towers, equal fluxes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from settings import QUICK, SMALL
from typer.testing import CliRunner

from tamrl.cli.app import app
from tamrl.data.schema import FLUXES
from tamrl.evaluate.crossval import cross_validate
from tamrl.model.train import TamRLModel
from tamrl.rivals.boosting import Boosting
from tamrl.samples.arrays import DAILY, make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.samples.splits import folds
from tamrl.shipped import weights_file
from tamrl.shipped.annual import AnnualPrior, AnnualRescaling
from tamrl.shipped.blend import Blend
from tamrl.shipped.ensemble import ALL
from tamrl.shipped.out_of_fold import fold_ensembles
from tamrl.virtual.phenology import virtual_phenology
from tamrl.virtual.towers import virtual_predictors


def small_ensemble() -> AnnualRescaling:
    """Make what the shipped ensemble is made of: networks and trees, priors, rescaling."""
    network = AnnualPrior(TamRLModel(SMALL, QUICK), ALL)
    trees = AnnualPrior(Boosting(trees=20, tune=False))
    return AnnualRescaling(Blend((network, trees), (2.0, 1.0)), 0.25)


@pytest.mark.parametrize("satellites", [True, False])
def test_files_and_weights_of_a_fold_give_the_fluxes_that_were_scored(
    virtual: xr.Dataset, globe: xr.Dataset, tmp_path: Path, satellites: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Bit for bit, fold by fold: held-out towers as csv, through the command line."""
    monkeypatch.setattr("tamrl.data.fetch_grid", lambda: globe)
    seen, evi = virtual_predictors(virtual), virtual_phenology(virtual)
    months = pd.date_range("2000-12-01", "2004-01-01", freq="MS")  # satellites outlive the towers
    monthly = seen.reindex(month=months)
    every = with_phenology(make_samples(virtual, monthly, globe), evi)
    scored = every if satellites else with_phenology(make_samples(virtual, None, globe), None)
    parts, members = folds(every, 2), (0, 1)
    ensembles = fold_ensembles(every, small_ensemble, parts, len(members), tmp_path / "folds")
    for part, fold in zip(parts, ensembles, strict=True):
        held_out = virtual.isel(site=part.test)
        folder = tmp_path / part.name
        folder.mkdir()
        for site in held_out.site.to_numpy():
            days = held_out.sel(site=site)[list(DAILY)].to_dataframe()[list(DAILY)]
            days.rename_axis("date").to_csv(folder / f"{site}.csv")
        facts = ["lat", "lon", "igbp", "koppen", "elevation"]
        table = held_out[facts].reset_coords()[facts].to_dataframe()
        table.to_csv(tmp_path / f"{part.name}.csv")
        loaded = [weights_file.load(path, "cpu") for path in fold.members]
        weights = tmp_path / f"{part.name}.safetensors"
        head = loaded[0][1] | {"members": len(members)}
        weights_file.write([m for each, _ in loaded for m in each], weights, head)
        options = ["--table", f"{tmp_path / part.name}.csv", "--model", str(weights)]
        for name, what in {"monthly": monthly, "evi": evi}.items() if satellites else ():
            own = what.reindex(site=held_out.site).to_dataframe().reset_index()
            own = own.rename(columns={"month": "date", "time": "date"})
            own.to_csv(folder / f"{name}.csv.txt", index=False)
            options += ["--satellites", str(folder / f"{name}.csv.txt")]
        output = tmp_path / f"{part.name}.nc"
        done = CliRunner().invoke(app, ["predict", str(folder), *options, "-o", str(output)])
        assert done.exit_code == 0, done.output
        with xr.open_dataset(output) as fluxes:
            order = [fluxes.site.to_numpy().astype(str).tolist().index(s) for s in held_out.site]
            got = np.stack([fluxes[f].isel(station=order).T.to_numpy() for f in FLUXES], -1)
            on = np.isin(every.time, fluxes.time.to_numpy().astype("datetime64[D]"))
        if satellites:
            made = {"ensemble": small_ensemble}
            asked = cross_validate(every, made, [part], members, tmp_path / "cv", 1)
            want = np.stack([asked[f].isel(model=0).to_numpy() for f in FLUXES], -1)[part.test]
        else:
            each = [m.predict(scored, part.test) for models, _ in loaded for m in models]
            want = np.mean(each, 0)
        assert np.isfinite(want).any()
        np.testing.assert_array_equal(got[..., :2], want[:, on, :2])
        # The command's NEE closes to the last bit; a mean of members that close rounds otherwise.
        np.testing.assert_array_equal(got[..., 2], got[..., 1] - got[..., 0])
        np.testing.assert_allclose(got[..., 2], want[:, on, 2], rtol=0, atol=2e-6)
