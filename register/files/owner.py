"""Names of temporary files and folders that state which process they belong to.

A process number alone does not: two containers, or two machines, that share a folder may have the same one.
"""

import os
import secrets
import time
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path

AGE = 3 * 24 * 3600.0
"""Seconds after the last change from which a file of another machine or container is abandoned."""


def owner() -> str:
    """The machine, the number of this process, and random letters, with dashes between them."""
    return f"{_machine()}-{os.getpid()}-{secrets.token_hex(3)}"


def is_abandoned(text: str, path: Path) -> bool:
    """Whether the process that an ``owner`` text names has ended, or is elsewhere and long silent."""
    machine, _, rest = text.partition("-")
    number = rest.partition("-")[0]
    if machine == _machine() and number.isdigit():
        return int(number) != os.getpid() and not _is_running(int(number))
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > AGE
    return False


@cache
def _machine() -> str:
    """A checksum of the host, its last start, and the container in which processes are counted."""
    known = [os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")]
    with suppress(OSError):
        known.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        known.append(os.readlink("/proc/self/ns/pid"))
    return f"{zlib.crc32(' '.join(known).encode(errors='backslashreplace')):08x}"


def _is_running(number: int) -> bool:
    """Whether a process of that number is running."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
