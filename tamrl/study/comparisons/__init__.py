"""The experiments of notebooks 09, 10 and 14: lists of models, how they are run, their effects."""
