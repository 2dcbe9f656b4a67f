"""Files that settings name besides the images: masks, landmarks and initial maps."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from register.files.hashes import sha256
from register.io.points.landmarks import LandmarkFiles
from register.settings import Settings

MASKS, MAPS = ("fixed_mask", "moving_mask", "split_mask"), ("landmarks", "landmarks_hold", "init")
NO_FILE = ("", "auto", "identity", "center")
"""Values of these settings that name no file."""


def files_of(chosen: Settings) -> dict[str, list[str]]:
    """The files that settings name, by the setting; settings without a file are left out."""
    found = {}
    for name in (*MASKS, *MAPS):
        value = getattr(chosen, name) or ""
        if value in NO_FILE:
            continue
        pair = LandmarkFiles.parse(value) if name in MAPS else None
        found[name] = [pair.fixed, pair.moving] if pair else [value]
    return found


def with_files(chosen: Settings, change: Callable[[str], str]) -> Settings:
    """The settings with every file's name changed."""
    changed = {name: ",".join(map(change, files)) for name, files in files_of(chosen).items()}
    return replace(chosen, **changed)  # type: ignore[arg-type]


def hashes(chosen: Settings) -> dict[str, list[str | None]]:
    """The SHA-256 of the files that settings name, by the setting; None for a folder."""
    return {name: [sha256(Path(file)) for file in files] for name, files in files_of(chosen).items()}
