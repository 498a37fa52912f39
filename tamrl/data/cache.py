"""Registry -> cache -> mirror -> URL: the only way to other people's files, always verified.

Pooch reads the registry and places the cache. The transfer is ours, because the towers are 1,653
small files: one pool of kept-alive connections instead of a handshake per file, a mirror and a
second source, one progress bar, and folders that parallel callers may create at the same moment.

A file is held in memory until its sha256 is right (the largest has 22 MB), then written beside
its place and renamed: what has a name in the cache is complete.
"""

import hashlib
import os
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pooch
from tqdm import tqdm

from tamrl.data.download import THREADS, Downloader, NotFetchedError
from tamrl.errors import DataError
from tamrl.files import atomic_write

_HERE = Path(__file__).resolve().parent
# A wheel carries the registry beside this module (see setup.py), a checkout at its top.
_COPIES = (_HERE / "data_registry.txt", _HERE.parents[1] / "data_registry.txt")
REGISTRY = next((path for path in _COPIES if path.is_file()), _COPIES[-1])

# The publisher's own server: the same bytes, for when the first source refuses or throttles.
SECOND_SOURCE = {
    "fluxnet2015.zarr/": "https://excited-co2.github.io/zarr-fluxnet2015/fluxnet.zarr/"
}
PROBE = 5.0  # s, for `available` to find out whether there is a network
_CANNOT_WRITE = "cannot write"  # how a reason begins that lies with the cache, not the sources
STALE = 600.0  # s, an unfinished file untouched for so long belongs to a killed process


def registry_names(prefix: str = "") -> list[str]:
    """Names of the registered files that begin with `prefix`, sorted."""
    return sorted(name for name in _registry(REGISTRY).registry if name.startswith(prefix))


def registry_sha256() -> str:
    """Digest (16 hex digits) of all registered names and hashes: it changes when any data do.

    Comments, order and URLs do not count, since they do not change a byte of the data.
    """
    entries = sorted(_registry(REGISTRY).registry.items())
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]


def cache_dir() -> Path:
    """Directory of the cache: TAMRL_DATA_DIR, else the system's cache folder for tamrl."""
    return Path(pooch.create(pooch.os_cache("tamrl"), base_url="", env="TAMRL_DATA_DIR").abspath)


def fetch(names: Iterable[str], desc: str = "Fetching data") -> list[Path]:
    """Make registered files present and intact in the cache; return their paths in order.

    A file is taken from the cache if its sha256 is right, else from the directory
    TAMRL_DATA_MIRROR (laid out by registry names), else from its URL or a second source.
    Safe with parallel callers; an interrupted call is resumed by calling again.

    Parameters
    ----------
    names : names in data_registry.txt
    desc : label of the progress bar, which appears when the work takes longer than a second

    Raises
    ------
    DataError
        For a name that is not registered, or after all other files were fetched: names the first
        file that failed, each source that was tried with its answer, how many failed, the remedy.
    """
    names = _known(names)
    batch = _Batch()
    _sweep({(batch.root / name).parent for name in names})
    failed: dict[str, str] = {}
    pool = ThreadPoolExecutor(THREADS)
    try:
        jobs = {pool.submit(batch.ensure, name): name for name in dict.fromkeys(names)}
        done = as_completed(jobs)
        for job in tqdm(done, desc=desc, total=len(jobs), unit="file", delay=1.0):
            if why := job.result():
                failed[jobs[job]] = why
    finally:
        batch.net.stop.set()  # after an interrupt: wakes the threads that pause between attempts
        pool.shutdown(cancel_futures=True)
    if failed:
        ordered = {name: failed[name] for name in jobs.values() if name in failed}
        raise DataError(_report(ordered, len(jobs), batch.root))
    return [batch.root / name for name in names]


def available(names: Iterable[str]) -> bool:
    """Whether `fetch` can be expected to yield these files, found out within five seconds.

    True if cache and mirror together hold a file of each name (not yet verified), or if a quick
    download of one of those that they lack succeeds.
    """
    batch = _Batch(Downloader(tries=1, timeout=(PROBE, PROBE)))
    homes = [home for home in (batch.root, batch.mirror) if home]
    lacking = [n for n in _known(names) if not any((home / n).is_file() for home in homes)]
    if not lacking:
        return True
    # Zarr's metadata (.zarray, .zattrs) are the smallest files there are.
    name = min(lacking, key=lambda n: not Path(n).name.startswith("."))
    found: list[bytes] = []

    def probe() -> None:
        with suppress(NotFetchedError):
            found.append(batch.download(name))

    # A name server that does not answer heeds no timeout: leave the thread behind then.
    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    thread.join(PROBE)
    return bool(found)


class _Batch:
    """One call's places and connections."""

    def __init__(self, net: Downloader | None = None) -> None:
        self.root = cache_dir()
        self.net = net or Downloader()
        mirror = os.environ.get("TAMRL_DATA_MIRROR", "")
        self.mirror = Path(mirror).expanduser() if mirror else None
        if self.mirror and not self.mirror.is_dir():
            raise DataError(
                f"TAMRL_DATA_MIRROR={mirror} is not a directory: correct it, or unset it to "
                "download from the URLs of data_registry.txt"
            )

    def ensure(self, name: str) -> str:
        """Put one file into the cache if it is not there; return why not, or ''."""
        path = self.root / name
        if _intact(path, _sha256(name)):
            return ""
        if self.net.stop.is_set():
            return "not tried"
        data, why = self.copy(name)
        try:
            _store(path, data if data is not None else self.download(name))
        except NotFetchedError as error:
            return f"{why}{error}"
        except OSError as error:
            self.net.stop.set()  # the same disk would fail the other files as well
            return f"{_CANNOT_WRITE} {path}: {error.strerror or error}"
        return ""

    def copy(self, name: str) -> tuple[bytes | None, str]:
        """Read the file from the mirror: its verified bytes, or None and why not."""
        if self.mirror is None:
            return None, ""
        try:
            data = (self.mirror / name).read_bytes()
        except OSError as error:
            return None, f"mirror {self.mirror}: {error.strerror or error}; "
        wrong = _differs(data, name)
        return (None, f"mirror {self.mirror}: {wrong}; ") if wrong else (data, "")

    def download(self, name: str) -> bytes:
        """Get the file's verified bytes from its URL or the second source."""
        second = [u + name[len(p) :] for p, u in SECOND_SOURCE.items() if name.startswith(p)]
        urls = [_registry(REGISTRY).get_url(name), *second]
        return self.net.get(urls, lambda data: _differs(data, name))


@lru_cache(maxsize=2)
def _registry(path: Path) -> pooch.Pooch:
    registry = pooch.create(path="", base_url="")
    try:
        registry.load_registry(path)
    except OSError as error:
        raise DataError(f"{path}: unreadable data registry ({error}); reinstall tamrl") from error
    return registry


def _known(names: Iterable[str]) -> list[str]:
    names, registered = list(names), _registry(REGISTRY).registry
    if unknown := [name for name in names if name not in registered]:
        raise DataError(
            f"{unknown[0]} ({len(unknown)} of {len(names)} names) is not in {REGISTRY}: "
            "tamrl.data.cache.registry_names() lists what is"
        )
    return names


def _sha256(name: str) -> str:
    return str(_registry(REGISTRY).registry[name]).removeprefix("sha256:")


def _intact(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:  # missing or unreadable: to be replaced
        return False


def _differs(data: bytes, name: str) -> str:
    """'' if these are the registered bytes, else how they differ."""
    found, expected = hashlib.sha256(data).hexdigest(), _sha256(name)
    if found == expected:
        return ""
    return f"wrong sha256 {found[:12]}... of {len(data)} bytes, expected {expected[:12]}..."


def _store(path: Path, data: bytes) -> None:
    """Write a file that is complete or absent, whatever happens in between."""
    with atomic_write(path) as part:
        part.write_bytes(data)


def _sweep(folders: Iterable[Path]) -> None:
    """Remove what killed processes left unfinished, but not what another one writes now."""
    for part in (part for folder in folders for part in folder.glob(".*.part")):
        with suppress(OSError):  # gone meanwhile, or a shared cache that we may only read
            if time.time() - part.stat().st_mtime > STALE:
                part.unlink()


def _report(failed: dict[str, str], total: int, root: Path) -> str:
    # The full disk first: the files that were then not tried say nothing of the cause.
    ranked = sorted(failed.items(), key=lambda item: not item[1].startswith(_CANNOT_WRITE))
    (first, why), *others = ranked
    listed = ", ".join(name for name, _ in others[:3]) + ", ..." * (len(others) > 3)
    more = f", nor could {len(others)} of the other {total - 1} files ({listed})" if others else ""
    remedy = (
        "Free some space there, make it writable, or set TAMRL_DATA_DIR to another directory"
        if why.startswith(_CANNOT_WRITE)
        else "Check the network, or set TAMRL_DATA_MIRROR to a directory that holds the files"
    )
    return (
        f"{first} could not be fetched ({why}){more}. {remedy}, then run again: "
        f"the {total - len(failed)} complete files stay in {root}."
    )
