"""Optimisation of the global map and of the patches."""
