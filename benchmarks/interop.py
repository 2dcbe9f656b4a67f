"""Exported transforms, applied by SimpleITK and transformix to the same moving image as by this package.

    python -m benchmarks.interop FOLDER [ID ...]

FOLDER holds MANIFEST.csv and pairs. Each pair is aligned, given pixel sizes that are not one, and exported as
an affine map, a B-spline and a displacement field. The table gives the differences in grey levels (uint8)
between the other program's image and that of ``register.warp``, without the border and pixels outside the
moving image.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK

import register
from benchmarks.accuracy import manifest
from register.geometry.pixel_size import PixelSize
from register.io.transforms.export import export
from register.io.transforms.export_format import export_format
from register.io.transforms.units import Units

CASES = (
    ("affine", "itk"),
    ("local", "itk"),
    ("local", "itk-h5"),
    ("local", "field-mha"),
    ("affine", "elastix"),
    ("local", "elastix"),
)
TRANSFORMIX = """
import sys, itk, numpy as np
folder, sx, sy = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
parameters = itk.ParameterObject.New()
parameters.ReadParameterFile(folder + "/t.txt")
moving = itk.image_from_array(np.load(folder + "/moving.npy"))
moving.SetSpacing([sx, sy])
np.save(folder + "/picture.npy", itk.array_from_image(itk.transformix_filter(moving, parameters)))
"""  # a separate process: itk and SimpleITK cannot be loaded together


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="folder with MANIFEST.csv and pairs")
    parser.add_argument("ids", nargs="*", default=["dic12_oht_11", "retina_27", "rs_DO4"], help="pairs")
    options = parser.parse_args()
    folder = options.folder
    entries = [entry for entry in manifest(folder) if entry["id"] in options.ids]
    titles = f"{'pair':24s} {'model':7s} {'format':10s} {'median':>8s} {'99 %':>8s} {'largest':>8s}"
    print(f"{titles}  grey levels; fit or field error in px")
    for entry in entries:
        pictures = [register.read_image(folder / entry[kind]).picture() for kind in ("fixed", "moving")]
        grey = pictures[1].astype(np.float32).mean(2)
        moving = np.rint(255 * (grey - grey.min()) / (grey.max() - grey.min())).astype(np.uint8)
        found = register.align(*pictures).transform
        frames = [
            replace(frame, pixel_size=PixelSize(*size, "µm"))
            for frame, size in ((found.fixed, (0.5, 0.7)), (found.moving, (0.25, 0.4)))
        ]
        for model, form in CASES:
            transform = replace(found, fixed=frames[0], moving=frames[1])
            transform = (
                transform
                if model == "local"
                else replace(transform, model="affine", grid=None, matrices=None)
            )
            with tempfile.TemporaryDirectory() as scratch:
                difference, error = compare(transform, moving, form, Path(scratch))
            median, high = np.percentile(difference, (50, 99))
            figures = f"{median:8.3f} {high:8.3f} {difference.max():8.3f}  {error:.4f}"
            print(f"{entry['id']:24s} {model:7s} {form:10s} {figures}", flush=True)


def compare(transform, moving, form, folder):
    """Differences (n,) in grey levels from the other program's image, and the error that the export
    reports."""
    path, units = folder / f"t{export_format(form).suffix}", Units.of(transform)
    report = export(transform, form, path)
    size = [transform.fixed.width, transform.fixed.height]
    if form == "elastix":
        np.save(folder / "moving.npy", moving.astype(np.float32))
        subprocess.run(
            [sys.executable, "-c", TRANSFORMIX, str(folder), *map(str, units.moving)],
            check=True,
            capture_output=True,
        )
        picture = np.load(folder / "picture.npy")
    else:
        picture = by_simpleitk(moving, path, form, units, size)
    ours = register.warp(moving, transform, fill=0)
    at = transform.map_grid(*(np.arange(n) for n in size))
    limit = np.array([transform.moving.width - 3.0, transform.moving.height - 3.0])
    inner = ((at > 2) & (at < limit)).all(-1)
    inner[:2], inner[-2:], inner[:, :2], inner[:, -2:] = False, False, False, False
    return np.abs(picture - ours)[inner], max((report.fit_error_max or 0), (report.field_error_max or 0))


def by_simpleitk(moving, path, form, units, size):
    """The moving image (h, w) resampled by SimpleITK with an exported file."""
    image = SimpleITK.GetImageFromArray(moving.astype(np.float64))
    image.SetSpacing(units.moving)
    if form == "field-mha":
        other = SimpleITK.DisplacementFieldTransform(
            SimpleITK.Cast(SimpleITK.ReadImage(str(path)), SimpleITK.sitkVectorFloat64)
        )
    else:
        other = SimpleITK.ReadTransform(str(path))
    resampled = SimpleITK.Resample(
        image, size, other, SimpleITK.sitkLinear, [0.0, 0.0], units.fixed, [1.0, 0.0, 0.0, 1.0], 0.0
    )
    return SimpleITK.GetArrayFromImage(resampled)


if __name__ == "__main__":
    main()
