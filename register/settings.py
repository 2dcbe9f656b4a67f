"""Every option of an alignment, with its meaning, unit and bounds.

The help, the JSON record and the docs read them from here.
"""

import re
from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from register.errors import RegisterError
from register.registries import MODELS, SIMILARITIES, STARTS

Preset = Literal["fast", "balanced", "accurate"]
Optimizer = Literal["auto", "adam", "gauss-newton"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Canvas = Literal["fixed", "union"]
Compression = Literal["auto", "none", "deflate", "lzw", "zstd", "jpeg"]
Format = Literal["auto", "tiff", "ome-tiff", "ome-zarr", "png"]

IMAGES, METHOD, INITIALISATION = "Images", "Method", "Initialisation"
COMPUTING, OUTPUT = "Computing", "Output image"
"""Groups of options, as the help shows them."""


def models() -> tuple[str, ...]:
    """The models of an alignment: every global model, and ``local``."""
    return (*MODELS.names(), "local")


def metrics() -> tuple[str, ...]:
    """The similarities that can be asked for: ``auto``, and every registered one."""
    return ("auto", *SIMILARITIES.names())


def _option(
    default: Any,
    group: str,
    text: str,
    *,
    choices: Callable[[], tuple[str, ...]] | None = None,
    **bounds: Any,
) -> Any:
    """A field of ``Settings``; ``bounds`` are ge, gt, le or pattern, as pydantic means them."""
    metadata = {"group": group, "help": text, "bounds": bounds, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """What an alignment is asked to do. ``check`` makes one from values that may be wrong."""

    fixed_mask: str | None = _option(
        None, IMAGES, "Valid region of the fixed image: an image that is 0 elsewhere, or GeoJSON polygons."
    )
    moving_mask: str | None = _option(None, IMAGES, "Valid region of the moving image.")
    split_mask: str | None = _option(
        None,
        IMAGES,
        "What moves apart in the fixed image: an image with a line along a tear or a crack, or with a value "
        "for each side, or GeoJSON polygons; `auto` looks for a line. The sides are aligned separately.",
    )
    nodata: float | None = _option(
        None,
        IMAGES,
        "Value of invalid pixels in both images; NaN, transparent pixels and the no-data value that a file "
        "names are invalid anyway.",
    )
    fixed_channel: str | None = _option(
        None,
        IMAGES,
        "Channel of the fixed image that is compared: an index, a name, gray, mean, max or density. "
        "[default: chosen]",
    )
    moving_channel: str | None = _option(None, IMAGES, "Channel of the moving image that is compared.")
    fixed_level: int = _option(
        0, IMAGES, "Pyramid level used as the fixed image; 0 is full resolution.", ge=0
    )
    moving_level: int = _option(0, IMAGES, "Pyramid level used as the moving image.", ge=0)
    fixed_plane: str | None = _option(
        None, IMAGES, "Plane of a fixed stack, as Z=3 or Z=3,T=0, counted from 0."
    )
    moving_plane: str | None = _option(None, IMAGES, "Plane of a moving stack.")
    series: int | None = _option(
        None,
        IMAGES,
        "Series to read from files with several; see `register info`. [default: the largest]",
        ge=0,
    )
    allow_truncated: bool = _option(
        False, IMAGES, "Use what is left of an image file that is cut off: whole channels, or its first rows."
    )
    model: str = _option(
        "local",
        METHOD,
        "Transformation model; `local` blends one affine map per patch into a smooth deformation.",
        choices=models,
    )
    preset: Preset = _option("balanced", METHOD, "Trade-off between speed and accuracy.")
    metric: str = _option(
        "auto",
        METHOD,
        "Similarity that is maximised; `auto` measures whether structure or ncc suits the pair.",
        choices=metrics,
    )
    optimizer: Optimizer = _option(
        "auto",
        METHOD,
        "Optimiser; `auto` takes Gauss-Newton where the similarity has a Hessian, and Adam to refine initial "
        "maps and for mi.",
    )
    patch_size: int | None = _option(
        None,
        METHOD,
        "Distance between patch centres, in pixels of the fixed image. [default: by preset]",
        ge=8,
    )
    max_shift: float | None = _option(
        None,
        METHOD,
        "Largest deviation of a patch from the global map, in pixels of the fixed image. "
        "[default: a tenth of the diagonal]",
        gt=0,
    )
    init: str = _option(
        "auto",
        INITIALISATION,
        "Initial map: `auto` (search), `identity`, `center`, a transform (JSON, ITK or elastix), or "
        "landmarks `FIXED.csv,MOVING.csv`.",
    )
    matcher: str = _option(
        "auto",
        INITIALISATION,
        "Start finder besides the built-in ones: `none`, the name of an installed one, `module:function`, or "
        "`auto`: the installed ones, where nothing else stands out.",
        pattern=r"^(none|auto|[\w.-]+(:[\w.]+)?)$",
    )
    rotation_range: float = _option(
        180.0,
        INITIALISATION,
        "Rotations to search, in degrees either way; 180 is the full circle.",
        ge=0,
        le=180,
    )
    scale_range: float | None = _option(
        None,
        INITIALISATION,
        "Largest factor between the scales to search, either way. [default: 2.5, or 1.25 around the ratio of "
        "the pixel sizes]",
        ge=1,
        le=4,
    )
    shift_range: str | None = _option(
        None,
        INITIALISATION,
        "Largest displacement of the fixed image's centre to search, in pixels of the fixed image or with a "
        "unit, as 30 or 5µm. [default: any]",
        pattern=r"^\d+(\.\d*)?\s*(px|nm|[uµμ]m|mm)?$",
    )
    search_budget: float | None = _option(
        None,
        INITIALISATION,
        "Seconds after which no further stage of the search begins: the best start so far is taken, and a "
        "note says so. [default: all stages]",
        gt=0,
    )
    allow_flip: bool = _option(False, INITIALISATION, "Search for a mirrored moving image too.")
    landmarks_hold: str | None = _option(
        None,
        INITIALISATION,
        "Landmarks that hold, `FIXED.csv,MOVING.csv` or one file with both (BigWarp): observations that the "
        "fit follows where the images do not determine the map; wrong ones are named.",
    )
    landmark_sigma: float | None = _option(
        None,
        INITIALISATION,
        "Standard deviation of a held landmark per axis, in moving pixels. [default: from their scatter]",
        gt=0,
    )
    max_size: int | None = _option(
        None,
        COMPUTING,
        "Longest side of the working copies on which the transform is estimated, in pixels. "
        "[default: by preset]",
        ge=64,
    )
    device: str = _option(
        "auto", COMPUTING, "Device: auto, cpu, cuda, cuda:N or mps.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$"
    )
    threads: int | None = _option(
        None,
        COMPUTING,
        "Threads on the CPU. [default: as many as the machine or its control group allows]",
        ge=1,
    )
    seed: int = _option(
        0, COMPUTING, "Random seed, recorded in the JSON; the method itself draws no random numbers.", ge=0
    )
    interpolation: Interpolation = _option(
        "bilinear", OUTPUT, "Interpolation used to resample the moving image."
    )
    fill: str = _option(
        "auto",
        OUTPUT,
        "Value of pixels outside the moving image: a number, or `auto`: the file's own no-data value, NaN "
        "for floats, white for brightfield, else 0.",
        pattern=r"^(auto|nan|[-+]?\d.*)$",
    )
    canvas: Canvas = _option(
        "fixed",
        OUTPUT,
        "Grid of the aligned image: the fixed image's, or the `union` with the moving image's extent.",
    )
    format: Format = _option(
        "auto",
        OUTPUT,
        "Format of the aligned image; `auto` is that of the moving image, OME-TIFF for pyramids and named "
        "channels, TIFF for PNG with --compression.",
    )
    compression: Compression = _option(
        "auto",
        OUTPUT,
        "Compression; all but jpeg are lossless. `auto` is deflate for TIFF and zstd for OME-Zarr.",
    )
    jpeg_quality: int | None = _option(
        None, OUTPUT, "Quality of --compression jpeg. [default: 90]", ge=1, le=100
    )
    chunks: int | None = _option(
        None, OUTPUT, "Side of a chunk of OME-Zarr in pixels. [default: 512]", ge=16, le=8192
    )
    valid_mask: bool = _option(
        False, OUTPUT, "Write valid.tif, the mask of pixels covered by the moving image."
    )
    occlusion_mask: bool = _option(
        False, OUTPUT, "Write occluded.tif, the mask of fixed pixels without counterpart in the moving image."
    )
    residual_map: bool = _option(
        False,
        OUTPUT,
        "Write residual.tif, the local squared difference of the aligned images: 0 to 1, as of unrelated "
        "pixels.",
    )
    pyramid: bool | None = _option(
        None, OUTPUT, "Write coarser pyramid levels. [default: above 4096 pixels; OME-Zarr always]"
    )
    pyramid_pages: bool = _option(
        False,
        OUTPUT,
        "Write the coarser levels of a TIFF as pages, which OpenSlide reads; also `--pyramid pages`.",
    )
    report: bool = _option(True, OUTPUT, "Write report.html.")
    landmarks: str | None = _option(
        None,
        OUTPUT,
        "Landmarks `FIXED.csv,MOVING.csv` whose errors are reported; the alignment does not use them.",
    )

    @property
    def aligned_format(self) -> str:
        """The format of the aligned image: levels as pages are those of a plain TIFF."""
        return "tiff" if self.pyramid_pages else self.format


OUTPUT_ONLY = (
    "interpolation", "fill", "canvas", "format", "compression", "jpeg_quality", "chunks", "pyramid",
    "pyramid_pages", "report")  # fmt: skip
"""Settings of what is written, which do not change the alignment."""
FILES_ONLY = "fixed_level", "moving_level", "fixed_plane", "moving_plane", "series", "allow_truncated"
"""Settings that apply to files and not to arrays."""


@dataclass(frozen=True)
class Effort:
    """What a preset means. Lengths are pixels of a pyramid level unless said otherwise."""

    max_size: int  # longest side of the working copies
    patch_size: int  # distance of patch centres at every level
    window: int  # side of the windows in which similarity is taken
    steps: int  # Gauss-Newton steps on the finest local level; coarser ones take more
    candidates: int  # initial maps that are refined
    optimizer: Optimizer = "auto"
    finer: int | None = (
        None  # distance of patch centres in a last pass, kept where it improves held-out windows
    )


PRESETS: dict[Preset, Effort] = {
    "fast": Effort(max_size=1024, patch_size=40, window=20, steps=8, candidates=4),
    "balanced": Effort(max_size=2048, patch_size=40, window=20, steps=8, candidates=5, finer=28),
    "accurate": Effort(max_size=4096, patch_size=36, window=20, steps=16, candidates=10, finer=24),
}


def working_size(settings: Settings) -> int:
    """The longest side, in pixels, of the working copies."""
    return settings.max_size or PRESETS[settings.preset].max_size


def effort_of(settings: Settings, fixed_size: tuple[int, int]) -> Effort:
    """The preset with the settings' own values, for a fixed image of a size (height, width) in pixels.

    The patch size of the settings is in pixels of the fixed image, that of the effort in those of the
    working copy.
    """
    preset, max_size = PRESETS[settings.preset], working_size(settings)
    shrink = max(max(fixed_size) / max_size, 1.0)
    patch, finer = preset.patch_size, preset.finer
    if settings.patch_size:
        patch, finer = max(round(settings.patch_size / shrink), 8), None
    window = min(preset.window, max(patch // 8 * 4, 8))
    return Effort(max_size, patch, window, preset.steps, preset.candidates, settings.optimizer, finer)


def choices(option: "Field[Any]") -> tuple[str, ...]:
    """The values that an option can have; none where it takes any."""
    named = option.metadata["choices"]
    if named is not None:
        return tuple(named())
    kind = get_type_hints(Settings)[option.name]
    return tuple(str(value) for value in get_args(kind)) if get_args(kind) and _is_literal(kind) else ()


def check(**values: Any) -> Settings:
    """Settings from keyword values.

    Raises ``RegisterError`` that names the option, the value and what is allowed.
    """
    from pydantic import ValidationError

    try:
        checked = Settings(**_checker()(**values).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RegisterError(f"{name} {first.get('input')!r} is not allowed: {first['msg']}") from None
    for option in fields(Settings):
        named, value = option.metadata["choices"], getattr(checked, option.name)
        if named is not None and value not in named():
            allowed = ", ".join(named())
            raise RegisterError(f"{option.name} {value!r} is not allowed: choose one of {allowed}")
    _check_together(checked)
    return checked


def check_storage(
    compression: str, jpeg_quality: int | None, chunks: int | None, pyramid: bool | None, form: str
) -> None:
    """Raise ``RegisterError``, which begins with an option, for one that a format does not have."""
    if form == "png" and (pyramid or compression != "auto"):
        name = "pyramid" if pyramid else "compression"
        raise RegisterError(f"{name} is not allowed with PNG, which has one level, packed in its own way")
    if jpeg_quality is not None and compression != "jpeg":
        raise RegisterError("jpeg_quality is not allowed without --compression jpeg")
    if chunks is not None and form != "ome-zarr":
        raise RegisterError("chunks is not allowed unless OME-Zarr is written")


def check_pages(*, pages: bool, pyramid: bool | None, plain: bool) -> None:
    """Raise ``RegisterError`` for levels as pages of a file that is no plain TIFF, or that has no levels."""
    if pages and pyramid is False:
        raise RegisterError("pyramid_pages is not allowed with --no-pyramid")
    if pages and not plain:
        raise RegisterError("pyramid_pages is not allowed unless a plain TIFF is written: name a .tif")


def _check_together(settings: Settings) -> None:
    """Raise ``RegisterError`` for values that are allowed by themselves and not together."""
    of = settings
    check_pages(pages=of.pyramid_pages, pyramid=of.pyramid, plain=of.format in ("auto", "tiff"))
    check_storage(of.compression, of.jpeg_quality, of.chunks, of.pyramid, of.format)
    hessian = of.optimizer == "gauss-newton" and of.metric != "auto"
    if hessian and not SIMILARITIES.get(of.metric).curved:
        raise RegisterError(
            f"optimizer 'gauss-newton' is not allowed: the similarity {of.metric!r} has no Hessian per"
            " window; use adam or auto"
        )
    named = re.fullmatch(r"[\w.-]+", settings.matcher)
    if named and settings.matcher not in ("none", "auto", *STARTS.names()):
        known = ", ".join(STARTS.names())
        raise RegisterError(
            f"matcher {settings.matcher!r} is not allowed: choose none, auto, module:function or one of "
            f"{known}"
        )


def _is_literal(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is Literal


@cache
def _checker() -> Any:
    """The pydantic model of ``Settings``, made when it is first needed: the help does not need it."""
    from pydantic import ConfigDict, Field, create_model

    types = get_type_hints(Settings)
    members: dict[str, Any] = {
        x.name: (types[x.name], Field(x.default, **x.metadata["bounds"])) for x in fields(Settings)
    }
    return create_model("Settings", __config__=ConfigDict(extra="forbid"), **members)
