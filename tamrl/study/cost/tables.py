"""What the study costs, in tables, from the measurements in ``results/speed``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tamrl.errors import DataError
from tamrl.evaluate.tables import read_csv, stored

FORMAT = 2  # of the file; raise it when what a column means changes
NAME, AUTHORS = "speed.json", "authors.csv"  # in results/speed: what the book reports
SIZE = "hidden 128, 2 layers"  # of the authors' network
TRAIN, STREAM = "training", "prediction, streaming"
# Aims set beforehand: s for 24 towers, µs of a core a cell-day, share of gemm at `SIZE` in fp32; on
# a GPU s for ten networks to the end and millions of place-days/s at `SIZE`.
STORE_S, CELL_DAY_US, SHARES, MEMBERS_S, GPU_RATE = 4, 15, {TRAIN: 0.7, STREAM: 0.85}, 300, 5
# Of two networks with format 1 of `NAME` (in git), standard deviations: streaming minus a window a
# day at three towers left out, and the error of both; error at 36 when trained in either precision.
SHORTCUTS = {"gap": "0.1 %", "stride": "0.369", "fp32": "0.692", "bf16": "0.693"}
BOOK = "7 min 52 s"  # of make book, as REPRODUCING.md says it
Content = Mapping[str, Any]


def read(folder: Path | None = None) -> list[dict[str, Any]]:
    """Read all committed measurements, those that the book reports first.

    DataError where `NAME` is missing, or a file has another format.
    """
    folder, contents = folder or stored("speed"), []
    for path in (folder / NAME, *sorted({*folder.glob("*.json")} - {folder / NAME})):
        if not path.exists() or (found := json.loads(path.read_text()))["format"] != FORMAT:
            raise DataError(f"{path}: missing, or not in format {FORMAT}; measure with: make bench")
        contents.append(found)
    return contents


def commands(content: Content) -> pd.DataFrame:
    """Whole commands by name: what, line, wall, cpu (s), peak_gb, amount, unit, rate (a second)."""
    table = pd.DataFrame(content["commands"]).set_index("name")
    table["rate"] = table.amount / table.wall
    return table[["what", "line", "wall", "cpu", "peak_gb", "amount", "unit", "rate"]]


def cell_day(content: Content) -> tuple[float, float]:
    """Time of one core that a daily map takes: µs a cell-day, and s whatever its size."""
    table = commands(content).loc[["small", "large"], ["amount", "cpu"]]
    (cells, cpu), (more, longer) = table.to_numpy(float).tolist()
    each = (longer - cpu) / (more - cells)
    return 1e6 * each, cpu - each * cells


def daily_rates(content: Content) -> pd.Series:
    """Cell-days/s from disk to disk, without the start; NaN where not measured.

    "one", "two": processes that map days; "cube": one thread that makes days of hourly weather.
    """
    table = commands(content)[["amount", "wall"]].astype(float)
    table = table.reindex([*table.index, *({"small_two", "large_two", "cube"} - {*table.index})])
    out = {"cube": table.amount["cube"] / (table.wall["cube"] - table.wall["help"])}
    for name, end in (("one", ""), ("two", "_two")):
        more = table.loc[f"large{end}"] - table.loc[f"small{end}"]
        out[name] = more.amount / more.wall
    return pd.Series(out)


def stages(content: Content) -> pd.DataFrame:
    """Rates (tower-days/s) of all stages, gemm (GFLOP/s), fraction of it, least: the aim."""
    table = pd.DataFrame(content["stages"])
    aimed = (table["size"] == SIZE) & (table.precision == "fp32")
    table["least"] = table.stage.map(SHARES).where(aimed)
    return table.drop(columns="towers")


def gpus(contents: list[dict[str, Any]]) -> pd.DataFrame:
    """Rates on every GPU (tower-days/s), peak_gb of the GPU; ``members`` are trained to the end."""
    rows = [{"gpu": c["machine"]["cuda"], "date": c["date"], **row}
            for c in contents for row in c.get("gpu", [])]  # fmt: skip
    names = "gpu date stage size precision batch members seconds rate peak_gb"
    return pd.DataFrame(rows, columns=names.split())


def values(content: Content, contents: list[dict[str, Any]]) -> dict[str, str]:
    """Numbers that the page quotes, by name, and whether aims set beforehand were met."""
    source, peer = read_csv(stored("speed") / AUTHORS)
    table, cards, (each, rest) = commands(content), gpus(contents), cell_day(content)
    together: Any = cards[cards.members > 0].iloc[0]
    fast = cards[(cards.stage == STREAM) & (cards["size"] == SIZE)].rate.iloc[0] / 1e6
    out = {f"peer_{i}": f"{times:g}" for i, times in enumerate(peer.times)}
    for key, digits in {"wall": 1, "peak_gb": 2, "rate": 0, "amount": 0}.items():
        out |= {f"{name}_{key}": f"{value:,.{digits}f}" for name, value in table[key].items()}
    aimed: Any = stages(content).dropna(subset="least").itertuples()
    for name, reached, aim, sign in (
        ("store", table.wall["store"], STORE_S, 1), ("cell_day", each, CELL_DAY_US, 1),
        ("members", together.seconds, MEMBERS_S, 1), ("gpu", fast, GPU_RATE, -1),
        *((row.stage.split(",")[0], row.fraction, row.least, -1) for row in aimed),
    ):  # fmt: skip
        met = "met" if sign * reached <= sign * aim else "missed"
        out |= {name: f"{reached:.2g}", f"{name}_aim": f"{aim:g}", f"{name}_met": met}
    for name, speed in daily_rates(content).items():
        out[f"daily_{name}"] = f"{speed:,.0f}" if np.isfinite(speed) else "\N{EN DASH}"
    about = {key: str(content["machine"][key]).partition("+")[0] for key in ("torch", "cores")}
    return out | about | SHORTCUTS | {
        "machine": content["machine"]["cpu"], "date": content["date"], "book": BOOK,
        "rest": f"{rest:.1f}", "card": f"{together.gpu} ({together.date})",
        "count": f"{together.members:.0f}", "sooner": f"{peer.lower[8]:g} to {peer.upper[8]:g}",
        **{key: str(value) for key, value in source.items() if key != "source"},
    }  # fmt: skip
