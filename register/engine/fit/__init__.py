"""Fit the global map and the patches by optimisation, from coarse to fine."""
