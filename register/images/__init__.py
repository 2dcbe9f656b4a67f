"""Pixels in memory: filters, pyramid, grayscale, interpolation, descriptors, preprocessing."""
