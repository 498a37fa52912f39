"""What a prediction says beside its fluxes, and the file that it becomes.

Which inputs were there, how far the place is from the training towers, whether the weights have
learnt from it or from a place nearby; weights, version and files. As a file it is a CF-1.11 station
file (discrete sampling geometry, section 9) laid out so that CDO takes towers for the cells of an
unstructured grid: time first, no text on an axis, only lat and lon among the coordinates.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from tamrl.data.schema import DRIVERS, FLUXES, VARIABLES
from tamrl.evaluate.score_file import about_seen, seen_by_weights, some
from tamrl.files import atomic_write
from tamrl.samples.arrays import DAILY, PHENOLOGY, SATELLITE, Samples
from tamrl.samples.splits import BUFFER_KM, distance_km
from tamrl.shipped.applicability import attribute_space, from_dict, to_dict

GROUPS = {  # of inputs: what it is called, and the drivers in it
    "weather": ("weather (TA, VPD, SW_IN)", DRIVERS),
    "extremes": ("daily extremes of weather", tuple(n for n in DAILY if n not in DRIVERS)),
    "satellites": ("monthly satellite and reanalysis data", SATELLITE),
    "EVI": ("daily vegetation index EVI", PHENOLOGY[:1]),
    "grid": ("the grid of predictors of the globe", ()),
    "attributes": ("site attributes (elevation, climate class)", ()),
}
SEEN = (  # by the weights, each more than those before
    "unseen", "annual_place_within_50_km", "training_tower_within_50_km", "annual_place",
    "training_tower",
)  # fmt: skip
_UNITS = "g m-2 d-1"  # of carbon, as the long names say: UDUNITS knows no "gC"
_EPOCH = "1970-01-01"


def about_training(samples: Samples) -> dict[str, Any]:
    """Say what weights that learn from ``samples`` have seen, as plain lists for their header.

    ``towers`` with daily fluxes and ``places`` with annual ones (code, lat, lon), and ``space``,
    the training towers in `tamrl.shipped.applicability`. Errors as of `attribute_space`.
    """
    table, places = samples.table, samples.places
    learnt = {"towers": _listed(samples.site, table.lat, table.lon)}
    if places is not None:
        learnt["places"] = _listed(places.other_site, places.other_lat, places.other_lon)
    space = to_dict(attribute_space(samples))
    return {"learnt": learnt, "space": space}


def learnt_too(header: Mapping[str, Any], samples: Samples) -> dict[str, Any]:
    """Give what weights with that header have seen, and the towers of ``samples`` besides.

    For weights that are adapted; empty where the header does not say.
    """
    facts: dict[str, Any] = {n: header[n] for n in ("learnt", "space") if n in header}
    if "learnt" in facts:
        old, table = facts["learnt"]["towers"], samples.table
        new = _listed(samples.site, table.lat, table.lon)
        facts["learnt"] = facts["learnt"] | {"towers": {n: old[n] + new[n] for n in old}}
    return facts


def _listed(site: Iterable[Any], lat: Any, lon: Any) -> dict[str, list[Any]]:
    place = {"lat": np.round(lat, 4).tolist(), "lon": np.round(lon, 4).tolist()}
    return {"site": [str(code) for code in site], **place}


def with_report(fluxes: xr.Dataset, samples: Samples, header: Mapping[str, Any]) -> xr.Dataset:
    """Add to predicted ``fluxes`` (site, time) what is known about them, by tower (site,).

    ``samples`` are those that were predicted. Added are share_* (`GROUPS`, of the inputs on the
    predicted days, 0 to 1); where weights with that ``header`` say what they have learnt from,
    dissimilarity with its threshold, outside (1: outside the area of applicability), seen (an index
    of `SEEN`), and nearest_learnt with its distance in km, which is what ``seen`` means. Attributes
    say weights, version and `notes_of` the inputs.
    """
    out = fluxes.assign(_shares(samples, np.isfinite(fluxes.NEE.values)))
    if "space" in header:
        space = from_dict(header["space"])
        index = space.dissimilarity(samples).astype(np.float32)
        text = "dissimilarity to the training towers (1: their mean distance)"
        about = {"units": "1", "long_name": text, "threshold": space.threshold}
        about["references"] = "doi:10.1111/2041-210X.13650"
        out["dissimilarity"] = "site", index, about
        flag = {"long_name": "outside the area of applicability"}
        flag |= _flags(("inside", "outside"))
        out["outside"] = "site", (index > space.threshold).astype(np.int8), flag
    if "learnt" in header:
        out = out.assign(_seen(samples, header["learnt"]))
    sha256 = header.get("weights_sha256", "unknown")
    grid = "present" if (out.share_grid > 0).any() else "missing"
    facts = {"weights_sha256": sha256, "tamrl_version": version("tamrl"), "grid": grid}
    facts |= {"input_notes": notes} if (notes := notes_of(samples)) else {}
    return out.assign_attrs(facts)


def notes_of(samples: Samples) -> str:
    """Give what was said of a user's inputs when they were read, in lines."""
    lines: Any = samples.attrs.get("inputs", ())
    return "\n".join(lines)


def _flags(words: Sequence[str]) -> dict[str, Any]:
    values = np.arange(len(words), dtype=np.int8)
    return {"flag_values": values, "flag_meanings": " ".join(words)}


def _shares(samples: Samples, on: NDArray[np.bool_]) -> dict[str, Any]:
    """Shares of inputs on the days ``on`` (site, time), a mean over the inputs of a group."""
    known = np.isfinite(samples.x) & on[..., None]
    daily = known.sum(1) / np.maximum(on.sum(1), 1)[:, None]
    share, names = dict(zip(samples.features, daily.T, strict=True)), samples.static_names
    fixed = dict(zip(names, np.isfinite(samples.static).T, strict=True))
    climate = [k for k, name in enumerate(names) if name.startswith("koppen_")]
    facts = [fixed["elevation"], (samples.static[:, climate] > 0).any(1)]
    grid = [has for name, has in fixed.items() if "_grid" in name]
    grid += [days for name, days in share.items() if name.endswith("_grid")]
    found = {name: [share[n] for n in of if n in share] for name, (_, of) in GROUPS.items()}
    found |= {"grid": grid, "attributes": facts}
    nothing = np.zeros(len(samples.site))
    out = {}
    for name, (text, drivers) in GROUPS.items():
        values = np.mean(found[name] or [nothing], 0).astype(np.float32)
        about = f"share of {text} that the predicted days had"
        attrs = {"units": "1", "long_name": about}
        if len(drivers) > 1:
            attrs["comment"] = f"mean over {', '.join(drivers)}"
        out[f"share_{name}"] = "site", values, attrs
    return out


def _seen(samples: Samples, learnt: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the towers with those learnt from, by code and by place."""
    kinds = [pd.DataFrame(learnt[n]).assign(daily=n == "towers") for n in learnt]
    known, table = pd.concat(kinds, ignore_index=True), samples.table
    n, place = len(table), {c: np.r_[table[c].to_numpy(float), known[c]] for c in ("lat", "lon")}
    km = distance_km(place["lat"], place["lon"])[:n, n:]
    same, daily = samples.site[:, None] == known.site.to_numpy(str), known.daily.to_numpy(int)
    level = np.where(same, 3 + daily, np.where(km <= BUFFER_KM, 1 + daily, 0))
    seen = level.max(1)
    best = np.where(level == seen[:, None], km, np.inf).argmin(1)
    text = "whether the weights have learnt from this tower, or from a place nearby"
    named = "tower or place that they have learnt from; the nearest where the tower is unseen"
    away = {"units": "km", "long_name": "distance of nearest_learnt"}
    return {
        "seen": ("site", seen.astype(np.int8), {"long_name": text, **_flags(SEEN)}),
        "nearest_learnt": ("site", known.site.to_numpy(str)[best], {"long_name": named}),
        "nearest_learnt_km": ("site", km[np.arange(n), best].astype(np.float32), away),
    }


def sentences(fluxes: xr.Dataset) -> list[str]:
    """Say in a few lines what a prediction rests on and which of its towers to be careful with."""
    share = {name: float(fluxes[f"share_{name}"].mean()) for name in GROUPS}
    has = ", ".join(f"{name} {value:.0%}" for name, value in share.items())
    lines = [f"Inputs on the predicted days: {has}"]
    if about := fluxes.attrs.get("bounds"):
        lines.append(f"Bounds of 90 %: {about}")
    further = str(fluxes.attrs.get("targets", "")).split()
    lines += [f"{name}: {fluxes[name].attrs['comment']}" for name in further]
    if "outside" in fluxes:
        limit, index = fluxes.dissimilarity.attrs["threshold"], fluxes.dissimilarity.values
        far = [f"{s} ({d:.2f})" for s, d in zip(fluxes.site.values, index, strict=True)
               if d > limit]  # fmt: skip
        what = f"outside the area of applicability (dissimilarity above {limit:.2f}): "
        most = f"{'at most ' * (len(index) > 1)}{index.max():.2f}"
        inside = f"Inside the area of applicability: dissimilarity {most}"
        text = f"{len(far)} of {len(index)} tower(s) {what}{some(far)}"
        lines.append(text if far else f"{inside}, threshold {limit:.2f}")
    return lines + about_seen(seen_by_weights(fluxes))


def labels(samples: Samples) -> xr.Dataset:
    """Give the fluxes that samples hold (site, time), gC m-2 d-1; NaN where none is measured.

    A day counts whose quality flag is high enough to be scored, or that has none.
    """
    flagged = (samples.weight > 0).any(axis=1, keepdims=True)
    counted, units = (samples.scored | ~flagged), dict(samples.attrs.get("units", {}))  # type: ignore[call-overload]
    fields = {}
    for k, flux in enumerate(samples.targets):  # the flag is that of NEE
        y = np.where(counted | (flux not in FLUXES), samples.y[..., k], np.nan)
        fields[flux] = ("site", "time"), y, {"units": units[flux]} if units.get(flux) else {}
    return xr.Dataset(fields, {"site": samples.site, "time": samples.time.astype("M8[ns]")})


def named_inputs(files: Iterable[Path]) -> str:
    """Name input files with their sha256; folders by name alone."""
    each = []
    for path in files:
        mark = f" sha256:{sha256_of(path)}" if path.is_file() else ""
        each.append(f"{path.name}{mark}")
    return ", ".join(each)


def sha256_of(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write(fluxes: xr.Dataset, path: str | PathLike[str], inputs: Iterable[Path] = ()) -> None:
    """Write a prediction whole or not at all: csv if the name ends so, else NetCDF.

    ``inputs`` are the files it was made of. The csv is a line a tower and predicted day, below
    lines of "#" with the attributes; NetCDF is as of `station_file`.
    """
    path, now = Path(path), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    facts = {"history": f"{now} predicted by tamrl {version('tamrl')}"}
    if named := named_inputs(inputs):
        facts["inputs"] = named
    fluxes = fluxes.assign_attrs(facts)
    with atomic_write(path) as part:
        if path.suffix.lower() == ".csv":
            part.write_text(_csv(fluxes), encoding="utf-8")
        else:
            layout, encoding = station_file(fluxes)
            layout.to_netcdf(
                part, "w", engine="netcdf4", encoding=encoding, unlimited_dims=["time"]
            )


def _csv(fluxes: xr.Dataset) -> str:
    head = {k: v for k, v in fluxes.attrs.items() if k != "Conventions"}
    further = str(fluxes.attrs.get("targets", "")).split()
    own = [f"{name} in {fluxes[name].attrs['units']}" for name in further]
    head |= {"units": "; ".join(["fluxes in gC m-2 d-1", *own])}
    if "outside" in fluxes:
        head["threshold"] = fluxes.dissimilarity.attrs["threshold"]
    drop = [n for n in fluxes.coords if n not in ("site", "time")]
    table = fluxes.drop_vars(drop).to_dataframe().dropna(subset=list(FLUXES), how="all")
    lines = [f"# {name}: {' | '.join(str(v).splitlines())}\n" for name, v in head.items()]
    return "".join(lines) + table.to_csv(float_format="%.6g", date_format="%Y-%m-%d")


def station_file(fluxes: xr.Dataset) -> tuple[xr.Dataset, dict[str, dict[str, Any]]]:
    """Lay out a prediction (site, time) as a CF-1.11 station file (time, station), with encoding.

    Mass is that of carbon, in g m-2 d-1, as long names say. Days are local, from midnight to
    midnight.
    """
    out = fluxes.transpose("time", "site", ...).drop_vars("site").rename(site="station")
    out = out.assign(site=("station", fluxes.site.values)).reset_coords()
    days = (fluxes.time.values - np.datetime64(_EPOCH)) / np.timedelta64(1, "D")
    about = {
        "standard_name": "time", "long_name": "local day", "axis": "T", "calendar": "standard",
        "units": f"days since {_EPOCH}", "units_metadata": "leap_seconds: none",
        "bounds": "time_bnds",
    }  # fmt: skip
    out["time"] = "time", days, about
    out["time_bnds"] = ("time", "bnds"), np.stack([days, days + 1], -1)
    for name, standard, units in (("lat", "latitude", "north"), ("lon", "longitude", "east")):
        named = {"standard_name": standard, "long_name": standard, "units": f"degrees_{units}"}
        out[name] = out[name].assign_attrs(named)
    out["site"].attrs = {"long_name": "code of the tower", "cf_role": "timeseries_id"}
    out["igbp"].attrs["long_name"] = "vegetation class of the IGBP"
    out["koppen"].attrs["long_name"] = "Koppen climate class"
    encoding: dict[str, dict[str, Any]] = {}
    for name, values in {str(n): v for n, v in out.data_vars.items()}.items():
        if values.dtype.kind in "UO":
            out[name] = values.astype(str)
            encoding[name] = {"dtype": "S1", "char_dim_name": f"{name}_letters"}
        elif values.dims == ("time", "station"):
            of_carbon = {"units": _UNITS, "long_name": f"{values.attrs['long_name']}, as carbon"}
            carbon = values.attrs["units"] == VARIABLES["NEE"].units and name.startswith(FLUXES)
            out[name] = values.assign_attrs(of_carbon if carbon else {}, cell_methods="time: mean")
            out[name].attrs["coordinates"] = "lat lon"
            pack = {"zlib": True, "complevel": 2, "chunksizes": values.shape}
            encoding[name] = {**pack, "_FillValue": np.float32(np.nan)}
        else:
            encoding[name] = {"_FillValue": None}
            if values.dims == ("station",) and name not in ("lat", "lon"):
                out[name].attrs["coordinates"] = "lat lon"
    encoding["time"] = {"_FillValue": None}
    out.attrs |= {"featureType": "timeSeries", "institution": "computed by the user of tamrl"}
    return out.assign_attrs(references="doi:10.48550/arXiv.2603.09974"), encoding
