"""Files as bytes: atomic writes, checksums, remote addresses."""
