"""Checksums of files."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str | None:
    """The SHA-256 of a file in hexadecimal digits; None for a folder or an unreadable file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None  # the code that reads the file reports the error
