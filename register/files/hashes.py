"""What is in a file, in short."""

import hashlib
from pathlib import Path


def sha256(path: Path) -> str | None:
    """The SHA-256 of a file, in hexadecimal digits; None for a folder, as an OME-Zarr image is, and for what cannot be read."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None  # what needs the file will say why
