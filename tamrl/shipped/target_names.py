"""What a further target may be called: apart from networks, without which towers are read."""

import re
from collections.abc import Mapping
from typing import Any

from tamrl.data.own.stamps import STAMPS
from tamrl.data.own.vocabulary import NAMES, recognise
from tamrl.data.schema import FLUXES
from tamrl.errors import DataError
from tamrl.samples.arrays import FACTS

LONGEST = 200  # letters of a name; NetCDF takes 256, with an ending
TAKEN = {*FACTS, *NAMES, "time", "station", "dissimilarity", "outside", "seen"}
_TAKEN = re.compile(r"share_.*|nearest_learnt.*|.*_(lower|upper|letters|bnds)")


def check_name(target: str, header: Mapping[str, Any]) -> None:
    """Refuse a target that the model reads or predicts already, or that cannot be a name."""
    if not isinstance(target, str) or len(target) > LONGEST:
        what = f"the name of a target is {str(target)[:20]!r}…"
        raise DataError(f"{what}; expected a text of at most {LONGEST} letters")
    if target in header.get("targets", {}):
        raise DataError(f"the weights predict {target} already; start from the weights before")
    known = next(iter(recognise([target])), "")
    if known or target in TAKEN or target.casefold() in STAMPS or _TAKEN.fullmatch(target):
        what = "predicted already" if known in FLUXES else "read or written already"
        name = f"{target} ({known})" if known not in ("", target) else target
        raise DataError(f"{name} is {what}; a further target is another column")
    if not re.fullmatch(r"[A-Za-z]\w*", target, re.ASCII):
        remedy = "rename the column: letters, digits and _ alone"
        raise DataError(f"{target!r} cannot be the name of a variable; {remedy}")
