"""TAM-RL: the network, its physics, its training.

Read `network` (the whole method as equations), `loss`, then `tensors`, `train`, `predict`, `adapt`.
"""
