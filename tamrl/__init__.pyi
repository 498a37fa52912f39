"""The names that `import tamrl` offers; each is loaded when it is first asked for."""

from . import data, evaluate, maps, model, monitor, rivals, samples, shipped, sources, virtual
from .data import fetch_grid, fetch_towers, open_towers
from .data.weather.daily_cube import build_cube
from .errors import DataError
from .evaluate.crossval import cross_validate
from .evaluate.score_file import score
from .evaluate.scores import compare, summarise
from .maps.pretrained import load_pretrained
from .maps.upscale import upscale
from .model.network import Config, TamRL
from .model.train import Recipe, TamRLModel
from .monitor import anomalies
from .samples.arrays import Samples, make_samples
from .samples.splits import folds
from .sources import load_samples

__version__: str
__all__ = [
    "Config",
    "DataError",
    "Recipe",
    "Samples",
    "TamRL",
    "TamRLModel",
    "__version__",
    "anomalies",
    "build_cube",
    "compare",
    "cross_validate",
    "data",
    "evaluate",
    "fetch_grid",
    "fetch_towers",
    "folds",
    "load_pretrained",
    "load_samples",
    "make_samples",
    "maps",
    "model",
    "monitor",
    "open_towers",
    "rivals",
    "samples",
    "score",
    "shipped",
    "sources",
    "summarise",
    "upscale",
    "virtual",
]
