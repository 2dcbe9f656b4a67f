"""The Python interface: what the commands do, on arrays and tensors."""

import platform
import warnings
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from register import settings
from register._version import __version__
from register.compute import device
from register.compute.plan import ComputePlan
from register.engine import pair
from register.engine.pair import Alignment, Listener, Size
from register.errors import AlignmentError, RegisterError, RegisterWarning
from register.geometry import pixel_size
from register.geometry.pixel_size import Sizes
from register.images.arrays import Array, GreyLevel, grey_level
from register.images.pyramid import Level
from register.io.transforms.initial import initial_matrix
from register.kernels import dispatch
from register.settings import Settings
from register.transforms.quality import Provenance
from register.transforms.resample import warp_pixels
from register.transforms.transform import Transform

Picture = TypeVar("Picture", NDArray[Any], Tensor)


def align(
    fixed: Array,
    moving: Array,
    *,
    fixed_mask: Array | None = None,
    moving_mask: Array | None = None,
    **values: Any,
) -> Alignment:
    """Align ``moving`` to ``fixed`` and return the transform, which maps fixed to moving pixels, with its
    quality.

    The images are arrays (h, w) or (h, w, c), or tensors (h, w) or (c, h, w), of any real type; their sizes,
    channels and types may differ. Pixels are invalid where they are NaN and where a mask (h, w) is 0. The
    keyword arguments ``values`` are options of ``register.settings.Settings``; lengths are in pixels of the
    fixed image, angles in degrees. The verdict is in ``alignment.quality["verdict"]``, with reasons.

    Raises ``RegisterError`` for a setting that is not allowed, and ``AlignmentError`` where an image has no
    texture or the images do not overlap. Warns with ``RegisterWarning`` where the chosen device cannot be
    used.

    The method is described in docs/explanation/method.md. It combines a search by correlation and by matched
    features (Lowe, IJCV 60, 2004), a global fit by Gauss-Newton steps, and affine maps of patches that are
    blended by a partition of unity (Babuška & Melenk, IJNME 40, 1997).
    """
    chosen = settings.check(**values)
    for name in settings.FILES_ONLY:
        if name in values:
            raise RegisterError(f"{name} is for files; index the array instead")
    plan = ComputePlan.of(chosen.device, chosen.threads)
    levels = {
        "fixed": _grey("fixed", fixed, fixed_mask, chosen.fixed_channel, chosen, plan.input_device),
        "moving": _grey("moving", moving, moving_mask, chosen.moving_channel, chosen, plan.input_device),
    }
    dispatch.warm_up(plan.input_device)
    one, other = (grey.level for grey in levels.values())
    alignment = align_levels(one, other, (one.size, other.size), chosen, plan=plan)
    names = {kind: grey.name for kind, grey in levels.items()}
    quality = replace(alignment.quality, fixed_grey=names["fixed"], moving_grey=names["moving"])
    return replace(alignment, transform=replace(alignment.transform, quality=quality))


def _grey(
    kind: str, image: Array, mask: Array | None, channel: str | None, chosen: Settings, place: torch.device
) -> GreyLevel:
    """The grey level of the fixed or the moving image; an error names which."""
    try:
        return grey_level(image, mask, channel=channel, nodata=chosen.nodata, place=place)
    except RegisterError as error:
        raise RegisterError(f"the {kind} image {error}") from None


def align_levels(
    fixed: Level,
    moving: Level,
    sizes: tuple[Size, Size],
    chosen: Settings,
    *,
    plan: ComputePlan,
    pixels: Sizes = (None, None),
    listener: Listener = lambda event: None,
) -> Alignment:
    """Align two grey levels, of images of ``sizes`` (height, width), on the device of the ``plan`` from the
    chosen start.

    ``pixels`` are the pixel sizes of the images; where both are known they narrow the search. The CPU takes
    over, with a warning, when the memory of the device does not suffice, or when MPS does not support an
    operation.
    """
    start, ratio = initial_matrix(chosen, *sizes, pixels), pixel_size.ratio(pixels)
    for now in (plan, plan.on_cpu):
        try:
            one, other = _on_device(fixed, moving, now.device)
            with now.active():
                alignment = pair.align(
                    one, other, sizes, chosen, start=start, pixel_ratio=ratio, listener=listener
                )
            return _with_provenance(alignment, chosen, plan)
        except torch.OutOfMemoryError:
            if now.device.type == "cpu":
                break
            why = "ran out of memory"
        except (RuntimeError, TypeError) as error:  # MPS lacks float64 and some operations
            if now.device.type != "mps":
                raise
            why = f"does not support an operation ({error})"
        warnings.warn(f"{plan.device} {why}; the CPU is used instead", RegisterWarning, stacklevel=2)
    raise AlignmentError("out of memory; use a smaller --max-size")


def _on_device(fixed: Level, moving: Level, place: torch.device) -> tuple[Level, Level]:
    """Both levels on a device."""
    images = device.upload((fixed.image, fixed.mask, moving.image, moving.mask), place)
    one = Level(images[0], images[1], fixed.original_from_level)
    return one, Level(images[2], images[3], moving.original_from_level)


def _with_provenance(alignment: Alignment, chosen: Settings, plan: ComputePlan) -> Alignment:
    """The alignment with its versions, device, settings, seconds and history in its provenance."""
    provenance = Provenance(
        register=__version__,
        torch=torch.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
        device=str(plan.device),
        threads=plan.threads,
        compiled=dispatch.is_available(plan.device),
        seed=chosen.seed,
        settings=asdict(chosen),
        history={name: [round(loss, 5) for loss in losses] for name, losses in alignment.history.items()},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=alignment.seconds,
    )
    return replace(alignment, transform=replace(alignment.transform, provenance=provenance))


def warp(
    image: Picture, transform: Transform, *, interpolation: str = "bilinear", fill: float | None = None
) -> Picture:
    """Resample the moving ``image`` on the pixel grid of the fixed image. Kind, layout and dtype do not
    change.

    Arrays are (h, w) or (h, w, c), tensors (h, w) or (c, h, w). ``interpolation`` is ``nearest``,
    ``bilinear`` or ``bicubic``. ``fill`` is the value outside the moving image; by default NaN for floats
    and 0 otherwise. Raises ``RegisterError`` when the image does not have the size of the transform's
    moving image.
    """
    is_array = isinstance(image, np.ndarray)
    pixels: NDArray[Any] = image if isinstance(image, np.ndarray) else image.detach().cpu().numpy()
    flat = pixels.ndim == 2
    planes = pixels[None] if flat else pixels
    if is_array and not flat:
        planes = np.moveaxis(pixels, 2, 0)
    frame = transform.moving
    if planes.shape[1:] != (frame.height, frame.width):
        height, width = planes.shape[1:]
        raise RegisterError(
            f"the image is {width} × {height} pixels, the transform's moving image "
            f"{frame.width} × {frame.height}"
        )
    aligned = warp_pixels(planes, transform, interpolation=interpolation, fill=fill)
    if flat:
        aligned = aligned[0]
    elif is_array:
        aligned = np.ascontiguousarray(np.moveaxis(aligned, 0, 2))
    return aligned if is_array else torch.from_numpy(aligned).to(image.device)  # type: ignore[return-value]
