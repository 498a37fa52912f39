"""The two errors that a user meets, of data and of the study; and the warning about inputs."""


class DataError(ValueError):
    """Bad or missing data; the message names the file, the variable, the value and the remedy."""


class StudyError(RuntimeError):
    """A job, a notebook or the book did not come out; the message says which, and how it failed."""


class InputWarning(UserWarning):
    """What was converted, not used, lost or odd in a user's inputs; predictions go on."""
