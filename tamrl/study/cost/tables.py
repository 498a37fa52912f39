"""What the study costs, in tables, from the measurements in ``results/speed``.

Compared with the authors' public code (alexxxroz/CarbonBench, commit b5d643a, recipe tam-rl_IGBP:
hidden 128, latent 64, two layers, batch 32), which was timed on two cores of a machine like the one
of the committed measurements: 347 windows of 15 labelled days a second in training and 601
tower-days a second in evaluation, at 83 to 90 GFLOP/s of fp32 gemm a core. Machines differ: rates
are compared as tower-days for each 1e9 operations that the core could have done as fp32 gemm.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from tamrl.errors import DataError
from tamrl.evaluate.tables import stored

FORMAT = 1  # of the file; raise it when what a column means changes
NAME = "speed.json"  # in results/speed: the measurements that the book reports
SIZE = "hidden 128, 2 layers"  # at which the authors' code was timed
TRAIN, STREAM, EXACT = "training", "prediction, streaming", "prediction, exact"
PEER: Mapping[str, float] = {TRAIN: 60.0, STREAM: 7.0, EXACT: 7.0}  # tower-days per 1e9 operations
# Targets set beforehand, at `SIZE`: tower-days/s on one core, and share of its gemm.
RATES: Mapping = {(TRAIN, "fp32"): 27_500.0, (TRAIN, "bf16"): 55_000.0,
                  (STREAM, "fp32"): 50_000.0, (STREAM, "bf16"): 100_000.0}  # fmt: skip
SHARES: Mapping = {(TRAIN, "fp32"): 0.7, (STREAM, "fp32"): 0.85}
MET = {True: "met", False: "missed"}
GPU_RATE, MEMBERS_SECONDS = 5e6, 300.0  # place-days/s; ten networks to the end, on one GPU

Content = Mapping[str, Any]


def read_file(path: Path) -> dict[str, Any]:
    """Read measurements; DataError where the file is missing or has another format."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no measurements ({error}); make them with: make bench") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path}: not in format {FORMAT}; measure again with: make bench")
    return content


def read(folder: Path | None = None) -> list[dict[str, Any]]:
    """Read all committed measurements, those that the book reports first."""
    folder = folder or stored("speed")
    first = folder / NAME
    return [read_file(path) for path in (first, *sorted(set(folder.glob("*.json")) - {first}))]


def stages(content: Content) -> pd.DataFrame:
    """Rates of every stage.

    Beside `gpus`'s: per_gflop (tower-days for 1e9 operations of fp32 gemm) and, at `SIZE` alone,
    times (per_gflop over the authors' code), aim (tower-days/s) and least (fraction), the targets.
    """
    table = pd.DataFrame(content["stages"])
    key, same = list(zip(table.stage, table.precision, strict=True)), table["size"] == SIZE
    table["times"] = (table.per_gflop / table.stage.map(PEER)).where(same)
    for name, targets in (("aim", RATES), ("least", SHARES)):
        table[name] = pd.Series(map(targets.get, key), dtype=float).where(same)
    names = "stage size precision batch towers days seconds rate gemm per_gflop fraction peak_gb"
    return table[[*names.split(), "times", "aim", "least"]]


def machine(content: Content) -> str:
    """Name a processor by its maker's name and the instructions that PyTorch uses on it."""
    about = content["machine"]
    wide = about.get("simd") or ("AVX512" if about["bf16"] else "")
    return f"{about['cpu']} ({wide})" if wide else about["cpu"]


def gpus(contents: list[dict[str, Any]]) -> pd.DataFrame:
    """Rates on every GPU; empty where there are none.

    Columns gpu, stage, size, precision, batch, members (trained side by side, to the end), seconds,
    rate (tower-days/s), gemm (GFLOP/s at this precision), fraction (of gemm), peak_gb (of the GPU).
    """
    rows = [{"gpu": c["machine"]["cuda"], **row} for c in contents for row in c.get("gpu", [])]
    names = "gpu stage size precision batch members seconds rate gemm fraction peak_gb"
    return pd.DataFrame(rows, columns=names.split())


def scaling(content: Content) -> pd.DataFrame:
    """Rates along an axis: columns axis (towers, length, hidden), value, stage, precision, rate."""
    return pd.DataFrame(content["scaling"])[["axis", "value", "stage", "precision", "rate"]]


def skill(content: Content) -> pd.DataFrame:
    """Errors at held-out towers by precision and way of predicting, in standard deviations.

    Columns precision, seed, error (RMSE, mean of the fluxes, all held-out towers), error_stream and
    error_exact (three of them), difference (root mean square of exact minus streaming).
    """
    names = "precision seed error error_stream error_exact difference"
    return pd.DataFrame(content["skill"])[names.split()]


def profile(content: Content) -> pd.DataFrame:
    """Share of time by kind of operation (rows), for each stage, size, precision (columns)."""
    table = pd.DataFrame(content["profile"])
    wide = table.pivot_table(index="kind", columns=["stage", "size", "precision"], values="share")
    return wide.reindex(index=table.kind.unique())


def values(content: Content, contents: list[dict[str, Any]]) -> dict[str, str]:
    """Numbers that the page quotes, by name, and whether targets set beforehand were met."""
    out = {"machine": machine(content), "torch": str(content["machine"]["torch"])}
    table = stages(content)
    names = {TRAIN: "train", STREAM: "stream"}
    for row in table[(table["size"] == SIZE) & table.stage.isin(names)].to_dict("records"):
        name = f"{names[row['stage']]}_{row['precision']}"
        out |= {name: f"{row['rate']:,.0f}", f"{name}_aim": f"{row['aim']:,.0f}",
                f"{name}_met": MET[bool(row["rate"] >= row["aim"])],
                f"{name}_times": f"{row['times']:.1f}"}  # fmt: skip
        if row["precision"] == "fp32":
            out |= {f"{name}_share": f"{row['fraction']:.2f}", f"{name}_least": f"{row['least']:g}",
                    f"{name}_share_met": MET[bool(row["fraction"] >= row["least"])]}  # fmt: skip
    peaks = table.dropna(subset="gemm").groupby("precision").gemm.median()
    out |= {f"gemm_{precision}": f"{peak:.0f}" for precision, peak in peaks.items()}
    spent, errors = profile(contents[0]), skill(contents[0])
    for stage, name in names.items():
        out[f"{name}_products"] = f"{100 * spent[stage, SIZE, 'fp32'].iloc[:2].sum():.0f} %"
    for precision, rows in errors.groupby("precision"):
        out[f"error_{precision}"] = f"{rows.error.mean():.3f}"
    plain = errors[errors.precision == "fp32"]
    out["difference"] = f"{100 * plain.difference.mean():.1f} %"
    out |= {k: f"{plain[k].mean():.3f}" for k in ("error_stream", "error_exact")}
    cards = gpus(contents)
    together = cards[cards.members > 0].iloc[0]
    fast = cards[(cards.stage == STREAM) & (cards["size"] == SIZE) & (cards.precision == "fp32")]
    return out | {"gpu": str(together.gpu), "members": f"{together.members:.0f}",
                  "members_seconds": f"{together.seconds:.0f}",
                  "members_aim": f"{MEMBERS_SECONDS:.0f}",
                  "members_met": MET[bool(together.seconds < MEMBERS_SECONDS)],
                  "gpu_rate": f"{fast.rate.iloc[0] / 1e6:.0f}", "gpu_aim": f"{GPU_RATE / 1e6:.0f}",
                  "gpu_met": MET[bool(fast.rate.iloc[0] >= GPU_RATE)]}  # fmt: skip
