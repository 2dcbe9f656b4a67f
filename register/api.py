"""What a Python program calls: the same as the commands, on arrays and tensors."""

import warnings
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register import affine, device, pipeline, settings
from register.errors import AlignmentError, RegisterError
from register.io.points import read_points
from register.io.starts import Pair, read_start
from register.pipeline import Alignment, Listener
from register.resample import warp_pixels
from register.settings import Settings
from register.transform import Transform

Picture = TypeVar("Picture", NDArray[Any], Tensor)

UNKNOWN: tuple[Pair, Pair] = (1.0, 1.0), (1.0, 1.0)
"""Pixel sizes of images that do not say them."""


class RegisterWarning(UserWarning):
    """Something went another way than was asked, and the result is still sound."""


def align(fixed: NDArray[Any] | Tensor, moving: NDArray[Any] | Tensor, **values: Any) -> Alignment:
    """Align ``moving`` to ``fixed`` and return the transform (fixed → moving, pixels) with its quality.

    Arrays are (h, w) or (h, w, c), tensors (h, w) or (c, h, w); sizes, channels and types may differ. NaN is no
    data. Keyword ``values`` are those of ``register.settings.Settings``. Raises ``RegisterError`` for a setting that is not
    allowed and ``AlignmentError`` when there is nothing to see or nothing overlaps.
    """
    return align_planes(_planes(fixed), _planes(moving), settings.check(**values))


def align_planes(
    fixed: Tensor,
    moving: Tensor,
    chosen: Settings,
    *,
    fixed_mask: Tensor | None = None,
    moving_mask: Tensor | None = None,
    pixels: tuple[Pair, Pair] = UNKNOWN,
    listener: Listener = lambda event: None,
) -> Alignment:
    """``align`` for tensors (c, h, w) with masks (1, h, w); falls back to the CPU when the device's memory does not suffice."""
    start = starting_matrix(chosen, fixed.shape[-2:], moving.shape[-2:], pixels)
    place = device.choose(chosen.device)
    for where in (place, torch.device("cpu")):
        tensors = [x if x is None else x.to(where) for x in (fixed, moving, fixed_mask, moving_mask)]
        try:
            return pipeline.align(
                tensors[0],  # type: ignore[arg-type]
                tensors[1],  # type: ignore[arg-type]
                chosen,
                start=start,
                pixel_ratio=pixels[0][0] / pixels[1][0] if pixels != UNKNOWN else None,
                fixed_mask=tensors[2],
                moving_mask=tensors[3],
                listener=listener,
            )
        except torch.OutOfMemoryError:
            if where.type == "cpu":
                break
        warnings.warn(f"{place} ran out of memory even in parts; the CPU goes on", RegisterWarning, stacklevel=2)
    raise AlignmentError("out of memory; use a smaller --max-size")


def starting_matrix(chosen: Settings, fixed_size: torch.Size, moving_size: torch.Size, pixels: tuple[Pair, Pair] = UNKNOWN) -> Tensor | None:
    """The start (2, 3) that ``init`` asks for, or None for the search; ``pixels`` are the pixel sizes that other programs' files count in.

    Raises ``RegisterError`` for a start that cannot be read.
    """
    if chosen.init == "auto":
        return None
    if chosen.init == "identity":
        return affine.identity()
    if chosen.init == "center":
        return affine.translation((moving_size[1] - fixed_size[1]) / 2, (moving_size[0] - fixed_size[0]) / 2)
    parts = chosen.init.split(",")
    if len(parts) == 2:
        fixed, moving = (read_points(part) for part in parts)
        try:
            return affine.fit(fixed, moving, _model_for(len(fixed)) if chosen.model in ("affine", "local") else chosen.model)
        except ValueError as error:
            raise RegisterError(f"--init {chosen.init}: {error}") from None
    path = Path(chosen.init)
    if not path.exists():
        raise RegisterError(f"--init {chosen.init}: is none of auto, identity, center, and no file of that name exists")
    return read_start(path, *pixels) if path.suffix.lower() in (".tfm", ".txt") else Transform.load(path).matrix


def warp(image: Picture, transform: Transform, *, interpolation: str = "bilinear", fill: float | None = None) -> Picture:
    """The moving ``image`` on the fixed grid: same kind, layout and dtype as it came.

    Arrays are (h, w) or (h, w, c), tensors (h, w) or (c, h, w). ``fill`` is the value of what the moving image does not show (None:
    NaN for floats, 0 otherwise). Raises ``RegisterError`` when the image has another size than the transform's moving image.
    """
    is_array = isinstance(image, np.ndarray)
    pixels: NDArray[Any] = image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    flat = pixels.ndim == 2
    planes = pixels[None] if flat else np.moveaxis(pixels, 2, 0) if is_array else pixels
    if planes.shape[1:] != (transform.moving.height, transform.moving.width):
        found, asked = planes.shape[:0:-1], (transform.moving.width, transform.moving.height)
        raise RegisterError(f"the image is {found[0]} × {found[1]} pixels, the transform's moving image {asked[0]} × {asked[1]}")
    aligned = warp_pixels(planes, transform, interpolation=interpolation, fill=fill)
    if is_array:
        return aligned[0] if flat else np.ascontiguousarray(np.moveaxis(aligned, 0, 2))  # type: ignore[return-value]
    return torch.from_numpy(aligned[0] if flat else aligned).to(image.device)  # type: ignore[return-value]


def fill_value(text: str, pixels: NDArray[Any]) -> float | None:
    """The number of a ``--fill`` value for a moving image (c, h, w); ``auto`` is NaN for floats, white for brightfield colour, else 0."""
    if text != "auto":
        try:
            return float(text)
        except ValueError:
            raise RegisterError(f"--fill {text}: is neither a number nor auto") from None
    if pixels.dtype.kind in "iu" and len(pixels) >= 3:
        border = np.concatenate([pixels[:3, [0, -1]].reshape(3, -1), pixels[:3, :, [0, -1]].reshape(3, -1)], axis=1)
        white = float(np.iinfo(pixels.dtype).max)
        if float(np.median(border, axis=1).min()) > 0.8 * white:
            return white
    return None


def _model_for(count: int) -> str:
    """The richest global model that ``count`` landmarks determine with one to spare."""
    return "affine" if count >= 4 else "similarity" if count >= 2 else "translation"


def _planes(image: NDArray[Any] | Tensor) -> Tensor:
    """A tensor (c, h, w) float32 of an array (h, w[, c]) or a tensor ([c, ]h, w). Raises ``RegisterError`` for other shapes."""
    if image.ndim not in (2, 3):
        raise RegisterError(f"an image has two or three dimensions, not {image.ndim} (shape {tuple(image.shape)})")
    if isinstance(image, Tensor):
        return (image[None] if image.ndim == 2 else image).float()
    planes = image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0)
    return torch.from_numpy(np.ascontiguousarray(planes, dtype=np.float32))
