"""``register doctor``: versions, devices, codecs, plug-ins and optional packages, and what is missing."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import NamedTuple

import torch

from register._version import __version__
from register.compute import device
from register.errors import RegisterError
from register.kernels import cpu
from register.kernels.triton import launch
from register.registries import ALL
from register.registries.registry import Registry

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
"""Compressions of TIFF and PNG files, by their names in imagecodecs."""
EXTRAS = {
    "export": ("h5py", "nibabel", "roifile"),
    "dask": ("distributed", "fsspec"),
    "remote": ("fsspec", "aiohttp", "s3fs"),
    "slides": ("openslide", "slideio", "pylibCZIrw"),
    "microscopes": ("nd2", "liffile", "oiffile", "h5py"),
    "movies": ("h5py", "pynwb"),
    "astronomy": ("astropy",),
    "tables": ("pyarrow", "orjson"),
    "spatial": ("h5py", "pyarrow", "shapely"),
}
"""Optional packages, by the extra that installs them."""
DISTRIBUTIONS = {"openslide": "openslide-python"}
"""Names of packages that differ from those of their modules."""
OPENS = {
    "export": "ITK HDF5, NIfTI, ImageJ regions",
    "dask": "clusters, remote addresses",
    "remote": "https:// and s3://",
    "slides": "CZI, ZVI, VSI, MRXS, BIF, VMS, Sakura, DICOM slides",
    "microscopes": "Nikon ND2, Leica LIF, Olympus OIB and OIF, Imaris IMS",
    "movies": "movies in HDF5 and NWB",
    "astronomy": "FITS",
    "spatial": "AnnData, SpatialData, GeoParquet",
    "tables": "Parquet tables of points, large GeoJSON faster",
}
"""What each extra is for."""


class Finding(NamedTuple):
    """One line: its subject, what was found, and how to get what is missing (empty where nothing is)."""

    subject: str
    found: str
    advice: str = ""


def findings() -> list[Finding]:
    """All findings that explain why something does not work, or is slow."""
    return [
        Finding("register", f"{__version__}, Python {platform.python_version()}, {platform.platform()}"),
        Finding("packages", ", ".join(f"{name} {_version(name)}" for name in PACKAGES)),
        _cpu(),
        _compiled(),
        *_gpus(),
        _codecs(),
        *(_extra(name, modules) for name, modules in EXTRAS.items()),
        *(_registry(registry) for registry in ALL.values()),
    ]


def as_json(found: list[Finding]) -> list[dict[str, str]]:
    """The findings as plain values for JSON."""
    return [each._asdict() for each in found]


def _registry(registry: Registry) -> Finding:
    """The names of a registry; of each plug-in, its package, and the reason if it cannot be loaded."""
    names, problems = [], []
    for name in registry.names():
        package = registry.package(name)
        names.append(f"{name} (package {package})" if package else name)
        if package:
            try:
                registry.get(name)
            except RegisterError as error:
                problems.append(str(error))
    return Finding(registry.kind, ", ".join(names), "; ".join(problems))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"


def _cpu() -> Finding:
    capability = torch.backends.cpu.get_cpu_capability()
    return Finding("cpu", f"{device.cores()} cores, {torch.get_num_threads()} threads, {capability}")


def _compiled() -> Finding:
    if os.environ.get("REGISTER_NATIVE") == "0":
        return Finding(
            "compiled step", "switched off", "REGISTER_NATIVE=0 is set in the environment; unset it"
        )
    if cpu.library() is None:
        return Finding(
            "compiled step",
            "not available: PyTorch is used instead, ten times slower",
            "install a C compiler (cc), then install register again",
        )
    return Finding("compiled step", "available")


def _gpus() -> list[Finding]:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
        return [Finding(f"cuda:{n}", name, _triton_advice()) for n, name in enumerate(names)]
    if torch.backends.mps.is_available():
        return [Finding("mps", "available, but not tested: --device auto does not choose it")]
    if torch.version.cuda is None:
        advice = (
            "this PyTorch is built for the CPU; for an NVIDIA GPU install its CUDA build (see pytorch.org)"
        )
        return [Finding("gpu", "none", advice)]
    found = f"none that this PyTorch, built for CUDA {torch.version.cuda}, can use"
    return [Finding("gpu", found, "check the driver: nvidia-smi")]


def _triton_advice() -> str:
    """How to get Triton, which compiles the optimisation step for a GPU; empty where it is available."""
    if launch.is_available():
        return ""
    version = ".".join(map(str, launch.TRITON))
    return f"its steps are compiled with Triton {version} or newer: pip install triton"


def _codecs() -> Finding:
    import imagecodecs

    available = [name for name in CODECS if getattr(imagecodecs, name).available]
    missing = [name for name in CODECS if name not in available]
    advice = f"without {', '.join(missing)}: pip install --upgrade imagecodecs" if missing else ""
    return Finding("codecs", ", ".join(available), advice)


def _extra(name: str, modules: tuple[str, ...]) -> Finding:
    missing = [module for module in modules if find_spec(module) is None]
    purpose = OPENS.get(name, "")
    if missing:
        advice = f"pip install 'register-cli[{name}]' for {purpose}"
        return Finding(f"extra {name}", f"without {', '.join(missing)}", advice)
    versions = (f"{module} {_version(DISTRIBUTIONS.get(module, module))}" for module in modules)
    return Finding(f"extra {name}", f"{', '.join(versions)}: {purpose}")
