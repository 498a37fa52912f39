"""The course, step by step, on virtual towers small enough for a minute on two cores.

A place's satellites reach the model through its support set only (hidden on the predicted day, as
are static attributes): what is known of the kind of place has passed through z.
"""

from dataclasses import astuple, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.model.predict import embed_sites
from tamrl.model.tensors import STEP_DAYS, STEPS, DeviceData, Support
from tamrl.model.train import Recipe, TamRLModel
from tamrl.samples.arrays import Samples, make_samples
from tamrl.samples.splits import Fold
from tamrl.study.out_of_fold import on_device
from tamrl.virtual.towers import virtual_predictors, virtual_towers

HIDDEN = {"hidden": 32, "process": False}  # a small decoder that knows no physics of its own
LEARNING_RATE = 1e-2  # such a small network bears it, and a course cannot wait


def classroom(n_towers: int = 48, n_years: int = 2, seed: int = 0, scatter: float = 0.0) -> Samples:
    """Make virtual towers without static attributes (class, climate, place), noise and gaps.

    ``scatter``: differences that no driver shows. DataError for fewer than one tower.
    """
    towers = virtual_towers(n_towers, (2001, 2000 + n_years), seed, noise=False, scatter=scatter)
    samples = make_samples(towers, virtual_predictors(towers))
    return replace(samples, static=np.full_like(samples.static, np.nan))


def teach(samples: Samples, fold: Fold, epochs: int = 8, seed: int = 0, device: str = "cpu",
          daily_satellites: bool = False, **overrides: Any) -> TamRLModel:  # fmt: skip
    """Train a small TAM-RL on the towers of a fold, with or without the day's satellite drivers.

    ``overrides`` of `tamrl.model.network.Config`: ``encoder="none"`` makes one global model.
    """
    recipe = Recipe(epochs=epochs, batch=16, length=120, warmup=20, lr=LEARNING_RATE, drop_driver=0,
                    drop_satellite=0 if daily_satellites else 1)  # fmt: skip
    return TamRLModel(HIDDEN | overrides, recipe, device).fit(samples, fold.train, fold.valid, seed)


def without_daily_satellites(model: TamRLModel, samples: Samples) -> DeviceData:
    """Tensors in which satellites are seen in the support set, but on no day to be predicted."""
    _, data = on_device(model, samples)
    data.seen = data.seen & ~data.satellite.to(data.seen.device)
    return data


def predict(model: TamRLModel, samples: Samples, sites: NDArray[np.intp]) -> NDArray[np.float32]:
    """Predict fluxes (site, time, flux), gC m-2 d-1, without the satellites of the day."""
    return model.predict(samples, sites, data=without_daily_satellites(model, samples))


def errors(predictions: dict[str, NDArray[np.float32]], samples: Samples,
           sites: NDArray[np.intp]) -> pd.DataFrame:  # fmt: skip
    """RMSE of each tower and flux (gC m-2 d-1): columns site, igbp, flux and one a model."""
    rows, on = [], samples.scored[sites]
    for i, k in np.ndindex(len(sites), len(FLUXES)):
        row = samples.table.loc[sites[i], ["site", "igbp"]].to_dict() | {"flux": FLUXES[k]}
        for name, values in predictions.items():
            gap = values[i, on[i], k] - samples.y[sites[i], on[i], k]
            row[name] = float(np.sqrt(np.mean(gap.astype(float) ** 2)))
        rows.append(row)
    return pd.DataFrame(rows)


def support_window(samples: Samples, site: int, drivers: tuple[str, ...]) -> pd.DataFrame:
    """Return a place's first year as the encoder reads it: means of ten days, in own units."""
    days = np.arange(STEPS * STEP_DAYS)
    columns = [samples.features.index(name) for name in drivers]
    steps = samples.x[site, days][:, columns].reshape(STEPS, STEP_DAYS, len(drivers))
    return pd.DataFrame(np.nanmean(steps, 1), (np.arange(STEPS) + 0.5) * STEP_DAYS, drivers)


@torch.inference_mode()
def task_embeddings(model: TamRLModel, samples: Samples) -> pd.DataFrame:
    """Two leading principal components of each tower's z, with igbp; ValueError without encoder."""
    towers, windows = np.arange(len(samples.site)), model.recipe.windows_of_support
    _, z = embed_sites(*on_device(model, samples), towers, windows)
    if z is None:
        raise ValueError("this model has no encoder, and so no task embedding z")
    centred = z.cpu().numpy() - z.cpu().numpy().mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    table = pd.DataFrame(centred @ axes[:2].T, columns=["first", "second"])
    return table.assign(igbp=samples.table.igbp, site=samples.site)


def same_weather(model: TamRLModel, samples: Samples, weather_of: int,
                 kinds: list[int]) -> pd.DataFrame:  # fmt: skip
    """Predict daily GPP from the drivers of one place with the support sets of other places."""
    out = {}
    for kind in kinds:
        data = without_daily_satellites(model, samples)
        rows = np.arange(len(samples.site))
        rows[weather_of] = kind
        data.support = Support(*(part[rows] for part in astuple(data.support)))
        flux = model.predict(samples, np.array([weather_of]), data=data)[0]
        out[f"{samples.site[kind]} ({samples.table.igbp[kind]})"] = flux[:, FLUXES.index("GPP")]
    return pd.DataFrame(out, pd.DatetimeIndex(samples.time))


def imbalance(flux: NDArray[np.float32]) -> float:
    """Largest |NEE - (RECO - GPP)| of predictions (…, flux), gC m-2 d-1."""
    gpp, reco, nee = (flux[..., FLUXES.index(f)].astype(float) for f in ("GPP", "RECO", "NEE"))
    return float(np.nanmax(np.abs(nee - (reco - gpp))))
