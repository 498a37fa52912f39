"""The model that ships, beside its weights: pre-training, annual prior, ensemble, files.

Read `ensemble` (which model it is), then its parts: `pretraining`, `annual`, `blend`; `pretrained`
is what a user loads, `weights` how it is stored. MODEL_CARD.md says how good it is.
"""
