"""Satellite tables: two services and plain csv, their scales, flags, gaps and months."""
