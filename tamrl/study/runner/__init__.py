"""Executes the notebooks with Papermill, builds the book, verifies its tables."""
