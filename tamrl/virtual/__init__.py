"""Virtual towers: a process model with known truth behind the interface of real towers.

Read `world` (the fluxes), `crops` and `noise`, then `towers` and `grid` (what is observed of it).
"""
