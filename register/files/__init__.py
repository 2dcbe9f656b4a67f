"""Bytes on disk, no formats: atomic writes, hashes, remote addresses."""
