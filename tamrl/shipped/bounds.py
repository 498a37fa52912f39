"""Bounds of what an ensemble predicts, by what its weights say of errors at held-out towers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES, VARIABLES
from tamrl.evaluate.conformal import Conformal
from tamrl.evaluate.learner import Fluxes
from tamrl.samples.arrays import Samples
from tamrl.samples.missing import INPUTS, key, present
from tamrl.shipped.adaptation import narrowing
from tamrl.shipped.error_model import ErrorModel

LEVEL = 0.9  # of the bounds that predictions carry


def intervals_of(header: Mapping[str, Any]) -> dict[str, Conformal]:
    """Calibrated intervals by flux that a header holds; none when it holds none."""
    return {flux: Conformal.from_dict(v) for flux, v in header.get("intervals", {}).items()}


def _basis(header: Mapping[str, Any], inputs: str) -> str:
    """Say at which towers the bounds of a tower with these ``inputs`` were calibrated."""
    if intervals_for(header, inputs, "day") or inputs == key(True for _ in INPUTS):
        return f"calibrated at held-out towers with weather{', ' * bool(inputs)}{inputs}"
    return "calibrated at towers with more inputs; here they may hold fewer days"


def intervals_for(header: Mapping[str, Any], inputs: str, period: str) -> dict[str, Conformal]:
    """Intervals by flux of days, or of means over a "month" or "year", for places with ``inputs``.

    These are named by `tamrl.samples.missing.key`. None in files that do not hold them.
    """
    stored = header.get("intervals_by_inputs", {}).get(inputs, {})
    if period != "day":
        stored = header.get("intervals_of_means", {}).get(inputs, {}).get(period, {})
    return {flux: Conformal.from_dict(v) for flux, v in stored.items()}


def _narrowing(header: Mapping[str, Any], flux: Fluxes, samples: Samples) -> NDArray:
    """How wide bounds (site, time, flux) are, as a share of those without adaptation."""
    if "covariance" not in header:
        return np.ones_like(flux)
    model, covariance = ErrorModel.restore(header["error_model"]), np.array(header["covariance"])
    lat = samples.table.lat.to_numpy(float)
    rows = zip(flux, lat, strict=True)
    return np.stack([narrowing(model, covariance, f, at, samples.time) for f, at in rows])


def bounds(
    mean: Fluxes, spread: NDArray, samples: Samples, header: Mapping[str, Any],
    intervals: Mapping[str, Conformal],
) -> tuple[dict[str, Any], str]:  # fmt: skip
    """Give ``*_lower`` and ``*_upper`` (site, time) of fluxes, and what they rest on in words.

    ``mean`` and ``spread`` (site, time, flux) over members; ``intervals`` by flux serve places for
    whose inputs the header has none.
    """
    igbp, out = samples.table.igbp.to_numpy(str)[:, None], {}
    share, has = _narrowing(header, mean, samples), [key(row) for row in present(samples)]
    said = "; ".join(_basis(header, inputs) for inputs in sorted(set(has)))
    if "covariance" in header:
        said += f"; narrowed by {header['labelled_days']} labelled days of {header['adapted_to']}"
    for f, usual in intervals.items():
        k, attrs = FLUXES.index(f), VARIABLES[f].attrs
        both = np.full((2, *mean.shape[:2]), np.nan)
        for inputs in set(has):
            at = np.array([name == inputs for name in has])
            fitted = intervals_for(header, inputs, "day").get(f, usual)
            sides = fitted.interval(mean[at, :, k], spread[at, :, k], igbp[at], LEVEL)
            both[:, at] = mean[at, :, k] + share[at, :, k] * (np.stack(sides) - mean[at, :, k])
        for side, values in zip(("lower", "upper"), both, strict=True):
            name = {"long_name": f"{side} bound of {LEVEL:.0%} of {attrs['long_name']}"}
            named = {"units": attrs["units"]} | name
            out[f"{f}_{side}"] = (("site", "time"), values.astype(np.float32), named)
    return out, said
