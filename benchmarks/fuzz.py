"""Damaged files must end in a ``RegisterError``, within limits of time and memory.

    python -m benchmarks.fuzz [--count 10000] [--seeds FOLDER] [--only .nd2,.lif]

Small TIFF, PNG, JPEG, OME-Zarr, transform, GeoJSON, CSV, ITK and elastix files, those of instruments, and
those of a folder if one is given, are mutated and read as the program reads them: images are opened, and
windows of every series and level are read. Half are changed byte by byte (flipped, set to extremes, removed,
repeated, the end cut off), the others by structure: values of JSON, words of texts. Compressed texts are
damaged before and after they are compressed.
A seed that cannot be read is a fault too.
Workers are separate processes with limits of time per file and of memory (2 GiB in use by the process); a
file that ends one, or raises another exception, is printed with the seed that reproduces it.
"""

import argparse
import contextlib
import faulthandler
import gzip
import io
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image as Pillow

STRUCTURED = {
    ".transform": "json",
    ".geojson": "json",
    ".json": "json",
    ".csv": "text",
    ".tfm": "text",
    ".elastix": "text",
}
"""Suffixes of seeds that are mutated by structure too."""
VALUES = (
    None, True, False, 0, -1, 5, 2**31, 10**30, 10**400, 1e308, -1e-308, float("nan"), float("inf"),
    "", "abc", "=1", [], {}, [[]], [1, 2], {"type": "Polygon"}, "x" * 5000,
)  # fmt: skip
WORDS = ("", "-1", "1e999", "nan", "abc", '"', "(", "9" * 400, "0", "1e-320", "Transform:", "\x00", "é")
SECONDS, WAITED, MEMORY, BATCH = 10, 60, 2 * 2**30, 250
"""Seconds of the processor and of the clock, and bytes, that a file may take, and files of one process."""
WINDOW, SMALL = 32, 2**20
"""Side in pixels of the windows that are read, and bytes of an image that is read in full."""
MOST_SERIES, MOST_CHANNELS = 4, 8
"""Series of a file and channels of a window that are read."""
ADDRESSES = 7 * 2**30
"""Limit, in bytes, of the addresses of a worker: libraries and threads reserve several gigabytes."""
EXTREMES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\x7f",
    b"1e999",
    b"-",
    b"null",
    b"[[",
    b"NaN",
)


def seeds(folder: Path | None, only: str = "") -> list[tuple[str, bytes]]:
    """Names and contents of the files to mutate, with some endings; they choose the reader."""
    return [each for each in _seeds(folder) if each[0].endswith(tuple(only.split(",")))]


def _seeds(folder: Path | None) -> list[tuple[str, bytes]]:
    """Names and contents of all files to mutate."""
    rng = np.random.default_rng(0)
    grey, colour = rng.integers(0, 65535, (40, 50), np.uint16), rng.integers(0, 255, (40, 50, 3), np.uint8)
    found = []
    palette = rng.integers(0, 65535, (3, 256), np.uint16)
    for name, data, options in (
        ("plain", grey, {}),
        ("zlib", grey, {"compression": "zlib", "tile": (16, 16)}),
        ("lzw", grey, {"compression": "lzw"}),
        ("jpeg", colour, {"compression": "jpeg", "photometric": "rgb", "tile": (32, 32)}),
        ("zstd", grey, {"compression": "zstd"}),
        ("palette", grey.astype(np.uint8), {"photometric": "palette", "colormap": palette}),
        ("ome", np.stack([grey] * 2), {"ome": True, "photometric": "minisblack"}),
        ("big", grey, {"bigtiff": True, "byteorder": ">"}),
    ):
        file = io.BytesIO()
        writer = {key: options.pop(key) for key in ("ome", "bigtiff", "byteorder") if key in options}
        with tifffile.TiffWriter(file, **writer) as tif:
            tif.write(data, **options)
        found.append((f"{name}.tif", file.getvalue()))
    for name in ("png", "jpg", "bmp", "webp", "ppm"):
        file = io.BytesIO()
        Pillow.fromarray(colour).save(file, {"jpg": "jpeg"}.get(name, name))
        found.append((f"colour.{name}", file.getvalue()))
    import imagecodecs

    from register.geometry import affine
    from register.geometry.patch_grid import PatchGrid
    from register.transforms.transform import Frame, Transform

    found.append(("deep.png", imagecodecs.png_encode(grey)))
    grid = PatchGrid.cover(40, 50, 20)
    local = Transform(
        "local",
        Frame(50, 40),
        Frame(50, 40),
        affine.identity(),
        grid,
        np.broadcast_to(affine.identity(), (grid.rows, grid.columns, 2, 3)),
    )
    with tempfile.TemporaryDirectory() as scratch:
        local.save(Path(scratch) / "t.json")
        found.append(("local.transform", (Path(scratch) / "t.json").read_bytes()))
    assert np.isfinite(local.matrix).all()
    found.append(("points.csv", b"x,y,name\n1.5,2,a\n3,4.25,b\n"))
    found.append(("landmarks.csv", b'"Pt-0","true","1.5","2","3","4"\n"Pt-1","false","5","6","7","8"\n'))
    ring = [[1, 1], [9, 1], [9, 9], [1, 1]]
    tree = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, "properties": {}}
        ],
    }
    found.append(("mask.geojson", json.dumps(tree).encode()))
    found += [
        (f"{name}.gz", gzip.compress(data)) for name, data in found if name.endswith((".csv", ".geojson"))
    ]
    found += text_seeds()
    found += instrument_seeds() + table_seeds()
    found.append(("plane.zarr", zarr_seed(grey)))
    found.append(("plane.ozx", zipped(zarr_seed(grey))))
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.is_file() and 0 < path.stat().st_size < 100_000:
            found.append((path.name, path.read_bytes()))
    return found


def instrument_seeds() -> list[tuple[str, bytes]]:
    """Files of instruments whose libraries are installed, of one plane."""
    from benchmarks import instrument_files as files

    stack = np.random.default_rng(1).integers(0, 65535, (2, 1, 40, 50)).astype(np.uint16)
    names = ("DAPI", "CD3")
    picture = np.random.default_rng(2).integers(0, 255, (80, 80, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        files.write_nd2(place / "a.nd2", stack.transpose(1, 0, 2, 3), names, 0.25)
        files.write_lif(place / "a.lif", [stack], names, 0.25)
        files.write_oib(place / "a.oib", stack, names, 0.25)
        files.write_imaris(place / "a.ims", stack, (10.0, 8.0, 1.0))
        files.write_trestle(place / "trestle.tif", picture, 32, 16)
        _write_by_libraries(place, stack[:, 0])
        return [(path.name, path.read_bytes()) for path in sorted(place.iterdir())]


def _write_by_libraries(place: Path, planes: np.ndarray) -> None:
    """CZI and FITS files of planes (c, h, w), written by libraries."""
    from astropy.io import fits
    from pylibCZIrw import czi

    for name, compression in (("a", "uncompressed:"), ("zstd", "zstd1:ExplicitLevel=3")):
        with czi.create_czi(str(place / f"{name}.czi"), compression_options=compression) as file:
            for c, plane in enumerate(planes):
                file.write(plane[..., None], plane={"C": c, "Z": 0, "T": 0}, location=(0, 0))
            file.write_metadata(document_name="a", channel_names={0: "D"}, scale_x=2e-7, scale_y=2e-7)
    fits.PrimaryHDU(planes[0].astype(np.int16)).writeto(place / "a.fits")
    fits.CompImageHDU(planes[0].astype(np.int16), compression_type="RICE_1").writeto(place / "a.fits.fz")


def table_seeds() -> list[tuple[str, bytes]]:
    """Points in Parquet, GeoParquet and AnnData."""
    import h5py
    import pyarrow
    import shapely
    from pyarrow import parquet

    found = []
    for name, content in (
        ("points", {"x": [1.0, 2.0], "y": [3.0, 4.0]}),
        ("shapes", {"geometry": shapely.to_wkb([shapely.box(1, 2, 3, 4), shapely.Point(5, 6)])}),
    ):
        table, file = pyarrow.table(content), io.BytesIO()
        column = {"encoding": "WKB", "geometry_types": []}
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        stated = {"geo": json.dumps(geo)} if name == "shapes" else {}
        parquet.write_table(table.replace_schema_metadata(stated), file)
        found.append((f"{name}.parquet", file.getvalue()))
    cells = io.BytesIO()
    with h5py.File(cells, "w") as file:
        file.create_group("obs").attrs["column-order"] = np.array([], h5py.string_dtype())
        file.create_dataset("obsm/spatial", data=np.arange(12.0).reshape(6, 2))
    return [*found, ("cells.h5ad", cells.getvalue())]


def text_seeds() -> list[tuple[str, bytes]]:
    """Starts of ITK and elastix."""
    itk = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_2_2\n"
    itk += "Parameters: 1 0 0 1 3 4\nFixedParameters: 10 20\n"
    elastix = '(Transform "EulerTransform")\n(TransformParameters 0.1 2 3)\n(CenterOfRotationPoint 5 6)\n'
    return [("start.tfm", itk.encode()), ("start.elastix", elastix.encode())]


def zarr_seed(grey: np.ndarray) -> bytes:
    """An OME-Zarr: the files of its folder by their names, as JSON with a character for each byte."""
    import zarr

    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    image = {"version": "0.4", "axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    with tempfile.TemporaryDirectory() as scratch:
        root = zarr.create_group(scratch, zarr_format=2, attributes={"multiscales": [image]})
        root.create_array("0", shape=grey.shape, dtype=grey.dtype, chunks=(32, 32))[:] = grey
        files = [path for path in sorted(Path(scratch).rglob("*")) if path.is_file()]
        content = {str(path.relative_to(scratch)): path.read_bytes().decode("latin-1") for path in files}
    return json.dumps(content).encode()


def zipped(seed: bytes) -> bytes:
    """The files of ``zarr_seed`` in a zip archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in json.loads(seed).items():
            archive.writestr(name, text.encode("latin-1"))
    return file.getvalue()


def ending(name: str) -> str:
    """The suffix that chooses the reader of a file, with that before ``.gz``."""
    return "".join(Path(name).suffixes[-2 if name.endswith(".gz") else -1 :])


def write_mutant(path: Path, data: bytes, rng: np.random.Generator | None) -> None:
    """Write a mutant of a seed, or without random numbers the seed itself."""
    if path.suffix != ".zarr":
        path.write_bytes(data if rng is None else mutant(ending(path.name), data, rng))
        return
    shutil.rmtree(path, ignore_errors=True)
    files = {name: text.encode("latin-1") for name, text in json.loads(data).items()}
    if rng is not None:
        name = list(files)[int(rng.integers(0, len(files)))]
        files[name] = mutant(".json" if name.rpartition("/")[2].startswith(".z") else "", files[name], rng)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)


def mutant(suffix: str, data: bytes, rng: np.random.Generator) -> bytes:
    """A copy that is damaged byte by byte or by structure."""
    if suffix.endswith(".gz") and rng.random() < 0.5:
        return gzip.compress(mutant(suffix.removesuffix(".gz"), gzip.decompress(data), rng))
    if suffix not in STRUCTURED or rng.random() < 0.5:
        return mutate(data, rng)
    if STRUCTURED[suffix] == "json":
        tree = json.loads(data)
        for _ in range(int(rng.integers(1, 4))):
            tree = changed(tree, rng)
        return json.dumps(tree).encode()
    words = re.split(r"([\s,()]+)", data.decode())
    for _ in range(int(rng.integers(1, 4))):
        words[int(rng.integers(0, len(words)))] = WORDS[int(rng.integers(0, len(WORDS)))]
    return "".join(words).encode()


def changed(node: object, rng: np.random.Generator) -> object:
    """A JSON tree with one value replaced, removed or repeated at random."""
    inside = (
        list(node.items())
        if isinstance(node, dict)
        else list(enumerate(node))
        if isinstance(node, list)
        else []
    )
    if not inside or rng.random() < 0.15:
        return VALUES[int(rng.integers(0, len(VALUES)))]
    key, value = inside[int(rng.integers(0, len(inside)))]
    way = rng.random()
    if isinstance(node, dict):
        rest = {k: v for k, v in node.items() if k != key}
        return rest if way < 0.1 else {**node, key: changed(value, rng)}
    if way < 0.1:
        return [v for k, v in inside if k != key]
    if way < 0.2:
        return [*node, value]
    return [changed(v, rng) if k == key else v for k, v in inside]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """A damaged copy."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        at, kind = int(rng.integers(0, max(len(out), 1))), rng.integers(0, 6)
        if rng.random() < 0.5:
            at = min(at, int(rng.integers(0, 400)))  # most faults come from damaged headers
        if kind == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << int(rng.integers(0, 8))
        elif kind in (1, 2):
            value = EXTREMES[int(rng.integers(0, len(EXTREMES)))]
            out[at : at + len(value)] = value
        elif kind == 3:
            del out[at : at + int(rng.integers(1, 40))]
        elif kind == 4:
            out[at:at] = out[at : at + int(rng.integers(1, 40))]
        elif rng.random() < 0.3:
            del out[at:]
    return bytes(out) or b"\0"


def readers() -> dict[str, Callable[[Path], object]]:
    """The reader of each suffix; files with other suffixes are read as images."""
    from register.io.images.masks import read_mask
    from register.io.points.open import read_point_file
    from register.io.transforms.start import read_start
    from register.transforms.transform import Transform

    masked = 40, 50

    def transform(path: Path) -> object:
        loaded = Transform.load(path)
        return loaded.map_grid([0.0, 1.0], [0.0, 1.0])

    def geojson(path: Path) -> object:
        everything = slice(None), slice(None), slice(None)
        with contextlib.suppress(OverflowError):  # a polygon with coordinates near the largest number
            read_mask(str(path), masked)[everything]
        return points(path)

    def points(path: Path) -> object:
        return read_point_file(path).points

    def start(path: Path) -> object:
        return read_start(path)

    texts = {".transform": transform, ".csv": points, ".geojson": geojson}
    texts |= {".parquet": points, ".h5ad": points, ".csv.gz": points, ".geojson.gz": points}
    return texts | {".tfm": start, ".elastix": start, "": read_parts}


def read_parts(path: Path) -> None:
    """Read an image as the command line does: described, opened, read by windows, in all series and levels.

    Raises the first ``RegisterError`` after all of them were tried.
    """
    from register.errors import RegisterError
    from register.io.images.model import Selection
    from register.io.images.open import describe_file, open_header

    described, errors = describe_file(path), []
    with contextlib.suppress(RegisterError):  # open_image says the same
        open_header(path)
    for series in (None, *range(min(len(described.series) if described else 0, MOST_SERIES))):
        try:
            read_windows(path, Selection(series))
        except RegisterError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def read_windows(path: Path, selection: object) -> None:
    """Read windows of every level of an image, in its corners and centre, and the grey of a small image."""
    from register.io.images.open import open_image
    from register.io.images.working import Validity, working_level

    image = open_image(path, selection)
    for pixels in (image.pixels, *image.smaller):
        for rows in windows(pixels.shape[1]):
            for columns in windows(pixels.shape[2]):
                found = pixels[slice(0, MOST_CHANNELS), rows, columns]
                assert found.shape[1:] == (rows.stop - rows.start, columns.stop - columns.start)
    if image.nbytes < SMALL:
        working_level(image, Validity(image), WINDOW)


def windows(side: int) -> list[slice]:
    """The spans of one axis that are read: its begin, its middle and its end, which may overlap."""
    length = min(side, WINDOW)
    return [slice(start, start + length) for start in sorted({0, (side - length) // 2, side - length})]


def check_seeds() -> list[str]:
    """The faults of seeds that cannot be read: a fuzzer of them would test an error message."""
    faults, how = [], readers()
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in seeds(None):
            path = Path(scratch) / name
            write_mutant(path, data, None)
            try:
                how.get(ending(path.name), how[""])(path)
            except Exception as error:
                faults.append(f"wrong seed {name}: {type(error).__name__} {error}")
    return faults


class Late(BaseException):
    """A file took too long; no exception that a reader would turn into an error about the file."""


def work(begin: int, count: int, folder: Path | None, only: str = "") -> int:
    """Read ``count`` mutants in this process and return the number of faults.

    Prints the number of each mutant before it is read, and every fault.
    """
    import torch  # noqa: F401  (a limit that ends its import would leave it half initialised)

    from register.errors import RegisterError

    known, how, wrong = seeds(folder, only), readers(), 0
    faulthandler.enable(file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))

    def late(*_: object) -> None:
        raise Late(f"took longer than {SECONDS} s of the processor, or {WAITED} s")

    signal.signal(signal.SIGALRM, late)
    signal.signal(signal.SIGPROF, late)
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(begin, begin + count):
            rng = np.random.default_rng(number)
            name, data = known[number % len(known)]
            path = Path(scratch) / f"mutant{ending(name)}"
            write_mutant(path, data, rng)
            print(f"at {number}", flush=True)
            signal.alarm(WAITED)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                how.get(ending(path.name), how[""])(path)
            except RegisterError as error:
                if "\n" in str(error):
                    wrong += 1
                    print(f"wrong {number} {name}: more than one line: {error!r}", flush=True)
            except BaseException as error:
                wrong += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                place = f"{Path(where.filename).name}:{where.lineno}"
                print(f"wrong {number} {name}: {type(error).__name__} {error} ({place})", flush=True)
            finally:
                signal.alarm(0)
                signal.setitimer(signal.ITIMER_PROF, 0)
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            if most > MEMORY:
                print(f"wrong {number} {name}: the process holds {most / 2**30:.1f} GiB", flush=True)
                return wrong + 1
    return wrong


def run(count: int, folder: Path | None, batch: int = BATCH, only: str = "") -> list[str]:
    """The faults in ``count`` mutants, read by processes of ``batch`` mutants each."""
    faults, begin = [], 0
    while begin < count:
        size = min(batch, count - begin)
        command = [
            sys.executable,
            "-m",
            "benchmarks.fuzz",
            "--work",
            str(begin),
            str(size),
            *(["--seeds", str(folder)] if folder else []),
            f"--only={only}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS * size + 120)
        faults += [line for line in done.stdout.splitlines() if line.startswith("wrong")]
        last = int(next(line for line in reversed(done.stdout.splitlines()) if line.startswith("at "))[3:])
        if done.returncode not in (0, 1):
            message = done.stderr.strip().splitlines()[:1]
            faults.append(f"wrong {last}: the process ended with {done.returncode}: {message}")
        begin = last + 1
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument(
        "--seeds", type=Path, metavar="FOLDER", help="files to mutate besides those that are made here"
    )
    parser.add_argument("--only", default="", metavar="ENDINGS", help="only seeds of these, as .nd2,.lif")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        raise SystemExit(1 if work(*options.work, options.seeds, options.only) else 0)
    faults = check_seeds() + run(options.count, options.seeds, only=options.only)
    print(*faults, sep="\n")
    print(f"{len(faults)} faults in {options.count} damaged files")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
