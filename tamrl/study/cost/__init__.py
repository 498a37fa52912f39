"""Notebook 13: what a command takes, and a tower-day inside of it."""
