"""The two errors that a user meets, of data and of the study; and the warning about inputs."""

from typing import Any


class DataError(ValueError):
    """Bad or missing data; the message names the file, the variable, the value and the remedy."""


def expect(value: Any, kinds: Any, what: str, expected: str) -> None:
    """Refuse (DataError) what a caller hands in as ``what`` unless it is one of these kinds."""
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise DataError(f"{what} is of the kind {type(value).__name__}; expected {expected}")


class StudyError(RuntimeError):
    """A job, a notebook or the book did not come out; the message says which, and how it failed."""


class InputWarning(UserWarning):
    """What was converted, not used, lost or odd in a user's inputs; predictions go on."""
