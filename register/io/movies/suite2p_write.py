"""Write aligned frames as suite2p's binary: int16, one frame after the other, with ``ops.npy`` beside it.

Source: the documentation of suite2p (suite2p.readthedocs.io), outputs and binary files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.movies.about import About, Add, Encoded
from register.io.movies.stack import Stack

MAIN = "data.bin"
"""The file that ``ops.npy`` describes; other channels have other names."""
STORED = np.dtype("<i2")


def suite2p_frame(frame: NDArray[Any], stack: Stack, compression: str) -> Encoded:
    """The only channel of a frame (1, h, w) as int16; uint16 is halved, as suite2p does."""
    halved = frame // 2 if frame.dtype == np.uint16 else frame
    return halved[0].astype(STORED)


def check_suite2p(path: Path, stack: Stack) -> None:
    """Raise ``FileError`` for several channels, and for values that int16 does not hold."""
    channels = stack.shape[0]
    if channels != 1:
        raise FileError(path, f"suite2p's binary holds one channel, the movie {channels}", "use --also")
    if stack.dtype not in (np.uint8, np.int8, np.int16, np.uint16):
        raise FileError(path, f"suite2p's binary holds int16, the movie {stack.dtype}", "use --format hdf5")


@contextmanager
def suite2p_writer(path: Path, about: About) -> Iterator[Add]:
    """A function that adds one frame to a binary. Raises ``FileError`` as ``check_suite2p`` does."""
    stack = about.stack
    _, height, width = stack.shape
    check_suite2p(path, stack)
    with atomic_write(path) as beside, open(beside, "wb") as file:
        yield lambda frame: np.asarray(frame).tofile(file)
    if path.name != MAIN:
        return
    options = {
        "Ly": height, "Lx": width, "nframes": len(stack), "nchannels": 1, "nplanes": 1, "functional_chan": 1,
        "yrange": [0, height], "xrange": [0, width], "do_registration": 0, "reg_file": str(path.resolve()),
        "save_path": str(path.parent.resolve()), "badframes": about.bad, "refImg": about.reference,
        "xoff": np.round(about.shifts[:, 0]).astype(np.int32),
        "yoff": np.round(about.shifts[:, 1]).astype(np.int32),
    }  # fmt: skip
    if stack.step and stack.axis == "T":
        options["fs"] = 1 / stack.step
    with atomic_write(path.with_name("ops.npy")) as beside, open(beside, "wb") as file:
        np.save(file, np.array(options, dtype=object), allow_pickle=True)
