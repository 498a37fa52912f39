"""Which days and drivers moved a flux, and through which latent features.

Integrated gradients (Sundararajan, Taly & Yan 2017, arXiv 1703.01365) share out the difference
between a day's flux and that of mean drivers among the drivers of this and the days before; the
shares add up to it (completeness). Gates and latent features show the inside of the decoder.
They show what the model uses, not what causes the flux. Fluxes in gC m-2 d-1.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import xarray as xr
from captum.attr import IntegratedGradients
from numpy.typing import NDArray
from torch import Tensor

from tamrl.model.tensors import DeviceData
from tamrl.model.train import TamRLModel
from tamrl.samples.arrays import Samples, process_scalars
from tamrl.study.drivers.permutation import GROUPS, SCALARS, Groups, members
from tamrl.study.out_of_fold import trained


class Windows(NamedTuple):
    """Drivers of the days up to scored ones, and what is known of the places; B windows."""

    x: Tensor  # (B, length, F) scaled
    seen: Tensor
    process: Tensor
    facts: Tensor
    z: Tensor | None
    coords: dict[str, tuple[str, NDArray]]


@torch.no_grad()
def scored_windows(
    model: TamRLModel, samples: Samples, towers: NDArray, days: int, length: int, seed: int
) -> Windows:
    """Gather ``days`` random windows a tower that end on a scored day and lack no active day."""
    net, rng = trained(model), np.random.default_rng(seed)
    part = samples.select(towers)
    data = DeviceData(part, net, next(net.parameters()).device)
    ready = part.scored.copy()
    ready[:, : length - 1] = False
    views = np.lib.stride_tricks.sliding_window_view(part.has_drivers, length, 1)
    ready[:, length - 1 :] &= views.all(-1)
    picks = [rng.permutation(np.flatnonzero(row))[:days] for row in ready]
    site = np.repeat(np.arange(len(picks)), [len(p) for p in picks])
    end = np.concatenate(picks)
    at = data.at(site, end[:, None] + np.arange(1 - length, 1))
    facts = net.embed_site(data.static[site])
    support = data.support.sample_windows(
        site, np.full(len(site), -1), model.recipe.windows_of_support, None
    )
    z, _, _ = net.encode(*support, facts, None if data.maps is None else data.maps[site])
    coords = {
        "site": ("sample", part.site[site]),
        "time": ("sample", part.time[end].astype("datetime64[ns]")),
        "igbp": ("sample", part.table.igbp.to_numpy(str)[site]),
    }
    return Windows(*data.drivers(at), facts, z, coords)


def attributions(
    model: TamRLModel, samples: Samples, towers: NDArray, days: int = 8, length: int = 90,
    steps: int = 64, seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    """Integrated gradients of single days' fluxes along the ``length`` days of drivers up to them.

    Each tower gives up to ``days`` random scored days. The path starts at the mean drivers of the
    training towers; what is missing stays missing, z and facts of the place stay as they are.
    Returns ``attribution`` (sample, flux, lag, driver) and ``change`` (sample, flux), the flux less
    that of mean drivers, gC m-2 d-1; coordinates site, time, igbp (sample), lag in days.
    """
    net = trained(model)
    x, seen, _, facts, z, coords = scored_windows(model, samples, towers, days, length, seed)
    index = [samples.features.index(name) for name in SCALARS]

    def last(x: Tensor, seen: Tensor, facts: Tensor, z: Tensor | None) -> Tensor:
        raw = (x * net.x_sd + net.x_mean)[..., index]
        scalars = process_scalars(raw[..., 0], raw[..., 1], raw[..., 2], xp=torch)
        scalars = torch.where(seen[..., index].bool().all(-1, keepdim=True), scalars, 1.0)
        return net.decode(x, seen, scalars, facts, z).flux[:, -1]

    method, parts = IntegratedGradients(last), []
    with torch.backends.cudnn.flags(enabled=False):  # whose LSTM has no gradient in eval mode
        for k in range(len(net.config.targets)):
            value = method.attribute(
                x, target=k, additional_forward_args=(seen, facts, z), n_steps=steps,
                method="gausslegendre", internal_batch_size=max(512, len(x)),
            )  # fmt: skip
            parts.append(value.float())
    with torch.no_grad():
        change = last(x, seen, facts, z) - last(torch.zeros_like(x), seen, facts, z)
    unit = {"units": "gC m-2 d-1"}
    return xr.Dataset(
        {
            "attribution": (
                ("sample", "flux", "lag", "driver"), torch.stack(parts, 1).cpu().numpy(), unit,
            ),
            "change": (("sample", "flux"), change.cpu().numpy(), unit),
        },
        {
            **coords, "flux": list(net.config.targets), "driver": list(samples.features),
            "lag": ("lag", np.arange(length)[::-1], {"units": "days before"}),
        },
    )  # fmt: skip


@torch.no_grad()
def latents(
    model: TamRLModel, samples: Samples, towers: NDArray, days: int = 30, length: int = 90,
    seed: int = 0,
) -> xr.Dataset:  # fmt: skip
    """Gates of places, and what each latent feature adds to each flux on single days.

    Returns (sample, flux, latent) of the fluxes with a head: ``gate`` (0 to 2; 1: as for all) and
    ``contribution`` = gate x head x feature, to the flux's pre-activation; coordinates as in
    `attributions`.
    """
    net = trained(model)
    x, seen, process, facts, z, coords = scored_windows(model, samples, towers, days, length, seed)
    features: list[Tensor] = []
    hook = net.drop.register_forward_hook(lambda _, given, out: features.append(out[:, -1]))
    try:
        gate = net.decode(x, seen, process, facts, z).gates[:, net.free]
    finally:
        hook.remove()
    added = gate * net.head * features[0].unsqueeze(1)
    dims = ("sample", "flux", "latent")
    return xr.Dataset(
        {"gate": (dims, gate.cpu().numpy()), "contribution": (dims, added.cpu().numpy())},
        {**coords, "flux": [net.config.targets[i] for i in net.free]},
    )


def gates_by_class(inner: xr.Dataset) -> dict[str, pd.DataFrame]:
    """Mean gate by class (rows) and latent feature, flux by flux, from `latents`.

    Features that move the flux most stand first.
    """
    order = (-inner.contribution.std("sample")).argsort(axis=-1)
    return {
        str(flux): inner.gate.sel(flux=flux).groupby("igbp").mean()
        .isel(latent=order.sel(flux=flux).values).to_pandas()
        for flux in inner.flux.values
    }  # fmt: skip


def by_group(attributed: xr.Dataset, groups: Groups = GROUPS) -> xr.DataArray:
    """Sum ``attribution`` over the drivers of each group: (sample, flux, lag, predictors)."""
    parts = [
        attributed.attribution.isel(driver=at).sum("driver").expand_dims(predictors=[name])
        for name, at in members([str(d) for d in attributed.driver.values], groups).items()
    ]
    return xr.concat(parts, "predictors").transpose("sample", "flux", "lag", "predictors")
