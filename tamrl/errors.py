"""The one error a user meets when data are not what they should be."""


class DataError(ValueError):
    """Bad or missing data; the message names the file, the variable, the value and the remedy."""


class StudyError(RuntimeError):
    """A notebook or the book did not come out; the message holds the failing cell or the log."""
