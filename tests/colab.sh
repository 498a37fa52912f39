#!/usr/bin/env bash
# Runs the notebooks as a hosted notebook would: a clean environment with older versions of the usual
# packages and no tamrl, then each notebook in its smoke setting, on virtual towers. The first cell
# of the first one installs this source; all others find it.
#   tests/colab.sh [NOTEBOOK …]    none: all. About 1.5 GB in a temporary folder; needs network
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH # or the package of another folder is found
python3 -m venv "$place/env"
pip=("$place/env/bin/python" -m pip --disable-pip-version-check)
# torch is the one of constraints.txt, to take the same file; the others are older than ours.
"${pip[@]}" install --quiet torch=="$(sed -n 's/^torch==//p' "$root/constraints.txt")" \
  numpy==2.0.2 pandas==2.2.2 scipy==1.16.3 scikit-learn==1.6.1 matplotlib==3.10.0 \
  xarray==2025.12.0 tqdm==4.67.1 ipykernel==6.29.5 nbclient nbformat \
  xgboost-cpu=="$(sed -n 's/^xgboost-cpu==//p' "$root/constraints.txt")" # as Colab has xgboost
freeze() { "${pip[@]}" freeze | grep -iE '^(torch|numpy|pandas|scipy|scikit-learn|matplotlib|xarray)=='; }
freeze >"$place/before"

mkdir "$place/source" "$place/work"
cp -r "$root"/{pyproject.toml,setup.py,MANIFEST.in,data_registry.txt,README.md,LICENSE,LICENSE-text,tamrl,results} "$place/source/"
# The first cell as it stands, but from here: what is not released yet.
for notebook in "$root"/notebooks/*.ipynb; do
  sed "s|tamrl\[maps\]|tamrl[maps] @ file://$place/source|" "$notebook" >"$place/work/${notebook##*/}"
  grep -q "file://$place/source" "$place/work/${notebook##*/}"
done

cd "$place/work"
JUPYTER_PREFER_ENV_PATH=1 "$place/env/bin/python" - "$@" <<'PY'
import importlib
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def smoke(name):
    """Smoke setting of a notebook; of the first one, which installs tamrl, its own."""
    if importlib.util.find_spec("tamrl") is None:
        return {}
    from tamrl.study.runner.notebooks import STUDY

    (one,) = (nb for nb in STUDY if nb.name == name)
    return {**one.smoke, "towers": "fluxnet2015" if one.real else "virtual"}


failed = []
for name in sys.argv[1:] or sorted(path.stem for path in Path().glob("*.ipynb")):
    importlib.invalidate_caches()
    started, book = time.monotonic(), nbformat.read(f"{name}.ipynb", as_version=4)
    at = next(i for i, c in enumerate(book.cells) if "parameters" in c.metadata.get("tags", []))
    try:
        settings = "\n".join(f"{key} = {value!r}" for key, value in smoke(name).items())
        book.cells.insert(at + 1, nbformat.v4.new_code_cell(settings))
        NotebookClient(book, timeout=3600, kernel_name="python3").execute()
        shown = [o for c in book.cells for o in c.get("outputs", [])]
        figures = [o for o in shown if {"image/png", "image/svg+xml"} & {*o.get("data", {})}]
        assert figures, "the notebook drew nothing"
        print(f"{name}: {len(figures)} figures in {time.monotonic() - started:.0f} s", flush=True)
    except Exception as error:  # the others are run all the same
        first = next(c for c in book.cells if c.cell_type == "code")
        said = "".join(o.get("text", "") for o in first.get("outputs", []))  # by pip
        print(f"{name}: FAILED\n{said}\n{error}", flush=True)
        failed.append(name)
sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
PY
freeze >"$place/after"
diff "$place/before" "$place/after" && echo "The usual packages stayed as they were: $(tr '\n' ' ' <"$place/after")"
