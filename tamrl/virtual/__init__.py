"""Simulated towers and globe: a process model with known truth behind the real ones' interface."""
