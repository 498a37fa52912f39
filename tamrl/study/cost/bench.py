"""`make bench`: each stage in a process of its own, kept as one small file of rows.

Parts are measured one by one and put into the file, so that a shared machine need not be free for
long. The file tells the machine, and neither its name nor its folders.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import torch

from tamrl.data import cache
from tamrl.sources import load_samples, load_towers
from tamrl.study.cost import tables, timing
from tamrl.study.cost.stages import (
    SIZES,
    STORE,
    build,
    exact,
    halfhours,
    members,
    profiled,
    scale,
    skill,
    streaming,
    training,
)
from tamrl.study.cost.timing import Row

OUT = Path("_build/speed.json")
SCALED_TOWERS = (10, 30, 90, 170)
SCALED_LENGTHS = (60, 90, 150, 270, 390)  # days of a window, of which 30 warm up
SCALED_HIDDEN = (16, 32, 64, 128, 256)
FILLED = 22  # times all towers are predicted at once, so that they fill a GPU
MEMBERS = 10  # networks trained side by side on it


def main(source: str, parts: list[str], out: Path) -> None:
    """Measure the named parts and put them into the file ``out``; other parts in it stay."""
    machine = timing.machine()
    precisions = ["fp32", "bf16"] if machine["bf16"] else ["fp32"]
    samples = timing.apart(_describe, source)
    about = {k: v for k, v in samples.items() if k != "peak_gb"}
    content: dict[str, Any] = {"machine": machine, **about}
    if out.is_file():
        before = timing.read(out)
        same = before["machine"] == machine and before["tower_source"] == about["tower_source"]
        content |= {p: before[p] for p in PARTS if same and p in before}
    with tempfile.TemporaryDirectory(prefix=".bench-") as folder:
        path = str(Path(folder) / "samples.joblib")
        timing.apart(_dump, source, path)
        for part in parts:
            content[part] = []
            for row in PARTS[part](source, path, precisions):
                content[part].append(row)
                print({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
            timing.write(out, content)
    print(f"Measured: {out}")


def obtain(towers: str = "auto", measure: bool = False, out: Path = OUT) -> dict[str, Any]:
    """Read the repository's measurements, or time this machine (``measure``), a quarter of an hour.

    Raises
    ------
    DataError
        Where no measurements are kept; where real towers are asked for and cannot be had.
    """
    if not measure:
        return tables.read()
    main(towers, list(PARTS), out)
    return timing.read(out)


def _describe(source: str) -> Row:
    towers = load_towers(source)
    return {"tower_source": towers.attrs["tower_source"], "virtual": int(towers.attrs["virtual"])}


def _dump(source: str, path: str) -> Row:
    joblib.dump(load_samples(source), path)
    return {}


def _stages(source: str, path: str, precisions: list[str]) -> Iterator[Row]:
    if cache.available(cache.registry_names(f"{STORE}/")):
        cache.fetch(cache.registry_names(f"{STORE}/"))
        yield timing.apart(halfhours)
    yield timing.apart(build, source)
    for stage in (training, streaming, exact):
        for name, size in SIZES.items():
            for precision in precisions:
                yield {"size": name, **timing.apart(stage, path, size, precision)}


def _scales(source: str, path: str, precisions: list[str]) -> Iterator[Row]:
    axes = {"towers": SCALED_TOWERS, "length": SCALED_LENGTHS, "hidden": SCALED_HIDDEN}
    for axis, values in axes.items():
        for value in values:
            for precision in precisions:
                yield from timing.apart(scale, path, axis, value, precision)["rows"]


def _profiles(source: str, path: str, precisions: list[str]) -> Iterator[Row]:
    for stage in (tables.TRAIN, tables.STREAM):
        for name, size in SIZES.items():
            for precision in precisions:
                found = timing.apart(profiled, path, stage, size, precision)["shares"]
                common = {"stage": stage, "size": name, "precision": precision}
                yield from ({**common, "kind": k, "share": v} for k, v in found.items())


def _skills(source: str, path: str, precisions: list[str]) -> Iterator[Row]:
    for seed in (0, 1):
        for precision in precisions:
            yield timing.apart(skill, path, precision, seed)


def _gpu(source: str, path: str, precisions: list[str]) -> Iterator[Row]:
    """Time a GPU, whose memory is told; there are no rows where there is none."""
    if not torch.cuda.is_available():
        return
    for stage, times in ((training, 3), (streaming, FILLED)):
        for name, size in SIZES.items():
            for precision in timing.TYPES:
                torch.cuda.reset_peak_memory_stats()
                row = {"size": name, **stage(path, size, precision, times, "cuda")}
                yield {**row, "peak_gb": torch.cuda.max_memory_allocated() / 1e9}
    yield members(path, MEMBERS, MEMBERS, "cuda")


PARTS = {"gpu": _gpu, "stages": _stages, "profile": _profiles, "scaling": _scales, "skill": _skills}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tamrl.study.cost.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"any of {', '.join(PARTS)}; none: all of them")
    parser.add_argument("--towers", default="auto", help="auto, fluxnet2015 or virtual")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    main(given.towers, given.parts or list(PARTS), given.out)
