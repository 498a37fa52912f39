"""The experiments of notebooks 09, 10, 14, 15: lists of models, how they are run, their effects."""
