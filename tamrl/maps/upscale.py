"""From an ensemble of map models and a cube to a map, strip by strip, on Dask.

A strip of latitude rows is the unit of work, storage and resumption. Height and batches follow from
the cube and its chunks, so that the map is the same to the last bit on one thread or a cluster, in
one go or resumed. Memory holds one strip a worker.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import dask
import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from joblib import cpu_count
from tqdm import tqdm
from tqdm.dask import TqdmCallback

from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.conformal import Conformal
from tamrl.files import DONE, STORE, alone, check_store
from tamrl.maps.cubes import BARE, FULL, PERIODS, Cube, Floats, open_cube, stack_features
from tamrl.maps.layout import NO_LAND, QUALITY, map_facts, map_layout, open_map, strip_rows
from tamrl.maps.models import MapModel

BATCH = 256  # places a model sees at once
CONNECT_SECONDS = 20  # to wait for a scheduler, and for its first worker


@dataclass(frozen=True)
class _Job:
    """What every worker needs."""

    model: MapModel
    members: int
    cube: Cube
    part: Path
    strip: int
    intervals: Mapping[str, Conformal] | None
    of_mean: Mapping[str, Conformal] | None
    level: float

    def __call__(self, number: int) -> None:
        """Predict one strip and write it; the marker comes last, so that a kill costs one strip."""
        rows, cube = slice(number * self.strip, (number + 1) * self.strip), self.cube
        ds = cube.rows(rows)
        x = stack_features(ds, cube.features, ("lat", "lon"))  # (place, time, feature)
        varying = cube.drivers
        drivers = [i for i in varying if cube.features[i] not in self.model.optional]
        statics = [i for i in range(x.shape[-1]) if i not in varying]
        absent = np.asarray(np.isnan(x[..., drivers]).any(axis=-1))  # (place, time)
        land_fraction = np.asarray((~absent).any(axis=1), np.float32)
        if "land_fraction" in ds:
            land_fraction = np.nan_to_num(ds["land_fraction"].to_numpy().ravel())
        land, share = land_fraction > 0, vegetated(ds)

        quality = np.where(absent, QUALITY["driver_missing"], 0).astype(np.uint8)
        quality[np.isnan(x[:, 0][:, statics]).any(axis=-1)] |= QUALITY["static_missing"]
        if "EVI_filled" in ds:
            filled = ds["EVI_filled"].transpose("lat", "lon", "time").to_numpy() > 0
            quality[filled.reshape(absent.shape)] |= QUALITY["vegetation_index_filled"]
        places = np.flatnonzero(land & ~absent.all(axis=1))
        shape = self.members, len(x), len(cube.time), len(FLUXES)
        each, outside = np.full(shape, np.nan, np.float32), np.full(len(x), np.nan, np.float32)
        stratum: npt.NDArray[np.str_] = np.full((len(x), 1), "", dtype="<U8")
        bare = places[share[places] == 0]
        each[:, bare] = cube.averaged(np.where(absent[bare], np.nan, 0.0))[..., None]
        places = places[share[places] > 0]
        for start in range(0, len(places), BATCH):
            batch = places[start : start + BATCH]
            mapped = self.model(x[batch])
            own = np.where(absent[batch][..., None], np.nan, mapped.flux)
            none = np.isnan(own).any(axis=(0, -1)) & ~absent[batch]
            quality[batch] |= np.where(none, QUALITY["model_gave_none"], 0).astype(np.uint8)
            own[:, none] = np.nan
            each[:, batch] = np.moveaxis(cube.averaged(np.moveaxis(own, 2, -1)), -1, 2)
            stratum[batch, 0] = mapped.stratum
            outside[batch] = np.nan if mapped.outside is None else mapped.outside
            if "igbp_fraction" not in ds and mapped.vegetated is not None:
                share[batch] = mapped.vegetated
        quality = np.bitwise_or.reduceat(quality, cube.starts, axis=1)
        quality[~land] = NO_LAND
        self._write(rows, {"quality": quality, "land_fraction": land_fraction})
        self._write(rows, {"outside": outside})

        days = cube.step_days()
        for k, flux in enumerate(FLUXES):
            one = each[..., k].astype(np.float64)  # (member, place, step) of vegetated land
            total = (np.nan_to_num(one) * days).sum(axis=-1) / days.sum()
            total = np.where(np.isnan(one).all(axis=-1), np.nan, total)
            sd = one.std(axis=0, ddof=1) if len(one) > 1 else np.full(one.shape[1:], np.nan)
            fields: dict[str, npt.NDArray[Any]] = {flux: one.mean(axis=0), f"{flux}_sd": sd}
            fields[f"{flux}_member"] = total.T
            if self.intervals:
                fields |= self._bounds(self.intervals, flux, flux, one, stratum)
            if self.of_mean:
                mean = total[..., None]
                fields |= self._bounds(self.of_mean, flux, f"{flux}_mean", mean, stratum)
            self._write(rows, {n: (v.T * share).T for n, v in fields.items()})
        mark = self.part / DONE / f".{number}"
        mark.write_text(str(int(np.isfinite(each).any())))
        os.replace(mark, self.part / DONE / str(number))

    def _bounds(
        self, fitted: Mapping[str, Conformal], flux: str, name: str, each: npt.NDArray[np.float64],
        stratum: npt.NDArray[np.str_],
    ) -> dict[str, npt.NDArray[Any]]:  # fmt: skip
        """Bounds (place, step) of members' fluxes of vegetated land, as they were calibrated."""
        mean, spread = each.mean(axis=0), each.std(axis=0)
        low, high = fitted[flux].interval(mean, spread, stratum, self.level)
        least = np.minimum(mean, 0.0) if flux != "NEE" else -np.inf
        return {f"{name}_lower": np.maximum(low, least), f"{name}_upper": high}

    def _write(self, rows: slice, fields: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write fields (place, time or member), or (place,), to rows of the store."""
        out = zarr.open_group(self.part / STORE, mode="r+")
        for name, values in fields.items():
            target: Any = out[name]
            values = values[:, 0] if target.ndim < values.ndim + 1 else values
            grid = values.reshape(-1, target.shape[-1], *values.shape[1:])  # (lat, lon, ...)
            grid = np.moveaxis(grid, 2, 0) if grid.ndim > 2 else grid
            target[..., rows, :] = grid.astype(target.dtype)


def vegetated(ds: xr.Dataset) -> Floats:
    """Share of the land of each cell (lat * lon,) that can have fluxes; all of it if not known."""
    if "igbp_fraction" not in ds:
        return np.ones(ds.sizes["lat"] * ds.sizes["lon"], dtype=np.float32)
    bare = ds["igbp_fraction"].sel(igbp=[c for c in BARE if c in ds["igbp"]]).sum("igbp")
    return (1 - bare).transpose("lat", "lon").to_numpy().ravel().astype(np.float32)


def upscale(
    model: MapModel, cube: xr.Dataset | str | Path, out: str | Path, *,
    intervals: Mapping[str, Conformal] | None = None,
    of_mean: Mapping[str, Conformal] | None = None, level: float = 0.9, every: str = "step",
    chunk: int = 1, scheduler: str | None = None, workers: int | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> xr.Dataset:  # fmt: skip
    """Map GPP, RECO and NEE wherever the cube has land and drivers.

    Snow, ice and barren ground (by the cube's igbp_fraction) count as without flux, so that fluxes
    are per area of all land. The map grows in `out` + ".part" and takes its name when complete;
    called again, it goes on where it was interrupted, or only opens the complete map.

    ``model``: `EnsembleMap` or `MonthlyMap`; ``cube``: what `tamrl.maps.cubes.open_cube` reads;
    ``out``: Zarr store, which all workers must see. ``every`` "month" or "year" averages days over
    them, where four fifths were predicted. ``intervals`` by flux, calibrated on held-out towers,
    give bounds that hold the share ``level`` of observed steps, those ``of_mean`` of means over all
    times (None: no bounds).
    ``scheduler``: None for threads (``workers``, by default one a core), "local:N" for processes,
    or a running Dask scheduler ("tcp://host:8786"); a task handles ``chunk`` strips. ``attrs``:
    more global attributes; virtual=1 (taken over from the cube) marks the title.

    Returns a lazy Dataset: GPP, RECO, NEE, each with _sd, _lower, _upper (time, lat, lon) in
    g C m-2 d-1, _member (member, lat, lon), _mean_lower, _mean_upper (lat, lon), over all times;
    quality, land_fraction, area, and outside, the share beyond the area of applicability.
    DataError for a cube that cannot be read as the model's features, an ensemble without members,
    intervals that lack a flux or the level, an `out` that holds another map or is being written,
    or a map that would have no value at all.
    """
    if not (digests := model.digests):
        raise DataError("the ensemble has no member; it needs at least one")
    for bounds, flux in product((intervals, of_mean), FLUXES):
        if bounds and (flux not in bounds or level not in bounds[flux].quantiles):
            raise DataError(f"intervals: {flux} at the level {level} was not calibrated")
    if chunk < 1 or (workers is not None and workers < 1):
        raise DataError(f"chunk {chunk}, workers {workers}: both are 1 or more")
    if every not in PERIODS:
        raise DataError(f"every {every!r}: choose from {', '.join(PERIODS)}")
    check_store(out := Path(out), cube)
    opened = replace(open_cube(cube, model.features), every=every)
    days = model.days
    if days is not None and not np.array_equal(days, opened.ds["time"].to_numpy().astype("M8[D]")):
        raise DataError(f"{opened.name}: the model was made for other days; make it for this cube")
    if "land_fraction" not in opened.ds and model.grid is not None:
        opened = replace(opened, ds=opened.ds.assign(land_fraction=_land(model.grid, opened.ds)))
    if opened.climatology and every != "step":
        raise DataError(f"{opened.name}: twelve months of an average year are not averaged further")
    if every != "step" and not (opened.share() >= FULL).any():
        first, last = (str(date)[:10] for date in opened.ds["time"].to_numpy()[[0, -1]])
        text = f"no {every} has four fifths of its days between {first} and {last}, which a mean"
        raise DataError(f"{opened.name}: {text} needs; give longer series, or choose another every")
    sizes = opened.ds.sizes
    strip = strip_rows(opened)
    facts = map_facts(model, opened, (intervals, of_mean), level) | dict(attrs or {})
    if facts.setdefault("virtual", int(opened.ds.attrs.get("virtual", 0))):
        facts["title"] = f"Virtual towers: {facts['title']}"
    if out.exists():
        if zarr.open_group(out, mode="r").attrs.get("identity") == facts["identity"]:
            return open_map(out)
        raise DataError(f"{out}: holds another map; remove it or name another output")
    part = out.with_name(out.name + ".part").absolute()
    layout = map_layout(opened, len(digests), strip, (bool(intervals), bool(of_mean)), facts)
    with alone(out, "map"):
        _prepare(part, *layout, f"{facts['identity']} {strip}")
        todo = [k for k in range(-(-sizes["lat"] // strip)) if not (part / DONE / str(k)).exists()]
        tasks = [todo[i : i + chunk] for i in range(0, len(todo), chunk)]
        job = _Job(model, len(digests), opened, part, strip, intervals, of_mean, level)
        _run(job, tasks, scheduler, workers)
        if not any(mark.read_text() == "1" for mark in (part / DONE).glob("[0-9]*")):
            shutil.rmtree(part)
            often = "always" if every == "step" else f"on over a fifth of the days of each {every}"
            text = f"no cell has any flux: all is sea, or a driver is missing {often}; fill it"
            raise DataError(f"{opened.name}: {text}")
        shutil.rmtree(part / DONE)
        os.replace(part / STORE, out)
        part.rmdir()
    return open_map(out)


def _land(grid: xr.Dataset, cube: xr.Dataset) -> xr.DataArray:
    """Share of land of each cell (lat, lon) of a cube by the grid's cell there; 0 beyond the grid.

    Weather of a reanalysis is known over the sea, too, where no tower says anything.
    """
    axes = {name: cube[name].to_numpy() for name in ("lat", "lon")}
    if min(grid.sizes["lat"], grid.sizes["lon"]) < 2:  # nothing but ice and sea
        return xr.DataArray(np.zeros([len(v) for v in axes.values()], np.float32), axes, [*axes])
    known = grid["land_fraction"].transpose("lat", "lon").fillna(0)
    for name, at in axes.items():
        step = abs(float(grid[name][1] - grid[name][0]))
        found = (at + 180) % 360 - 180 if name == "lon" else at  # a cube may cross 180 degrees
        known = known.reindex({name: found}, method="nearest", tolerance=step, fill_value=0)
    return known.assign_coords(axes).astype(np.float32)


def _task(numbers: Sequence[int], job: _Job) -> None:
    for number in numbers:
        job(number)


def _run(job: _Job, tasks: list[list[int]], scheduler: str | None, workers: int | None) -> None:
    if scheduler is None:
        with TqdmCallback(desc="Mapping", leave=False):
            lazy = [dask.delayed(_task, pure=False, traverse=False)(task, job) for task in tasks]
            dask.compute(*lazy, scheduler="threads", num_workers=workers or cpu_count())
        return
    from distributed import Client, LocalCluster, as_completed

    cluster: Any = nullcontext(scheduler)
    if scheduler.startswith("local"):
        count = scheduler.removeprefix("local:")
        if not count.isdigit() or int(count) < 1:
            raise DataError(f"scheduler {scheduler!r}: write local:2 for two processes")
        cluster = LocalCluster(int(count), threads_per_worker=1, dashboard_address=None)
    start = "start one: dask scheduler, and on each machine: dask worker ADDRESS"
    with cluster as address:
        try:
            client = Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:
            text = f"scheduler {scheduler!r}: no Dask scheduler answers there; {start}"
            raise DataError(text) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise DataError(f"scheduler {scheduler!r}: it has no worker; {start}") from error
            shared = client.scatter(job, broadcast=True)
            futures = client.map(_task, tasks, job=shared, pure=False)
            for future in tqdm(as_completed(futures), "Mapping", len(futures), leave=False):
                future.result()  # raises what the worker raised


def _prepare(part: Path, small: xr.Dataset, large: xr.Dataset, identity: str) -> None:
    """Make the empty store, unless one of the same identity waits to be completed."""
    note, store = part / DONE / "identity", part / STORE
    if note.is_file() and note.read_text("utf-8") == identity:
        return
    shutil.rmtree(part, ignore_errors=True)
    (part / DONE).mkdir(parents=True)  # first: by it a store is known to be made here
    options: Any = {"zarr_format": 2, "consolidated": False}
    no_fill = {name: {"_FillValue": None} for name in small.variables}
    small.to_zarr(store, mode="a", encoding=no_fill, **options)
    fill = {name: v.encoding for name, v in large.data_vars.items()}
    large.to_zarr(store, mode="a", encoding=fill, compute=False, **options)
    note.write_text(identity, "utf-8")
