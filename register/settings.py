"""Every option of an alignment, with its meaning, unit and bounds: the help, the JSON record and the docs read them from here."""

from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_type_hints

from register.errors import RegisterError

Model = Literal["translation", "rigid", "similarity", "affine", "local"]
Preset = Literal["fast", "balanced", "accurate"]
Metric = Literal["auto", "structure", "mind", "ncc", "mi", "mse"]
Optimizer = Literal["auto", "adam", "gauss-newton"]
Interpolation = Literal["nearest", "bilinear", "bicubic"]
Canvas = Literal["fixed", "union"]
Compression = Literal["none", "deflate", "lzw", "zstd", "jpeg"]

IMAGES, METHOD, SEARCH, COMPUTE, OUTPUT = "Images", "Method", "Start", "Computing", "Output image"
"""Groups of options, as the help shows them."""


def _option(default: Any, group: str, text: str, **bounds: Any) -> Any:
    """A field of ``Settings``; ``bounds`` are ge, gt, le or pattern, as pydantic means them."""
    return field(default=default, metadata={"group": group, "help": text, "bounds": bounds})


@dataclass(frozen=True)
class Settings:
    """What an alignment is asked to do. ``check`` makes one from values that may be wrong."""

    fixed_mask: str | None = _option(
        None, IMAGES, "Where the fixed image counts: an image that is 0 elsewhere, or GeoJSON polygons."
    )
    moving_mask: str | None = _option(None, IMAGES, "Where the moving image counts.")
    nodata: float | None = _option(
        None,
        IMAGES,
        "Value of pixels that show nothing, in both images; NaN, transparent pixels and a file's own count anyway.",
    )
    fixed_channel: str | None = _option(
        None,
        IMAGES,
        "What of the fixed image is compared: a channel's index or name, gray, mean, max or density. [default: chosen]",
    )
    moving_channel: str | None = _option(None, IMAGES, "What of the moving image is compared.")
    fixed_level: int = _option(
        0, IMAGES, "Level of the fixed image's pyramid that is the fixed image; 0 is the finest.", ge=0
    )
    moving_level: int = _option(
        0, IMAGES, "Level of the moving image's pyramid that is the moving image.", ge=0
    )
    fixed_plane: str | None = _option(
        None, IMAGES, "Plane of a fixed stack, as Z=3 or Z=3,T=0, counted from 0."
    )
    moving_plane: str | None = _option(None, IMAGES, "Plane of a moving stack.")
    series: int | None = _option(
        None,
        IMAGES,
        "Series of files that hold several, in both; see `register info`. [default: the largest]",
        ge=0,
    )
    model: Model = _option(
        "local", METHOD, "What may happen between the images; `local` blends one affine map per patch."
    )
    preset: Preset = _option("balanced", METHOD, "How much work to spend.")
    metric: Metric = _option(
        "auto", METHOD, "What is compared; `auto` chooses between structure and ncc by measurement."
    )
    optimizer: Optimizer = _option(
        "auto",
        METHOD,
        "How a level is descended; `auto` takes Gauss-Newton steps where there is curvature, Adam to refine starts and for mi.",
    )
    patch_size: int | None = _option(
        None, METHOD, "Distance of patch centres, in pixels of the fixed image. [default: by preset]", ge=8
    )
    max_shift: float | None = _option(
        None,
        METHOD,
        "Largest deviation of a patch from the global fit, in pixels of the fixed image. [default: a tenth of the diagonal]",
        gt=0,
    )
    init: str = _option(
        "auto",
        SEARCH,
        "Where to start: `auto` (search), `identity`, `center`, a transform (JSON, ITK or elastix), or `FIXED.csv,MOVING.csv`.",
    )
    rotation_range: float = _option(
        180.0, SEARCH, "Rotations to search, in degrees either way; 180 is the full circle.", ge=0, le=180
    )
    scale_range: float | None = _option(
        None,
        SEARCH,
        "Largest factor between the scales to search, either way. [default: 2.5, or 1.25 about that of the pixel sizes]",
        ge=1,
        le=4,
    )
    allow_flip: bool = _option(False, SEARCH, "Search for a mirrored moving image too.")
    max_size: int | None = _option(
        None,
        COMPUTE,
        "Longest side of the working copies the estimate is made on, in pixels. [default: by preset]",
        ge=64,
    )
    device: str = _option(
        "auto",
        COMPUTE,
        "Where to compute: auto, cpu, cuda, cuda:N or mps.",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
    )
    threads: int | None = _option(
        None,
        COMPUTE,
        "Threads of the processor. [default: as many as the machine or its control group allows]",
        ge=1,
    )
    seed: int = _option(
        0,
        COMPUTE,
        "Seed of anything random, recorded in the JSON; the method itself draws nothing at random.",
        ge=0,
    )
    interpolation: Interpolation = _option(
        "bilinear", OUTPUT, "How the aligned image is read from the moving one."
    )
    fill: str = _option(
        "auto",
        OUTPUT,
        "Value of pixels the moving image does not show: a number, or `auto`: the file's own no data, NaN for floats, white for brightfield, else 0.",
        pattern=r"^(auto|nan|[-+]?\d.*)$",
    )
    canvas: Canvas = _option(
        "fixed",
        OUTPUT,
        "Grid of the aligned image: the fixed image's, or its `union` with where the moving image comes to lie.",
    )
    compression: Compression = _option(
        "deflate", OUTPUT, "How a TIFF's tiles are packed; all but jpeg keep every value."
    )
    valid_mask: bool = _option(
        False, OUTPUT, "Write where the moving image shows something too, as valid.tif."
    )
    pyramid: bool | None = _option(
        None, OUTPUT, "Whether a TIFF gets coarser levels. [default: above 4096 pixels]"
    )
    report: bool = _option(True, OUTPUT, "Whether report.html is written.")
    landmarks: str | None = _option(
        None,
        OUTPUT,
        "Landmarks `FIXED.csv,MOVING.csv` whose errors the report tells; the alignment does not see them.",
    )


FILES_ONLY = "fixed_level", "moving_level", "fixed_plane", "moving_plane", "series"
"""Settings that have a meaning for files and none for arrays."""


@dataclass(frozen=True)
class Effort:
    """What a preset means. Lengths are pixels of a level unless said otherwise."""

    max_size: int  # longest side of the working copies
    patch_size: int  # distance of patch centres at every level
    window: int  # side of the windows in which similarity is taken
    steps: int  # Gauss-Newton steps on the finest local level; coarser ones take more
    candidates: int  # starts that are refined
    optimizer: Optimizer = "auto"
    finer: int | None = (
        None  # distance of patch centres in a last pass, which is kept where it improves windows that it has not seen
    )


PRESETS: dict[Preset, Effort] = {
    "fast": Effort(max_size=1024, patch_size=40, window=20, steps=8, candidates=4),
    "balanced": Effort(max_size=2048, patch_size=40, window=20, steps=8, candidates=5, finer=28),
    "accurate": Effort(max_size=4096, patch_size=36, window=20, steps=16, candidates=10, finer=24),
}


def check(**values: Any) -> Settings:
    """Settings from keyword values; raises ``RegisterError`` naming the option, the value and what is allowed."""
    from pydantic import ValidationError

    try:
        checked = Settings(**_checker()(**values).model_dump())
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise RegisterError(f"{name} {first.get('input')!r} is not allowed: {first['msg']}") from None
    if checked.metric == "mi" and checked.optimizer == "gauss-newton":
        raise RegisterError(
            "optimizer 'gauss-newton' is not allowed: mutual information has no curvature per window; use adam or auto"
        )
    return checked


@cache
def _checker() -> Any:
    """The pydantic model of ``Settings``; made when it is first needed, because the help does not, and pydantic takes longer than it."""
    from pydantic import ConfigDict, Field, create_model

    types = get_type_hints(Settings)
    members: dict[str, Any] = {
        x.name: (types[x.name], Field(x.default, **x.metadata["bounds"])) for x in fields(Settings)
    }
    return create_model("Settings", __config__=ConfigDict(extra="forbid"), **members)
