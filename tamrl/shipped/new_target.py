"""A further target, such as methane, for a trained ensemble: learnt from few labels of a place.

Each network gets one more head on the features of days that it learnt from carbon fluxes
(`tamrl.model.adapt.add_target`), and nothing else of it moves: GPP, RECO and NEE stay the same to
the last bit. The target is the mean over the networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.learner import Fluxes, Wrapper
from tamrl.evaluate.score_file import AS_LABELLED, some
from tamrl.model.adapt import MIN_DAYS, add_target, finetune
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples
from tamrl.shipped.adaptation import BLOCKS, Adapted
from tamrl.shipped.checks import LARGEST, number, text
from tamrl.shipped.target_names import check_name

STEPS = 60  # most steps of the descent: the head starts at the labels' mean

Mask = NDArray[np.bool_]


@dataclass
class WithTarget(Wrapper):
    """A ``model`` whole, and after its fluxes the mean of what ``networks`` predict last."""

    model: Any
    networks: Sequence[Any]
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "with target"

    @property
    def parts(self) -> Sequence[Any]:
        """The model, and the networks."""
        return (self.model, *self.networks)

    def combine(self, samples: Samples, sites: NDArray, fluxes: Sequence[Fluxes]) -> Fluxes:
        """Add the target (site, time, 1), in its unit, to the fluxes of the model."""
        more = np.mean([flux[..., -1:] for flux in fluxes[1:]], 0)
        return np.concatenate([fluxes[0], more], -1)

    def store(self) -> tuple[dict[str, Any], dict[str, NDArray]]:
        """Give the model and the networks for a file."""
        return {"parts": self.fitted}, {}

    @classmethod
    def restore(cls, about: Mapping[str, Any], arrays: Mapping[str, NDArray], device: str) -> Self:
        """Make the model again of what `store` gave."""
        model, *networks = about["parts"]
        return cls(model, networks, fitted=about["parts"])


def as_trained(member: Any) -> Any:
    """Give a member as it was before any labels of a user's."""
    return as_trained(member.fitted[0]) if isinstance(member, WithTarget | Adapted) else member


def learn_target(
    members: Sequence[Any], header: Mapping[str, Any], networks: Sequence[Sequence[Any]],
    samples: Samples, target: str, unit: str = "", positive: bool = False,
) -> tuple[list[Any], dict[str, Any]]:  # fmt: skip
    """Teach members a target of ``samples`` from all its labels, every day counting alike.

    ``networks`` are those of each member, with their priors. ``unit`` is that of the labels, if
    they do not state it; ``positive`` targets are never predicted below 0. Returns the members, and
    an entry of their header, ``targets``, by name: ``unit``, ``positive``, ``adapted_to`` (towers),
    how many ``labelled_days`` of which ``period``, and ``held_out``, the RMSE of the mean of the
    labels and of what was learnt, on parts of the labels left out in turn (None below 20 days: too
    few). DataError for a name that is taken (`check_name`), without such a column, for fewer than
    10 labelled days, labels that are all the same, beyond 1e9, are not above 0 in the mean though
    positive, or state another unit, and for options of another kind.
    """
    check_name(target, header)
    names = some(samples.site.tolist())
    if target not in samples.targets:
        remedy = "add it, named as the target, case as given"
        raise DataError(f"{names}: no column {target} in a table or Dataset; {remedy}")
    y = np.asarray(samples.y[..., samples.targets.index(target)], np.float32)
    if np.isinf(y).any():
        raise DataError(f"{names}: {target} is infinite on {np.isinf(y).sum()} days; drop them")
    labelled = np.isfinite(y) & samples.has_drivers
    if (n := int(labelled.sum())) < MIN_DAYS:
        what = f"{n} days with {target}, TA, VPD and SW_IN; at least {MIN_DAYS} are needed"
        raise DataError(f"{names}: {what}")
    if (low := float(y[labelled].min())) == y[labelled].max():
        what = f"{target} is {low:g} on all {n} labelled days"
        raise DataError(f"{names}: {what}; give labels that vary")
    if positive and (mean := float(y[labelled].mean())) <= 0:
        what = f"{target} is {mean:.3g} in the mean, not positive"
        raise DataError(f"{names}: {what}; turn its sign, or learn it without positive")
    stated = str(dict(samples.attrs.get("units", {})).get(target, ""))  # type: ignore[call-overload]
    text()(stated or unit, f"{names}: the unit of {target}")
    if type(positive) is not bool:
        raise DataError(f"{names}: positive is {positive!r}; give True or False")
    number(-LARGEST)(float(np.abs(y[labelled]).max()), f"{names}: the largest {target}")
    if unit and stated and unit != stated:
        what = f"{target} is in {stated!r} by its table, not in {unit!r}; units of further targets"
        raise DataError(f"{names}: {what} are not converted: leave out the option, or correct it")
    empty = np.full((*y.shape, len(FLUXES)), np.nan, np.float32)
    alone = replace(
        samples, y=np.concatenate([empty, np.where(labelled, y, np.nan)[..., None]], -1),
        weight=labelled.astype(np.float32), targets=(*FLUXES, target),
    )  # fmt: skip
    taught = []
    for member, each in zip(members, networks, strict=True):
        wider = [_taught(network, alone, labelled, positive) for network in each]
        taught.append(WithTarget(member, wider, fitted=[member, *wider]))
    days = samples.time.astype("datetime64[D]")[labelled.any(0)]
    every = [network for each in networks for network in each]
    held_out = _held_out(every, alone, labelled, positive) if n >= 2 * MIN_DAYS else None
    about = {
        "unit": stated or unit or AS_LABELLED, "positive": positive, "adapted_to": names,
        "labelled_days": n, "period": [str(days[0]), str(days[-1])], "held_out": held_out,
    }  # fmt: skip
    return taught, {"targets": header.get("targets", {}) | {target: about}}


def _taught(network: Any, samples: Samples, labelled: Mask, positive: bool) -> Any:
    """Give a network the last target of samples, and teach it by the days ``labelled``."""
    if not isinstance(network, TamRLModel):
        own = _taught(network.fitted[0], network.inputs(samples), labelled, positive)
        return replace(network, model=own, fitted=[own])
    target, y = samples.targets[-1], samples.y[..., -1][labelled]
    wider = add_target(network, target, float(y.mean()), float(y.std()), positive)
    sites = np.arange(len(samples.site))
    return finetune(wider, samples, sites, labelled, only=target, steps=STEPS)


def _held_out(
    networks: Sequence[Any], samples: Samples, labelled: Mask, positive: bool
) -> tuple[float, float]:
    """RMSE of the mean of the labels and of the target learnt, on blocks that neither has seen."""
    y, everyone = samples.y[..., -1], np.arange(len(samples.site))
    block = (labelled.cumsum().reshape(labelled.shape) - 1) * BLOCKS // int(labelled.sum())
    errors = np.full((2, *labelled.shape), np.nan)
    for k in range(BLOCKS):
        out, rest = labelled & (block == k), labelled & (block != k)
        mean = learnt = np.full(labelled.shape, y[rest].mean())
        if y[rest].std() > 0 and not (positive and y[rest].mean() <= 0):
            own = replace(samples, y=np.where(rest[..., None], samples.y, np.float32(np.nan)))
            each = [_taught(network, own, rest, positive) for network in networks]
            learnt = np.mean([one.predict(own, everyone)[..., -1] for one in each], 0)
        errors[:, out] = mean[out] - y[out], learnt[out] - y[out]
    before, after = np.sqrt(np.nanmean(errors**2, axis=(1, 2)))
    return float(before), float(after)


def sentence(target: str, about: Mapping[str, Any]) -> str:
    """Say what a target was learnt from, and whether that is better than the labels' mean."""
    learnt = f"learnt from {about['labelled_days']} labelled days of {about['adapted_to']}"
    if about["held_out"] is None:
        return f"{learnt}, too few to leave some out: its error is unknown; no bounds"
    before, after = about["held_out"]
    errors = f"RMSE on labelled days left out in turn, {about['unit']}: {after:.3g}"
    verdict = "" if after < before else f", so that {target} is NO better predicted than by it"
    return f"{learnt}; {errors}, that of the labels' mean {before:.3g}{verdict}; no bounds"


def no_better(target: str, about: Mapping[str, Any]) -> str:
    """Give the `sentence` of a target that is no better predicted than by its mean; else ""."""
    before, after = about["held_out"] or (1.0, 0.0)
    return "" if after < before else f"{target}: {sentence(target, about)}"


def variables(header: Mapping[str, Any], more: NDArray) -> dict[str, Any]:
    """Variables of a prediction (site, time, target) by name, each with what is known of it."""
    out = {}
    if (count := len(header.get("targets", {}))) != more.shape[-1]:
        what = f"the weights predict {more.shape[-1]} further target(s) and name {count}"
        raise DataError(f"{what}; get the file of weights again")
    for k, (target, about) in enumerate(header.get("targets", {}).items()):
        named = {"units": about["unit"], "long_name": f"{target}, a further target"}
        attrs = named | {"comment": sentence(target, about)}
        out[target] = ("site", "time"), more[..., k], attrs
    return out
