"""What a movie is asked to do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from register.io.movies.layout import AS_STORED, Layout
from register.settings import Settings

BadFrames = Literal["interpolate", "keep", "blank"]
"""What is written for a frame that failed: resampled by the motion between its neighbours, as it is, or
empty."""
BAD_FRAMES: tuple[BadFrames, ...] = get_args(BadFrames)
FORMATS = "tiff", "ome-zarr", "hdf5", "nwb", "suite2p"
"""The formats of aligned frames, which ``io.movies.write`` writes."""
NAMED = "first", "previous", "mean", "middle"
"""The references that have a name."""


@dataclass(frozen=True)
class Movie:
    """A movie: its files, the reference, other channels, the output folder and the settings.

    ``to`` is first, previous, mean, middle, the number of a frame, or an image file. The frames of ``also``
    and ``also_labels`` are resampled with those of the movie, labels without interpolation. ``bidirectional``
    is the number of pixels by which odd lines lie too far right, ``auto`` to measure it. ``keep_trend``
    leaves slow motion in place. ``first`` limits the number of frames. ``format`` is that of aligned frames,
    and ``interval`` the seconds between frames, where the files do not state them.
    """

    sources: tuple[str, ...]
    to: str
    output: Path
    settings: Settings
    also: tuple[str, ...] = ()
    also_labels: tuple[str, ...] = ()
    bad_frames: BadFrames = "interpolate"
    layout: Layout = AS_STORED
    bidirectional: str = "0"
    keep_trend: bool = False
    first: int | None = None
    format: str = "tiff"
    interval: float | None = None
