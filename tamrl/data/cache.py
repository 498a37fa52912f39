"""Registry -> cache -> mirror -> URL: the only way to other people's files, always verified.

Urllib3 retries; one pool of connections is kept alive for the 1,835 small files of the towers. Each
is held in memory until its sha256 is right, then written beside its place and renamed, so whole.
"""

import hashlib
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from urllib.parse import urlsplit

import pooch
import requests
from requests.adapters import HTTPAdapter
from tqdm import tqdm
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from tamrl.errors import DataError
from tamrl.files import atomic_write, check_regular, remove_unfinished

# A wheel carries the registry beside this module (see setup.py), a checkout at its top.
_COPIES = [Path(__file__).resolve().parents[up] / "data_registry.txt" for up in (0, 2)]
REGISTRY = next((path for path in _COPIES if path.is_file()), _COPIES[-1])

# The publisher's own server: the same bytes, for when the first source refuses or throttles.
SECOND_SOURCE = {
    "fluxnet2015.zarr/": "https://excited-co2.github.io/zarr-fluxnet2015/fluxnet.zarr/"
}
THREADS = 8
TRIES = 6  # requests for one file of a busy server
NO_NETWORK = 3  # requests without a connection after which a server counts as out of reach
BACKOFF = 1.0  # s, pause before the third request (none before the second), then doubled
MAX_WAIT = 60.0  # s, a server that asks for more patience than this is left alone
GIVE_UP = 8  # files that a host failed to give, one after the other, that end its use
TIMEOUT = (5.0, 30.0)  # s, to connect and between two packets
LARGEST = 32e6  # bytes of a reply; the largest registered file has 21.8 million
SLOWEST = 2e3  # bytes s-1, least mean rate of a reply that takes longer than between two packets
DEADLINE = 1800.0  # s, for a reply; also without a single file done, after which all are given up
THROTTLED = (408, 425, 429, 500, 502, 503, 504)  # HTTP status: may pass (RFC 9110, RFC 6585)
PROBE = 5.0  # s, for `available` to find out whether there is a network
_CANNOT_WRITE = "cannot write"  # how a reason begins that lies with the cache, not the sources


def registry_names(prefix: str = "") -> list[str]:
    """Names of the registered files that begin with `prefix`, sorted."""
    return sorted(name for name in _registry(REGISTRY) if name.startswith(prefix))


def registry_sha256() -> str:
    """Digest (16 hex digits) of all registered names and hashes; not of comments, order, URLs."""
    entries = sorted((name, digest) for name, (digest, _) in _registry(REGISTRY).items())
    return hashlib.sha256(repr(entries).encode()).hexdigest()[:16]


def cache_dir() -> Path:
    """Directory of the cache: TAMRL_DATA_DIR, else the system's cache folder for tamrl."""
    return Path(pooch.create(pooch.os_cache("tamrl"), base_url="", env="TAMRL_DATA_DIR").abspath)


def fetch(names: Iterable[str], desc: str = "Fetching data") -> list[Path]:
    """Make registered files present and intact in the cache; return their paths in order.

    A file is taken from the cache if its sha256 is right, else from the directory
    TAMRL_DATA_MIRROR (laid out by registry names), else from its URL or a second source. Parallel
    callers are safe; call again after an interrupt. Raises DataError for a name not registered, or,
    once all others are there, with the first failure, each source's answer, count and remedy.
    """
    names, batch = _known(names), _Batch()
    for folder in {(batch.root / name).parent for name in names}:
        remove_unfinished(folder)
    todo, done = deque(dict.fromkeys(names)), SimpleQueue[tuple[str, str | Exception]]()
    answers = dict.fromkeys(todo, f"nothing arrived for {DEADLINE:.0f} s")

    def work() -> None:
        with suppress(IndexError):  # none is left
            while name := todo.popleft():
                done.put((name, batch.ensure(name)))

    # Daemons: at Ctrl-C the interpreter does not wait for a thread that waits for a server.
    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        with suppress(Empty):  # what has no answer by then is reported below
            for _ in tqdm(answers, desc, unit="file", delay=1.0):
                name, answer = done.get(timeout=DEADLINE)
                if isinstance(answer, Exception):
                    raise answer
                answers[name] = answer
    finally:
        todo.clear()
        batch.stop.set()  # after an interrupt: wakes the threads that pause between requests
        for thread in threads:
            thread.join(0.05)  # to end what it writes
    if failed := {name: why for name, why in answers.items() if why}:
        raise DataError(_report(failed, len(answers), batch.root))
    return [batch.root / name for name in names]


def available(names: Iterable[str]) -> bool:
    """Whether cache and mirror hold these files, or a quick download of one that lacks succeeds."""
    batch = _Batch(tries=1, timeout=(PROBE, PROBE))
    homes = [batch.root, batch.mirror or batch.root]
    lacking = [n for n in _known(names) if not any((home / n).is_file() for home in homes)]
    if not lacking:
        return True
    # Zarr's metadata (.zarray, .zattrs) are the smallest files there are.
    name = min(lacking, key=lambda n: not Path(n).name.startswith("."))
    received: list[bytes] = []

    def probe() -> None:
        with suppress(_NotFetchedError):
            received.append(batch.download(name))

    # A name server that does not answer heeds no timeout: leave the thread behind then.
    (thread := threading.Thread(target=probe, daemon=True)).start()
    thread.join(PROBE)
    batch.stop.set()  # to leave no download behind
    return bool(received)


class _NotFetchedError(Exception):
    """Why bytes could not be had: each source with its last answer."""


class _Patience(Retry):
    """Waits between requests as long as the server asks for, or not at all once `stop` is set."""

    stop: threading.Event

    def asked(self, response: Any) -> float:
        """Seconds of the header Retry-After (RFC 9110, 10.2.3); 0 for none, or for nonsense."""
        with suppress(InvalidHeader):
            return (self.get_retry_after(response) if response else None) or 0.0
        return 0.0

    def sleep(self, response: Any = None) -> None:
        wait = max(self.asked(response), self.get_backoff_time())
        if wait > MAX_WAIT or self.stop.wait(wait):
            raise _NotFetchedError(f"not tried again, {wait:.0f} s to wait")


class _Batch:
    """One call's places and connections, and what hosts have answered to any of its threads."""

    def __init__(self, tries: int = TRIES, timeout: tuple[float, float] | None = None) -> None:
        self.root, self.timeout = cache_dir(), timeout or TIMEOUT
        self.stop = threading.Event()  # set it to end all attempts and pauses at once
        # A count that is lost between two threads delays giving up by one file: no lock.
        self.failures: Counter[str] = Counter()  # host: files failed since its last success
        self.last: dict[str, str] = {}  # host: its last failure
        self.quick, self.patient = self._session(1), self._session(tries)
        mirror = os.environ.get("TAMRL_DATA_MIRROR", "")
        self.mirror = Path(os.path.expanduser(mirror)) if mirror else None
        if self.mirror and not self.mirror.is_dir():
            remedy = "correct it, or unset it to download from the URLs of data_registry.txt"
            raise DataError(f"TAMRL_DATA_MIRROR={mirror} is not a directory: {remedy}")

    def _session(self, tries: int) -> requests.Session:
        few = min(tries, NO_NETWORK) - 1
        how = {"status_forcelist": THROTTLED, "backoff_factor": BACKOFF, "raise_on_status": False}
        retry = type("_", (_Patience,), {"stop": self.stop})(tries - 1, few, few, **how)
        session = requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=THREADS, max_retries=retry))
        return session

    def ensure(self, name: str) -> str | Exception:
        """Put one file into the cache if it is not there; return '', why not, or a fault."""
        path = self.root / name
        data, wrong = _read(path, name)
        if not wrong:
            return ""
        if self.stop.is_set():
            return "not tried"
        if self.mirror is not None:
            data, wrong = _read(self.mirror / name, name)
        try:
            data = self.download(name) if wrong else data
            with atomic_write(path) as part:
                part.write_bytes(data)
        except _NotFetchedError as error:
            return f"mirror {self.mirror}: {wrong}; {error}" if self.mirror else str(error)
        except OSError as error:
            self.stop.set()  # the same disk would fail the other files as well
            return f"{_CANNOT_WRITE} {path}: {error.strerror or error}"
        except Exception as error:
            return error
        return ""

    def download(self, name: str) -> bytes:
        """Get the file's verified bytes from its URL or the second source."""
        # Of two sources the first is asked once, then the second patiently, then the first.
        second = [u + name[len(p) :] for p, u in SECOND_SOURCE.items() if name.startswith(p)]
        urls = [_registry(REGISTRY)[name][1], *second]
        asked = [*((u, self.quick) for u in urls[:-1]), *((u, self.patient) for u in urls[::-1])]
        why: dict[str, str] = {}
        for url, session in asked:
            host = urlsplit(url).netloc
            if self.failures[host] >= GIVE_UP or self.stop.is_set():
                why[host] = f"{self.last.get(host, 'busy')}, given up after failing again and again"
                continue
            try:
                data, self.failures[host] = self._ask(session, url, name), 0
                return data
            except _NotFetchedError as error:
                self.last[host] = why[host] = str(error)
            self.failures[host] += session is self.patient and not why[host].startswith("HTTP 4")
        raise _NotFetchedError("; ".join(f"{host}: {answer}" for host, answer in why.items()))

    def _ask(self, session: requests.Session, url: str, name: str) -> bytes:
        for _ in range(1 if session is self.quick else 2):  # a reply may break off or be garbled
            try:
                with session.get(url, timeout=self.timeout, stream=True) as reply:
                    if not reply.ok:
                        if _Patience().asked(reply.raw) > MAX_WAIT:
                            self.failures[urlsplit(url).netloc] = GIVE_UP
                        raise _NotFetchedError(f"HTTP {reply.status_code} {reply.reason}")
                    data = self._body(reply.raw)
            except (OSError, ValueError, ReadTimeoutError) as error:
                why = "no answer in time" if "timed out" in str(error) else "no connection"
                what = error if type(error) in (OSError, ValueError) else type(error).__name__
                raise _NotFetchedError(f"{why} ({what})") from error
            except HTTPError:
                why = "reply broken off"
                continue
            if not (why := _differs(data, name)):
                return data
        raise _NotFetchedError(why)

    def _body(self, raw: Any) -> bytes:
        """Read a reply as it comes, so that neither an endless nor a trickling one can hold us."""
        began, data = time.monotonic(), bytearray()
        while block := raw.read1(65536, decode_content=True):  # what is there: at least a byte
            data += block
            if len(data) > LARGEST:
                raise _NotFetchedError(f"reply longer than {LARGEST / 1e6:.0f} MB, as no file is")
            seconds = time.monotonic() - began
            slow = seconds > min(DEADLINE, max(self.timeout[1], len(data) / SLOWEST))
            if slow or self.stop.is_set():
                raise _NotFetchedError(f"given up after {len(data)} bytes in {seconds:.0f} s")
        return bytes(data)


@lru_cache(maxsize=2)
def _registry(path: Path) -> dict[str, tuple[str, str]]:
    """Hash and URL by name, read as pooch does, but for quotes, with which it takes .25 s."""
    try:
        rows = filter(None, map(str.split, path.read_text("utf-8").splitlines()))
        return {n: (digest.lower(), url) for n, digest, url in (r for r in rows if r[0][0] != "#")}
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: unreadable data registry ({error}); reinstall tamrl") from error


def _known(names: Iterable[str]) -> list[str]:
    names, registered = list(names), _registry(REGISTRY)
    if unknown := [name for name in names if name not in registered]:
        first = f"{unknown[0]} ({len(unknown)} of {len(names)} names) is not in {REGISTRY}"
        raise DataError(f"{first}: tamrl.data.cache.registry_names() lists what is")
    return names


def _read(path: Path, name: str) -> tuple[bytes, str]:
    """Bytes of a file of cache or mirror, and '' or why they are not the registered ones."""
    try:
        check_regular(path, name)
        return (data := path.read_bytes()), _differs(data, name)
    except (OSError, DataError) as error:
        return b"", getattr(error, "strerror", "") or str(error)


def _differs(data: bytes, name: str) -> str:
    """'' if these are the registered bytes, else how they differ."""
    actual = hashlib.sha256(data).hexdigest()
    expected = _registry(REGISTRY)[name][0].removeprefix("sha256:")
    wrong = f"wrong sha256 {actual[:12]}... of {len(data)} bytes, expected {expected[:12]}..."
    return "" if actual == expected else wrong


def _report(failed: dict[str, str], total: int, root: Path) -> str:
    # The full disk first: the files that were then not tried say nothing of the cause.
    (first, why), *others = sorted(failed.items(), key=lambda f: not f[1].startswith(_CANNOT_WRITE))
    listed = ", ".join(name for name, _ in others[:3]) + ", ..." * (len(others) > 3)
    more = f", nor could {len(others)} of the other {total - 1} files ({listed})" if others else ""
    remedy = "Check the network, or set TAMRL_DATA_MIRROR to a directory that holds the files"
    if why.startswith(_CANNOT_WRITE):
        remedy = "Free some space there, make it writable, or set TAMRL_DATA_DIR elsewhere"
    return (
        f"{first} could not be fetched ({why}){more}. {remedy}, then run again: "
        f"the {total - len(failed)} complete files stay in {root}."
    )
