"""How similar two images are, window by window: one file per similarity, each with its record."""
