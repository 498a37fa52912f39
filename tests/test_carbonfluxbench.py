"""The authors' benchmark: its files, splits, test days and scores, against plain computations."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split
from typer.testing import CliRunner

from tamrl.cli.app import app
from tamrl.data import carbonfluxbench as files
from tamrl.data.carbonfluxbench import BANDS, DEW, ERA5, RAIN, REFLECTANCE, SUN, TA, read_benchmark
from tamrl.errors import DataError
from tamrl.evaluate.carbonfluxbench import find_test_days, quantiles, score_sites, split_sites
from tamrl.samples.arrays import make_samples

pytest.importorskip("pyarrow")
SITES = [f"XX-{i:03}" for i in range(16)]
NETWORK = ("FLX_", "AMF_", "ICOSETC_", "JPX_")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write sixteen towers: gaps, missing labels, doubled rows, fluxes that do not close."""
    rng, tables = np.random.default_rng(0), {files.FLUXES: [], ERA5: [], files.MODIS: []}
    days = pd.date_range("2004-01-01", "2004-06-30")
    for i, site in enumerate(SITES):
        on = pd.date_range("2003-12-01", "2004-06-30") if i % 2 else days
        y = pd.DataFrame(rng.normal(2, 1, (len(days), 4)), columns=list(files.LABELS))
        y["NEE_VUT_USTAR50_QC"] = np.where(rng.random(len(days)) < 0.7, 1.0, 0.6)
        y.loc[rng.choice(len(days), 3, False), "GPP_NT_VUT_USTAR50"] = -9999
        y = y.assign(site=site, lat=40.12345 + i, lon=10.0 * i, IGBP="ENF" if i < 12 else "GRA")
        y["TIMESTAMP"] = days.strftime("%Y%m%d").astype(int)
        tables[files.FLUXES].append(y.drop(index=rng.choice(len(days), 2, False)))
        x = pd.DataFrame({"date": on, "site": f"{NETWORK[i % 4]}{site}", DEW: 279.0, RAIN: 0.002})
        x[[TA, "soil"]] = rng.normal(285, 3, (len(on), 2))
        tables[ERA5].append(x.assign(**{SUN: rng.uniform(5e6, 2e7, len(on))}).drop(index=[120]))
        bands = pd.DataFrame(rng.uniform(0.1, 0.3, (len(on), len(BANDS))), columns=BANDS)
        tables[files.MODIS].append(bands[rng.random(len(on)) < 0.7].join(x[["date", "site"]]))
    tables[ERA5].append(tables[ERA5][3].iloc[:5].assign(**{TA: 300.0}))
    for name, parts in tables.items():
        pd.concat(parts, ignore_index=True).to_parquet(tmp_path / name)
    koppen = {s: "DC"[i % 2] for i, s in enumerate(SITES)}
    content = {"minimal": [TA, SUN, "soil"]}, koppen, {s: f"{k}fb" for s, k in koppen.items()}
    for name, each in zip(files.JSON, content, strict=True):
        (tmp_path / name).write_text(json.dumps(each))
    return tmp_path


def test_files_become_towers_that_models_can_use(folder: Path) -> None:
    """Prefixes go, a doubled row's first counts, labels stay as they are, drivers without them."""
    bench = read_benchmark(folder)
    assert (bench.towers, bench.doubled, bench.minimal) == (16, 5, [TA, SUN, "soil"])
    assert set(bench.era5.site) == set(bench.modis.site) == set(bench.labels.site) == set(SITES)
    assert bench.era5[TA].max() < 300
    towers, monthly = files.benchmark_towers(bench), files.benchmark_predictors(bench)
    samples, row = make_samples(towers, monthly), bench.labels.iloc[40]
    day = towers.sel(site=row.site, time=row.date)
    assert abs(row.RECO - row.GPP - row.NEE) > 1e-3
    assert [day[f].item() for f in ("GPP", "NEE")] == pytest.approx([row.GPP, row.NEE], rel=1e-6)
    era5 = bench.era5.set_index(["site", "date"]).loc[(row.site, row.date)]
    saturation = [6.108 * np.exp(17.27 * t / (t + 237.3)) for t in era5[[TA, DEW]] - 273.15]
    expected = [max(saturation[0] - saturation[1], 0), era5[SUN] / 86400]
    assert [day.VPD.item(), day.SW_IN.item()] == pytest.approx(expected, rel=1e-5)
    assert monthly.PRCP.mean().item() == pytest.approx(2)
    assert samples.has_drivers.sum() > np.isfinite(samples.y).all(-1).sum() > 2000
    assert np.isfinite(samples.x[..., samples.features.index("NDWI")]).any()


def test_splits_are_the_authors(folder: Path) -> None:
    """By climate one draw with their seed; rare vegetation classes are halved, none is in both."""
    labels = read_benchmark(folder).labels
    climate = ["DC"[i % 2] for i in range(16)]
    drawn = train_test_split(SITES, test_size=0.2, stratify=climate, random_state=56)
    assert split_sites(labels, "koppen") == (sorted(drawn[0]), sorted(drawn[1]))
    train, test = split_sites(labels, "igbp")
    assert sorted(train + test) == SITES
    assert (sum(s >= SITES[12] for s in test), len(test)) == (2, 5)


def test_test_days_end_complete_windows(folder: Path) -> None:
    """Day by day: 30 days with a row of labels, or before them all, and drivers; then QC = 1."""
    bench, expected = read_benchmark(folder), []
    known, day = set(zip(bench.era5.site, bench.era5.date, strict=True)), pd.Timedelta(1, "D")
    for site, rows in bench.labels.groupby("site"):
        have = set(rows.date)
        for date in rows.date[rows.NEE_QC == 1]:
            window = [date - k * day for k in range(30)]
            if all((site, d) in known and (d in have or d < min(have)) for d in window):
                expected.append((site, date))
    assert list(find_test_days(bench, SITES).itertuples(index=False, name=None)) == expected
    assert 100 < len(expected) < (bench.labels.NEE_QC == 1).sum()


def test_scores_are_plain_statistics_of_a_tower(folder: Path) -> None:
    """R2, RMSE, nMAE and RAE by hand; a day without a prediction is refused, not left out."""
    observed = read_benchmark(folder).labels.set_index(["site", "date"])[["GPP", "RECO", "NEE"]]
    predicted = 0.5 * observed + 1
    scores = score_sites(observed, predicted).set_index(["target", "site"])
    y, p = (table.loc[SITES[2], "RECO"].to_numpy() for table in (observed, predicted))
    error, spread = np.abs(p - y).mean(), np.abs(y - y.mean()).mean()
    mse = ((p - y) ** 2).mean()
    expected = [1 - mse / y.var(), mse**0.5, error / abs(y.mean()), error / spread]
    assert scores.loc[("RECO", SITES[2])].tolist() == pytest.approx(expected)
    table = quantiles(scores.reset_index()).set_index("target")
    assert table.loc["NEE", "R2_q25"] == pytest.approx(np.percentile(scores.loc["NEE"].R2, 25))
    with pytest.raises(DataError, match=r"1 of .* not predicted"):
        score_sites(observed, predicted[1:])


def test_what_is_wrong_is_said(folder: Path) -> None:
    """A column, a unit, a file: each by name."""
    good = pd.read_parquet(folder / ERA5)
    for bad, text in ((good.drop(columns=SUN), f"column {SUN}"), (good.replace(279, 6), DEW)):
        bad.to_parquet(folder / ERA5)
        with pytest.raises(DataError, match=rf"ERA5.parquet.*{text}"):
            read_benchmark(folder)
    (folder / files.MODIS).unlink()
    with pytest.raises(DataError, match=r"no MOD09GA.*huggingface"):
        read_benchmark(folder)


TURNED = [*files.LABELS]
FAULTS: dict[str, tuple[str, Callable[[pd.DataFrame], dict[str, object]], str]] = {
    "light in W m-2": (ERA5, lambda t: {SUN: t[SUN] / 86400}, "never exceeds .* not in J m-2 d-1"),
    "light in words": (ERA5, lambda t: {SUN: "bright"}, "not as published .*download it again"),
    "rain in mm": (ERA5, lambda t: {RAIN: t[RAIN] * 400}, "in the mean, so it is not in m d-1"),
    "dew for air": (ERA5, lambda t: {DEW: t[TA], TA: t[DEW]}, "above temperature_2m on most"),
    "stamps at noon": (ERA5, lambda t: {"date": t.date + pd.Timedelta("12h")}, ":00 is no day"),
    "days in words": (ERA5, lambda t: {"date": "first"}, "not as published"),
    "reflectance in %": (files.MODIS, lambda t: t[REFLECTANCE] * 100, "not all in 1e-4, or all sh"),
    "a band in 1e-4": (files.MODIS, lambda t: {BANDS[2]: t[BANDS[2]] * 1e4}, "not all in 1e-4"),
    "NEE turned": (files.FLUXES, lambda t: {TURNED[2]: t[TURNED[0]].clip(0) - t[TURNED[1]]},
                   "NEE is GPP - RECO, so its sign is turned"),
    "a tower by number": (files.FLUXES, lambda t: {"site": range(len(t))}, "not as published"),
    "places in words": (files.FLUXES, lambda t: {"lat": "north"}, "not as published"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_tables_that_would_be_misread(fault: str, folder: Path) -> None:
    name, change, words = FAULTS[fault]
    table = pd.read_parquet(folder / name)
    table.assign(**dict(change(table))).to_parquet(folder / name)
    with pytest.raises(DataError, match=words):
        read_benchmark(folder)


@pytest.mark.slow
def test_the_command(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our rows beside the authors', said not to be comparable; nothing is computed twice."""
    monkeypatch.chdir(folder)
    command = "compare carbonfluxbench --folder . --split koppen --epochs 1 --seeds 1 --jobs 1"
    said = [CliRunner().invoke(app, f"{command} --only TAM-RL --only LightGBM") for _ in range(2)]
    assert all("NOT COMPARABLE" in each.stdout for each in said), said[0].output
    assert len(list(Path("runs/carbonfluxbench/cv").glob("*.npz"))) == 2
    table = pd.read_csv("runs/carbonfluxbench/koppen_1-seeds_1-epochs/table.csv", comment="#")
    assert list(table.of) == ["this study"] * 6 + ["authors, other towers"] * 69
    assert (table.n_sites[:6] == 4).all()
    assert np.isfinite(table.filter(regex="q50")).all(axis=None)
