"""What others published at the same towers: read without sealed ones, scored by the same rule."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdata
import xarray as xr

from tamrl.data import published
from tamrl.data.published import OZFLUX, PRODUCTS, fetch_network_gpp, fetch_ozflux, pmodel_scores
from tamrl.data.schema import FLUXES, SEALED
from tamrl.data.towers import fetch_daytime_gpp
from tamrl.errors import DataError
from tamrl.samples.arrays import Samples, make_samples
from tamrl.study.comparisons.labels import month_sums, overall, partitionings, processings
from tamrl.study.comparisons.published import against_networks, against_products, beside_pmodel

Patch = pytest.MonkeyPatch


def guesses(samples: Samples, noise: float) -> xr.Dataset:
    """Predict the labels of all towers, each with an error."""
    rng = np.random.default_rng(1)
    y = samples.y[None] + rng.normal(0, noise, (1, *samples.y.shape))
    axes = {"model": ["mine"], "site": samples.site, "time": samples.time.astype("M8[ns]")}
    return xr.Dataset({f: ([*axes], y[..., i]) for i, f in enumerate(samples.targets)}, axes)


def test_networks_are_read_without_sealed_towers(tmp_path: Path, monkeypatch: Patch) -> None:
    table = pd.DataFrame({"sitename": ["US-Ha1", "AU-Wom"], "date": [1.0, 2.0], "GPP_pred": 5.0})
    table = table.astype({"sitename": object})  # rdata cannot write pandas' own strings everywhere
    paths = [tmp_path / "lstm.rds", tmp_path / "fcn.rds"]
    for path in paths:
        rdata.write_rds(path, table)
    monkeypatch.setattr(published.cache, "fetch", lambda names: paths)
    ds = fetch_network_gpp()
    assert ds.site.values.tolist() == ["US-Ha1"]
    assert ds.GPP.sel(time="1970-01-02").values.tolist() == [[5.0], [5.0]]
    rdata.write_rds(paths[1], table.drop(columns="date"))
    with pytest.raises(DataError, match=r"fcn.rds: columns \['date'\] are missing"):
        fetch_network_gpp()


def test_ozflux_is_read_without_sealed_towers(tmp_path: Path, monkeypatch: Patch) -> None:
    towers = pd.DataFrame({"site": ["AU-Tum", "AU-Wom"], "file": ["Tumba", "Womba"]})
    columns = ["GPP_SOLO_EC", "ER_SOLO_EC", *(f"{name}_GPP" for name in PRODUCTS.values())]
    path, row = tmp_path / "Tumba.csv", pd.DataFrame([np.arange(9.0, 17)], columns=columns)
    more = {"Ta_EC": 3.0, "VPD_EC": 4.0, "Fsd_EC": 90.0, "x_coord": 148.2, "y_coord": -35.7}
    row.assign(time="2002-02-15", **more).to_csv(path)
    monkeypatch.setattr(published, "facts", lambda _: towers)
    monkeypatch.setattr(published.cache, "fetch", lambda names: [path] * len(names))
    ds = fetch_ozflux().sel(site=["AU-Tum"], month=["2002-02-01"])
    assert ds.site.size == fetch_ozflux().site.size
    assert [ds[f].sel(source=OZFLUX).item() for f in ("GPP", "RECO")] == [9.0, 10.0]
    assert ds.GPP.sel(source="AusEFlux").item() == 16.0
    assert np.isnan(ds.NEE).all()
    assert [ds[n].item() for n in ("TA", "VPD", "SW_IN", "lat", "lon")] == [3, 4, 90, -35.7, 148.2]


def test_networks_are_scored_on_the_days_that_all_predict(samples: Samples) -> None:
    mine, theirs = guesses(samples, 1.0)[["GPP"]], guesses(samples, 2.0)[["GPP"]]
    theirs = theirs.assign_coords(model=["theirs"]).isel(site=slice(2, 6))
    theirs["GPP"][:, 0, :500] = np.nan
    table = against_networks(mine, samples, theirs).set_index("model")
    truth = samples.y[2:6, :, 0].astype(float)
    used = samples.scored[2:6] & np.isfinite(theirs.GPP[0].values)
    for name, guess in (("mine", mine.GPP[0, 2:6].values), ("theirs", theirs.GPP[0].values)):
        row, squares = table.loc[name], (guess - truth) ** 2
        assert (row.towers, row.days) == (4, used.sum())
        r2 = 1 - squares[used].mean() / truth[used].var()
        assert list(row[["RMSE", "R2"]]) == pytest.approx([squares[used].mean() ** 0.5, r2])
        rmse = [np.sqrt(squares[i, used[i]].mean()) for i in range(4)]
        r = [np.corrcoef(guess[i, used[i]], truth[i, used[i]])[0, 1] for i in range(4)]
        both = [np.mean(rmse), np.median(np.square(r))]
        assert list(row[["tower_RMSE", "r2_50"]]) == pytest.approx(both)
    scores = pd.DataFrame({"r2": 0.5, "rmse": [1, 7.0], "days": [3, 1]}, samples.site[:2])
    row = beside_pmodel(mine, samples, scores).iloc[-1]
    assert list(row[["RMSE", "tower_RMSE", "days"]]) == pytest.approx([np.sqrt(13), 4, 4])


def test_products_are_scored_by_months_against_both_labels(
    samples: Samples, virtual: xr.Dataset
) -> None:
    """A product 10 above OzFlux, which is 5 above the data, is 15 above the data."""
    own = month_sums(virtual[[*FLUXES]].isel(site=slice(3)))
    ozflux = xr.concat([own + 5, own + 15], "source").assign_coords(source=[OZFLUX, "GOSIF"])
    table = against_products(guesses(samples, 0.0), samples, ozflux)
    rmse = table[table.flux == "GPP"].set_index(["labels", "model"]).RMSE.round(3).to_dict()
    assert rmse == {
        (OZFLUX, "FLUXNET2015"): 5, (OZFLUX, "mine"): 5, (OZFLUX, "GOSIF"): 10,
        ("FLUXNET2015", "mine"): 0, ("FLUXNET2015", OZFLUX): 5, ("FLUXNET2015", "GOSIF"): 15,
    }  # fmt: skip
    with pytest.raises(DataError, match="no tower-month"):
        against_products(guesses(samples, 0.0), samples, ozflux * np.nan)


@pytest.mark.slow
def test_real_rivals(need: Callable[[str], None], real_towers: xr.Dataset) -> None:
    """Figures that an independent reading of the same files gave."""
    need("reference/")
    networks, ozflux, samples = fetch_network_gpp(), fetch_ozflux(), make_samples(real_towers)
    for sites in (networks.site.values, ozflux.site.values, pmodel_scores().index):
        assert not SEALED & {*sites}
    table = against_networks(guesses(samples, 0.0), samples, networks).set_index("model")
    best = table.loc["FCN, GECO Bern"]
    assert (best.towers, best.days) == (46, pytest.approx(154_000, rel=0.01))
    assert list(best[["RMSE", "R2_50"]]) == pytest.approx([2.00, 0.69], abs=0.01)
    months = processings(real_towers, ozflux)
    assert overall(months).mean_RMS.tolist()[:2] == pytest.approx([0.74, 0.85], abs=0.03)
    tumbarumba = months[(months.flux == "GPP") & (months.site == "AU-Tum")]
    assert tumbarumba[["first", "second"]].values.tolist()[0] == pytest.approx([9.2, 6.5], abs=0.2)


@pytest.mark.slow
def test_real_partitionings(real_towers: xr.Dataset) -> None:
    day = fetch_daytime_gpp()
    assert not (np.isfinite(day.GPP_DT) & np.isnan(real_towers.GPP)).any()
    gap = overall(partitionings(real_towers, day)).iloc[0]
    assert (gap.towers, gap.days) == (179, pytest.approx(341_000, rel=0.01))
    assert list(gap[["RMS", "mean_RMS"]]) == pytest.approx([1.20, 0.31], abs=0.02)
