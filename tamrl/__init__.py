"""TAM-RL: carbon fluxes from flux towers to everywhere, by task-aware modulation.

*Use the trained model*: `load_pretrained`; its ``predict`` gives fluxes with bounds at towers of
your own, ``adapt`` learns from the few labels of one, ``score`` compares with measurements,
``monitor`` judges its newest weeks, ``map`` draws a region.

>>> import tamrl
>>> model = tamrl.load_pretrained()
>>> model.header["towers"]
180
>>> fluxes = model.predict("my-tower.csv", table="facts.csv")  # doctest: +SKIP

*Data and samples*: `open_towers` reads your files, `fetch_towers` the 180 towers of FLUXNET2015,
`fetch_grid` the predictors of the globe; `load_samples` and `make_samples` give `Samples`, the
arrays that all models are trained on.

*Train and compare*: `folds` splits towers, `TamRLModel` is trained by a `Recipe` (its network is
`TamRL` with a `Config`), `cross_validate` predicts each tower without its labels, `summarise` and
`compare` score it::

    from tamrl.evaluate.scores import sum_up

    samples, models = tamrl.load_samples(), {"TAM-RL": tamrl.TamRLModel}
    predictions = tamrl.cross_validate(samples, models, tamrl.folds(samples), [0], "runs/cv")
    tamrl.summarise(sum_up(predictions, samples))

*Maps and monitoring*: `upscale` runs models over a cube of drivers, `anomalies` judges a tower's
newest weeks. Data that cannot be used raise `DataError`, whose message says what to do. All else is
in ``tamrl.data``, ``tamrl.model``, ``tamrl.maps``, …; the command line is ``tamrl --help``.
"""

from importlib.metadata import version

import lazy_loader as lazy

__getattr__, __dir__, __all__ = lazy.attach_stub(__name__, __file__)  # the names: __init__.pyi
__version__ = version("tamrl")
__all__ += ["__version__"]
