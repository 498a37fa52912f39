"""Settings that tests share: a small network, a quick recipe, who of twelve towers is what."""

import numpy as np
import pytest

from tamrl.model.train import Recipe

SMALL = {"hidden": 16, "latent": 6, "embed": 4}
QUICK = Recipe(epochs=1, batch=8, length=120)
TRAIN, VALID, TEST = np.arange(7), np.arange(7, 9), np.arange(9, 12)
# In tests with this mark a division by nothing is an error, and so is a mean of nothing.
DEFINED = [
    pytest.mark.filterwarnings(f"error:{what}:RuntimeWarning")
    for what in ("invalid value", "divide by zero", "Mean of empty slice")
]
