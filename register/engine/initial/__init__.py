"""Initialisation: the search for the map from which the optimisation starts."""
