"""The notebooks of the study, in their order, and what each profile sets in them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

Parameters = Mapping[str, Any]
NONE: Parameters = MappingProxyType({})


class Notebook(NamedTuple):
    """One notebook, what each profile sets in it, and the notebooks and tables it reads."""

    name: str
    smoke: Parameters = NONE
    reference: Parameters = NONE
    paper: Parameters = NONE
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()  # folders, from the root of the repository
    real: bool = False  # it shows real towers, whatever the study is run with
    minutes: float = 0.5  # of the reference profile on two cores, to start long ones first; above 0


BOTH = ("05_map", "06_drivers", "11_trust")  # read stored tables, and compute those that they write
_ALONE = {"jobs": 1}  # no processes besides the notebook's own
_FEW = {"n_towers": 24, "n_years": 2, "epochs": 2}
_QUICK = {"every": 3, "folds": 2, "epochs": 1, **_ALONE}
_FULL = {"folds": 10, "n_seeds": 10, "epochs": 16, "jobs": 8}
# Of experiments that are computed on the spot: those on virtual towers, or when asked.
_TINY = {"every": 9, "folds": 2, "epochs": 1, **_ALONE}
_WHOLE = {"recompute": True, "every": 1, "folds": None, "n_seeds": None, "epochs": None, "jobs": 8}

STUDY = (  # name, smoke, reference, paper
    Notebook("00_course", {**_FEW, "n_adapted": 2, "labels": 30}),
    Notebook("01_towers"),
    Notebook("02_method", _FEW),
    Notebook("03_scores", {**_QUICK, "trees": 60, "tune": False}, _ALONE, _FULL,
             minutes=6.0),
    Notebook("04_balance", _QUICK, _ALONE, _FULL, after=("03_scores",), minutes=3.4),
    Notebook("05_map", {"resolution": 1.0, "stride": 4, **_ALONE},
             {"resolution": 1.0, **_ALONE}, {"jobs": 8},
             reads=("results/map", "results/speed"), minutes=5.0),
    Notebook("06_drivers", {**_QUICK, "days": 1, "step": 0.9}, _ALONE,
             {"folds": 10, "epochs": 16, "repeats": 5, "step": 0.1, "jobs": 8},
             reads=("results/support",), minutes=3.0),
    Notebook("07_adaptation", _QUICK, _ALONE,
             {"recompute": True, "members": 3, "jobs": 8}, reads=("results/adaptation",)),
    Notebook("08_gases", {"n_virtual": 24, "folds": 2, "epochs": 1, "marsh_epochs": 1, **_ALONE},
             _ALONE, {"n_virtual": 180, "folds": 10, "epochs": 16, "jobs": 8}, minutes=1.0),
    Notebook("09_ablation", {**_TINY, "only": [
        "TAM-RL", "FiLM only", "soft closure", "no closure", "no process scalars",
    ]}, paper=_WHOLE, reads=("results/ablation",)),
    Notebook("10_benchmark",
             {**_TINY, "only": ["ensemble", "TAM-RL as published", "LightGBM", "climatology"]},
             paper=_WHOLE, reads=("results/benchmark", "results/climates", "results/biomes",
                                  "results/no-satellites")),
    Notebook("11_trust", {"count": 5, "repeats": 2, **_ALONE}, _ALONE,
             {"repeats": 100, "resolution": 0.5, "jobs": 8}, reads=("results/map",), minutes=1.0),
    Notebook("12_monitor", _QUICK, _ALONE, {"folds": 10, "epochs": 16, "jobs": 8},
             after=("03_scores",)),
    Notebook("13_cost", paper={"measure": True}, reads=("results/speed",)),
    Notebook("14_directions", real=True, reads=("results/directions", "results/ablation",
                                                "results/benchmark", "results/steps")),
    Notebook("15_others", reads=("results/published", "results/australia"), real=True),
    Notebook("16_use"),
)  # fmt: skip
