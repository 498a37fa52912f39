"""Settings that tests share: a small network, a quick recipe, who of twelve towers is what."""

import numpy as np

from tamrl.model.train import Recipe

SMALL = {"hidden": 16, "latent": 6, "embed": 4}
QUICK = Recipe(epochs=1, batch=8, length=120)
TRAIN, VALID, TEST = np.arange(7), np.arange(7, 9), np.arange(9, 12)
