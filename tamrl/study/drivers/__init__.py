"""Notebook 06: which drivers the model needs, by permutation, attribution and missing data."""
