"""How alike two places are, as the Gaussian process of annual means takes it.

The sum of two Matern kernels (nu 1.5), one smooth, one less, and noise. scikit-learn finds their
numbers; what is fitted is evaluated without it, equal to the last bit, since to load it takes
longer than to predict a tower.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]
NAMES = (  # of the numbers, in scikit-learn
    "k1__k1__k1__constant_value", "k1__k1__k2__length_scale",
    "k1__k2__k1__constant_value", "k1__k2__k2__length_scale", "k2__noise_level",
)  # fmt: skip


@dataclass(frozen=True)
class Alike:
    """Covariance of places by their features: size and length of both parts, and the noise."""

    numbers: tuple[float, ...] = (1.0, 20.0, 1.0, 3.0, 0.5)

    def __call__(self, x: Array, points: Array) -> Array:
        """Covariance (place, point) of places (place, feature) with other points."""
        size, length, further, shorter, _ = self.numbers
        return _matern(x, points, size, length) + _matern(x, points, further, shorter)

    @property
    def theta(self) -> Array:
        """Logarithms of the numbers (5,), as files of weights hold them."""
        return np.log(self.numbers)

    @classmethod
    def of_theta(cls, theta: Array) -> Self:
        """Undo ``theta``."""
        return cls(tuple(np.exp(theta).tolist()))

    def process(self, learn: bool) -> Any:
        """Make an unfitted process of scikit-learn that starts from these numbers, or keeps them.

        Its fitted ``kernel_`` is for `of_fitted`.
        """
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        parts = [ConstantKernel() * Matern(nu=1.5) for _ in range(2)]
        kernel = parts[0] + parts[1] + WhiteKernel()
        kernel.set_params(**dict(zip(NAMES, self.numbers, strict=True)))
        return GaussianProcessRegressor(kernel, optimizer="fmin_l_bfgs_b" if learn else None)

    @classmethod
    def of_fitted(cls, kernel: Any) -> Self:
        """Take the numbers of scikit-learn's kernel."""
        found = kernel.get_params()
        return cls(tuple(float(found[name]) for name in NAMES))


def _matern(x: Array, points: Array, size: float, length: float) -> Array:
    far = cdist(x / length, points / length) * np.sqrt(3)
    return size * ((1.0 + far) * np.exp(-far))
