"""Temporary folders that the next run removes where a process was killed before it could."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from register.files.owner import is_abandoned, owner

PREFIX = "register-"
_open = set[Path]()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A new temporary folder, removed after the block, as are those of processes that were killed."""
    _remove_abandoned()
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{owner()}-"))
    _open.add(place)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        _open.discard(place)


def remove_open() -> None:
    """Remove the folders of this process, which is about to end at once."""
    for place in list(_open):
        shutil.rmtree(place, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the folders that killed processes left."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*-*"):
        if is_abandoned(left.name.removeprefix(PREFIX), left):
            shutil.rmtree(left, ignore_errors=True)
