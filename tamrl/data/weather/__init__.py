"""Gridded weather, such as ERA5, made into a cube of local days."""
