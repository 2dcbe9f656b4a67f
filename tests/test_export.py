"""Exported transforms are read by the programs they are for and give the same points and pictures."""

import subprocess
import sys
from dataclasses import replace
from itertools import product

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch

import register
from benchmarks.synthetic import warped_pair
from register.errors import RegisterError
from register.geometry import bspline
from register.geometry.pixel_size import PixelSize
from register.io.transforms.export import export
from register.io.transforms.export_format import export_format
from register.io.transforms.start import read_start
from register.io.transforms.units import Units
from register.registries import EXPORTS

TRANSFORMIX = """
import sys, itk, numpy as np
for folder, sx, sy in (argument.split(",") for argument in sys.argv[1:]):
    parameters = itk.ParameterObject.New()
    parameters.ReadParameterFile(folder + "/t.txt")
    moving = itk.image_from_array(np.load(folder + "/moving.npy"))
    moving.SetSpacing([float(sx), float(sy)])
    transformix = itk.TransformixFilter.New(moving)
    transformix.SetTransformParameterObject(parameters)
    transformix.SetFixedPointSetFileName(folder + "/points.txt")
    transformix.SetOutputDirectory(folder)
    transformix.UpdateLargestPossibleRegion()
    np.save(folder + "/picture.npy", itk.array_from_image(transformix.GetOutput()))
"""  # one process of its own for all: itk takes long to load, and does not load beside SimpleITK
PIXELS = {"pixels": None, "micrometres": ((0.5, 0.7), (0.25, 0.4))}


@pytest.fixture(scope="module")
def aligned(texture):
    pair = warped_pair(texture, 0.02, seed=1)
    return register.align(pair.fixed, pair.moving, preset="fast").transform


def sized(transform, sizes):
    if sizes is None:
        return transform
    frames = [
        replace(frame, pixel_size=PixelSize(*size, "µm"))
        for frame, size in zip((transform.fixed, transform.moving), sizes, strict=True)
    ]
    return replace(transform, fixed=frames[0], moving=frames[1])


@pytest.fixture(params=PIXELS)
def transform(aligned, request):
    return sized(aligned, PIXELS[request.param])


def flat(transform):
    return replace(transform, model="affine", grid=None, matrices=None)


def points(n=100):
    return (
        torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        * torch.tensor([445.0, 385.0])
        + 5
    )


def largest_distance(transform, other, factor=1.0):
    """The largest distance, in moving pixels, between our points and those of another program's transform."""
    units = Units.of(transform)
    fixed, moving = (np.array(size) * factor for size in (units.fixed, units.moving))
    theirs = np.array([other.TransformPoint((p * fixed).tolist()) for p in points().numpy()])
    return np.linalg.norm(theirs / moving - transform.map(points()).numpy(), axis=1).max()


@pytest.mark.parametrize("form", ["itk", "itk-h5"])
def test_simpleitk_reads_itk_files(transform, form, tmp_path):
    path = tmp_path / f"t{export_format(form).suffix}"
    export(flat(transform), form, path)
    assert largest_distance(flat(transform), SimpleITK.ReadTransform(str(path))) < 1e-9
    report = export(transform, form, path)
    assert (
        largest_distance(transform, SimpleITK.ReadTransform(str(path)))
        <= max((report.fit_error_max or 0), (report.field_error_max or 0)) + 1e-6
    )
    assert (report.fit_error_max or 0) <= 0.01


@pytest.mark.parametrize("form", ["field-mha", "field-nifti"])
def test_simpleitk_reads_field_images(transform, form, tmp_path):
    path = tmp_path / f"t{export_format(form).suffix}"
    report = export(transform, form, path)
    field = SimpleITK.Cast(SimpleITK.ReadImage(str(path)), SimpleITK.sitkVectorFloat64)
    assert field.GetDirection() == pytest.approx((1, 0, 0, 1))
    factor = 1e-3 if form == "field-nifti" and Units.of(transform).name else 1.0
    assert (
        largest_distance(transform, SimpleITK.DisplacementFieldTransform(field), factor)
        <= report.field_error_max + 1e-6
    )


def test_nibabel_reads_the_nifti_field_with_its_intent(transform, tmp_path):
    path = tmp_path / "t.nii.gz"
    export(transform, "field-nifti", path)
    image = nibabel.load(path)
    assert image.header.get_intent()[0] == "vector"
    assert image.shape == (460, 400, 1, 1, 2)
    factor = 1e-3 if Units.of(transform).name else 1.0
    fixed, moving = (
        np.array(size) * factor for size in (Units.of(transform).fixed, Units.of(transform).moving)
    )
    at = np.array([120, 37])
    assert image.get_fdata()[120, 37, 0, 0] == pytest.approx(
        transform.map(torch.from_numpy(at).double()[None])[0].numpy() * moving - at * fixed, abs=1e-9
    )


@pytest.mark.parametrize("model", ["affine", "local"])
def test_simpleitk_makes_the_same_picture(aligned, texture, model, tmp_path):
    transform = aligned if model == "local" else flat(aligned)
    moving = (texture * 255).astype(np.uint8)
    ours = register.warp(moving, transform, fill=0).astype(float)
    inner = slice(25, -25), slice(25, -25)
    for form in ("itk", "itk-h5"):
        path = tmp_path / f"t{export_format(form).suffix}"
        export(transform, form, path)
        image = SimpleITK.GetImageFromArray(moving.astype(np.float64))
        other = SimpleITK.GetArrayFromImage(
            SimpleITK.Resample(image, image, SimpleITK.ReadTransform(str(path)), SimpleITK.sitkLinear, 0.0)
        )
        assert np.abs(other - ours)[inner].max() <= 1.0


@pytest.fixture(scope="module")
def transformed(aligned, texture, tmp_path_factory):
    """Per model and unit: transform, report of its export, and folder with the results of transformix."""
    runs = {}
    for (name, sizes), model in product(PIXELS.items(), ("affine", "local")):
        folder, transform = (
            tmp_path_factory.mktemp("transformix"),
            sized(aligned if model == "local" else flat(aligned), sizes),
        )
        report = export(transform, "elastix", folder / "t.txt")
        lines = "\n".join(
            " ".join(map(repr, p))
            for p in (points(20).numpy() * np.array(Units.of(transform).fixed)).tolist()
        )
        (folder / "points.txt").write_text(f"point\n20\n{lines}\n")
        np.save(folder / "moving.npy", (texture * 255).astype(np.uint8).astype(np.float32))
        runs[model, name] = transform, report, folder
    calls = [
        ",".join([str(folder), *map(str, Units.of(transform).moving)])
        for transform, _, folder in runs.values()
    ]
    subprocess.run([sys.executable, "-c", TRANSFORMIX, *calls], check=True, capture_output=True)
    return runs


@pytest.mark.slow  # itk takes half a minute to load, in one worker
@pytest.mark.xdist_group("transformix")
@pytest.mark.parametrize(("model", "name"), list(product(("affine", "local"), PIXELS)))
def test_transformix_maps_the_same_points_and_makes_the_same_picture(transformed, texture, model, name):
    transform, report, folder = transformed[model, name]
    lines = (folder / "outputpoints.txt").read_text().strip().splitlines()
    theirs = np.array(
        [[float(v) for v in line.split("OutputPoint = [")[1].split("]")[0].split()] for line in lines]
    )
    error = np.linalg.norm(
        theirs / np.array(Units.of(transform).moving) - transform.map(points(20)).numpy(), axis=1
    ).max()
    assert error <= max((report.fit_error_max or 0), 1e-4)
    ours = register.warp((texture * 255).astype(np.uint8), transform, fill=0).astype(float)
    assert np.abs(np.load(folder / "picture.npy") - ours)[25:-25, 25:-25].max() <= 1.0


@pytest.mark.parametrize("model", ["affine", "local"])
def test_ome_ngff_holds_the_map_axes_in_order_y_x(transform, model, tmp_path):
    import zarr

    transform = transform if model == "local" else flat(transform)
    export(transform, "ngff", tmp_path / "t.zarr")
    root = zarr.open_group(tmp_path / "t.zarr", mode="r")
    assert root.attrs["ome"]["version"] == "0.6rc0"
    (link,) = root.attrs["ome"]["scene"]["coordinateTransformations"]
    assert (link["input"], link["output"]) == ({"name": "fixed"}, {"name": "moving"})
    units, at = Units.of(transform), np.array([120.0, 37.0])
    goal = transform.map(torch.from_numpy(at)[None])[0].numpy() * units.moving
    start = at * units.fixed
    if model == "affine":
        found = np.array(link["affine"])[:, :2] @ start[::-1] + np.array(link["affine"])[:, 2]
    else:
        field = root[link["path"]]
        (image,) = field.attrs["ome"]["multiscales"]
        assert image["datasets"][0]["coordinateTransformations"][0]["scale"] == pytest.approx(
            [1, units.fixed[1], units.fixed[0]]
        )
        assert [axis["type"] for axis in image["coordinateSystems"][0]["axes"]] == [
            "displacement",
            "space",
            "space",
        ]
        found = start[::-1] + field["s0"][:, 37, 120]
    assert found[::-1] == pytest.approx(goal, abs=1e-6)


def test_plain_formats_hold_the_points(aligned, tmp_path):
    import tifffile

    export(aligned, "field-tiff", tmp_path / "t.tif", spacing=4)
    field = tifffile.imread(tmp_path / "t.tif")
    assert field[:, 10, 20] == pytest.approx(
        (aligned.map(torch.tensor([[80.0, 40.0]])) - torch.tensor([80.0, 40.0]))[0].tolist(), abs=1e-4
    )
    assert (tmp_path / "t.json").read_text().count("moving point minus fixed point") == 1
    export(aligned, "npz", tmp_path / "t.npz", spacing=4)
    assert np.load(tmp_path / "t.npz")["displacement"][10, 20] == pytest.approx(field[:, 10, 20], abs=1e-4)
    export(aligned, "csv", tmp_path / "t.csv")
    rows = np.loadtxt(tmp_path / "t.csv", delimiter=",", skiprows=1)
    assert rows[:, 2:] == pytest.approx(aligned.map(torch.from_numpy(rows[:, :2])).numpy())


def test_ground_control_points_are_pixels_from_the_corner(aligned, tmp_path):
    from xml.etree import ElementTree

    export(replace(aligned, moving=replace(aligned.moving, path="moving.tif")), "gcp", tmp_path / "t.vrt")
    gcps = [
        {key: float(value) for key, value in gcp.attrib.items()}
        for gcp in ElementTree.parse(tmp_path / "t.vrt").iter("GCP")
    ]
    at = torch.tensor([[g["X"] - 0.5, -g["Y"] - 0.5] for g in gcps], dtype=torch.float64)
    assert aligned.map(at).numpy() == pytest.approx(
        np.array([[g["Pixel"] - 0.5, g["Line"] - 0.5] for g in gcps]), abs=1e-5
    )
    with pytest.raises(RegisterError, match="does not name its moving image"):
        export(aligned, "gcp", tmp_path / "u.vrt")


def test_the_report_of_a_coarser_field_has_its_error(aligned, tmp_path):
    fine, coarse = (export(aligned, "npz", tmp_path / f"{s}.npz", spacing=s).field_error_max for s in (2, 16))
    assert fine < 0.2 < coarse


def test_every_format_is_known_by_name(aligned, tmp_path):
    for name in EXPORTS.names():
        assert export_format(name).name == name
    with pytest.raises(RegisterError, match="choose one of itk"):
        export(aligned, "magic", tmp_path / "t")


def test_a_spline_holds_an_affine_map_exactly():
    matrix = np.array([[0.9, 0.2, 5], [-0.1, 1.1, -7]])
    _, error = bspline.fit(lambda p: p @ matrix[:, :2].T + matrix[:, 2], 120, 90, 30.0, tolerance=1e-9)
    assert error < 1e-9


@pytest.mark.parametrize("kind", ["affine", "euler", "similarity", "translation"])
def test_starts_from_itk(kind, tmp_path):
    made = {
        "affine": SimpleITK.AffineTransform,
        "euler": SimpleITK.Euler2DTransform,
        "similarity": SimpleITK.Similarity2DTransform,
    }
    other = (
        SimpleITK.TranslationTransform(2)
        if kind == "translation"
        else made[kind](*([2] if kind == "affine" else []))
    )
    other.SetParameters(
        {
            "affine": [0.9, 0.1, -0.2, 1.1, 3, 4],
            "euler": [0.3, 3, 4],
            "similarity": [1.2, 0.3, 3, 4],
            "translation": [3, 4],
        }[kind]
    )
    if kind != "translation":
        other.SetCenter((20.0, 30.0))
    SimpleITK.WriteTransform(other, str(tmp_path / "t.tfm"))
    matrix = read_start(tmp_path / "t.tfm", (PixelSize(0.5, 0.5, "µm"), PixelSize(0.25, 0.25, "µm")))
    theirs = np.array([other.TransformPoint((p * 0.5).tolist()) for p in points(10).numpy()]) / 0.25
    assert points(10).numpy() @ matrix[:, :2].T + matrix[:, 2] == pytest.approx(theirs, abs=1e-9)


def test_starts_from_our_own_elastix_export_and_refusals(aligned, tmp_path):
    export(flat(aligned), "elastix", tmp_path / "t.txt")
    assert np.allclose(read_start(tmp_path / "t.txt"), aligned.matrix)
    export(aligned, "elastix", tmp_path / "l.txt")
    (tmp_path / "bad.txt").write_text("hello")
    for name in ("l.txt", "bad.txt", "missing.tfm"):
        with pytest.raises(RegisterError, match=name):
            read_start(tmp_path / name)
