"""Cube in, CF map out: models on a grid, layout, budgets, area of applicability.

Read `cubes` (what is read), `upscale` (the engine), `layout` (what is written).
"""
