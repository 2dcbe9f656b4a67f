"""Write aligned frames as a ``CorrectedImageStack`` of NWB, with pynwb.

Source: the NWB schema, ophys (nwb-schema.readthedocs.io): images lie along frame, x and y.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from register._version import __version__
from register.errors import FileError
from register.files.atomic import atomic_write
from register.io.movies.about import About, Add, Encoded
from register.io.movies.encode import LEVEL, encoded
from register.io.movies.hdf5_write import adder
from register.io.movies.stack import Stack

NAME = "CorrectedImageStack"


def nwb_frame(frame: NDArray[Any], stack: Stack, compression: str) -> Encoded:
    """The only channel of a frame (1, h, w) with x before y, encoded."""
    return encoded(np.ascontiguousarray(frame.transpose(0, 2, 1)), stack.rgb, compression)


def check_nwb(path: Path, stack: Stack) -> tuple[Any, Any]:
    """The modules that write NWB.

    Raises ``FileError`` without pynwb, for several channels, and where the time between frames is not known.
    """
    if stack.shape[0] != 1 or stack.rgb:
        raise FileError(path, f"NWB holds one channel, the movie {stack.shape[0]}", "use --format hdf5")
    if not stack.step or stack.axis != "T":
        raise FileError(path, "NWB needs the time between frames, which the movie does not state",
                        "give --frame-interval SECONDS")  # fmt: skip
    try:
        return import_module("pynwb"), import_module("hdmf.backends.hdf5")
    except ImportError:
        raise FileError(path, "NWB needs pynwb", "pip install 'register-cli[movies]'") from None


@contextmanager
def nwb_writer(path: Path, about: About) -> Iterator[Add]:
    """A function that adds one frame to the processing module ``ophys``.

    The start of the session, which NWB requires, is the time of the first file, and the description says so.
    Raises ``FileError`` as ``check_nwb`` does.
    """
    stack = about.stack
    pynwb, hdmf = check_nwb(path, stack)
    size = stack.shape[2], stack.shape[1]
    packed = {} if about.compression == "none" else {"compression": "gzip", "compression_opts": LEVEL}
    data = hdmf.H5DataIO(shape=(len(stack), *size), dtype=stack.dtype, chunks=(1, *size), **packed)
    with atomic_write(path) as beside, pynwb.NWBHDF5IO(beside, "w") as file:
        file.write(_described(pynwb, about, data))
        yield adder(data.dataset)


def _described(pynwb: Any, about: About, data: Any) -> Any:
    """The file with the stack, its original, and the shifts, without pixels."""
    stack = about.stack
    first = stack.files[0]
    start = datetime.fromtimestamp(first.stat().st_mtime, UTC)
    made = pynwb.NWBFile(
        session_description=f"{first.name}, aligned; the start is the time of that file",
        identifier=str(uuid5(NAMESPACE_URL, f"{first.name} {start.isoformat()}")),
        session_start_time=start,
        source_script=f"register {__version__}",
        source_script_file_name="register movie",
    )
    rate = 1 / float(stack.step or 1)
    original = pynwb.image.ImageSeries(
        name="original", external_file=[str(file) for file in stack.files], format="external",
        starting_frame=[0] * len(stack.files), unit="unknown",
        timestamps=float(stack.step or 1) * np.arange(len(stack)),
        dimension=[stack.shape[2], stack.shape[1]],
    )  # fmt: skip
    corrected = pynwb.image.ImageSeries(name="corrected", data=data, rate=rate, unit="unknown")
    shifts = pynwb.TimeSeries(
        name="xy_translation", data=about.shifts, rate=rate, unit="pixels",
        description="position of the centre of the reference in each frame, minus its own",
    )  # fmt: skip
    made.add_acquisition(original)
    one = pynwb.ophys.CorrectedImageStack(
        name=NAME, corrected=corrected, original=original, xy_translation=shifts
    )
    module = made.create_processing_module(name="ophys", description="motion correction by register")
    module.add(pynwb.ophys.MotionCorrection(corrected_image_stacks=[one]))
    return made
