"""Motion correction in Python: all frames of an array, or one frame after the other as they are recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from register import settings
from register.compute import sums
from register.engine.movie import reference, template
from register.engine.movie.follow import follow
from register.engine.movie.motion import of_motion
from register.engine.movie.options import refuse_meaningless
from register.errors import AlignmentError, RegisterError
from register.geometry.spline_map import SplineMap
from register.images.arrays import Array, grey_level
from register.settings import Settings
from register.transforms import minority
from register.transforms.movie import FrameTransform, MovieTransforms, transform_of
from register.transforms.quality import Verdict
from register.transforms.transform import Transform


@dataclass(frozen=True, eq=False)
class Reference:
    """A reference to which frames are aligned as they arrive. ``build`` makes one."""

    prepared: reference.Reference

    @staticmethod
    def build(frames: Sequence[Array], *, fixed: Array | None = None, **values: Any) -> "Reference":
        """The reference of frames (h, w) or (h, w, c) of one size: the mean of those that are alike, aligned.

        With an image ``fixed`` the frames are aligned to it. ``values`` are options of ``Settings`` that a
        movie has: ``model``, ``preset``, ``patch_size``, ``rotation_range``, ``scale_range``, ``allow_flip``,
        ``matcher``, ``nodata``, ``fixed_channel``. Raises ``RegisterError`` for another one, and where no
        frame has texture.
        """
        chosen = _checked(values)
        greys = [_grey(frame, chosen) for frame in frames]
        image = None if fixed is None else _grey(fixed, chosen)
        return Reference(template.build(greys, chosen, fixed=image))

    @property
    def image(self) -> NDArray[np.float32]:
        """The reference (h, w), NaN where invalid."""
        image: NDArray[np.float32] = self.prepared.image.numpy()
        return image

    def follow(self, frame: Array) -> Transform:
        """The transform from the reference to a frame (h, w) or (h, w, c), with its verdict.

        A frame that cannot be aligned, such as a blank one, has the verdict ``failed`` and the identity. The
        method is that of ``register movie``. Raises ``RegisterError`` for a frame of another size.
        """
        return transform_of(self.prepared.settings.model, self._followed(frame))

    def _followed(self, frame: Array) -> FrameTransform:
        grey = _grey(frame, self.prepared.settings)
        if grey.shape != self.prepared.image.shape:
            sizes = f"{tuple(grey.shape)}, the reference {tuple(self.prepared.image.shape)}"
            raise RegisterError(f"the frame has the size {sizes}")
        mask = None if sums.all_finite(grey) else torch.isfinite(grey).float()
        try:
            motion = follow(self.prepared, grey if mask is None else grey.nan_to_num(), mask)
        except AlignmentError as error:
            unmoved = SplineMap(*self.prepared.size, np.eye(2, 3))
            return FrameTransform(unmoved, Verdict.FAILED, (str(error),))
        return of_motion(motion, self.prepared.size)


def align_movie(frames: Sequence[Array], *, fixed: Array | None = None, **values: Any) -> MovieTransforms:
    """The transforms from a reference to frames (n, h, w) or (n, h, w, c): ``movie[n]`` is a ``Transform``.

    ``frames`` may be any array that is indexed by frame, also one that reads frames from a file or a Dask
    array. The reference, and ``values``, are those of ``Reference.build``. ``register.warp(frame, movie[n])``
    resamples a frame. Raises ``RegisterError``.
    """
    chosen = np.linspace(0, len(frames) - 1, min(template.AVERAGED, len(frames))).round().astype(int)
    made = Reference.build([_array(frames[n]) for n in sorted(set(chosen.tolist()))], fixed=fixed, **values)
    found = [made._followed(_array(frames[n])) for n in range(len(frames))]
    found = minority.doubted(found) if fixed is None else found
    return MovieTransforms(made.prepared.settings.model, tuple(found))


def _array(frame: Any) -> Array:
    """A frame in memory."""
    return frame if isinstance(frame, torch.Tensor) else np.asarray(frame)


def _grey(frame: Array, chosen: Settings) -> torch.Tensor:
    """The grey values (h, w) float32 of a frame, NaN where invalid."""
    if isinstance(frame, np.ndarray) and frame.ndim == 2 and chosen.nodata is None:
        return torch.from_numpy(frame.astype(np.float32))
    level = grey_level(frame, channel=chosen.fixed_channel, nodata=chosen.nodata).level
    return torch.where(level.mask[0] > 0, level.image[0], torch.nan)


def _checked(values: dict[str, Any]) -> Settings:
    """The settings. Raises ``RegisterError`` for one that a movie does not have."""
    chosen = settings.check(**values)
    refuse_meaningless(chosen, in_memory=True)
    return chosen
