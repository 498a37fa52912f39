"""The built book in a real browser: served from a sub-path, walked through page by page.

`make browser` installs what this needs besides Chromium. Without it the tests skip, except in
continuous integration (CI=true), where a book that nobody has looked at is a failure.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
HTML, SHOTS = ROOT / "_build" / "html", ROOT / "_build" / "screenshots"
WALK = ROOT / "tests" / "browser" / "walk.mjs"
SUB_PATH = "some/where"  # a static host may put the book anywhere
NOT_PROSE = {"genindex.html", "search.html", "py-modindex.html"}
KINDS = (  # of problems that the walk writes down
    "walk", "no content", "theme", "console error", "off-origin request", "broken request",
    "broken link", "broken image", "no alt text", "poor alt text", "overflow", "headings",
    "reading order", "error shown", "raw markup", "accessibility", "search", "sidebar", "picker",
    "regions", "weight", "preview",
)  # fmt: skip


def need(there: object, what: str) -> None:
    """Skip for want of a tool; fail where the walk must not be left out."""
    if not there and os.environ.get("CI") == "true":
        pytest.fail(f"{what} is missing, and in CI the book must be walked through", pytrace=False)
    if not there:
        pytest.skip(f"{what} is missing: see `make browser`")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Serve files without a line for each."""


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the built book on this machine under a sub-path; yield its address."""
    need((HTML / "index.html").exists(), "the built book (make book)")
    top = tmp_path_factory.mktemp("host")
    (top / SUB_PATH).parent.mkdir(parents=True)
    (top / SUB_PATH).symlink_to(HTML)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(top)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{SUB_PATH}/"
    server.shutdown()


@pytest.fixture(scope="session")
def report(served: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Walk through every page, desktop and phone, light and dark; return what was seen."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    need(chromium, "chromium (Debian: apt install chromium)")
    need(shutil.which("node"), "node (Debian: apt install nodejs npm)")
    need((WALK.parent / "node_modules" / "playwright-core").exists(), "playwright-core")
    place = tmp_path_factory.mktemp("walk")
    built = {path.relative_to(HTML).as_posix() for path in HTML.rglob("*.html")}
    pages = sorted(p for p in built - NOT_PROSE if not p.startswith(("_static/", "_sources/")))
    (place / "pages.json").write_text(json.dumps(pages))
    shutil.rmtree(SHOTS, ignore_errors=True)
    command = ["node", WALK, served, place / "pages.json", place / "report.json", SHOTS, chromium]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    walked: dict[str, Any] = json.loads((place / "report.json").read_text())
    assert walked["pages"]
    assert walked["pickers"], "no page has a tower explorer, so that none was tried"
    assert walked["explorers"], "no page has a region explorer, so that none was tried"
    assert {p["kind"] for p in walked["problems"]} <= set(KINDS)
    return walked


@pytest.mark.parametrize("kind", KINDS)
def test_readers_meet_no(kind: str, report: dict[str, Any]) -> None:
    """No page has this problem, at any width, in any colours."""
    met = [problem for problem in report["problems"] if problem["kind"] == kind]
    shown = {f"{p['page']} {p.get('view')} {p.get('theme')}: {p['detail']}" for p in met}
    if shown:
        lines = "\n".join(sorted(shown)[:40])
        pytest.fail(f"{kind}, {len(shown)} times:\n{lines}", pytrace=False)


def test_next_leads_through_the_table_of_contents() -> None:
    """From the front page, "next" visits every page of the table of contents in its order."""
    need((HTML / "index.html").exists(), "the built book (make book)")
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    page = HTML / f"{toc['root']}.html"
    for name in listed:
        (following,) = re.findall(r'<a class="right-next"\s+href="([^"]+)"', page.read_text())
        page = (page.parent / following).resolve()
        assert page == (HTML / f"{name}.html").resolve()
    assert "right-next" not in page.read_text()
