"""The book: from pages and executed notebooks to HTML, warnings being errors."""

import subprocess
import sys
from pathlib import Path

import yaml
from rich.console import Console

from tamrl.errors import StudyError

ROOT = Path(__file__).resolve().parents[3]
VIRTUAL = "Virtual towers: every number and figure here comes from simulated data."
SMOKE = "Smoke run: it shows that everything works; its scores mean little."


def build(root: Path, virtual: bool, everything: bool, console: Console, note: str = "") -> Path:
    """Build ``_build/html`` with warnings as errors and return its first page.

    ``note`` stands above every page. ``everything`` rebuilds all pages: those that quote a
    notebook's numbers do not notice by themselves that it was executed again.
    """
    config = yaml.safe_load((root / "_config.yml").read_text())
    if virtual:
        config["title"] += " (virtual towers)"
        config["parse"]["myst_substitutions"]["virtual"] = "&nbsp;(virtual towers)"
    config.setdefault("html", {})["announcement"] = note
    extensions = config.get("sphinx", {}).get("local_extensions", {})
    extensions.update({name: str(ROOT / place) for name, place in extensions.items()})
    (root / "_build").mkdir(exist_ok=True)
    written = root / "_build" / "_config.yml"
    written.write_text(yaml.safe_dump(config, sort_keys=False))
    console.print("  book: building")
    main = "import sys; from jupyter_book.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", main, "build", "book", "--config", str(written)]
    command += ["--path-output", ".", "-W", "-n", "--keep-going", *(["--all"] * everything)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    log = root / "_build" / "book.log"
    log.write_text(done.stdout + done.stderr)
    if done.returncode:
        lines = (done.stdout + done.stderr).splitlines()
        marks = ("WARNING", "ERROR", "Error", "Exception")
        warnings = [line for line in lines if any(mark in line for mark in marks)] or lines[-20:]
        head = "the book has warnings or errors:"
        raise StudyError("\n".join([head, *warnings[:40], f"Log: {log}"]))
    return root / "_build" / "html" / "index.html"
