"""A tower's newest weeks: of the study, by networks that had not seen it, or of one's own.

And the same of droughts that are known, at towers of the study.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
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


def droughts(
    study: Callable[[], tuple[Samples, xr.Dataset]], judged: xr.Dataset,
    cases: Mapping[str, int], window: int = monitor.WINDOW,
) -> list[xr.Dataset]:  # fmt: skip
    """Judge the year of each case (tower: year) as if it were the newest, by unseen networks.

    ``judged`` takes the place of a tower that the ``study`` (see `judge`) lacks, and of all where
    its towers are virtual; for a tower of one's own that is all, and the study is not called.
    """
    if judged.attrs["tower_source"] == "user":
        return [judged]
    samples, predicted = study()
    fitted, out = monitor.calibrate(predicted, samples, window), []
    for site, year in cases.items():
        if samples.attrs["virtual"] or site not in predicted.site.values:
            out.append(judged)
            continue
        record = monitor.study_record(predicted, samples, site)
        parts = (record.members, record.observed)
        until = np.datetime64(f"{year}-12-31")
        members, observed = (part.sel(time=part.time <= until) for part in parts)
        cut = record._replace(members=members, observed=observed)
        out.append(monitor.anomalies(cut, fitted, 365, window))
    return out


def drought_values(cases: Sequence[xr.Dataset], day: str = "08-31") -> dict[str, str]:
    """Gather what a page says of `droughts`, by flux, of the window that ends on a ``day``.

    ``alarms_…``: at how many of them the interval leaves out zero.
    """
    out = dict[str, str]()
    for flux in map(str, cases[0].flux.values):
        said, alarms = [], 0
        for one in cases:
            year = str(one.time.values[-1])[:4]
            at = one.sel(flux=flux).sel(time=f"{year}-{day}", method="nearest")
            value, low, high, seen = (
                f"{round(float(at[name]), 1) + 0:+.1f}".replace("-", "\N{MINUS SIGN}")
                for name in ("anomaly", "lower", "upper", "observed")
            )
            alarms += int(at.lower > 0 or at.upper < 0)
            where = f"{one.attrs['site']} in {year}"
            said.append(f"{where}, {value} predicted [{low}, {high}] and {seen} measured")
        out |= {f"drought_{flux}": "; ".join(said), f"alarms_{flux}": f"{alarms} of {len(cases)}"}
    return out
