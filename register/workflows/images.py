"""The two images of a job, opened; their pixels are not read yet."""

from pathlib import Path
from typing import NamedTuple

from register.errors import FileError, RegisterError
from register.images.pixels import check_dtype
from register.io.images import storable
from register.io.images.model import Image, Selection
from register.io.images.open import open_image
from register.workflows.job import Job, output_files


class OpenImages(NamedTuple):
    """The fixed and the moving image."""

    fixed: Image
    moving: Image


def open_images(job: Job) -> OpenImages:
    """Open both images.

    Raises ``FileError`` naming the one that cannot be read or whose pixel type cannot be interpolated, and a
    moving image that the format of the aligned image cannot hold.
    """
    chosen = job.settings
    cut = chosen.allow_truncated
    fixed = Selection(chosen.series, chosen.fixed_level, chosen.fixed_plane, cut)
    moving = Selection(chosen.series, chosen.moving_level, chosen.moving_plane, cut)
    opened = OpenImages(_open(job.fixed, fixed), _open(job.moving, moving))
    name = output_files(job, opened.moving).get("aligned")
    if name is not None:
        coloured = opened.moving.interpolated(chosen.interpolation)
        advice = "use --format ome-tiff, or choose a channel: --moving-plane C=0"
        storable.check(job.moving, coloured, name.name, chosen.compression, advice)
    return opened


def _open(path: Path, part: Selection) -> Image:
    image = open_image(path, part)
    try:
        check_dtype(image.dtype)
    except RegisterError as error:
        raise FileError(path, str(error)) from None
    return image
