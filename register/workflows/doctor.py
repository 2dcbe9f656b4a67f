"""What this installation has and what it lacks: versions, devices, codecs, extras, and how to get what is missing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch

from register._version import __version__
from register.compute import device
from register.kernels import cpu
from register.kernels.triton import launch

PACKAGES = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "tifffile",
    "imagecodecs",
    "zarr",
    "pydantic",
    "typer",
)
CODECS = "DEFLATE", "LZW", "ZSTD", "JPEG", "JPEG2K", "JPEGXL", "WEBP", "LERC", "PNG"
"""What TIFFs and PNGs are packed with, as imagecodecs calls it."""
EXTRAS = {"export": ("h5py", "nibabel", "roifile"), "dask": ("distributed", "fsspec")}
"""What an extra of the package brings."""


class Finding(NamedTuple):
    """One line: its subject, what there is, and how to get what is missing; ``advice`` is empty where nothing is."""

    subject: str
    found: str
    advice: str = ""


def findings() -> list[Finding]:
    """Everything worth knowing when something does not work, or works slowly."""
    return [
        Finding("register", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Finding("packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)),
        _cpu(),
        _compiled(),
        *_gpus(),
        _codecs(),
        *(_extra(name, modules) for name, modules in EXTRAS.items()),
    ]


def as_json(found: list[Finding]) -> list[dict[str, Any]]:
    """The same as plain values."""
    return [each._asdict() for each in found]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"


def _cpu() -> Finding:
    return Finding(
        "cpu",
        f"{device.cores()} cores to use, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
    )


def _compiled() -> Finding:
    if os.environ.get("REGISTER_NATIVE") == "0":
        return Finding(
            "compiled step", "left out", "REGISTER_NATIVE=0 is set in the environment; unset it to use it"
        )
    if cpu.library() is None:
        return Finding(
            "compiled step",
            "none: tensors do its work, at a tenth of the speed",
            "install a C compiler (cc), then register anew",
        )
    return Finding("compiled step", "there")


def _gpus() -> list[Finding]:
    if torch.cuda.is_available():
        advice = (
            ""
            if launch.is_available()
            else f"its steps are compiled where Triton {'.'.join(map(str, launch.TRITON))} or newer is: pip install triton"
        )
        return [
            Finding(f"cuda:{n}", torch.cuda.get_device_name(n), advice)
            for n in range(torch.cuda.device_count())
        ]
    if torch.backends.mps.is_available():
        return [Finding("mps", "there, but never tried: --device auto leaves it out")]
    if torch.version.cuda is None:
        return [
            Finding(
                "gpu",
                "none",
                "this PyTorch is built for the CPU; for an NVIDIA GPU install its CUDA build, as pytorch.org describes",
            )
        ]
    return [
        Finding(
            "gpu",
            f"none that PyTorch, built for CUDA {torch.version.cuda}, can use",
            "check the driver: nvidia-smi",
        )
    ]


def _codecs() -> Finding:
    import imagecodecs

    there = {name: getattr(imagecodecs, name).available for name in CODECS}
    lacking = [name for name, found in there.items() if not found]
    advice = f"without {', '.join(lacking)}: pip install --upgrade imagecodecs" if lacking else ""
    return Finding("codecs", ", ".join(name for name, found in there.items() if found), advice)


def _extra(name: str, modules: tuple[str, ...]) -> Finding:
    lacking = [module for module in modules if find_spec(module) is None]
    advice = f"pip install 'register-cli[{name}]'" if lacking else ""
    return Finding(
        f"extra {name}",
        f"without {', '.join(lacking)}"
        if lacking
        else ", ".join(f"{module} {_version(module)}" for module in modules),
        advice,
    )
