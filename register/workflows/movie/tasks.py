"""What a worker does: align a chunk of frames, align a frame to another one, resample and encode a chunk."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register.engine.movie.follow import follow
from register.engine.movie.motion import of_motion
from register.engine.movie.reference import Reference
from register.engine.movie.reference import prepare as prepared
from register.errors import RegisterError
from register.geometry.spline_map import SplineMap
from register.io.movies.stack import Stack
from register.io.movies.write import format_of
from register.settings import Settings
from register.transforms.canvas import Canvas
from register.transforms.movie import REFERENCE, FrameTransform
from register.transforms.quality import Verdict
from register.transforms.resample import default_fill
from register.workflows.movie.canvas import placed
from register.workflows.movie.greys import grey, with_nan
from register.workflows.movie.resampled import resampled
from register.workflows.movie.samples import Sample, small, step_of

CHUNK = 16
"""Frames of a task."""


@dataclass(frozen=True)
class Channel:
    """Frames that are resampled, the file they go to, and their interpolation."""

    stack: Stack
    target: Path
    interpolation: str


@dataclass(frozen=True)
class Template:
    """What a reference is prepared from: image and variance (h, w), and the smoothing in pixels."""

    image: Tensor
    variance: Tensor | None
    sigma: float


@dataclass(frozen=True)
class Task:
    """The input of a worker: the channels, the movie first; the settings; the reference, or the number of the
    frame that is one; and the format of aligned frames."""

    channels: tuple[Channel, ...]
    settings: Settings
    template: Template
    number: int | None
    format: str = "tiff"

    @property
    def stack(self) -> Stack:
        """The movie."""
        return self.channels[0].stack

    def chunk(self, number: int) -> range:
        """The frames of a chunk."""
        return range(number * CHUNK, min((number + 1) * CHUNK, len(self.stack)))


class Worker(NamedTuple):
    """State of a worker process: the task, and its prepared reference."""

    asked: Task
    reference: Reference


class Written(NamedTuple):
    """The encoded frames of a chunk, of each channel, the sums (h, w) of good frames before and after, and
    small copies of some frames."""

    pages: list[list[bytes | NDArray[Any]]]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    good: int
    samples: list[Sample]


_workers: list[Worker] = []
"""The state of this process, set when it starts; the last entry is used."""


def prepare(asked: Task) -> None:
    """Prepare this process for a task."""
    made = asked.template
    reference = prepared(made.image, asked.settings, sigma=made.sigma, variance=made.variance)
    _workers.append(Worker(asked, reference))


def align_chunk(number: int) -> list[FrameTransform]:
    """The transforms of the frames of a chunk to the reference."""
    asked, reference = _workers[-1]
    near: Tensor | None = None
    found = []
    for index in asked.chunk(number):
        made = _aligned(asked, reference, index, near)
        if made.verdict == Verdict.OK:
            near = torch.from_numpy(made.map.matrix)
        found.append(made)
    return found


def link(index: int, against: int | None) -> FrameTransform:
    """The transform of a frame from another one, or from the reference."""
    asked, reference = _workers[-1]
    if index == asked.number:
        return identity(asked.stack)
    if against is None:
        return _aligned(asked, reference, index, None)
    before = with_nan(grey(asked.stack, against, asked.settings, asked.settings.moving_mask))
    try:
        made = prepared(before, asked.settings, sigma=asked.template.sigma)
    except RegisterError as error:
        return failed(asked.stack, str(error), against)
    return _aligned(asked, made, index, None, against)


def write_chunk(
    first: int, transforms: list[FrameTransform], how: str, canvas: Canvas, kept: frozenset[int]
) -> Written:
    """Resample and encode frames from ``first`` on, on a canvas; bad ones are filled where ``how`` is
    ``blank``. Small copies of the frames in ``kept`` are returned."""
    asked = _workers[-1].asked
    pages = [list[bytes | NDArray[Any]]() for _ in asked.channels]
    sums, samples = np.zeros((2, canvas.height, canvas.width)), list[Sample]()
    step = step_of((canvas.height, canvas.width))
    chosen, compression = format_of(asked.format, asked.settings.compression)
    for index, transform in enumerate(transforms, start=first):
        for number, one in enumerate(asked.channels):
            pixels = one.stack.frame(index)
            fill = one.stack.nodata if asked.settings.fill == "auto" else float(asked.settings.fill)
            fill = default_fill(pixels.dtype) if fill is None else fill
            if transform.bad and how == "blank":
                moved = np.full((len(pixels), canvas.height, canvas.width), fill, pixels.dtype)
            else:
                moved = resampled(pixels, transform.map, one.interpolation, fill, canvas)
            pages[number].append(chosen.encode(moved, one.stack, compression))
            if number == 0 and (index in kept or not transform.bad):
                either = placed(_finite(pixels[0]), canvas), _finite(moved[0])
                for total, plane in zip(sums, either, strict=True):
                    total += 0 if transform.bad else plane
                if index in kept:
                    samples.append(Sample(index, *(small(plane, step) for plane in either)))
    return Written(pages, sums[0], sums[1], sum(not one.bad for one in transforms), samples)


def _finite(plane: NDArray[Any]) -> NDArray[Any]:
    """A plane (h, w) with 0 for values that are not finite."""
    return np.nan_to_num(plane) if plane.dtype.kind == "f" else plane


def identity(stack: Stack) -> FrameTransform:
    """The transform of the reference frame itself."""
    _, height, width = stack.shape
    return FrameTransform(SplineMap(height, width, np.eye(2, 3)), Verdict.OK, (), 1.0, 0.0)


def failed(stack: Stack, why: str, against: int = REFERENCE) -> FrameTransform:
    """The transform of a frame that cannot be aligned."""
    _, height, width = stack.shape
    unmoved = SplineMap(height, width, np.eye(2, 3))
    return FrameTransform(unmoved, Verdict.FAILED, (why,), 0.0, np.inf, against)


def _aligned(
    asked: Task, reference: Reference, index: int, near: Tensor | None, against: int = REFERENCE
) -> FrameTransform:
    """The transform of a frame to a reference."""
    try:
        image, mask = grey(asked.stack, index, asked.settings, asked.settings.moving_mask)
        return of_motion(follow(reference, image, mask, near), reference.size, against)
    except RegisterError as error:
        return failed(asked.stack, str(error), against)
