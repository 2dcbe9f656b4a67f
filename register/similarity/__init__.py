"""Similarity metrics of two images, computed in windows; one module per metric."""
