"""What drives fluxes, right where the truth is known; what satellites are worth under clouds."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

from tamrl import plots
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import SATELLITE, Samples, make_samples, process_scalars
from tamrl.samples.splits import folds
from tamrl.study.drivers import attribution
from tamrl.study.drivers import permutation as exchange
from tamrl.study.drivers.attribution import attributions, by_group, gates_by_class, latents
from tamrl.study.drivers.clouds import cloud, gap_curve
from tamrl.study.drivers.permutation import GROUPS, members, permutation
from tamrl.study.out_of_fold import Fitted, bootstrap_rmse, fit_folds, on_device, trained
from tamrl.virtual.towers import virtual_predictors, virtual_towers

pytestmark = pytest.mark.slow

BOTH = "light x greenness"  # absorbed light
ORDER = np.random.default_rng(0).permutation(60)
TRAIN, VALID, TEST = ORDER[:40], ORDER[40:45], ORDER[45:]


@pytest.fixture(scope="module")
def samples() -> Samples:
    towers = virtual_towers(n=60, seed=1, years=(2001, 2002), noise=False)
    return make_samples(towers, virtual_predictors(towers))


@pytest.fixture(scope="module")
def model(samples: Samples) -> TamRLModel:
    net = {"hidden": 32, "latent": 8, "dropout": 0.0}
    recipe = Recipe(epochs=30, drop_satellite=0, drop_driver=0, hide=0.2)
    return TamRLModel(net, recipe).fit(samples, TRAIN, VALID, 0)


@pytest.fixture(scope="module")
def rise(samples: Samples, model: TamRLModel) -> pd.DataFrame:
    groups = {**GROUPS, BOTH: GROUPS["light"] + GROUPS["greenness"]}
    return permutation([Fitted(model, TEST)], samples, groups=groups)


def test_known_drivers_come_out_on_top(rise: pd.DataFrame) -> None:
    """Production is made from absorbed light, respiration from warmth (tamrl.virtual.simulator)."""
    table = rise[rise.igbp == "all"].pivot_table("rise", "predictors", "flux")
    assert table.GPP.idxmax() == BOTH
    assert set(table.GPP.drop([BOTH, "temperature"]).nlargest(2).index) == {"greenness", "light"}
    assert table.RECO.idxmax() == "temperature"
    assert table.GPP[BOTH] > table.GPP[["light", "greenness"]].max()  # they multiply
    assert (table.loc["water"] < 0.2 * table.max()).all()


def test_every_biome_has_its_own_row_and_interval(rise: pd.DataFrame, samples: Samples) -> None:
    assert set(rise.igbp) == {"all", *samples.table.igbp.iloc[TEST]}
    counts = rise.groupby("igbp").towers.first()
    assert counts["all"] == counts.drop("all").sum() == len(TEST)
    whole = rise[rise.igbp == "all"]
    assert whole.rise.between(whole.lower, whole.upper).mean() > 0.9
    assert {exchange.FACTS, exchange.HISTORY} <= set(rise.predictors)


def test_attributions_add_up_to_the_change(samples: Samples, model: TamRLModel) -> None:
    """Completeness: what drivers and days are given is the flux less that of mean drivers."""
    found = attributions(model, samples, TEST[:8], days=3, length=60)
    total = found.attribution.sum(("lag", "driver"))
    assert float(abs(found.change).mean()) > 0.5
    assert float(abs(total - found.change).max()) < 0.02 * float(abs(found.change).max())
    np.testing.assert_allclose(by_group(found).sum(("lag", "predictors")), total, atol=1e-4)
    nee = found.attribution.sel(flux="RECO") - found.attribution.sel(flux="GPP")
    assert float(abs(found.attribution.sel(flux="NEE") - nee).max()) < 1e-3


def test_temperature_leads_respiration(samples: Samples, model: TamRLModel) -> None:
    farmed = samples.table.igbp.to_numpy(str)[TEST] == "CRO"  # there it follows what was sown
    for towers, leads in ((TEST[~farmed], "temperature"), (TEST[farmed], "greenness")):
        found = attributions(model, samples, towers, days=3, length=60)
        reco = found.attribution.sel(flux="RECO")
        shares = {
            group: float(abs(reco[..., at].sum(("lag", "driver"))).mean())
            for group, at in members(samples.features).items()
        }
        assert max(shares, key=lambda group: shares[group]) == leads
    found = attributions(model, samples, TEST, days=3, length=60)
    light = abs(found.attribution.sel(flux="GPP", driver="SW_IN")).mean("sample")
    assert int(light.lag[int(light.values.argmax())]) == 0


def test_what_is_missing_gets_no_credit_and_no_blame(samples: Samples, model: TamRLModel) -> None:
    names = tuple(f for f in samples.features if f.startswith(GROUPS["greenness"]))
    leafless = samples.without(names)
    found = attributions(model, leafless, TEST[:2], days=2, length=30, steps=8)
    assert float(abs(found.attribution.sel(driver=list(names))).max()) == 0
    table = permutation([Fitted(model, TEST)], leafless, n_boot=20)
    assert (table[table.predictors == "greenness"].rise == 0).all()


def test_an_exchange_moves_one_group(samples: Samples, model: TamRLModel) -> None:
    """The same values on other days; process scalars of the exchanged drivers, not the old ones."""
    part, where = samples.select(TEST), members(samples.features)
    net, data = on_device(model, part)
    out = exchange.exchanged(data, part, "temperature", where, np.random.default_rng(0))
    changed = (out.x != data.x).any(0).nonzero()[:, 0].tolist()
    assert changed == where["temperature"]
    assert torch.equal(data.x, on_device(model, part)[1].x)  # the original is whole
    i = part.features.index("TA")
    assert torch.equal(out.x[:, i].sort()[0], data.x[:, i].sort()[0])
    raw = torch.where(out.seen, out.x * net.x_sd + net.x_mean, torch.nan)
    drivers = (raw[..., part.features.index(n)] for n in exchange.SCALARS)
    scalars = process_scalars(*drivers, xp=torch)
    torch.testing.assert_close(out.process, scalars.nan_to_num(1), rtol=1e-3, atol=1e-3)


def test_latent_contributions_make_the_flux(samples: Samples, model: TamRLModel) -> None:
    net = trained(model)
    found = latents(model, samples, TEST[:4], days=5, length=60)
    assert found.flux.values.tolist() == ["GPP", "RECO"]  # NEE follows from them
    assert 0 < float(found.gate.min()) < float(found.gate.max()) < 2
    w = attribution.scored_windows(model, samples, TEST[:4], 5, 60, 0)
    raw = torch.from_numpy(found.contribution.values.sum(-1)) + net.bias
    with torch.no_grad():
        again = net.close(raw[:, None], w.process[:, -1:])[:, 0]
        flux = net.decode(w.x, w.seen, w.process, w.facts, w.z).flux[:, -1]
    torch.testing.assert_close(again, flux, rtol=1e-4, atol=1e-4)


def test_the_page_quotes_the_leading_group(rise: pd.DataFrame) -> None:
    quoted = exchange.values(rise)
    assert quoted["first_RECO"] == "temperature"
    assert quoted["first_GPP"] in ("light", "greenness", "temperature")  # a single group
    assert quoted["n_towers"] == str(len(TEST))


def test_every_figure_is_drawn(samples: Samples, model: TamRLModel, rise: pd.DataFrame) -> None:
    whole = rise[rise.igbp == "all"]
    strength = abs(by_group(attributions(model, samples, TEST[:2], 2, 20, 4))).mean("sample")
    inner = latents(model, samples, TEST[:4], days=5, length=60)
    curve = pd.DataFrame(
        {"flux": ["GPP", "RECO"] * 2, "model": "masked", "share": [0, 0, 0.9, 0.9],
         "change": [0, 0, 5, 3.0], "change_lower": [0, 0, 2, 1.0], "change_upper": [0, 0, 8, 5.0]}
    )  # fmt: skip
    field = whole[whole.flux == "GPP"].pivot_table("rise", "igbp", "predictors")
    for fig, panels in (
        (plots.importance(whole), ["GPP", "RECO", "NEE"]),
        (plots.memory(strength), ["GPP", "RECO"]),
        (plots.by_biome({"GPP": field}, "rise"), ["GPP"]),
        (plots.gates(gates_by_class(inner)), ["GPP", "RECO"]),
        (plots.gap_curves(curve), ["GPP", "RECO"]),
    ):
        fig.canvas.draw()
        shown = [ax.get_title() or ax.get_title(loc="left") for ax in fig.axes]
        assert [title for title in shown if title] == panels


def test_a_driver_in_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="driver CO2 is in none of the groups"):
        members(("TA", "CO2"))


def test_drawn_errors_are_pooled_and_paired() -> None:
    squares, days = np.array([[9.0], [0.0]]), np.array([1, 8])
    drawn = bootstrap_rmse(squares, days, n_boot=50, seed=3)
    assert drawn[0, 0] == 1
    assert set(np.unique(drawn[1:].round(6))) <= {0.0, 1.0, 3.0}
    assert np.array_equal(bootstrap_rmse(4 * squares, days, 50, 3), 2 * drawn)


NET = {"hidden": 24, "latent": 8, "embed": 8}


@pytest.fixture(scope="module")
def clouded() -> tuple[xr.Dataset, xr.Dataset]:
    towers = virtual_towers(n=40, seed=2, years=(2001, 2002))
    return towers, virtual_predictors(towers)


def known(monthly: xr.Dataset) -> xr.DataArray:
    return np.isfinite(monthly[list(SATELLITE)]).to_dataarray().any("variable")


def test_clouds_take_whole_months_and_grow(clouded: tuple[xr.Dataset, xr.Dataset]) -> None:
    _, monthly = clouded
    before = known(monthly).sum("month")
    last = monthly
    for share in (0.0, 0.3, 0.6, 1.0):
        left = cloud(monthly, share, seed=5)
        seen = known(left)
        assert (abs(seen.sum("month") - (1 - share) * before) <= 0.5).all()
        assert not (seen & ~known(last)).any()  # what was lost stays lost
        for name in SATELLITE:  # a month that is left keeps every variable
            assert left[name].where(seen).equals(monthly[name].where(seen))
        last = left
    assert cloud(monthly, 0.0).identical(monthly)
    some = monthly.isel(site=[3, 7])
    assert cloud(some, 0.4, 5).equals(cloud(monthly, 0.4, 5).isel(site=[3, 7]))
    assert not cloud(monthly, 0.4, 5).equals(cloud(monthly, 0.4, 6))


def test_masking_pays_under_clouds(clouded: tuple[xr.Dataset, xr.Dataset]) -> None:
    """Without any cloud the curve is the plain error; under full cover masking pays."""
    towers, monthly = clouded
    samples = make_samples(towers, monthly)
    parts = folds(samples, 2)
    models = {}
    for name, share in (("masked", 0.5), ("not", 0)):
        recipe = Recipe(epochs=12, drop_satellite=share, drop_driver=0)
        models[name] = fit_folds(partial(TamRLModel, NET, recipe), samples, parts)
    curve = gap_curve(models, towers, monthly, shares=(0.0, 0.5, 1.0), n_boot=100)
    table = curve.set_index(["model", "flux", "share"])

    sees = known(monthly).any("month").reindex(site=towers.site, fill_value=False).values
    assert 0 < sees.sum() == curve.towers.max() < len(samples.site)
    used = samples.scored & sees[:, None]
    plain = [(model.predict(samples, t) - samples.y[t])[used[t]] for model, t in models["not"]]
    expected = np.sqrt((np.concatenate(plain).astype(float) ** 2).mean(0))
    first = [table.RMSE["not", flux, 0.0] for flux in ("GPP", "RECO", "NEE")]
    np.testing.assert_allclose(first, expected, rtol=1e-4)

    assert (table.change.xs(0.0, level="share") == 0).all()
    assert 0 < table.change["masked", "GPP", 1.0] < table.change["not", "GPP", 1.0]
    assert curve.RMSE.between(curve.lower, curve.upper).mean() > 0.9
