"""How much memory is free, and the refusal of work that needs more."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from register.errors import FileError

SHARE = 0.9
"""Fraction of the free memory that one image may take."""
GROUPS = Path("/sys/fs/cgroup")


def free_memory() -> int | None:
    """Free bytes: the smallest of the machine's, its control groups' and this process's limits.

    None where none is known.
    """
    return min((n for n in (_of_machine(), *_of_groups(), _of_process()) if n is not None), default=None)


def check_memory(path: object, needed: int, advice: str) -> None:
    """Raise ``FileError`` where an image of a file needs more bytes than are free."""
    free = free_memory()
    if free is not None and needed > SHARE * free:
        sizes = f"{needed / 2**30:.1f} GiB of memory at once, and {max(free, 0) / 2**30:.1f} GiB are free"
        raise FileError(path, f"needs {sizes}", advice)


def _of_machine() -> int | None:
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(x for x in lines if x.startswith("MemAvailable"))
        return int(line.split()[1]) * 1024
    return None


def _of_groups() -> Iterator[int]:
    """The free bytes of this process's control group and of those around it, versions 2 and 1."""
    inner = ""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        inner = next(x for x in lines if x.startswith("0::"))[3:].strip("/")
    place = GROUPS / inner
    for folder in (place, *(x for x in place.parents if x.is_relative_to(GROUPS))):
        yield from _of_group(folder, "memory.max", "memory.current", "inactive_file")
    yield from _of_group(
        GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
    )


def _of_group(folder: Path, limit: str, used: str, cached: str) -> Iterator[int]:
    """The free bytes of a control group; files that are cached in its memory are given up for others."""
    with contextlib.suppress(OSError, ValueError):
        free = int((folder / limit).read_text()) - int((folder / used).read_text())
        for line in (folder / "memory.stat").read_text().splitlines():
            name, _, number = line.partition(" ")
            free += int(number) if name == cached else 0
        yield free


def _of_process() -> int | None:
    """What the limit of address space leaves, as ``ulimit -v`` sets it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        return limit - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return None
