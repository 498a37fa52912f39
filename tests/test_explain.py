"""Explanations are right where the truth is known, and add up everywhere."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from tamrl import plots
from tamrl.model.tensors import DeviceData
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples, process_scalars
from tamrl.study.comparisons import wording
from tamrl.study.drivers.attribution import _windows, attributions, by_group, latents
from tamrl.study.drivers.permutation import FACTS, GROUPS, HISTORY, _exchanged, members, permutation
from tamrl.study.out_of_fold import Fitted, drawn_rmse, only, trained
from tamrl.virtual.towers import virtual_predictors, virtual_towers

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
    assert table.GPP.drop([BOTH, "temperature"]).nlargest(2).index.sort_values().tolist() == [
        "greenness",
        "light",
    ]
    assert table.RECO.idxmax() == "temperature"
    assert table.GPP[BOTH] > table.GPP[["light", "greenness"]].max()  # they multiply
    assert (table.loc["water"] < 0.2 * table.max()).all()


def test_every_biome_has_its_own_row_and_interval(rise: pd.DataFrame, samples: Samples) -> None:
    assert set(rise.igbp) == {"all", *samples.table.igbp.iloc[TEST]}
    counts = rise.groupby("igbp").towers.first()
    assert wording.leading(rise[rise.igbp == "all"]).count("temperature for RECO") == 1
    assert counts["all"] == counts.drop("all").sum() == len(TEST)
    whole = rise[rise.igbp == "all"]
    assert whole.rise.between(whole.lower, whole.upper).mean() > 0.9
    assert {FACTS, HISTORY} <= set(rise.predictors)


def test_attributions_add_up_to_the_change(samples: Samples, model: TamRLModel) -> None:
    """Completeness: what drivers and days are given is the flux less that of mean drivers."""
    found = attributions(model, samples, TEST[:8], days=3, length=60)
    total = found.attribution.sum(("lag", "driver"))
    assert float(abs(found.change).mean()) > 0.5
    assert float(abs(total - found.change).max()) < 0.02 * float(abs(found.change).max())
    np.testing.assert_allclose(by_group(found).sum(("lag", "predictors")), total, atol=1e-4)
    nee = found.attribution.sel(flux="RECO") - found.attribution.sel(flux="GPP")
    assert float(abs(found.attribution.sel(flux="NEE") - nee).max()) < 1e-3


def test_attributions_see_today_and_name_temperature_for_respiration(
    samples: Samples, model: TamRLModel
) -> None:
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
    blind = samples.without(names)
    found = attributions(model, blind, TEST[:2], days=2, length=30, steps=8)
    assert float(abs(found.attribution.sel(driver=list(names))).max()) == 0
    table = permutation([Fitted(model, TEST)], blind, n_boot=20)
    assert (table[table.predictors == "greenness"].rise == 0).all()


def test_an_exchange_moves_one_group_and_what_follows_from_it(
    samples: Samples, model: TamRLModel
) -> None:
    """The same values on other days; process factors of the exchanged drivers, not the old ones."""
    part = only(samples, TEST)
    net = trained(model)
    data = DeviceData(part, net, torch.device("cpu"))
    where = members(part.features)
    out = _exchanged(data, part, "temperature", where, np.random.default_rng(0))
    changed = (out.x != data.x).flatten(0, 1).any(0).nonzero()[:, 0].tolist()
    assert changed == where["temperature"]
    i = part.features.index("TA")
    assert torch.equal(
        out.x[..., i][part.has_drivers].sort()[0], data.x[..., i][part.has_drivers].sort()[0]
    )
    ta, vpd, sw_in = (
        (out.x * net.x_sd + net.x_mean)[..., part.features.index(n)] for n in ("TA", "VPD", "SW_IN")
    )
    torch.testing.assert_close(
        out.process, process_scalars(ta, vpd, sw_in, xp=torch), rtol=1e-3, atol=1e-3
    )
    assert torch.equal(
        data.x, DeviceData(part, net, torch.device("cpu")).x
    )  # the original is whole


def test_contributions_of_latent_features_make_the_flux(
    samples: Samples, model: TamRLModel
) -> None:
    net = trained(model)
    found = latents(model, samples, TEST[:4], days=5, length=60)
    assert found.flux.values.tolist() == ["GPP", "RECO"]  # NEE follows from them
    assert 0 < float(found.gate.min()) < float(found.gate.max()) < 2
    w = _windows(model, samples, TEST[:4], 5, 60, 0)
    raw = torch.from_numpy(found.contribution.values.sum(-1)) + net.bias
    with torch.no_grad():
        again = net.close(raw[:, None], w.process[:, -1:])[:, 0]
        flux = net.decode(w.x, w.seen, w.process, w.facts, w.z).flux[:, -1]
    torch.testing.assert_close(again, flux, rtol=1e-4, atol=1e-4)


def test_figures_name_units_fluxes_and_predictors(
    samples: Samples, model: TamRLModel, rise: pd.DataFrame
) -> None:
    whole = rise[rise.igbp == "all"]
    strength = abs(by_group(attributions(model, samples, TEST[:2], 2, 20, 4))).mean("sample")
    curve = pd.DataFrame(
        {"flux": ["GPP", "RECO"] * 2, "model": "practised", "share": [0, 0, 0.9, 0.9],
         "change": [0, 0, 5, 3.0], "change_lower": [0, 0, 2, 1.0], "change_upper": [0, 0, 8, 5.0]}
    )  # fmt: skip
    field = whole[whole.flux == "GPP"].pivot_table("rise", "igbp", "predictors")
    unit = "gC m$^{-2}$ d$^{-1}$"
    for fig, said in (
        (plots.importance(whole), {"GPP", "RECO", "NEE", "temperature", FACTS, unit}),
        (plots.memory(strength), {"GPP", "RECO", "light", "water", unit}),
        (plots.by_biome({"GPP": field}, f"rise ({unit})"), {"GPP", "greenness", unit}),
        (plots.gates({"GPP": 1 + field}), {"GPP", "all"}),
        (plots.gap_curves(curve), {"GPP", "RECO", "practised", "change of RMSE (%)"}),
    ):
        fig.canvas.draw()
        texts = [a.get_text() for a in fig.findobj(lambda a: hasattr(a, "get_text"))]
        assert {word for word in said if word not in " ".join(texts)} == set()


def test_a_driver_in_no_group_is_refused() -> None:
    with pytest.raises(ValueError, match="driver CO2 is in none of the groups"):
        members(("TA", "CO2"))


def test_some_towers_keep_all_that_is_theirs(samples: Samples) -> None:
    part = only(replace(samples, maps=samples.x[:, :12, :2]), TEST[:3])
    assert part.site.tolist() == part.table.site.tolist() == samples.site[TEST[:3]].tolist()
    assert np.array_equal(part.y, samples.y[TEST[:3]])
    assert part.maps is not None
    assert len(part.maps) == len(part.process) == 3


def test_drawn_errors_are_pooled_and_paired() -> None:
    squares, days = np.array([[9.0], [0.0]]), np.array([1, 8])
    drawn = drawn_rmse(squares, days, n_boot=50, seed=3)
    assert drawn[0, 0] == 1
    assert set(np.unique(drawn[1:].round(6))) <= {0.0, 1.0, 3.0}
    assert np.array_equal(drawn_rmse(4 * squares, days, 50, 3), 2 * drawn)
