"""What a model must offer to be cross-validated: `Learner`; `Wrapper`, made of other models."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from tamrl.samples.arrays import Samples
from tamrl.samples.missing import without_satellites

Fluxes = NDArray[np.float32]


class Learner(Protocol):
    """A model of daily fluxes; its ``repr`` has its settings, as that of a dataclass.

    ``version`` names stored results; it is raised whenever the same settings, data and seed would
    give other predictions (``tests/test_learners.py`` fails where that was forgotten).
    """

    version: ClassVar[int]

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Learn from the towers ``train``; ``valid`` stop it early (both (site,) indices)."""

    def predict(self, samples: Samples, sites: NDArray) -> Fluxes:
        """Fluxes (site, time, flux) in gC m-2 d-1 of the towers ``sites`` (site,)."""


Factory = Callable[[], Any]  # makes an unfitted Learner


@dataclass
class Wrapper:
    """A model made of others, its ``parts``, of which copies are fitted.

    A subclass may override `learn` (before parts are fitted), `inputs` (before they predict),
    `combine` (after). Unless it ``alters_samples``, stored predictions of parts serve for them.
    """

    version: ClassVar[int] = 1
    alters_samples: ClassVar[bool] = False
    fitted: list[Any] = field(default_factory=list, kw_only=True, repr=False)

    @property
    def parts(self) -> Sequence[Any]:
        """Unfitted learners that this one is made of: its ``model``, unless it has several."""
        return (self.model,)  # type: ignore[attr-defined]

    def learn(self, samples: Samples, train: NDArray, valid: NDArray, seed: int) -> Samples:
        """Return the samples that the parts are fitted to."""
        return samples

    def inputs(self, samples: Samples) -> Samples:
        """Return the samples that the parts predict from."""
        return samples

    def combine(self, samples: Samples, sites: NDArray, fluxes: Sequence[Fluxes]) -> Fluxes:
        """Make fluxes (site, time, flux) of those of the parts."""
        return fluxes[0]

    def fit(self, samples: Samples, train: NDArray, valid: NDArray, seed: int = 0) -> Self:
        """Learn, then fit a copy of each part."""
        given = self.learn(samples, train, valid, seed)
        self.fitted = [deepcopy(part).fit(given, train, valid, seed) for part in self.parts]
        return self

    def predict(self, samples: Samples, sites: NDArray) -> Fluxes:
        """Fluxes (site, time, flux) in gC m-2 d-1; ValueError before a fit."""
        if not self.fitted:
            raise ValueError("fit before predicting")
        given = self.inputs(samples)
        fluxes = [np.asarray(part.predict(given, sites), np.float32) for part in self.fitted]
        return self.combine(samples, sites, fluxes)


@dataclass
class WithoutSatellites(Wrapper):
    """A model that is trained on all drivers and predicts as if satellites had seen no tower."""

    model: Any
    version: ClassVar[int] = 1
    alters_samples: ClassVar[bool] = True

    def inputs(self, samples: Samples) -> Samples:
        """Take away what a tower without satellites lacks."""
        return without_satellites(samples)


def walk(model: Any, fitted: bool = False) -> Iterator[Any]:
    """Yield a learner and all that it is made of, unfitted or as they were fitted."""
    yield model
    for part in getattr(model, "fitted" if fitted else "parts", ()):
        yield from walk(part, fitted)


def versions(model: Any) -> str:
    """Name the classes that make a learner and its parts, each with its declared version.

    >>> class Mean(Wrapper):
    ...     parts = ()
    >>> versions(Mean())
    'Wrapper 1'
    """
    classes = (cls for each in walk(model) for cls in type(each).__mro__ if "version" in vars(cls))
    return ", ".join(dict.fromkeys(f"{c.__qualname__} {int(vars(c)['version'])}" for c in classes))
