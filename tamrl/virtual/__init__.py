"""Simulated towers: a process model with known truth behind the interface of real towers.

Read `simulator` (the fluxes), `crops` and `noise`, then `towers` and `grid` (what is observed).
"""
