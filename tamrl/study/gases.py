"""More gases by configuration: named targets, the CO2-equivalent budget, marshes with CO2 and CH4.

The model, the loss and the training are those of the carbon balance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data import fetch_grid, fetch_methane_towers
from tamrl.data.grid import grid_at
from tamrl.data.physics import potential_radiation
from tamrl.data.schema import FLUXES
from tamrl.model.network import CARBON, Budget
from tamrl.samples.arrays import Array, Samples, make_samples
from tamrl.samples.phenology import with_phenology
from tamrl.samples.splits import Fold
from tamrl.shipped.calibration import GAP
from tamrl.shipped.pretrained import Pretrained, suited
from tamrl.sources import load_towers
from tamrl.study.comparisons.effects import with_interval
from tamrl.virtual.towers import virtual_predictors, virtual_towers

# Warming over 100 years, kg CO2 per kg: IPCC AR6 WG1 table 7.15, CH4 of other than fossil origin
# (Forster et al. 2021, doi:10.1017/9781009157896.009).
GWP100 = {"CH4": 27.0, "N2O": 273.0}
# g of the gas per g of C or N in fluxes: molar masses of IUPAC 2021, doi:10.1515/pac-2019-0603.
MASS = {"NEE": 44.009 / 12.011, "CH4": 16.043 / 12.011, "N2O": 44.013 / 28.014}
# PAR umol m-2 s-1 per W m-2 of shortwave: 0.45 of the energy (Monteith 1972, doi:10.2307/2401901),
# 4.57 umol J-1 (McCree 1972, doi:10.1016/0002-1571(72)90045-3).
PAR_PER_SW = 0.45 * 4.57
CLEAREST = 0.9  # share of the radiation above the air; a clear sky passes 0.75 (FAO-56 eq. 37)
GASES = ("CH4", "N2O")
EQUIVALENT = "CO2EQ"  # gCO2-eq m-2 d-1, the warming of all gases together, positive upwards


def equivalent(gases: Sequence[str] = GASES) -> Budget:
    """CO2-equivalent budget (gCO2-eq m-2 d-1) of NEE (gC), CH4 (gC) and N2O (gN), all m-2 d-1."""
    warming = {"NEE": MASS["NEE"]} | {gas: MASS[gas] * GWP100[gas] for gas in gases}
    return Budget(EQUIVALENT, tuple(warming), tuple(warming.values()))


def settings() -> dict[str, Any]:
    """Override `tamrl.model.network.Config` for carbon, other gases and their CO2-equivalent."""
    return {"targets": (*FLUXES, *GASES, EQUIVALENT), "budgets": (CARBON, equivalent())}


def with_equivalent(towers: xr.Dataset) -> xr.Dataset:
    """Add the label CO2EQ (site, time), gCO2-eq m-2 d-1, where all its parts are known."""
    text = "NEE and other gases as CO2, warming over 100 years (positive: warms)"
    attrs = {"units": "gCO2-eq m-2 d-1", "long_name": text}
    total = sum(_terms(towers).values()).values.astype(np.float32)
    return towers.assign({EQUIVALENT: (("site", "time"), total, attrs)})


def _terms(fluxes: xr.Dataset) -> dict[str, Any]:
    """Split into what each gas adds to the CO2-equivalent budget, gCO2-eq m-2 d-1."""
    budget = equivalent()
    parts = zip(budget.parts, budget.coefficients, strict=True)
    return {part: c * fluxes[part].astype(float) for part, c in parts}


def gap(prediction: xr.Dataset) -> tuple[float, float]:
    """Largest daily gap of the CO2-equivalent budget, and its mean size, gCO2-eq m-2 d-1."""
    total = prediction[EQUIVALENT].astype(float)
    return float(abs(total - sum(_terms(prediction).values())).max()), float(abs(total).mean())


def marsh_samples(marshes: xr.Dataset, cube: xr.Dataset | None = None) -> Samples:
    """Turn `fetch_methane_towers` into samples with targets GPP, RECO, NEE, CH4.

    Shortwave is derived from PAR (a day with more than the clearest sky lets through is missing;
    US-LA1's, less than half of what its latitude has, stays), vapour pressure deficit from the mean
    season of the grid cell (without ``cube``: 8 hPa, no effect on the process scalars). NEE is
    RECO - GPP. EVI and salinity are drivers too; the water table, whose unit differs between
    marshes, is not. There is no quality flag: every day counts.
    """
    marshes = marshes.transpose("site", "time")
    vpd = np.full((marshes.sizes["site"], 12), 8.0)
    if cube is not None:
        at = grid_at(cube, marshes.lat.values, marshes.lon.values)
        vpd = at["VPD"].transpose("site", "month").values
    month, doy = marshes.time.dt.month.values - 1, marshes.time.dt.dayofyear.values
    top = np.stack([potential_radiation(lat, doy) for lat in marshes.lat.values])
    light = marshes.PAR.values / PAR_PER_SW
    towers = marshes.assign(
        SW_IN=(("site", "time"), np.where(light <= CLEAREST * top, light, np.nan)),
        VPD=(("site", "time"), vpd[:, month].astype(np.float32)),
        NEE=marshes.RECO - marshes.GPP,
        NEE_QC=(("site", "time"), np.where(np.isfinite(marshes.TA), 1, np.nan)),
    )
    classes = {"koppen": "", "koppen_main": "Temperate"}  # of Koppen the group alone is given
    towers = towers.assign_coords({n: ("site", [v] * len(vpd)) for n, v in classes.items()})
    samples = make_samples(towers, None, cube, (*FLUXES, "CH4"))
    more = [marshes[name].values[..., None] for name in ("EVI", "salinity")]
    return replace(samples, x=np.concatenate([samples.x, *more], -1).astype(np.float32),
                   features=(*samples.features, "EVI", "salinity"),
                   attrs={"virtual": 0, "tower_source": "marshes"})  # fmt: skip


def load_marshes(source: str = "auto") -> Samples:
    """Load the five real marshes, or virtual wetlands where `load_towers` gives virtual towers."""
    if not load_towers(source).attrs["virtual"]:
        return marsh_samples(fetch_methane_towers(), fetch_grid())
    simulated = virtual_towers(gases=("CH4",))
    wet = simulated.isel(site=np.flatnonzero(simulated.igbp == "WET")[:5])
    return make_samples(wet, virtual_predictors(wet), targets=(*FLUXES, "CH4"))


def leave_one_out(samples: Samples) -> list[Fold]:
    """Test each place once; the next one decides when to stop, the others are trained on."""
    orders = (np.roll(range(len(samples.site)), -i) for i in range(len(samples.site)))
    return [Fold(str(samples.site[i]), np.sort(rest), np.array([j]), np.array([i]))
            for i, j, *rest in orders]  # fmt: skip


@dataclass
class TowerMean:
    """Mean over towers of their means, the same for every new place and day."""

    version: ClassVar[int] = 1
    mean: NDArray = field(default_factory=lambda: np.empty(0))

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Average each target over a tower's labelled days, then over towers."""
        y = samples.y[np.concatenate([train, valid])]
        n = np.isfinite(y).sum(1)  # (site, target)
        each = np.divide(np.nansum(y, 1), n, out=np.full(n.shape, np.nan), where=n > 0)
        self.mean = np.nanmean(each, axis=0)
        return self

    def predict(self, samples: Samples, sites: NDArray) -> Array:
        """Fluxes (site, time, target), the same on all days with drivers."""
        on = samples.has_drivers[sites][..., None]
        return np.where(on, self.mean, np.nan).astype(np.float32)


def for_weights(samples: Samples, header: Mapping[str, Any]) -> Samples:
    """Give marshes the drivers of trained weights: without salinity, their EVI as phenology."""
    own = [k for k, name in enumerate(samples.features) if name not in ("EVI", "salinity")]
    features = tuple(samples.features[k] for k in own)
    bare = replace(samples, x=samples.x[..., own], features=features)
    if "EVI" not in samples.features:
        return suited(bare, header)
    axes = {"site": samples.site, "time": samples.time.astype("datetime64[ns]")}
    evi = xr.DataArray(samples.x[..., samples.features.index("EVI")], axes, ("site", "time"))
    return suited(with_phenology(bare, evi), header)


def learn_gas(model: Pretrained, samples: Samples, gas: str, days: Sequence[int]) -> pd.DataFrame:
    """Teach an ensemble a gas that it has never seen, at each place, from its first labelled days.

    As `Pretrained.adapt` does for a user. The samples' drivers are those of `for_weights`; ``gas``
    is among their targets. Columns site, days (labelled), n (days scored, more than 10 after the
    labels; a place with fewer such days than labels is left out), RMSE, mean_RMSE (of the labels'
    mean), in the unit of the gas, change (%), and expected (%), what blocks of the labels left out
    in turn said that the change would be.
    """
    y, rows = samples.y[..., samples.targets.index(gas)], []
    for site, name in enumerate(samples.site):
        on = np.isfinite(y[site]) & (samples.weight[site] > 0)
        for n in days:
            first = on & (on.cumsum() <= n)
            later = on & (np.arange(len(on)) > np.flatnonzero(first).max(initial=0) + GAP)
            if first.sum() < n or later.sum() < n:
                continue
            place, labels = np.array([site]), y[site][first]
            adapted = model.adapt(samples.select(place, first[None]), target=gas)
            predicted = adapted.predict(samples.select(place))[gas].to_numpy()[0]
            error = [p - y[site][later] for p in (predicted[later], labels.mean())]
            before, after = adapted.header["targets"][gas]["held_out"]
            rmse = [float(np.sqrt(np.mean(e**2))) for e in error]
            rows.append((name, n, int(later.sum()), *rmse, 100 * (after / before - 1)))
    columns = ["site", "days", "n", "RMSE", "mean_RMSE", "expected"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(change=100 * (table.RMSE / table.mean_RMSE - 1))


def shares(prediction: xr.Dataset) -> pd.DataFrame:
    """Split the mean CO2-equivalent flux into its parts, gCO2-eq m-2 d-1, by model."""
    means = {gas: term.mean(("site", "time")).values for gas, term in _terms(prediction).items()}
    return pd.DataFrame(means, index=pd.Index(prediction.model.values, name="model"))


def values(simulated: pd.DataFrame, marshes: pd.DataFrame, curve: pd.DataFrame,
           learnt: pd.DataFrame) -> dict[str, object]:  # fmt: skip
    """Gather what the page quotes of scores, of adapting at marshes, and of the gas learnt."""
    r2 = simulated[simulated.model == "TAM-RL"].set_index("flux").R2
    methane = marshes[marshes.flux == "CH4"].set_index("model").R2
    best = learnt.sort_values("change").iloc[0]
    changes = {f"change_{r.days}": with_interval(r) for _, r in curve.iterrows()}
    return {"virtual_r2_CH4": float(r2["CH4"]), "virtual_r2_N2O": float(r2["N2O"]),
            "marsh_r2": float(methane["TAM-RL"]), "marsh_r2_mean": float(methane["Mean"]),
            "new_gas": f"{int((learnt.change < -1).sum())} of {len(learnt)}",
            "new_gas_best": f"{best.change:.0f} % at {best.site}", **changes}  # fmt: skip
