"""A trained ensemble: predictions with intervals, adaptation, scores, and monitoring.

The ensemble that won this study's benchmark comes with the package:
``tamrl.load_pretrained().predict("my-towers.csv", table="facts.csv")``.
"""

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from os import PathLike
from pathlib import Path
from types import NoneType
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
import xarray as xr

from tamrl.data.own.places import notable
from tamrl.data.schema import FLUXES, VARIABLES
from tamrl.errors import DataError, InputWarning, expect
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.learner import Fluxes
from tamrl.evaluate.score_file import score
from tamrl.monitor import WINDOW
from tamrl.samples.arrays import PHENOLOGY, Samples, require_same
from tamrl.samples.phenology import with_phenology, without_phenology
from tamrl.samples.site_attributes import SiteAttributes, classes_only
from tamrl.shipped.adaptation import adapt, worse
from tamrl.shipped.bounds import bounds, intervals_of
from tamrl.shipped.inputs import own_samples
from tamrl.shipped.monitoring import intervals_carried, judge
from tamrl.shipped.new_target import as_trained, learn_target, no_better, variables
from tamrl.shipped.report import labels, learnt_too, named_inputs, notes_of, with_report
from tamrl.shipped.weights import networks_alone
from tamrl.shipped.weights_file import load, write

File = str | PathLike[str]
Towers = File | pd.DataFrame | xr.Dataset | Samples
Table = File | pd.DataFrame | None
Satellites = File | Sequence[File] | xr.Dataset | None
SHIPPED = "shipped/tamrl.safetensors"  # inside the package
MOST = VARIABLES["GPP"].high  # gC m-2 d-1
FEW = 0.01  # of predictions, may be beyond: odd drivers of a day


@dataclass(frozen=True)
class Pretrained:
    """A trained ensemble: its members, the header of its file, its calibrated intervals."""

    members: list[Any]
    header: dict[str, Any]
    intervals: dict[str, Conformal]

    def predict(
        self, towers: Towers, table: Table = None, satellites: Satellites = None, **place: Any
    ) -> xr.Dataset:
        """Predict daily fluxes at towers or places that need have no flux measurements.

        ``towers``, ``table``, ``satellites`` and ``place`` (``lat``, ``lon``, ``igbp`` of a single
        tower, ``grid``, ``need_grid``) are what `tamrl.shipped.inputs.own_samples` reads: files, a
        DataFrame or a Dataset; or ``towers`` are samples. What is missing makes errors larger, and
        bounds wider. DataError where towers cannot be read, lack inputs that training had, or,
        offline, the grid is not in the cache. Returns GPP, RECO, NEE (site, time) in gC m-2 d-1 on
        days with TA, VPD and SW_IN, else NaN, closed; where calibrated, ``*_lower`` and
        ``*_upper``, 90 % intervals of daily values as measured (a lower bound of GPP may be below
        0); and by tower what `tamrl.shipped.report.with_report` adds. attrs["input_notes"] says in
        lines what was recognised, converted, filled and not used; what is more than routine is an
        InputWarning, too.
        """
        files = [Path(f) for f in (towers, table, satellites) if isinstance(f, str | PathLike)]
        samples = _samples(towers, table, satellites, place)
        fluxes = predict(self.members, samples, self.header, self.intervals)
        return fluxes.assign_attrs({"inputs": named_inputs(files)} if files else {})

    def adapt(
        self, towers: Towers, table: Table = None, satellites: Satellites = None, *,
        target: str = "", unit: str = "", positive: bool = False, **place: Any,
    ) -> Self:  # fmt: skip
        """Adapt the whole ensemble to a place by the few labels that it has.

        Arguments as of `predict`, with measured GPP, RECO and NEE, or NEE alone, gC m-2 d-1, on at
        least 5 days; several towers get one common adaptation. What towers usually differ in was
        learnt across those of the training (`tamrl.shipped.error_model`): labels update it, and
        bounds shrink as far as it is known better. The ``header`` of the result says to which
        towers (``adapted_to``), from how many ``labelled_days``, and the error on parts of them
        before and after the others were learnt (``held_out``, gC m-2 d-1). ``input_notes`` are as
        of `predict`; DataError as there, for fewer days, and for weights without calibration.

        With a ``target``, the name of another column such as "CH4", this is learnt instead, from at
        least 10 days, and predicted besides; GPP, RECO, NEE stay the same to the last bit. It keeps
        its ``unit``, which the table or this option states; ``positive`` ones are never below 0.
        header["targets"] says what `tamrl.shipped.new_target.learn_target` returns. What got worse
        by labels is an InputWarning.
        """
        if (unit or positive) and not target:
            raise DataError("unit and positive are those of another target; name the target")
        place |= {"targets": (target,)} if target else {}
        samples = suited(_samples(towers, table, satellites, place), self.header)
        if target:
            networks = [networks_alone([as_trained(member)]) for member in self.members]
            what = (self.members, self.header, networks, samples, target, unit, positive)
            members, facts = learn_target(*what)
            said = no_better(target, facts["targets"][target])
        else:
            members, facts = adapt(self.members, self.header, samples)
            said = worse(facts["held_out"])
        if said:
            warnings.warn(said, InputWarning, stacklevel=2)
        facts |= learnt_too(self.header, samples) | {"input_notes": notes_of(samples)}
        virtual = int(any(about.get("virtual") for about in (self.header, samples.attrs)))
        return replace(self, members=members, header=self.header | facts | {"virtual": virtual})

    def score(
        self, towers: Towers, table: Table = None, satellites: Satellites = None, **place: Any
    ) -> pd.DataFrame:
        """Score predictions at towers with measured fluxes: `tamrl.score`, whose table it returns.

        Arguments, errors and attrs["input_notes"] as of `predict`. The column ``seen`` says whether
        the weights have learnt from the tower, or from a place nearby: such scores are no test.
        """
        place["targets"] = tuple(self.header.get("targets", ()))
        samples = _samples(towers, table, satellites, place)
        scores = score(self.predict(samples), labels(samples))
        scores.attrs["input_notes"] = notes_of(samples)
        return scores

    def monitor(
        self, towers: Towers, table: Table = None, satellites: Satellites = None, *,
        site: str = "", recent: int = 365, window: int = WINDOW,
        intervals: Mapping[str, Conformal] | None = None, **place: Any,
    ) -> xr.Dataset:  # fmt: skip
        """Judge whether the newest fluxes of a tower or place are unusual for it.

        Arguments as of `predict`; at least 3 years before the last ``recent`` days, which are
        judged by their means over ``window`` days. ``site`` names one of several towers, "" takes
        the one whose record ends last. Measured fluxes are not needed; of weights that were adapted
        labels narrow the intervals (`tamrl.shipped.monitoring.narrowing`). The weights carry
        ``intervals`` of means over 30 days; for others give those of `tamrl.monitor.calibrate`.
        Returns what `tamrl.monitor.anomalies` does (flux, time), gC m-2 d-1; `tamrl.monitor.status`
        makes a table of the newest day. DataError as of `predict`, for a record that is too short,
        an unknown ``site``, and a window without intervals.
        """
        expect(intervals, (Mapping, NoneType), "intervals", "intervals by flux")
        options = (site, recent, window, intervals or intervals_carried(self.header, window))
        samples = suited(_samples(towers, table, satellites, place), self.header)
        return judge(by_member(self.members, samples), self.header, samples, *options)

    def save(self, path: File) -> None:
        """Save the ensemble to one file for `load_pretrained`, atomically."""
        expect(path, (str, PathLike), "path", "where the weights go")
        write(self.members, Path(path), self.header)


def _samples(towers: Towers, table: Table, satellites: Satellites, place: Any) -> Samples:
    """Give samples, or make them of whatever a user has, and warn of what is odd in it."""
    if isinstance(towers, Samples):
        return towers
    samples = own_samples(towers, table, satellites, **place)
    if odd := notable(notes_of(samples).splitlines()):
        text = "\n- ".join(["about the inputs (all notes: input_notes of the result)", *odd])
        warnings.warn(text, InputWarning, stacklevel=3)
    return samples


def open_weights(path: File | None = None, device: str = "cpu") -> Pretrained:
    """Load a trained ensemble: the one of this package, or one of your own.

    ``path`` is a file of `tamrl train` or `Pretrained.save`; ``device`` of its networks: cpu, cuda,
    mps or auto. DataError when there is no such file, or it holds no weights of tamrl.
    >>> model = open_weights()
    >>> model.header["towers"], sorted(model.intervals)
    (180, ['GPP', 'NEE', 'RECO'])
    """
    expect(path, (str, PathLike, NoneType), "path", "a file of weights, or None for the package's")
    with as_file(files("tamrl") / SHIPPED) as shipped:
        members, header = load(shipped if path is None else Path(path), device)
    return Pretrained(members, header, intervals_of(header))


def by_member(models: Sequence[Any], samples: Samples) -> Fluxes:
    """Daily fluxes (seed, site, time, flux) of each member; DataError for days without any."""
    every = np.arange(len(samples.site))
    call = torch.inference_mode()(lambda model: model.predict(samples, every))
    threads = torch.get_num_threads()  # shared out: more than there are cores wait for each other
    share = max(threads // len(models), 1)
    try:
        with ThreadPoolExecutor(len(models), "", torch.set_num_threads, (share,)) as pool:
            each = np.stack([*pool.map(call, models)])
    finally:
        torch.set_num_threads(threads)
    if lost := int((samples.has_drivers & ~np.isfinite(each).all((0, -1))).sum()):
        raise DataError(
            f"{lost} of {samples.has_drivers.sum()} days have no finite prediction; "
            "check the weights, and the drivers for values that cannot be"
        )
    return possible(each)


def possible(each: Fluxes) -> Fluxes:
    """Give GPP, RECO and NEE (…, flux) back; DataError where no place on Earth has such ones."""
    size = np.abs(each[..., : len(FLUXES)])
    if (size > MOST).sum() > FEW * np.isfinite(size).sum():
        what = f"predicted are up to {np.nanmax(size):.3g} gC m-2 d-1, and none is above {MOST:g}"
        raise DataError(f"{what}; the weights are damaged: get them again, or train anew")
    return each


def predict(
    models: Sequence[Any], samples: Samples, header: Mapping[str, Any],
    intervals: Mapping[str, Conformal] | None = None,
) -> xr.Dataset:  # fmt: skip
    """Daily fluxes (site, time) in gC m-2 d-1, mean over members, with bounds by ``intervals``."""
    samples = suited(samples, header)
    each = by_member(models, samples)
    mean, spread = each.mean(0), each.std(0)
    exact = mean[..., 1] - mean[..., 0]
    if np.nanmax(np.abs(mean[..., 2] - exact), initial=0) < 1e-4:  # members close: so does the mean
        mean[..., 2] = exact
    virtual = "virtual " if header["virtual"] else ""
    about = {
        "Conventions": "CF-1.11", "virtual": int(header["virtual"]),
        "title": f"Daily carbon fluxes by TAM-RL, trained on {virtual}flux towers",
        "source": f"{header['members']} model(s) trained on {header['towers']} {virtual}towers",
    }  # fmt: skip
    flux = {f: (("site", "time"), mean[..., k], VARIABLES[f].attrs) for k, f in enumerate(FLUXES)}
    flux |= variables(header, mean[..., len(FLUXES) :])
    about |= {"targets": " ".join(header["targets"])} if "targets" in header else {}
    if intervals:
        more, about["bounds"] = bounds(mean, spread, samples, header, intervals)
        flux |= more
    facts = {n: ("site", samples.table[n].to_numpy()) for n in ("lat", "lon", "igbp", "koppen")}
    coords = {"site": samples.site, "time": samples.time.astype("datetime64[ns]"), **facts}
    return with_report(xr.Dataset(flux, coords, about), samples, header)


def suited(samples: Samples, header: Mapping[str, Any]) -> Samples:
    """Complete samples for weights with that header.

    A vegetation index that they know and samples lack is missing, one that they do not know goes;
    places without a grid are described by vegetation class and latitude. DataError for other
    drivers or site attributes.
    """
    if (known := PHENOLOGY[0] in header["features"]) != (PHENOLOGY[0] in samples.features):
        samples = with_phenology(samples, None) if known else without_phenology(samples)
    text = "the weights were trained on other {}; they differ in"
    require_same(samples.features, header["features"], text.format("drivers"))
    statics = header.get("statics", samples.static_names)  # older files do not name them
    require_same(samples.static_names, statics, text.format("site attributes"))
    names = _place_names(header["models"][0])
    if samples.places is not None or not names:
        return samples
    return replace(samples, places=SiteAttributes(names, classes_only(samples.table, names)))


def _place_names(about: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the features of places that a member, or a part of it, has in the header."""
    if "annual" in about:
        return tuple(about["annual"]["names"])
    inside = [*about.get("parts", ()), *([about["model"]] if "model" in about else [])]
    return next((names for part in inside if (names := _place_names(part))), ())
