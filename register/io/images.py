"""Read and write images: the file's own pixels, what their axes mean, and the size of a pixel."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from register.errors import FileError
from register.io import tiff
from register.io.atomic import whole

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Image:
    """Pixels (c, h, w) in the file's own dtype and what the file says about them.

    ``kind`` is ``tiff``, ``ome``, ``png`` or ``other``. ``alpha`` says that the last channel is opacity. ``pixel_size`` is ``(x, y)`` in
    ``pixel_unit``, both None when the file does not say.
    """

    pixels: NDArray[Any]
    kind: str = "tiff"
    colour: bool = False
    alpha: bool = False
    pixel_size: tuple[float, float] | None = None
    pixel_unit: str | None = None
    channel_names: tuple[str, ...] = ()
    path: str | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)

    @property
    def size(self) -> tuple[int, int]:
        """``(height, width)`` in pixels."""
        return self.pixels.shape[1], self.pixels.shape[2]


def read_image(path: str | Path) -> Image:
    """The image in a TIFF, OME-TIFF, PNG, JPEG, or any other file Pillow reads.

    Raises ``FileError`` naming the file and what is wrong: missing, a folder, empty, damaged, not an image, a stack.
    """
    path = Path(path)
    head = _head(path)
    try:
        if head[:4] in TIFF_MAGIC:
            return Image(path=str(path), **tiff.read(path))
        return _read_other(path, head)
    except (FileError, KeyboardInterrupt):
        raise
    except MemoryError:
        raise FileError(path, "is larger than the free memory", "use a smaller level of it") from None
    except Exception as error:  # decoders raise anything on damaged files; the file is what is wrong, and it is named
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FileError(path, f"cannot be read as an image ({reason})", "check that the file is whole") from error


def write_image(path: str | Path, image: Image, *, compression: str = "deflate") -> None:
    """Write a TIFF, OME-TIFF (``.ome.tif``) or PNG (``.png``), whole or not at all. Raises ``FileError``."""
    with whole(path) as beside:
        if str(path).lower().endswith(".png"):
            import imagecodecs

            beside.write_bytes(imagecodecs.png_encode(_interleaved(image.pixels)))
        else:
            tiff.write(beside, image, compression)


def aligned_name(moving: Image) -> str:
    """The name of the aligned image's file: PNG stays PNG, OME stays OME, everything else becomes a TIFF."""
    plain = moving.pixels.dtype in (np.uint8, np.uint16) and len(moving.pixels) <= 4
    if moving.kind == "png" and plain:
        return "aligned.png"
    return "aligned.ome.tif" if moving.kind == "ome" else "aligned.tif"


def valid_pixels(image: Image) -> NDArray[np.bool_] | None:
    """Where (1, h, w) the file itself says there is an image: not NaN and not fully transparent; None when everywhere."""
    valid = np.ones((1, *image.size), dtype=np.bool_)
    if image.alpha:
        valid &= image.pixels[-1:] > 0
    if image.pixels.dtype.kind == "f":
        valid &= np.isfinite(image.pixels).all(axis=0, keepdims=True)
    return None if valid.all() else valid


def colour_channels(image: Image) -> NDArray[Any]:
    """The channels (c, h, w) that carry the picture, without opacity."""
    return image.pixels[:-1] if image.alpha else image.pixels


def _head(path: Path) -> bytes:
    """The first bytes of a file; raises ``FileError`` when there is none."""
    try:
        with open(path, "rb") as file:
            head = file.read(32)
    except FileNotFoundError:
        raise FileError(path, "does not exist", "check the path") from None
    except IsADirectoryError:
        raise FileError(path, "is a folder", "name an image file in it") from None
    except OSError as error:
        raise FileError(path, f"cannot be opened ({error.strerror})") from None
    if not head:
        raise FileError(path, "is empty", "it was probably not copied to the end")
    return head


def _read_other(path: Path, head: bytes) -> Image:
    """Anything but TIFF; PNG of 16 bits and several channels goes past Pillow, which would cut it to 8."""
    if head.startswith(PNG_MAGIC) and head[24] == 16:
        import imagecodecs

        return _image(imagecodecs.png_decode(path.read_bytes()), path, "png")
    import warnings

    import PIL.ImageOps
    from PIL import Image as Pillow
    from PIL import UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        try:
            picture: Pillow.Image = Pillow.open(path)
        except UnidentifiedImageError:
            raise FileError(path, "is not an image in any format this program reads", "TIFF, PNG, JPEG and what Pillow reads will do") from None
        with picture:
            picture.load()
            kind = "png" if picture.format == "PNG" else "other"
            picture = PIL.ImageOps.exif_transpose(picture)
            if picture.mode in ("P", "PA"):
                picture = picture.convert("RGBA" if "transparency" in picture.info or picture.mode == "PA" else "RGB")
            elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
                picture = picture.convert("RGB")
            return _image(np.asarray(picture), path, kind)


def _image(array: NDArray[Any], path: Path, kind: str) -> Image:
    """An image from (h, w) or (h, w, c) pixels as PNG and Pillow give them."""
    pixels = array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)
    count = len(pixels)
    return Image(np.ascontiguousarray(pixels), kind=kind, colour=count >= 3, alpha=count in (2, 4), path=str(path))


def _interleaved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Pixels (h, w) or (h, w, c)."""
    return np.ascontiguousarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2))
