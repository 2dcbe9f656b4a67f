"""Optimisers of general functions: Adam, Gauss-Newton and conjugate gradients."""
