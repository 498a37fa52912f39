"""Names of files of towers, as FLUXNET, AmeriFlux and ICOS give them: which tower, which product.

See https://fluxnet.org/data/fluxnet2015-dataset/fullset-data-product/
"""

import re
from pathlib import Path

from tamrl.errors import DataError

_SITE = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}-[A-Za-z0-9]{3}(?![A-Za-z0-9])")
_OTHER = re.compile(r"_(WW|MM|YY|AUXMETEO|AUXNEE|ERAI|ERA5)_|_BIF|_AUX|README", re.IGNORECASE)


def has_code(path: Path) -> bool:
    """Whether a file's name holds a tower's code."""
    return _SITE.search(path.name) is not None


def is_code(text: str) -> bool:
    """Whether a text is a tower's code, and nothing else.

    >>> is_code("US-Ha1"), is_code("my marsh")
    (True, False)
    """
    return _SITE.fullmatch(text) is not None


def site_code(path: Path) -> str:
    """Tower code in a file's name (US-AR1 in FLX_US-AR1_DD.csv); DataError if there is none."""
    if (match := _SITE.search(path.name)) is None:
        remedy = "rename the file, or give it alone with a table of one row"
        raise DataError(f"{path}: no tower code such as US-Ha1 in the file's name; {remedy}")
    return match.group()


def rank(path: Path) -> tuple[bool, int, int]:
    """Order of preference of a tower's files: ONEFlux, half-hours (they give extremes), FULLSET."""
    name = path.name.upper()
    resolution = next((i for i, tag in enumerate(("_HH_", "_HR_", "_DD_")) if tag in name), 3)
    return "_BASE_" in name, resolution, int("_SUBSET_" in name)


def is_candidate(path: Path) -> bool:
    """Whether a file of a folder can be a daily or half-hourly flux file, going by its name."""
    return has_code(path) and not _OTHER.search(path.name)
