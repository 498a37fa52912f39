"""Cube in, CF map out: read `cubes` (input), `upscale` (the engine), `layout` (what is written)."""
