"""Notebook 13: what a tower-day costs."""
