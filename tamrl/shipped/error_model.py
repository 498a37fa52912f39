"""How the errors of an ensemble go together at a place that it never saw, learnt across towers.

The error of flux f (GPP, RECO) on day t at a prediction p is modelled as

    observed - p = sum_k basis_k(p, t) w_k + (s0 + s1 p) (u + v + e)

with weights w of the place, one normal vector for both fluxes together; two autocorrelated errors u
and v (Ornstein-Uhlenbeck; days and seasons) and white e, each correlated between the fluxes. NEE is
RECO - GPP. Given labels the weights are normal again (Rasmussen & Williams 2006, eq. 2.8-2.11): few
labels of one season move what that season says of the place, and no more.

The prior of w and the noise are learnt by descent on the error that is left on a tower's other days
after windows of its labels (as Harrison et al. 2018, arXiv:1807.08912, learn a prior for Bayesian
regression), not by their likelihood: the fluxes of real years are less regular than this noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from tqdm import trange

from tamrl.errors import DataError

Array = NDArray[np.float64]
TERMS = 4  # of the basis, for each flux
YEAR = 365.25  # days
STEPS, RATE, BATCH = 120, 0.03, 80  # of the descent: steps, learning rate, windows of each length
START = 0.35  # standard deviation of every weight before learning


def basis(flux: ArrayLike, doy: ArrayLike, lat: float) -> Array:
    """Terms (2, day, TERMS) that errors of GPP and RECO are made of.

    ``flux`` (day, 2) are predictions, gC m-2 d-1, ``doy`` (day,) days of the year, ``lat`` degrees:
    seasons of the south are shifted by half a year. Three are shares of the flux and its season,
    the last is a constant; NaN where the prediction is.
    """
    p = np.moveaxis(np.asarray(flux, float), -1, 0)
    phase = 2 * np.pi * (np.asarray(doy, float) / YEAR - (0 if lat >= 0 else 0.5))
    constant = np.where(np.isfinite(p), 1.0, np.nan)
    return np.stack([p, p * np.cos(phase), p * np.sin(phase), constant], -1)


class Window(NamedTuple):
    """Labelled days of places (place, …), and what weights leave of the error on other days.

    ``time`` (place, day) in days; ``flux``, ``residual`` (place, 2, day); ``terms`` (place, 2, day,
    TERMS). Of the other days means: ``error`` (place, 3) squared errors of GPP, RECO and NEE;
    ``cross`` (place, 3, weight) errors times terms; ``gram`` (place, 3, weight, weight) of terms.
    """

    time: Tensor
    flux: Tensor
    residual: Tensor
    terms: Tensor
    error: Tensor
    cross: Tensor
    gram: Tensor


class ErrorModel(nn.Module):
    """Prior of a place's weights and noise of its days; see the module's text."""

    def __init__(self) -> None:
        super().__init__()

        def numbers(*values: float | list[float]) -> nn.Parameter:
            return nn.Parameter(torch.tensor(values, dtype=torch.float64))

        self.root = nn.Parameter(START * torch.eye(2 * TERMS, dtype=torch.float64))
        self.log_size = numbers([0.0, -0.4], [-1.0, -1.0])  # s0 (gC m-2 d-1), s1; by flux
        self.log_variance = numbers(-0.3, -0.9, -1.2)  # white, of days, of seasons
        self.link = numbers(0.2, 0.2, 0.8)  # correlation of both fluxes, before tanh
        self.log_days = numbers(1.7, 4.6)  # time scales

    def covariance(self) -> Tensor:
        """Prior covariance (weight, weight) of the weights of GPP, then of RECO."""
        root = torch.tril(self.root)
        return root @ root.T + 1e-5 * torch.eye(len(root), dtype=root.dtype)

    def size(self, flux: Tensor) -> Tensor:
        """Size s0 + s1 p (…, 2, day) of the daily error at predictions (…, 2, day)."""
        s0, s1 = self.log_size.exp()[..., None]
        return s0 + s1 * flux.clamp(min=0)

    def relative_noise(self, time: Tensor) -> Tensor:
        """Covariance (…, 2 day, 2 day) of days' errors, GPP first, as shares of their `size`."""
        apart = (time[..., :, None] - time[..., None, :]).abs()
        days = self.log_days.exp()
        kernels = torch.stack([(apart == 0).double(), *(torch.exp(-apart / d) for d in days)])
        variance = self.log_variance.exp()
        same = torch.tensordot(variance, kernels, 1)
        both = torch.tensordot(variance * self.link.tanh(), kernels, 1)
        return torch.cat([torch.cat([same, both], -1), torch.cat([both, same], -1)], -2)

    def noise(self, time: Tensor, flux: Tensor) -> Tensor:
        """Covariance (…, 2 day, 2 day) of days' errors, of GPP first, that no weight explains."""
        block = self.relative_noise(time)
        size = self.size(flux).flatten(-2)
        jitter = 1e-6 * torch.eye(block.shape[-1], dtype=block.dtype)
        return block * size[..., :, None] * size[..., None, :] + jitter

    def evidence(
        self, time: Tensor, flux: Tensor, terms: Tensor, residual: Tensor, only_nee: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Precision (…, weight, weight) and its product with the mean (…, weight) of labels.

        Shapes are those of `Window`; several places or parts of a record are added up by the
        caller. ``only_nee``: RECO - GPP alone is known, and ``residual`` (…, 1, day) is its error.
        """
        noise, n = self.noise(time, flux), time.shape[-1]
        zero = torch.zeros_like(terms[..., 0, :, :])
        gpp = torch.cat([terms[..., 0, :, :], zero], -1)
        reco = torch.cat([zero, terms[..., 1, :, :]], -1)
        x = torch.cat([gpp, reco], -2)
        if only_nee:
            x, (a, b) = reco - gpp, noise.split(n, -2)
            noise = a[..., :n] - a[..., n:] - b[..., :n] + b[..., n:]
        factor = torch.linalg.cholesky(noise)
        x = torch.linalg.solve_triangular(factor, x, upper=False)
        r = residual.flatten(-2)[..., None]
        r = torch.linalg.solve_triangular(factor, r, upper=False)
        return x.mT @ x, (x.mT @ r)[..., 0]

    def posterior(self, precision: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
        """Mean (…, weight) and covariance (…, weight, weight) of weights given `evidence`."""
        after = torch.linalg.inv(torch.linalg.inv(self.covariance()) + precision)
        return (after @ product[..., None])[..., 0], after

    def left(self, window: Window) -> Tensor:
        """Mean squared error (place, 3) of GPP, RECO, NEE on other days, with the labels learnt."""
        w, _ = self.posterior(*self.evidence(*window[:2], window.terms, window.residual))
        linear = torch.einsum("pfw,pw->pf", window.cross, w)
        square = torch.einsum("pw,pfwv,pv->pf", w, window.gram, w)
        return (window.error - 2 * linear + square).clamp(min=1e-6)

    def store(self) -> dict[str, Any]:
        """Give plain numbers for a header."""
        return {name: value.tolist() for name, value in self.state_dict().items()}

    @classmethod
    def restore(cls, stored: Mapping[str, Any]) -> Self:
        """Make the model again of what `store` gave; RuntimeError, ValueError where it is not."""
        model = cls()
        model.load_state_dict({k: torch.tensor(v, dtype=torch.float64) for k, v in stored.items()})
        return model.requires_grad_(False)


def window(
    time: Array, flux: Array, observed: Array, terms: Array,
    given: NDArray[np.bool_], scored: NDArray[np.bool_], days: int,
) -> Window:  # fmt: skip
    """Make a window of one place: labels of ``days`` of the days ``given``, evenly spread.

    ``time`` (day,) in days; ``flux``, ``observed`` (day, 2) GPP and RECO; ``terms`` from `basis`;
    ``given``, ``scored`` (day,) which days' labels are known, and on which errors count.
    """
    at = np.flatnonzero(given)
    at = at[np.linspace(0, len(at) - 1, days).round().astype(int)]
    error, n = (observed - flux).T, scored.sum()
    e, t = error[:, scored], terms[:, scored]
    zero = np.zeros_like(t[0])
    e = np.stack([e[0], e[1], e[1] - e[0]])
    gpp, reco = np.concatenate([t[0], zero], 1), np.concatenate([zero, t[1]], 1)
    x = np.stack([gpp, reco, reco - gpp])
    parts = (
        time[at], flux[at].T, error[:, at], terms[:, at], (e**2).mean(1),
        np.einsum("fd,fdw->fw", e, x) / n, np.einsum("fdw,fdv->fwv", x, x) / n,
    )  # fmt: skip
    return Window(*(torch.as_tensor(np.ascontiguousarray(part, float)) for part in parts))


def learn(windows: Mapping[int, Sequence[Window]], seed: int = 0, progress: str = "") -> ErrorModel:
    """Learn from windows of towers that the predicting models had not seen, by length.

    Each step sees windows of every length; the loss is what is left of a tower's error, as a share,
    mean over towers, lengths and fluxes, and half the same of the pooled error. Deterministic.
    """
    model, rng = ErrorModel(), np.random.default_rng(seed)
    stacked = {
        days: Window(*(torch.stack(part) for part in zip(*each, strict=True)))
        for days, each in windows.items() if each
    }  # fmt: skip
    if not stacked:
        remedy = "labels of a year and half a year more at one tower at least"
        raise DataError(f"no record is long enough to learn how errors go together; {remedy}")
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    for step in trange(STEPS, desc=progress, disable=not progress):
        optimiser.zero_grad()
        total = torch.zeros((), dtype=torch.float64)
        for each in stacked.values():
            n = len(each.error)
            chosen = torch.as_tensor(rng.choice(n, min(BATCH, n), replace=False))
            part = Window(*(values[chosen] for values in each))
            left = model.left(part)
            pooled = (left.mean(0) / part.error.mean(0)).sqrt().mean()
            total = total + (left / part.error).sqrt().mean() + pooled / 2
        total.backward()
        optimiser.step()
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - (step + 1) / STEPS) + 1e-4
    return model.requires_grad_(False)
