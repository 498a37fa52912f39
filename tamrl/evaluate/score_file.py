"""Scores of a file of predictions against measured fluxes, as in `tamrl.evaluate.scores`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from tamrl.data.own.labels import FEW_LABELS, MOST_DAYS
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.evaluate.flux_files import ENDS, OF_SEEN, Source, checked, open_fluxes
from tamrl.evaluate.scores import SCORES, Days, score_towers, sum_days, summarise
from tamrl.samples.arrays import SCORE_QC
from tamrl.samples.splits import BUFFER_KM

AS_LABELLED = "as in the labels"  # unit of a further target of which none is stated
SHOWN = 5  # towers named in a line
APART = 200  # times that one side may exceed the other in size; a flux in kg is a thousandth


def seen_by_weights(fluxes: xr.Dataset) -> dict[str, str]:
    """Say of each tower of a prediction whether its weights have seen it, in words; "no": not.

    They are those of `tamrl.shipped.report.SEEN`, with the name of the tower or place nearby.
    DataError where a file was changed so that it does not say.
    """
    sites = fluxes.site.to_numpy().astype(str)
    if "seen" not in fluxes:
        return dict.fromkeys(sites, "unknown")
    near = "near annual place {}, {:.0f} km", "near {}, {:.0f} km"
    words = ("no", *near, "its annual fluxes", "yes")
    each = [fluxes[n].values if n in fluxes else np.array(None) for n in OF_SEEN]
    numbers = all(each[k].dtype.kind in "iuf" for k in (0, 2))
    known = numbers and np.isin(each[0], np.arange(len(words))).all()
    if not known or any(v.shape != sites.shape for v in each):
        what = f"predictions: {', '.join(OF_SEEN)} are not all there, or not as they were written"
        raise DataError(f"{what}: seen is a number from 0 to {len(words) - 1}; predict again")
    out = {}
    for site, k, name, km in zip(sites, *each, strict=True):
        elsewhere = f", but {km:.0f} km away" if k > len(near) and km > BUFFER_KM else ""
        out[site] = words[int(k)].format(name, km) + elsewhere
    return out


def about_seen(by_site: Mapping[str, str]) -> list[str]:
    """Say of which towers (`seen_by_weights`) a score is no test of the model."""
    seen = [f"{s} ({words})" for s, words in by_site.items() if words not in ("no", "unknown")]
    lines = [f"Seen by the weights, so no test of them: {some(seen)}"] if seen else []
    if "unknown" in by_site.values():
        lines.append("Whether the weights have seen the towers is unknown: they do not say")
    return lines


def cautions(scores: pd.DataFrame) -> list[str]:
    """Say what to know of `score`'s table: towers seen by the weights, labels without a flag."""
    each = scores[scores.site != "all"].drop_duplicates("site")
    lines = about_seen(dict(zip(each.site, each.seen, strict=True)))
    if names := scores.attrs["unflagged"]:
        lines.append(f"No quality flag below 1, so that all labelled days count: {some(names)}")
    return lines


def some(items: Sequence[str]) -> str:
    """Join the first few names, and say how many more there are."""
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return ", ".join(items[:SHOWN]) + more


def _counting(seen: xr.Dataset, further: Sequence[str]) -> xr.DataArray:
    """Mask of days (site, time) measured well enough; all, at towers named as ``unflagged``."""
    names = [f for f in FLUXES if f in seen] or list(further)
    if not names:
        raise DataError(f"measurements: none of {', '.join(FLUXES)} by site and time is in them")
    measured = seen[names].to_array("flux").count("flux") > 0
    share = seen.NEE_QC if "NEE_QC" in seen else measured.where(False)
    # Without a flag the share reads as 1, or is missing, on every measured day.
    flagged = ((share < 1) & measured).any("time")
    unflagged = [str(s) for s in np.atleast_1d(seen.site.values[~flagged.values])]
    return ((share >= SCORE_QC) | ~flagged).assign_attrs(unflagged=unflagged)


def _same_units(pred: xr.Dataset, seen: xr.Dataset) -> None:
    """Refuse targets that were predicted in another unit than the measurements state."""
    for name, values in pred.items():
        given, measured = values.attrs.get("units", ""), seen[name].attrs.get("units", "")
        if measured and given not in (measured, "", AS_LABELLED):
            what = f"{name} is predicted in {given!r} and measured in {measured!r}"
            raise DataError(f"{what}; convert the measurements: its unit is not known here")


def _alike(flux: str, predicted: Any, measured: Any) -> None:
    """Refuse a flux (day,) that one side has in another unit, as kg for g, by its size alone."""
    sizes = [float(np.quantile(np.abs(each), MOST_DAYS)) for each in (predicted, measured)]
    if len(measured) >= FEW_LABELS and max(sizes) > APART * min(sizes) > 0:
        what = f"{flux} reaches {sizes[0]:.2g} as predicted and {sizes[1]:.2g} as measured"
        raise DataError(f"{what}; state the units of both, by the attribute units or a column head")


def _share(inside: Any) -> float:
    return float(inside.mean()) if inside.size else np.nan


def _not_shared(pred: xr.Dataset, seen: xr.Dataset) -> list[str]:
    """Say which towers one side has alone."""
    sites = [set(each.site.values.astype(str)) for each in (pred, seen)]
    alone = {"predicted": sites[0] - sites[1], "measured": sites[1] - sites[0]}
    return [f"not scored, as they are {how} alone: {some(sorted(names))}"
            for how, names in alone.items() if names]  # fmt: skip


def score(
    predicted: Source | xr.Dataset, observed: Source | xr.Dataset, table: Source | None = None
) -> pd.DataFrame:
    """Score predicted daily fluxes on the days on which they are measured.

    Both are GPP, RECO, NEE (site, time), gC m-2 d-1, or all that `open_fluxes` reads, ``table``
    with the facts about the observed towers; ``predicted`` perhaps with ``*_lower`` and
    ``*_upper``. Days with NEE_QC below 0.8 do not count; at a tower without NEE_QC all do, and all
    of further targets, which attrs["targets"] of ``predicted`` names.

    Returns a table with columns site ("all": pooled over towers), flux, towers, days, R2, RMSE,
    bias, MAE, the share ``inside`` the bounds, NaN without any, and ``seen`` by the weights: no,
    yes, or what nearby (`seen_by_weights`), of all towers how many. attrs["virtual"] is 1 if either
    is virtual, attrs["unflagged"] names towers whose days all count, attrs["inputs"] says in lines
    what was read and converted. DataError when both share no flux, tower or day with values, and
    for what `tamrl.evaluate.flux_files.checked` refuses. Of these days two count; on the last too
    little was measured:

    >>> import numpy as np
    >>> days = {"site": ["XX-One"], "time": np.arange("2001-06-01", "2001-06-04", dtype="M8[D]")}
    >>> pred = xr.Dataset({"NEE": (("site", "time"), [[-2.0, -3.0, -9.0]])}, days)
    >>> seen = xr.Dataset({"NEE": (("site", "time"), [[-1.0, -3.0, -1.0]])}, days)
    >>> seen["NEE_QC"] = ("site", "time"), [[1.0, 0.9, 0.2]]
    >>> score(pred, seen).iloc[0][["site", "flux", "days", "bias", "MAE"]].to_dict()
    {'site': 'all', 'flux': 'NEE', 'days': 2, 'bias': -0.5, 'MAE': 0.5}
    """
    pred = predicted if isinstance(predicted, xr.Dataset) else open_fluxes(predicted)
    further = str(pred.attrs.get("targets", "")).split()
    seen = observed if isinstance(observed, xr.Dataset) else open_fluxes(observed, table, further)
    notes: list[str] = []
    pred, seen = (
        checked(each, word if isinstance(given, xr.Dataset) else str(given), further, notes, own)
        for each, given, word, own in (
            (pred, predicted, "predictions", False), (seen, observed, "measurements", True),
        )
    )  # fmt: skip
    further = [name for name in further if name in pred and name in seen]
    _same_units(pred[further], seen)
    seen = seen.assign(counts=_counting(seen, further))
    notes += (alone := _not_shared(pred, seen))
    pred, seen = xr.align(pred, seen, join="inner")
    if not pred.sizes.get("site") or not pred.sizes.get("time"):
        why = "; ".join(alone) or "their days are others"
        raise DataError(f"predictions and measurements share no tower and day: {why}")
    good, by_site, tables = seen.counts.values, seen_by_weights(pred), []
    for flux in (*(f for f in FLUXES if f in pred and f in seen), *further):
        p, y = (d[flux].values.astype(float) for d in (pred, seen))
        on = np.isfinite(p) & np.isfinite(y) & (good | (flux in further))
        if not on.any():
            if np.isfinite(p).any() and np.isfinite(y).any():
                notes.append(f"{flux}: no day has it both predicted and measured well enough")
            continue
        if flux in FLUXES:
            _alike(flux, p[on], y[on])
        site, tower = np.unique(np.nonzero(on)[0], return_inverse=True)
        facts = pd.DataFrame({"site": pred.site.values[site]})
        when = pd.DatetimeIndex(pred.time.values[np.nonzero(on)[1]])
        days = Days([""], [flux], facts, tower, when, y[on][:, None], p[on][None, :, None])
        sums = sum_days(days)
        each = score_towers(sums).rename(columns={"n": "days"}).assign(towers=1)
        pooled = summarise(sums).assign(site="all")
        names = [by_site[s] for s in pred.site.values[site]]
        count, unknown = sum(n != "no" for n in names), "unknown" in names
        each["seen"], pooled["seen"] = names, "unknown" if unknown else f"{count} of {len(names)}"
        within, known = np.zeros(on.shape), np.zeros(on.shape, bool)
        if f"{flux}_lower" in pred:
            low, high = (pred[f"{flux}_{end}"].values for end in ENDS)
            known = on & np.isfinite(low) & np.isfinite(high)
            within = ((y >= low) & (y <= high)).astype(float)
            if lost := int((on & ~known).sum()):
                notes.append(f"{flux}: {lost} scored days have no bounds and do not count inside")
        each["inside"] = [_share(within[i][known[i]]) for i in site]
        pooled["inside"] = _share(within[known])
        tables += [pooled, each]
    if not tables:
        text = "no day has both a predicted and a measured flux, with NEE_QC of at least"
        raise DataError(f"{text} {SCORE_QC}")
    columns = ["site", "flux", "towers", "days", *SCORES, "inside", "seen"]
    scores = pd.concat(tables, ignore_index=True)[columns]
    scores.attrs["inputs"] = [*str(seen.attrs.get("inputs", "")).splitlines(), *notes]
    scores.attrs["virtual"] = int(any(d.attrs.get("virtual") for d in (pred, seen)))
    scores.attrs["unflagged"] = seen.counts.attrs["unflagged"]
    return scores
