"""Pixel sizes, channel names and colours that makers of scanners and microscopes state in their own way."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tifffile

from register.geometry.pixel_size import PixelSize
from register.io.images.lookup_tables import signed_colour

MOST_CHANNELS = 200
"""Pages whose description is read."""


@dataclass(frozen=True)
class Stated:
    """What a maker's description states; the default values mean that it does not."""

    pixel_size: PixelSize | None = None
    names: tuple[str, ...] = ()
    colours: tuple[int, ...] = ()


def stated(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """What the maker of a file states about a series; nothing for other files and damaged texts."""
    try:
        for is_of_maker, read in MAKERS:
            if is_of_maker(tif):
                return read(tif, series)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ElementTree.ParseError):
        pass  # a description that cannot be read states nothing
    return Stated()


def is_trestle(tif: tifffile.TiffFile) -> bool:
    """Whether a TIFF is a slide of Trestle, whose tiles overlap: OpenSlide's signs of one."""
    page = _page(tif.pages.first)
    return page.is_tiled and str(page.software).startswith("MedScan") and "OverlapsXY" in page.description


def _size(x: Any, y: Any, micrometres: float = 1.0) -> PixelSize | None:
    """A pixel size from numbers in a unit of that many micrometres; None unless both are positive."""
    width, height = float(x) * micrometres, float(y) * micrometres
    return PixelSize(width, height, "µm") if 0 < width < 1e6 and 0 < height < 1e6 else None


def _aperio(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """Aperio SVS: ``MPP = 0.2526`` in the description."""
    found = re.search(r"\|\s*MPP\s*=\s*([\d.eE+-]+)", _page(series.keyframe).description)
    return Stated(_size(found[1], found[1]) if found else None)


def _philips(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """Philips TIFF: the spacing of rows and columns in millimetres, that of the finest level."""
    texts = re.findall(r'Name="DICOM_PIXEL_SPACING"[^>]*>([^<]*)<', _page(tif.pages.first).description)
    pairs = [re.findall(r"[\d.]+(?:[eE][+-]?\d+)?", text.replace("&quot;", '"')) for text in texts]
    sizes = [_size(pair[1], pair[0], 1e3) for pair in pairs if len(pair) == 2]
    return Stated(min((size for size in sizes if size), default=None))


def _qpi(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """Akoya QPTIFF: name and colour of the channel in the description of each page."""
    names, colours = [], []
    for page in series.pages[:MOST_CHANNELS]:
        root = ElementTree.fromstring(_page(page).description)
        names.append(root.findtext("Name") or "")
        colour = re.fullmatch(r"\s*(\d+),\s*(\d+),\s*(\d+)\s*", root.findtext("Color") or "")
        colours.append(signed_colour(*(int(x) for x in colour.groups())) if colour else None)
    if not any(names) or len(names) != len(series.pages):
        return Stated()
    known = tuple(x for x in colours if x is not None)
    return Stated(names=tuple(names), colours=known if len(known) == len(names) else ())


def _lsm(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """Zeiss LSM: the size of a voxel in metres, and names and colours of the channels."""
    known: Any = tif.lsm_metadata
    size = _size(known["VoxelSizeX"], known["VoxelSizeY"], 1e6)
    named = known.get("ChannelColors") or {}
    names = tuple(map(str, named.get("ColorNames") or ()))
    colours = tuple(signed_colour(*(int(x) for x in each[:3])) for each in named.get("Colors") or ())
    return Stated(size, names if any(names) else (), colours)


def _fei(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """FEI and Thermo Fisher electron microscopes: the size of a pixel in metres."""
    known: Any = tif.fei_metadata
    scan = known.get("Scan") or known["EScan"]
    return Stated(_size(scan["PixelWidth"], scan["PixelHeight"], 1e6))


def _sem(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Stated:
    """Zeiss electron microscopes: the size of a pixel with its unit."""
    known: Any = tif.sem_metadata
    value = known.get("ap_image_pixel_size") or known["ap_pixel_size"]
    factor = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "pm": 1e-6, "mm": 1e3}[value[2].strip()]
    return Stated(_size(value[1], value[1], factor))


Maker = Callable[[tifffile.TiffFile, tifffile.TiffPageSeries], Stated]
MAKERS: tuple[tuple[Callable[[tifffile.TiffFile], bool], Maker], ...] = (
    (lambda tif: bool(tif.is_svs), _aperio),
    (lambda tif: bool(tif.is_philips), _philips),
    (lambda tif: bool(tif.is_qpi), _qpi),
    (lambda tif: bool(tif.is_lsm), _lsm),
    (lambda tif: bool(tif.is_fei), _fei),
    (lambda tif: bool(tif.is_sem), _sem),
)
"""How a file of each maker is recognised, and what reads its description."""


def _page(page: Any) -> tifffile.TiffPage:
    """The page with all its tags."""
    full: tifffile.TiffPage = page.aspage()
    return full
