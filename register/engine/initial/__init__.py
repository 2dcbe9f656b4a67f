"""Initialisation: where the optimisation starts."""
