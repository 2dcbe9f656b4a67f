"""What a Python program calls: the same as the commands, on arrays and tensors."""

import platform
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register import settings
from register._version import __version__
from register.compute import device
from register.engine import pair
from register.engine.pair import Alignment, Listener, Size
from register.errors import AlignmentError, RegisterError, RegisterWarning
from register.geometry import affine_tensors, models, pixel_size
from register.geometry.pixel_size import Sizes
from register.images import grayscale, pyramid
from register.images.pyramid import Level
from register.io.points.landmarks import LandmarkFiles
from register.io.transforms.starts import read_start
from register.kernels import dispatch
from register.settings import Settings
from register.transforms.quality import Provenance
from register.transforms.resample import warp_pixels
from register.transforms.transform import Transform

Picture = TypeVar("Picture", NDArray[Any], Tensor)


def align(
    fixed: NDArray[Any] | Tensor,
    moving: NDArray[Any] | Tensor,
    *,
    fixed_mask: NDArray[Any] | Tensor | None = None,
    moving_mask: NDArray[Any] | Tensor | None = None,
    **values: Any,
) -> Alignment:
    """Align ``moving`` to ``fixed`` and return the transform (fixed → moving, pixels) with its quality.

    Arrays are (h, w) or (h, w, c), tensors (h, w) or (c, h, w); sizes, channels and types may differ. NaN is no
    data, and so is what a mask (h, w) says 0 of. Keyword ``values`` are those of ``register.settings.Settings``. Raises ``RegisterError`` for
    a setting that is not allowed and ``AlignmentError`` when there is nothing to see or nothing overlaps.
    """
    chosen = settings.check(**values)
    for name in settings.FILES_ONLY:
        if name in values:
            raise RegisterError(f"{name} is for files; index the array instead")
    levels, place = [], device.choose(chosen.device)
    place = place if place.type == "cuda" else device.CPU
    for name, image, mask, channel in (
        ("fixed", fixed, fixed_mask, chosen.fixed_channel),
        ("moving", moving, moving_mask, chosen.moving_channel),
    ):
        try:
            levels.append(level_of(image, mask, channel, chosen.nodata, place))
        except RegisterError as error:
            raise RegisterError(f"the {name} image {error}") from None
    dispatch.warm_up(place)
    alignment = align_levels(levels[0][0], levels[1][0], (levels[0][0].size, levels[1][0].size), chosen)
    transform = alignment.transform
    quality = replace(transform.quality, fixed_grey=levels[0][1], moving_grey=levels[1][1])
    return replace(alignment, transform=replace(transform, quality=quality))


def align_levels(
    fixed: Level,
    moving: Level,
    sizes: tuple[Size, Size],
    chosen: Settings,
    *,
    pixels: Sizes = (None, None),
    listener: Listener = lambda event: None,
) -> Alignment:
    """``pipeline.align`` on the chosen device from the chosen start; falls back to the CPU when the device's memory does not suffice, or MPS cannot do it."""
    start, ratio = starting_matrix(chosen, *sizes, pixels), pixel_size.ratio(pixels)
    place = device.choose(chosen.device)
    for where in (place, device.CPU):
        try:
            still, still_mask, image, mask = device.upload(
                (fixed.image, fixed.mask, moving.image, moving.mask), where
            )
            one, other = (
                Level(still, still_mask, fixed.original_from_level),
                Level(image, mask, moving.original_from_level),
            )
            with device.using_threads(chosen.threads, where), device.current(where):
                return _with_provenance(
                    pair.align(one, other, sizes, chosen, start=start, pixel_ratio=ratio, listener=listener),
                    chosen,
                )
        except torch.OutOfMemoryError:
            if where.type == "cpu":
                break
            why = "ran out of memory even in parts"
        except (RuntimeError, TypeError) as error:  # it knows no numbers of 64 bits, and not every operation
            if where.type != "mps":
                raise
            why = f"cannot do it ({error})"
        warnings.warn(f"{place} {why}; the CPU goes on", RegisterWarning, stacklevel=2)
    raise AlignmentError("out of memory; use a smaller --max-size")


def _with_provenance(alignment: Alignment, chosen: Settings) -> Alignment:
    """The alignment with the versions, the device, the settings and the course of the optimisation."""
    place = device.choose(chosen.device)
    provenance = Provenance(
        register=__version__,
        torch=torch.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        device=str(place),
        threads=device.thread_count(place, chosen.threads),
        compiled=dispatch.is_available(place),
        seed=chosen.seed,
        settings=asdict(chosen),
        history={name: [round(loss, 5) for loss in losses] for name, losses in alignment.history.items()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=alignment.seconds,
    )
    return replace(alignment, transform=replace(alignment.transform, provenance=provenance))


def starting_matrix(
    chosen: Settings, fixed_size: Size, moving_size: Size, pixels: Sizes = (None, None)
) -> Tensor | None:
    """The start (2, 3) that ``init`` asks for, or None for the search; ``pixels`` are the pixel sizes that other programs' files count in.

    Raises ``RegisterError`` for a start that cannot be read.
    """
    if chosen.init == "auto":
        return None
    if chosen.init == "identity":
        return affine_tensors.identity()
    if chosen.init == "center":
        return affine_tensors.translation(
            (moving_size[1] - fixed_size[1]) / 2, (moving_size[0] - fixed_size[0]) / 2
        )
    landmarks = LandmarkFiles.parse(chosen.init)
    if landmarks:
        fixed, moving = landmarks.read()
        try:
            model = models.for_landmarks(len(fixed)) if chosen.model in ("affine", "local") else chosen.model
            return models.get(model).fit(fixed, moving)
        except ValueError as error:
            raise RegisterError(f"--init {chosen.init}: {error}") from None
    path = Path(chosen.init)
    if not path.exists():
        raise RegisterError(
            f"--init {chosen.init}: is none of auto, identity, center, and no file of that name exists"
        )
    if path.suffix.lower() in (".tfm", ".txt"):
        return read_start(path, pixels)
    return torch.from_numpy(Transform.load(path).matrix)


def warp(
    image: Picture, transform: Transform, *, interpolation: str = "bilinear", fill: float | None = None
) -> Picture:
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
        raise RegisterError(
            f"the image is {found[0]} × {found[1]} pixels, the transform's moving image {asked[0]} × {asked[1]}"
        )
    aligned = warp_pixels(planes, transform, interpolation=interpolation, fill=fill)
    if is_array:
        return aligned[0] if flat else np.ascontiguousarray(np.moveaxis(aligned, 0, 2))  # type: ignore[return-value]
    return torch.from_numpy(aligned[0] if flat else aligned).to(image.device)  # type: ignore[return-value]


def level_of(
    image: NDArray[Any] | Tensor,
    mask: NDArray[Any] | Tensor | None,
    channel: str | None,
    nodata: float | None,
    place: torch.device = device.CPU,
) -> tuple[Level, str]:
    """The grey level of an array (h, w[, c]) or a tensor ([c, ]h, w), on the device that is to compute where its memory suffices, and the grey's name.

    Raises ``RegisterError`` for other shapes.
    """
    if image.ndim not in (2, 3):
        raise RegisterError(f"has {image.ndim} dimensions, not two or three (shape {tuple(image.shape)})")
    given, white = _planes(image)
    try:
        planes = device.upload([given], place)[0].float()
    except torch.OutOfMemoryError:
        planes = given.cpu().float()
    valid = (
        torch.isfinite(planes).all(0, keepdim=True)
        if given.is_floating_point()
        else torch.ones_like(planes[:1], dtype=torch.bool)
    )
    if nodata is not None:
        valid &= ~(planes == nodata).all(0, keepdim=True)
    if mask is not None:
        shown = torch.as_tensor(mask, device=planes.device)
        if tuple(shown.shape) != tuple(planes.shape[1:]):
            raise RegisterError(
                f"and its mask differ in size: {tuple(planes.shape[1:])} and {tuple(shown.shape)}"
            )
        valid &= (shown != 0)[None]
    chosen = grayscale.choose(
        planes, valid, colour="rgb" if len(planes) == 3 else "grey", white=white, wanted=channel
    )
    return pyramid.base(torch.where(valid, chosen(planes), 0.0), valid.float()), chosen.name


def _planes(image: NDArray[Any] | Tensor) -> tuple[Tensor, float | None]:
    """Planes (c, h, w) of an array (h, w[, c]) or a tensor ([c, ]h, w), small types as they are, and the value of full light where the type says it."""
    if isinstance(image, Tensor):
        return image[None] if image.ndim == 2 else image, 255.0 if image.dtype == torch.uint8 else None
    white = float(np.iinfo(image.dtype).max) if image.dtype.kind == "u" else None
    dtype = image.dtype if image.dtype in (np.uint8, np.uint16) else np.float32
    return torch.from_numpy(
        np.require(image[None] if image.ndim == 2 else np.moveaxis(image, 2, 0), dtype, ["C", "W"])
    ), white
