"""The registration method: it computes a transform from two images and settings, without reading files."""
