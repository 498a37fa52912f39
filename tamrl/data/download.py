"""Patient, polite HTTP for many small files: verified bytes from the first source that yields them.

All threads of a batch share one `Downloader`, so that what a host answers to one of them (wait,
overloaded, out of reach) is known to the others.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import requests

THREADS = 8
TRIES = 6  # rounds over the sources of one file
NO_NETWORK = 3  # rounds without a connection after which a file's source counts as out of reach
BACKOFF = 1.0  # s, pause after the first round, doubled after each: 31 s in all
MAX_WAIT = 60.0  # s, a server that asks for more patience than this is left alone
GIVE_UP = NO_NETWORK * THREADS  # failures of a host, no success between, that end its use
TIMEOUT = (5.0, 30.0)  # s, to connect and between two packets
THROTTLED = (408, 425, 429, 500, 502, 503, 504)  # HTTP status: may pass (RFC 9110, RFC 6585)


class NotFetchedError(Exception):
    """Why bytes could not be had: each source with its last answer."""


class _FailedError(Exception):
    """One attempt failed; `final`: trying this source again would change nothing."""

    def __init__(self, reason: str, final: bool = False):
        super().__init__(reason)
        self.final = final


class Downloader:
    """Connections and the behaviour of hosts, shared by the threads of one batch.

    The counts need no lock: one lost between two threads delays giving up by one attempt.
    """

    def __init__(self, tries: int = TRIES, timeout: tuple[float, float] = TIMEOUT):
        self.tries, self.timeout = tries, timeout
        self.stop = threading.Event()  # set it to end all attempts and pauses at once
        self.failures: Counter[str] = Counter()  # host: failures since its last success
        self.last: defaultdict[str, str] = defaultdict(lambda: "busy")  # host: its last failure
        self.rest: defaultdict[str, float] = defaultdict(float)  # host: not before this time, s
        self.session = requests.Session()
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=THREADS))

    def get(self, urls: list[str], differs: Callable[[bytes], str]) -> bytes:
        """Return the bytes from the first of `urls` whose reply `differs` in nothing ('').

        Each round asks every source that is not resting; between rounds the pause doubles, or is
        as long as the servers ask for (429 and 503 with Retry-After).

        Raises
        ------
        NotFetchedError
            When every source refused, is out of reach, or failed in all rounds.
        """
        sources = {urlsplit(url).netloc: url for url in urls}
        why = dict.fromkeys(sources, "busy, asked for a pause")
        for attempt in range(self.tries):
            for host, url in list(sources.items()):
                if self.failures[host] >= GIVE_UP:
                    why[host] = f"{self.last[host]}, given up after failing again and again"
                    del sources[host]
                elif self.rest[host] <= time.monotonic():
                    try:
                        return self._ask(host, url, differs, attempt)
                    except _FailedError as failure:
                        why[host] = self.last[host] = str(failure)
                        if failure.final:
                            del sources[host]
            if not sources or attempt == self.tries - 1:
                break
            rested = min(self.rest[host] for host in sources) - time.monotonic()
            if self.stop.wait(max(BACKOFF * 2**attempt, rested)):
                break
        for host in sources:  # a host that fails one file after the other is given up as well
            self.failures[host] += NO_NETWORK
        raise NotFetchedError("; ".join(f"{host}: {answer}" for host, answer in why.items()))

    def _ask(self, host: str, url: str, differs: Callable[[bytes], str], attempt: int) -> bytes:
        try:
            reply = self.session.get(url, timeout=self.timeout)
        except requests.RequestException as error:
            self.failures[host] += 1
            out_of_reach = isinstance(error, (requests.ConnectionError, requests.Timeout))
            raise _FailedError(
                _reason(error), out_of_reach and attempt + 1 >= NO_NETWORK
            ) from error
        if reply.ok:
            if wrong := differs(reply.content):
                self.failures[host] += 1  # one after the other: a log-in page, a broken proxy
                raise _FailedError(wrong)
            self.failures[host] = 0
            return reply.content
        status = f"HTTP {reply.status_code} {reply.reason}"
        if reply.status_code not in THROTTLED:
            raise _FailedError(status, final=True)
        wait = max(_retry_after(reply), BACKOFF * 2**attempt)
        self.rest[host] = time.monotonic() + wait
        if wait > MAX_WAIT:
            self.failures[host] = GIVE_UP
            raise _FailedError(f"{status}, asks to wait {wait:.0f} s", final=True)
        raise _FailedError(status)


def _retry_after(reply: requests.Response) -> float:
    """Seconds that the server asks us to wait (RFC 9110, 10.2.3), 0 if it does not say."""
    value = reply.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return parsedate_to_datetime(value).timestamp() - time.time()
    except ValueError:
        return 0.0


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "reply broken off"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return f"{type(error).__name__}: {error}"
