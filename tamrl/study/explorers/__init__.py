"""Explorers of towers and of regions: pieces of HTML for the book that need no server."""
