#!/usr/bin/env bash
# Runs the course as a hosted notebook would: a clean environment with older versions of the usual
# packages and no tamrl, then the notebook with its own first cell, which installs this source.
#   tests/colab.sh [NOTEBOOK]      about 1.5 GB in a temporary folder, three minutes; needs network
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
notebook=${1:-00_course}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/env"
pip=("$place/env/bin/python" -m pip --disable-pip-version-check)
# torch is the one of constraints.txt, to take the same file; the others are older than ours.
"${pip[@]}" install --quiet torch=="$(sed -n 's/^torch==//p' "$root/constraints.txt")" \
  numpy==2.0.2 pandas==2.2.2 scipy==1.16.3 scikit-learn==1.6.1 matplotlib==3.10.0 \
  xarray==2025.12.0 tqdm==4.67.1 ipykernel==6.29.5 nbclient nbformat
freeze() { "${pip[@]}" freeze | grep -iE '^(torch|numpy|pandas|scipy|scikit-learn|matplotlib|xarray)=='; }
freeze >"$place/before"

mkdir "$place/source" "$place/work"
cp -r "$root"/{pyproject.toml,setup.py,MANIFEST.in,data_registry.txt,README.md,LICENSE,LICENSE-text,tamrl,results} "$place/source/"
# The first cell as it stands, but from here: what is not released yet.
sed "s|tamrl\[maps\]|tamrl[maps] @ file://$place/source|" "$root/notebooks/$notebook.ipynb" \
  >"$place/work/$notebook.ipynb"
grep -q "file://$place/source" "$place/work/$notebook.ipynb"

cd "$place/work"
JUPYTER_PREFER_ENV_PATH=1 "$place/env/bin/python" - "$notebook.ipynb" <<'PY'
import sys, time
import nbformat
from nbclient import NotebookClient

started = time.monotonic()
book = nbformat.read(sys.argv[1], as_version=4)
try:
    NotebookClient(book, timeout=900, kernel_name="python3").execute()
finally:  # what pip said in the first cell, should it have failed
    first = next(c for c in book.cells if c.cell_type == "code")
    print("".join(o.get("text", "") for o in first.get("outputs", [])))
figures = [o for c in book.cells for o in c.get("outputs", []) if "image/png" in o.get("data", {})]
assert figures, "the notebook drew nothing"
print(f"{sys.argv[1]}: {len(figures)} figures in {time.monotonic() - started:.0f} s, with installing")
PY
freeze >"$place/after"
diff "$place/before" "$place/after" && echo "The usual packages stayed as they were: $(tr '\n' ' ' <"$place/after")"
