"""A file is there whole or not at all."""

from pathlib import Path

import pytest

from tamrl.files import atomic_write


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    """Under its name only after the last byte, with folders made on the way."""
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as part:
        part.write_text("all of it")
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    """The old file stays, the half-written one goes."""
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write() -> None:
        with atomic_write(path) as part:
            part.write_text("ne")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
