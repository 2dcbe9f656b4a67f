"""Optimisers that know nothing of images."""
