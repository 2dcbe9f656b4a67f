"""How alike two images are, window by window: one file per similarity."""
