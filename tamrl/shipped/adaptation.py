"""Adaptation as inference: the whole ensemble, trees and prior included, given a few labels.

What a place differs in from the ensemble is a normal vector of weights whose prior and noise were
learnt across training towers (`tamrl.shipped.error_model`). Labels at hand update it exactly, in a
second; bounds shrink as far as the weights are known better than before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.learner import Fluxes, Wrapper
from tamrl.evaluate.score_file import some
from tamrl.samples.arrays import Samples
from tamrl.shipped.error_model import Array, ErrorModel, basis

MOST_DAYS = 800  # of a place that are learnt from, evenly spread: errors of neighbours are alike
MIN_DAYS = 5  # fewer labelled days say nothing
BLOCKS = 4  # runs of labelled days, each left out once, to say what labels are worth


class Evidence(NamedTuple):
    """What labels say of the weights: precision (weight, weight), its product with the mean."""

    precision: Array
    product: Array


def day_of_year(time: NDArray[np.datetime64]) -> NDArray[np.intp]:
    """Days of the year (day,), from 0."""
    days = time.astype("datetime64[D]")
    return np.asarray((days - days.astype("datetime64[Y]")).astype(int), np.intp)


def evidence(
    model: ErrorModel, samples: Samples, flux: Fluxes, labelled: NDArray[np.bool_]
) -> Evidence:
    """Add up what the labels of all towers of samples say of the weights that they share.

    ``flux`` (site, time, flux) are predictions, ``labelled`` (site, time) days whose labels count.
    Where most of them lack GPP and RECO, their NEE counts alone.
    """
    n = 2 * len(basis(np.zeros((1, 2)), np.zeros(1), 0.0)[0, 0])
    precision, product = np.zeros((n, n)), np.zeros(n)
    doy, days = day_of_year(samples.time), samples.time.astype("datetime64[D]").astype(float)
    for site, row in enumerate(labelled):
        y, p = samples.y[site].astype(float), flux[site].astype(float)
        row = row & np.isfinite(p).all(-1)
        both, nee = (row & np.isfinite(part).all(-1) for part in (y[:, :2], y[:, 2:]))
        only_nee = 2 * both.sum() < nee.sum()
        at = np.flatnonzero(nee if only_nee else both)
        if not len(at):
            continue
        at = at[np.linspace(0, len(at) - 1, min(len(at), MOST_DAYS)).round().astype(int)]
        residual = (y - p)[at, 2:].T if only_nee else (y - p)[at, :2].T
        terms = basis(p[at, :2], doy[at], float(samples.table.lat.iloc[site]))
        arrays = (days[at], p[at, :2].T, terms, residual)
        inputs = [torch.as_tensor(np.ascontiguousarray(a)) for a in arrays]
        more = model.evidence(inputs[0], inputs[1], inputs[2], inputs[3], bool(only_nee))
        precision, product = precision + more[0].numpy(), product + more[1].numpy()
    return Evidence(precision, product)


def posterior(model: ErrorModel, given: Evidence) -> tuple[Array, Array]:
    """Mean (weight,) and covariance (weight, weight) of the weights."""
    mean, covariance = model.posterior(*map(torch.as_tensor, given))
    return mean.numpy(), covariance.numpy()


@dataclass
class Adapted(Wrapper):
    """A ``model`` of GPP, RECO and NEE that is corrected by the ``weights`` of a place."""

    model: Any
    weights: Array = field(repr=False)
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "adapted"

    def combine(self, samples: Samples, sites: NDArray, fluxes: Sequence[Fluxes]) -> Fluxes:
        """Correct GPP and RECO (site, time, flux), not below 0; NEE = RECO - GPP."""
        return corrected(fluxes[0], self.weights, samples, sites)

    def store(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Give the model and its weights for a file."""
        return {"model": self.fitted[0]}, {"weights": self.weights}

    @classmethod
    def restore(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray], device: str) -> Self:
        """Make the model again of what `store` gave."""
        return cls(about["model"], np.asarray(arrays["weights"], float), fitted=[about["model"]])


def corrected(flux: Fluxes, weights: Array, samples: Samples, sites: NDArray) -> Fluxes:
    """Add what the weights (weight,) make of predictions (site, time, flux) at ``sites``."""
    doy, out = day_of_year(samples.time), np.array(flux, np.float32)
    each = weights.reshape(2, -1)
    for row, lat in enumerate(samples.table.lat.to_numpy(float)[sites]):
        p = out[row, :, :2].astype(float)
        change = np.einsum("fdk,fk->df", basis(p, doy, lat), each)
        out[row, :, :2] = np.maximum(p + change, 0)
    out[..., 2] = out[..., 1] - out[..., 0]
    return out


def narrowing(
    model: ErrorModel, covariance: Array, flux: Fluxes, lat: float, time: NDArray[np.datetime64]
) -> Array:
    """How wide bounds of daily GPP, RECO, NEE (day, 3) are after labels, as a share of before.

    The ratio of standard deviations of an error, by the ``covariance`` of the weights and by their
    prior, at predictions ``flux`` (day, flux) of a place.
    """
    p = np.moveaxis(np.asarray(flux, float)[:, :2], -1, 0)
    terms = basis(p.T, day_of_year(time), lat)
    size = model.size(torch.as_tensor(p)).numpy()
    variance = float(model.log_variance.exp().sum())
    shared = float((model.log_variance.exp() * model.link.tanh()).sum())
    own, cross = variance * size**2, shared * size[0] * size[1]
    noise = np.stack([*own, own.sum(0) - 2 * cross])
    zero = np.zeros_like(terms[0])
    gpp, reco = np.concatenate([terms[0], zero], 1), np.concatenate([zero, terms[1]], 1)
    x = np.stack([gpp, reco, reco - gpp])
    after, before = (
        noise + np.einsum("fdw,wv,fdv->fd", x, c, x)
        for c in (covariance, model.covariance().numpy())
    )
    return np.asarray(np.sqrt(after / before).T)


def held_out_error(
    model: ErrorModel, samples: Samples, flux: Fluxes, labelled: NDArray[np.bool_]
) -> dict[str, tuple[float, float]]:
    """RMSE before and after on blocks of labelled days left out in turn, by flux, gC m-2 d-1.

    Blocks are runs of days: what is left out is another part of the record, often another season.
    """
    order = labelled.cumsum().reshape(labelled.shape) - 1
    block = order * BLOCKS // max(int(labelled.sum()), 1)
    after, everyone = np.full_like(flux, np.nan), np.arange(len(flux))
    for k in range(BLOCKS):
        inside = labelled & (block == k)
        weights, _ = posterior(model, evidence(model, samples, flux, labelled & ~inside))
        fixed = corrected(flux, weights, samples, everyone)
        after = np.where(inside[..., None], fixed, after)
    out = {}
    for k, name in enumerate(FLUXES):
        label = samples.y[..., k]
        on = labelled & np.isfinite(label)
        if on.any():
            errors = ((p[..., k] - label)[on].astype(float) for p in (flux, after))
            before, later = (float(np.sqrt(np.nanmean(e**2))) for e in errors)
            out[name] = before, later
    return out


def labelled_days(samples: Samples, least: int = MIN_DAYS) -> NDArray[np.bool_]:
    """Days (site, time) with labels to learn from; DataError for fewer than ``least``."""
    labelled = (samples.weight > 0) & np.isfinite(samples.y).any(-1)
    if (n := int(labelled.sum())) < least:
        what = f"{n} labelled days to adapt to; at least {least} are needed"
        raise DataError(f"{some(samples.site.tolist())}: {what}")
    return labelled


def adapt(
    members: Sequence[Any], header: Mapping[str, Any], samples: Samples
) -> tuple[list[Any], dict[str, Any]]:
    """Adapt members to the labels of samples, all of whose towers share one correction.

    Returns the adapted members, and entries of their header: ``adapted_to`` (towers, the first five
    and how many more), how many
    ``labelled_days`` of which ``period``, ``held_out`` (`held_out_error`) and the ``covariance`` of
    the weights. DataError for fewer than 5 labelled days, weights without a model of errors, or
    such as are adapted already.
    """
    if "covariance" in header:
        remedy = "start from the weights before, and give all labels at once"
        raise DataError(f"the weights are adapted to {header['adapted_to']} already; {remedy}")
    if "error_model" not in header:
        remedy = "train with --calibrate 10, or use those of the package"
        raise DataError(f"the weights do not say how they err at new places; {remedy}")
    model = ErrorModel.restore(header["error_model"])
    labelled, everyone = labelled_days(samples), np.arange(len(samples.site))
    each = [member.predict(samples, everyone)[..., : len(FLUXES)] for member in members]
    flux = np.mean(each, 0)  # without further targets
    weights, covariance = posterior(model, evidence(model, samples, flux, labelled))
    days = samples.time.astype("datetime64[D]")[labelled.any(0)]
    facts = {
        "adapted_to": some(samples.site.tolist()), "labelled_days": int(labelled.sum()),
        "period": [str(days[0]), str(days[-1])], "covariance": covariance.tolist(),
        "held_out": held_out_error(model, samples, flux, labelled),
    }  # fmt: skip
    return [Adapted(member, weights, fitted=[member]) for member in members], facts


def worse(held_out: Mapping[str, Sequence[float]]) -> str:
    """Say which fluxes the labels made worse on days left out, in gC m-2 d-1; "" for none."""
    names = [f for f, (before, after) in held_out.items() if round(after, 2) > round(before, 2)]
    remedy = "give labels of more seasons, or predict with the weights as they were"
    return f"{', '.join(names)} got WORSE on labels left out: {remedy}" if names else ""
