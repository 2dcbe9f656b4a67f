"""The Python interface: what the commands do, on arrays and tensors."""

import platform
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any, get_args, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from register import settings
from register._version import __version__
from register.compute import clock, device
from register.compute.defaults import usual_defaults
from register.compute.plan import ComputePlan
from register.engine import field, split, still
from register.engine.fit import held as held_points
from register.engine.fit.parts import Box, Read
from register.engine.initial import search
from register.engine.pair import Alignment, Listener, Size
from register.engine.tears import detect
from register.errors import AlignmentError, FileError, RegisterError, RegisterWarning
from register.geometry import pixel_size
from register.geometry.pixel_size import Sizes
from register.images.arrays import picture
from register.images.pixels import check_dtype
from register.images.pyramid import Level
from register.images.split_mask import Labels
from register.io.images.given import (
    GivenImage,
    ImageLike,
    PathLike,
    given_image,
    given_labels,
    in_common,
    is_path,
    pixels_of,
)
from register.io.points.landmarks import Landmarks, read_pairs
from register.io.transforms.initial import initial_matrix
from register.kernels import dispatch
from register.settings import Settings
from register.transforms.quality import Provenance, Verdict
from register.transforms.resample import warp_pixels
from register.transforms.transform import Transform

Parts = tuple[Read | None, Read | None]
"""Functions that read parts of the fixed and the moving original."""
TOUCHED = 1e-6
"""The weight of masked pixels from which on a resampled pixel is masked."""


def align(
    fixed: ImageLike,
    moving: ImageLike,
    *,
    fixed_mask: ImageLike | None = None,
    moving_mask: ImageLike | None = None,
    split_mask: ImageLike | None = None,
    held: Landmarks | None = None,
    **values: Any,
) -> Alignment:
    """Align ``moving`` to ``fixed`` and return the transform, which maps fixed to moving pixels, with its
    quality.

    The images are arrays or nested lists (h, w) or (h, w, c), or tensors (h, w) or (c, h, w), of any real
    type, or paths of files; their sizes, channels and types may differ. Pixels are invalid where they are NaN
    or masked in a masked array, and where a mask (h, w), an array or a path, is 0. ``split_mask``, an
    array, a path or ``auto``, separates pieces of the fixed image that move apart, as the option does.
    ``held`` are fixed and moving landmarks (n, 2), ``(x, y)`` in pixels, which the fit follows as those of
    the option ``landmarks_hold``. The keyword arguments ``values`` are options of
    ``register.settings.Settings``; lengths are in pixels of the fixed image, angles in degrees. The verdict
    is in ``alignment.quality["verdict"]``, with reasons.

    Raises ``RegisterError`` for a setting that is not allowed and for an image that is none, ``FileError``
    for a file that cannot be read, and ``AlignmentError`` where an image has no texture or the images do not
    overlap. Warns with ``RegisterWarning`` where the chosen device cannot be
    used.

    The method is described in docs/explanation/method.md. It combines a search by correlation and by matched
    features (Lowe, IJCV 60, 2004), a global fit by Gauss-Newton steps, and affine maps of patches that are
    blended by a partition of unity (Babuška & Melenk, IJNME 40, 1997).
    """
    chosen = settings.check(**values)
    files = [is_path(image) for image in (fixed, moving)]
    for name in settings.FILES_ONLY:
        if name in values and not any(files):
            raise RegisterError(f"{name} is for files; index the array instead")
    with usual_defaults():
        plan = ComputePlan.of(chosen.device, chosen.threads)
        named = in_common(fixed, moving, chosen)
        read = replace(chosen, fixed_channel=named.fixed, moving_channel=named.moving)
        one = given_image("fixed", fixed, fixed_mask, read, plan.input_device)
        other = given_image("moving", moving, moving_mask, read, plan.input_device)
        dispatch.warm_up(plan.input_device)
        labels = given_labels(split_mask, one.size)
        if is_path(split_mask) and str(split_mask) == "auto":
            chosen = replace(chosen, split_mask="auto")
        return align_given(one, other, chosen, plan=plan, landmarks=held, labels=labels, names=named.shared)


def align_given(
    fixed: GivenImage,
    moving: GivenImage,
    chosen: Settings,
    *,
    plan: ComputePlan,
    landmarks: Landmarks | None = None,
    labels: Labels | None = None,
    names: tuple[str, ...] = (),
    shared: bool = False,
) -> Alignment:
    """Align two images that were given in Python; see ``align_levels``.

    ``names`` are those of channels that both have.
    """
    alignment = align_levels(
        fixed.level,
        moving.level,
        (fixed.size, moving.size),
        chosen,
        plan=plan,
        pixels=(fixed.frame.pixel_size, moving.frame.pixel_size),
        landmarks=landmarks,
        labels=labels,
        shared=shared,
        parts=(_part(fixed), _part(moving)),
    )
    quality = replace(
        alignment.quality, fixed_grey=fixed.grey, moving_grey=moving.grey, shared_channels=names
    )
    made = replace(alignment.transform, quality=quality, fixed=fixed.frame, moving=moving.frame)
    return replace(alignment, transform=made)


def align_levels(
    fixed: Level,
    moving: Level,
    sizes: tuple[Size, Size],
    chosen: Settings,
    *,
    plan: ComputePlan,
    pixels: Sizes = (None, None),
    listener: Listener = lambda event: None,
    landmarks: Landmarks | None = None,
    labels: Labels | None = None,
    shared: bool = False,
    parts: Parts = (None, None),
) -> Alignment:
    """Align two grey levels, of images of ``sizes`` (height, width), on the device of the ``plan`` from the
    chosen start.

    ``pixels`` are the pixel sizes of the images; where both are known they narrow the search. ``landmarks``
    hold; the default are those of the files that the settings name. Sides of the fixed image with different
    ``labels`` are aligned separately. The CPU takes
    over, with a warning, when the memory of the device does not suffice, or when MPS does not support an
    operation. What is computed of ``shared`` levels on the CPU is kept as long as they are. ``parts`` read
    parts of the originals where the images share little.
    """
    start, ratio = initial_matrix(chosen, *sizes, pixels), pixel_size.ratio(pixels)
    pairs = _landmarks(chosen, landmarks)
    near = pixel_size.in_pixels(chosen.shift_range, pixels[0]) if chosen.shift_range else None
    for now in (plan, plan.on_cpu):
        try:
            keep = shared and now.device.type == "cpu"
            one, other = (fixed, moving) if keep else _on_device(fixed, moving, now.device)
            with now.active():
                run = partial(
                    field.align,
                    sizes=sizes,
                    settings=chosen,
                    start=start,
                    pixel_ratio=ratio,
                    landmarks=pairs,
                    shift_range=near,
                    listener=listener,
                )
                reading = partial(run, parts=_on(parts, now.device))
                alignment = still.align(one, other, reading, run)
                alignment = _mirrored(alignment, one, other, chosen, reading)
                if labels is not None:
                    alignment = split.align(alignment, one, other, labels, chosen, run)
                elif chosen.split_mask == "auto":
                    alignment = detect.align(alignment, one, other, chosen, run)
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


def _mirrored(
    failed: Alignment, fixed: Level, moving: Level, chosen: Settings, run: Callable[..., Alignment]
) -> Alignment:
    """An alignment, or that of the mirrored moving image where it failed and the mirrored image matches.

    The mirrored image is aligned as with ``allow_flip``; a note says so.
    """
    quality = failed.quality
    if quality.verdict != Verdict.FAILED or search.MIRRORED not in quality.notes:
        return failed
    again = run(fixed, moving, settings=replace(chosen, allow_flip=True))
    if again.quality.verdict == Verdict.FAILED or float(np.linalg.det(again.transform.matrix[:, :2])) > 0:
        return failed
    note = "the alignment failed as the images are; the moving image is mirrored, as --allow-flip finds"
    quality = replace(again.quality, notes=(*again.quality.notes, note))
    return replace(again, transform=replace(again.transform, quality=quality))


def _landmarks(chosen: Settings, given: Landmarks | None) -> held_points.Landmarks | None:
    """The landmarks that hold: the ``given`` points, or those of the files that the settings name.

    Raises ``RegisterError`` for different numbers of points, and for none.
    """
    if given is None and chosen.landmarks_hold is None:
        if chosen.landmark_sigma:
            raise RegisterError("--landmark-sigma is the error of --landmarks-hold, which is not given")
        return None
    fixed, moving = given if given is not None else read_pairs(chosen.landmarks_hold or "")
    one, other = (torch.as_tensor(np.asarray(x, np.float64)).reshape(-1, 2) for x in (fixed, moving))
    if len(one) != len(other) or len(one) == 0:
        raise RegisterError(
            f"{len(one)} fixed and {len(other)} moving landmarks: the numbers must be equal and not 0"
        )
    if not all(bool(points.isfinite().all()) for points in (one, other)):
        raise RegisterError("a held landmark has a coordinate that is not finite")
    return held_points.Landmarks(one, other, chosen.landmark_sigma)


def _part(image: GivenImage) -> Read | None:
    """The function that reads parts of an image, if it is a file."""
    read = image.part
    return None if read is None else lambda box: read(slice(box.top, box.bottom), slice(box.left, box.right))


def _on(parts: Parts, place: torch.device) -> Parts:
    """The same parts on a device."""

    def moved(read: Read) -> Read:
        def on_place(box: Box) -> Level:
            level = read(box)
            image, mask = device.upload((level.image, level.mask), place)
            return Level(image, mask, level.original_from_level)

        return on_place

    one, other = (None if read is None else moved(read) for read in parts)
    return one, other


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
        created=clock.date(),
        seconds={} if clock.date_is_given() else alignment.seconds,
    )
    return replace(alignment, transform=replace(alignment.transform, provenance=provenance))


@overload
def warp(
    image: Tensor, transform: Transform, *, interpolation: str = "bilinear", fill: float | None = None
) -> Tensor: ...


@overload
def warp(
    image: ArrayLike | PathLike,
    transform: Transform,
    *,
    interpolation: str = "bilinear",
    fill: float | None = None,
) -> NDArray[Any]: ...


def warp(
    image: ArrayLike | PathLike | Tensor,
    transform: Transform,
    *,
    interpolation: str = "bilinear",
    fill: float | None = None,
) -> NDArray[Any] | Tensor:
    """Resample the moving ``image`` on the pixel grid of the fixed image. Kind, layout and dtype do not
    change.

    Arrays and nested lists are (h, w) or (h, w, c), tensors (h, w) or (c, h, w); a path gives the array of
    its pixels. A masked array is masked where a masked pixel has any weight. ``interpolation`` is
    ``nearest``, ``bilinear`` or ``bicubic``. ``fill`` is the value outside the moving image; by default NaN
    for floats and 0 otherwise. Raises ``RegisterError`` when the image does not have the size of the
    transform's moving image, and for values that are no real numbers.
    """
    if not isinstance(transform, Transform):
        raise RegisterError(f"the transform must be a register.Transform, not a {type(transform).__name__}")
    if interpolation not in get_args(settings.Interpolation):
        raise RegisterError(f"interpolation {interpolation!r} is not allowed: nearest, bilinear or bicubic")
    try:
        given = picture(pixels_of(image))
        array = given.values.cpu().numpy() if isinstance(given.values, Tensor) else given.values
        check_dtype(array.dtype)
    except FileError:
        raise
    except RegisterError as error:
        raise RegisterError(f"the image {error}") from None
    frame, (height, width) = transform.moving, given.size
    if (height, width) != (frame.height, frame.width):
        raise RegisterError(
            f"the image is {width} × {height} pixels, the transform's moving image "
            f"{frame.width} × {frame.height}"
        )
    with usual_defaults():
        last = not isinstance(given.values, Tensor) and array.ndim == 3
        aligned = _warped(np.moveaxis(array, 2, 0) if last else array, transform, interpolation, fill)
        aligned = np.ascontiguousarray(np.moveaxis(aligned, 0, 2)) if last else aligned
        if given.hidden is not None:
            hidden = _warped(given.hidden.astype(np.float32), transform, interpolation, 1.0) > TOUCHED
            return np.ma.masked_array(aligned, np.broadcast_to(hidden.T, aligned.T.shape).T)
        if isinstance(image, Tensor):
            return torch.from_numpy(aligned).to(image.device, image.dtype)
        return aligned


def _warped(
    pixels: NDArray[Any], transform: Transform, interpolation: str, fill: float | None
) -> NDArray[Any]:
    """Pixels (h, w) or (c, h, w), resampled."""
    planes = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[None])
    aligned = warp_pixels(planes, transform, interpolation=interpolation, fill=fill)
    return aligned if pixels.ndim == 3 else aligned[0]
