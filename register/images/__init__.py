"""Images in memory: filters, pyramids, grey levels, interpolation, descriptors and preprocessing."""
