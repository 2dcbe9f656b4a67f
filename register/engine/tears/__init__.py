"""Find where pieces of an image move apart, which pixels have no counterpart, and what differs."""
