"""Transforms: their quality, composition and file format, and the resampling of images."""
