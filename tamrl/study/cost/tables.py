"""What the study costs, in tables and in words, from the measurements that `make bench` keeps.

Held against the authors' public code (alexxxroz/CarbonBench, commit b5d643a, recipe tam-rl_IGBP:
hidden 128, latent 64, two layers, batch 32), which was timed on two cores of a machine like the one
of the kept measurements: 347 windows of 15 labelled days a second in training and 601 tower-days a
second in evaluation, at 83 to 90 GFLOP/s of sgemm a core. Machines differ, so rates are compared as
tower-days for each 1e9 operations that the core could have done as sgemm.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tamrl.evaluate.tables import stored
from tamrl.study.cost import timing

NAME = "speed.json"  # below results/speed: what the book stands on
SIZE = "hidden 128, 2 layers"  # at which the authors' code was timed
TRAIN, STREAM, EXACT = "training", "prediction, streaming", "prediction, exact"
PEER: Mapping[str, float] = {TRAIN: 60.0, STREAM: 7.0, EXACT: 7.0}  # tower-days per 1e9 operations
# Set beforehand, at `SIZE`: tower-days/s on one core, and share of what the core can multiply.
RATES: Mapping[tuple[str, str], float] = {
    (TRAIN, "fp32"): 27_500.0, (TRAIN, "bf16"): 55_000.0,
    (STREAM, "fp32"): 50_000.0, (STREAM, "bf16"): 100_000.0,
}  # fmt: skip
GPU_RATE, MEMBERS_SECONDS = 5e6, 300.0  # place-days/s; ten networks to the end, on one GPU
SHARES: Mapping[tuple[str, str], float] = {(TRAIN, "fp32"): 0.7, (STREAM, "fp32"): 0.85}


def read(folder: Path | str | None = None) -> dict[str, Any]:
    """Read the kept measurements (None: those of the repository); DataError where there is none."""
    return timing.read(Path(folder or stored("speed")) / NAME)


def stages(content: Mapping[str, Any]) -> pd.DataFrame:
    """Rates of every stage.

    Returns
    -------
    Table with columns stage, size, precision, batch (windows a step), towers, days, seconds, rate
    (tower-days/s), gemm (GFLOP/s of products of matrices at this precision), per_gflop (tower-days
    for 1e9 operations of sgemm), fraction (of gemm), peak_gb, times (as many tower-days per
    operation as the authors' code, at `SIZE` alone), aim (tower-days/s), least (fraction that was
    aimed at).
    """
    table = pd.DataFrame(content["stages"])
    key = list(zip(table.stage, table.precision, strict=True))
    same = table["size"] == SIZE
    table["times"] = (table.per_gflop / table.stage.map(PEER)).where(same)
    table["aim"] = pd.Series([RATES.get(k) for k in key], dtype=float).where(same)
    table["least"] = pd.Series([SHARES.get(k) for k in key], dtype=float).where(same)
    return table[[
        "stage", "size", "precision", "batch", "towers", "days", "seconds", "rate", "gemm",
        "per_gflop", "fraction", "peak_gb", "times", "aim", "least",
    ]]  # fmt: skip


def machines(folder: Path | str | None = None) -> pd.DataFrame:
    """Rates at `SIZE` on every machine whose measurements are kept, the book's own first.

    Columns machine, stage, precision, gemm (GFLOP/s of products of matrices), rate, per_gflop,
    fraction and times, as of `stages`. DataError where the book's own measurements are missing.
    """
    folder = Path(folder or stored("speed"))
    own = folder / NAME
    parts = []
    for path in (own, *sorted(set(folder.glob("*.json")) - {own})):
        content = timing.read(path)
        if "stages" not in content:  # of a GPU alone
            continue
        rows = stages(content)
        rows = rows[(rows["size"] == SIZE) & rows.stage.isin((TRAIN, STREAM))]
        parts.append(rows.assign(machine=_machine(content["machine"])))
    table = pd.concat(parts, ignore_index=True)
    return table[
        ["machine", "stage", "precision", "gemm", "rate", "per_gflop", "fraction", "times"]
    ]


def gpus(folder: Path | str | None = None) -> pd.DataFrame:
    """Rates on every GPU whose measurements are kept; empty where there are none.

    Columns gpu, stage, size, precision, batch, members (trained side by side, to the end), seconds,
    rate (tower-days/s), gemm (GFLOP/s of products of matrices at this precision), fraction (of
    gemm), peak_gb (of the GPU's memory).
    """
    columns = [
        "gpu", "stage", "size", "precision", "batch", "members", "seconds", "rate", "gemm",
        "fraction", "peak_gb",
    ]  # fmt: skip
    found = (timing.read(path) for path in sorted(Path(folder or stored("speed")).glob("*.json")))
    rows = [
        {"gpu": each["machine"]["cuda"], **row} for each in found for row in each.get("gpu", [])
    ]
    return pd.DataFrame(rows, columns=columns)


def gpus_in_words(table: pd.DataFrame) -> str:
    """Say how long members take and how fast `SIZE` predicts on each GPU of `gpus`, with aims."""
    said: dict[str, list[str]] = {}
    for row in table.to_dict("records"):
        each = said.setdefault(row["gpu"], [])
        if row["members"] > 0:
            way = "met" if row["seconds"] < MEMBERS_SECONDS else "missed"
            each.append(
                f"{row['members']:.0f} networks are trained on all towers, to the end, side by "
                f"side in {row['seconds']:.0f} s (aim of less than {MEMBERS_SECONDS:.0f} s {way})"
            )
        elif (row["stage"], row["size"]) == (STREAM, SIZE):
            way = "met" if row["rate"] >= GPU_RATE else "missed"
            each.append(
                f"{row['rate'] / 1e6:.0f} million place-days/s are predicted in {row['precision']} "
                f"at the authors' size of network (aim of {GPU_RATE / 1e6:.0f} million {way})"
            )
    texts = [f"On one {gpu}, {'; '.join(each)}" for gpu, each in said.items()]
    return ". ".join(texts) or "No GPU has been measured"


def elsewhere_in_words(table: pd.DataFrame) -> str:
    """Say what machines but the first reach, from `machines`."""
    said = []
    for machine, rows in table.groupby("machine", sort=False):
        if machine == table.machine.iloc[0]:
            continue
        each = [
            f"{row.stage} in {row.precision} {row.times:.1f} times the authors' and "
            f"{row.fraction:.2f} of the core"
            for row in rows.itertuples()
        ]
        said.append(f"{machine}: {', '.join(each)}")
    if not said:
        return "No other machine has been measured"
    return f"On further machines, at the same size of network: {'; '.join(said)}"


def _machine(own: Mapping[str, Any]) -> str:
    """Name a processor by its maker's name and the instructions that torch uses on it."""
    wide = own.get("simd") or ("AVX512" if own["bf16"] else "")
    return f"{own['cpu']}{f' ({wide})' if wide else ''}"


def scaling(content: Mapping[str, Any]) -> pd.DataFrame:
    """Rates along an axis: columns axis (towers, length, hidden), value, stage, precision, rate."""
    table = pd.DataFrame(content["scaling"])
    return table[["axis", "value", "stage", "precision", "rate", "per_gflop", "fraction"]]


def skill(content: Mapping[str, Any]) -> pd.DataFrame:
    """Errors at held-out towers by precision and by way of predicting, and how far these differ.

    Columns as of `tamrl.study.cost.stages.skill`: precision, seed, error (RMSE / sd, mean of the fluxes,
    all held-out towers), error_stream and error_exact (three of them), difference (root mean
    square of exact minus streaming / sd).
    """
    columns = ["precision", "seed", "error", "error_stream", "error_exact", "difference"]
    return pd.DataFrame(content["skill"])[columns]


def profile(content: Mapping[str, Any]) -> pd.DataFrame:
    """Share of time by kind of operation (rows), for each stage, size, precision (columns).

    Empty where the measurements are of before this was one of them.
    """
    table = pd.DataFrame(content.get("profile", []))
    if table.empty:
        return table
    wide = table.pivot_table(index="kind", columns=["stage", "size", "precision"], values="share")
    return wide.reindex(index=table.kind.unique())


def profile_in_words(table: pd.DataFrame) -> str:
    """Say which share of the time the LSTM and other products of matrices take at `SIZE`."""
    said = [
        f"{stage} in {precision} {part.iloc[:2].sum():.0%} of the time in products of matrices and "
        f"the LSTM, most of the rest in {part.iloc[2:].idxmax()} ({part.iloc[2:].max():.0%})"
        for stage in (TRAIN, STREAM)
        for precision in timing.TYPES
        if (stage, SIZE, precision) in table
        for part in [table[stage, SIZE, precision]]
    ]
    return "; ".join(said) or "what the rest goes to is not measured"


def in_words(table: pd.DataFrame, stage: str) -> str:
    """Say how fast one stage is at `SIZE`, against the authors' code and what was aimed at."""
    said = []
    for _, row in table[(table.stage == stage) & (table["size"] == SIZE)].iterrows():
        text = f"{_thousands(row.rate)} tower-days/s in {row.precision}, {row.times:.1f} times"
        if pd.notna(row.aim):
            way = "met" if row.rate >= row.aim else "missed"
            text += f" (aim of {_thousands(row.aim)} {way})"
        said.append(text)
    return "; ".join(said) or f"{stage} is not measured"


def shares_in_words(table: pd.DataFrame) -> str:
    """Say which share of the core's own speed the stages reach, and which was aimed at."""
    rows = table[table.least.notna()]
    said = [
        f"{row.stage} {row.fraction:.2f} (aim of {row.least:g} "
        f"{'met' if row.fraction >= row.least else 'missed'})"
        for _, row in rows.iterrows()
    ]
    return "; ".join(said) or "not measured"


def machine_in_words(content: Mapping[str, Any]) -> str:
    """Name the machine of the measurements, and what it multiplies."""
    own, rows = content["machine"], pd.DataFrame(content["stages"])
    each = "not measured"
    if "gemm" in rows:
        gemm = rows.dropna(subset="gemm").groupby("precision").gemm.median()
        each = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in gemm.items())
    return f"one core of {_machine(own)}, PyTorch {own['torch']}; products of matrices: {each}"


def differs_in_words(table: pd.DataFrame) -> str:
    """Say what streaming changes against a window for every day, and bf16 against fp32."""
    plain = table[table.precision == "fp32"]
    text = (
        f"predictions differ by {100 * plain.difference.mean():.1f} % of a standard deviation, "
        f"their errors at three held-out towers are {plain.error_stream.mean():.3f} (streamed) "
        f"and {plain.error_exact.mean():.3f} (exact) of it"
    )
    short = table[table.precision == "bf16"]
    if short.empty:
        return text
    return (
        f"{text}; trained in bf16, errors at all held-out towers are {short.error.mean():.3f}, "
        f"in fp32 {plain.error.mean():.3f}"
    )


def _thousands(rate: float) -> str:
    return f"{rate / 1000:.0f} thousand" if rate >= 9500 else f"{rate / 1000:.1f} thousand"
