"""A tower's newest weeks: of the study, by networks that had not seen it, or of one's own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import xarray as xr

from tamrl import monitor
from tamrl.evaluate.crossval import cross_validate
from tamrl.model.train import Recipe, TamRLModel, pick_device
from tamrl.samples import splits
from tamrl.samples.arrays import Samples
from tamrl.shipped.pretrained import open_weights
from tamrl.sources import load_samples
from tamrl.study.publish import tables_folder


def unseen(
    towers: str, every: int, folds: int, epochs: int, seed: int, jobs: int, device: str
) -> tuple[Samples, xr.Dataset]:
    """Take every n-th tower of the study; GPP, RECO, NEE (seed, site, time) by unseen networks."""
    samples = load_samples(towers, every)
    recipe, device = Recipe(epochs=epochs), str(pick_device(device))
    model = {"TAM-RL": partial(TamRLModel, recipe=recipe, device=device)}
    where = [seed], tables_folder(samples.attrs) / "cv", jobs
    parts = splits.folds(samples, folds, seed=seed)
    predicted = cross_validate(samples, model, parts, *where, members=True)
    return samples, predicted.sel(model="TAM-RL", drop=True)


def judge(
    study: Callable[[], tuple[Samples, xr.Dataset]],
    data: str = "", table: str = "", satellites: str = "", weights: str = "",
    site: str = "", recent: int = 365, window: int = monitor.WINDOW,
) -> xr.Dataset:  # fmt: skip
    """Judge the newest days of a tower as `tamrl.monitor.anomalies` does (flux, time).

    ``data``, ``table``, ``satellites``, ``weights``: files of a tower of one's own, "" for none, as
    `Pretrained.monitor` reads them; without ``data`` a tower of the ``study`` is judged, which is
    `unseen` with its arguments. It is called then, and for a ``window`` that weights carry no
    intervals of. The attribute tower_source says where the tower is from. DataError as of these.
    """
    fitted: Any = None
    if not data or window != monitor.WINDOW:
        samples, predicted = study()
        fitted = monitor.calibrate(predicted, samples, window)
        if not data:
            one = monitor.study_record(predicted, samples, site)
            judged = monitor.anomalies(one, fitted, recent, window)
            return judged.assign_attrs(tower_source=samples.attrs["tower_source"])
    files = data, table or None, satellites or None
    asked: Any = {"site": site, "recent": recent, "window": window, "intervals": fitted}
    judged = open_weights(weights or None).monitor(*files, **asked)
    return judged.assign_attrs(tower_source="user")
