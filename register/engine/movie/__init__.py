"""Frames of a movie aligned to one reference, whose share of the work is done once."""
