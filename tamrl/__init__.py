"""TAM-RL: carbon fluxes from flux towers to everywhere, by task-aware modulation.

Begin with ``tamrl.data`` (towers and grids), ``tamrl.samples`` and ``tamrl.train``; the whole model
is ``tamrl.model``. The command line is ``tamrl --help``.
"""

from importlib.metadata import version

__version__ = version("tamrl")
