"""Which days and drivers moved a flux, and through which latent features.

Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv 1703.01365) share out the difference
between a day's flux and that of mean drivers among the drivers of this and the days before, and
add up to it (completeness). They show what the model uses, not what causes the flux.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor

from tamrl.model.predict import embed_sites
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples, process_scalars
from tamrl.study.drivers.permutation import SCALARS, members
from tamrl.study.out_of_fold import on_device, trained


class Windows(NamedTuple):
    """Drivers of the days up to scored ones, and what is known of the places; B windows."""

    x: Tensor  # (B, length, F) scaled
    seen: Tensor
    process: Tensor
    facts: Tensor
    z: Tensor | None
    coords: dict[str, tuple[str, NDArray]]


@torch.no_grad()
def scored_windows(model: TamRLModel, samples: Samples, towers: NDArray, days: int, length: int,
                   seed: int) -> Windows:  # fmt: skip
    """Gather ``days`` random windows a tower that end on a scored day and lack no active day."""
    rng, part = np.random.default_rng(seed), samples.select(towers)
    (net, data), ready = on_device(model, part), part.scored.copy()
    ready[:, : length - 1] = False
    views = np.lib.stride_tricks.sliding_window_view(part.has_drivers, length, 1)
    ready[:, length - 1 :] &= views.all(-1)
    picks = [rng.permutation(np.flatnonzero(row))[:days] for row in ready]
    site = np.repeat(np.arange(len(picks)), [len(p) for p in picks])
    end = np.concatenate(picks)
    at = data.at(site, end[:, None] + np.arange(1 - length, 1))
    facts, z = embed_sites(net, data, site, model.recipe.windows_of_support)
    known = {"site": part.site[site], "time": part.time[end].astype("datetime64[ns]"),
             "igbp": part.table.igbp.to_numpy(str)[site]}  # fmt: skip
    coords = {name: ("sample", value) for name, value in known.items()}
    task = None if z is None else z.clone()  # clones take part in gradients
    return Windows(*data.drivers(at), facts.clone(), task, coords)


def attributions(model: TamRLModel, samples: Samples, towers: NDArray, days: int = 8,
                 length: int = 90, steps: int = 64, seed: int = 0) -> xr.Dataset:  # fmt: skip
    """Integrated gradients of single days' fluxes along the ``length`` days of drivers up to them.

    A tower gives up to ``days`` random scored days. The path starts at the training towers' mean
    drivers; what is missing, z and facts stay. Returns ``attribution`` (sample, flux, lag, driver)
    and ``change`` (sample, flux), the flux less that of mean drivers, gC m-2 d-1.
    """
    net = trained(model)
    x, seen, _, facts, z, coords = scored_windows(model, samples, towers, days, length, seed)
    index = [samples.features.index(name) for name in SCALARS]

    def last(x: Tensor, seen: Tensor, facts: Tensor, z: Tensor | None) -> Tensor:
        raw = (x * net.x_sd + net.x_mean)[..., index]
        scalars = process_scalars(raw[..., 0], raw[..., 1], raw[..., 2], xp=torch)
        scalars = torch.where(seen[..., index].bool().all(-1, keepdim=True), scalars, 1.0)
        return net.decode(x, seen, scalars, facts, z).flux[:, -1]

    method, of = IntegratedGradients(last), dict[str, Tensor]()
    with torch.backends.cudnn.flags(enabled=False):  # whose LSTM has no gradient in eval mode
        for k in net.free:
            value = method.attribute(x, target=k, additional_forward_args=(seen, facts, z),
                                     n_steps=steps, method="gausslegendre",
                                     internal_batch_size=max(512, len(x)))  # fmt: skip
            of[net.config.targets[k]] = value.float()
    for b in (b for b in net.config.budgets if b.total not in of):  # gradients of a sum are sums
        each = [a * of[p] for a, p in zip(b.coefficients, b.parts, strict=True)]
        of[b.total] = torch.stack(each).sum(0)
    parts = [of[name] for name in net.config.targets]
    with torch.no_grad():
        change = last(x, seen, facts, z) - last(torch.zeros_like(x), seen, facts, z)
    dims, unit = ("sample", "flux", "lag", "driver"), {"units": "gC m-2 d-1"}
    return xr.Dataset(
        {"attribution": (dims, torch.stack(parts, 1).cpu().numpy(), unit),
         "change": (("sample", "flux"), change.cpu().numpy(), unit)},
        {**coords, "flux": list(net.config.targets), "driver": list(samples.features),
         "lag": ("lag", np.arange(length)[::-1], {"units": "days before"})},
    )  # fmt: skip


@torch.no_grad()
def latents(model: TamRLModel, samples: Samples, towers: NDArray, days: int = 30, length: int = 90,
            seed: int = 0) -> xr.Dataset:  # fmt: skip
    """Gates of places (0 to 2; 1: as for all), and what latent features add to fluxes with a head.

    Returns ``gate`` and ``contribution`` (gate x head x feature) (sample, flux, latent).
    """
    net = trained(model)
    x, seen, process, facts, z, coords = scored_windows(model, samples, towers, days, length, seed)
    features: list[Tensor] = []
    with net.drop.register_forward_hook(lambda _, given, out: features.append(out[:, -1])):
        gate = net.decode(x, seen, process, facts, z).gates[:, net.free]
    added = gate * net.head * features[0].unsqueeze(1)
    values = {"gate": gate, "contribution": added}
    parts = {k: (("sample", "flux", "latent"), v.cpu().numpy()) for k, v in values.items()}
    return xr.Dataset(parts, {**coords, "flux": [net.config.targets[i] for i in net.free]})


def gates_by_class(inner: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Mean gate by class (rows) and latent feature, those that move the flux most first."""
    order = (-inner.contribution.std("sample")).argsort(axis=-1)
    means = inner.gate.groupby("igbp").mean()
    return {str(flux): means.sel(flux=flux).isel(latent=order.sel(flux=flux).values).to_pandas()
            for flux in inner.flux.values}  # fmt: skip


def by_group(attributed: xr.Dataset) -> xr.DataArray:
    """Sum ``attribution`` over the drivers of each group: (sample, flux, lag, predictors)."""
    groups = members(attributed.driver.values.tolist())
    parts = [attributed.attribution.isel(driver=at).sum("driver") for at in groups.values()]
    return xr.concat(parts, pd.Index(groups, name="predictors")).transpose(..., "predictors")
