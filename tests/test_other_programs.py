"""Exported transforms and starts against the definitions of their formats, with numbers known beforehand."""

import json
import warnings
from dataclasses import replace
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import rasterio
import SimpleITK
import zarr

from register.errors import RegisterError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.geometry.pixel_size import PixelSize
from register.io.transforms import fields
from register.io.transforms.export import export
from register.io.transforms.export_format import ExportOptions, ExportReport, export_format
from register.io.transforms.initial import initial_matrix
from register.io.transforms.start import read_start
from register.io.transforms.units import PIXELS, Units
from register.settings import Settings
from register.transforms.frame import Frame
from register.transforms.transform import Link, Transform

MATRIX = np.array([[0.9, 0.2, 5.0], [-0.1, 1.1, -7.0]])
SIZES = PixelSize(0.5, 0.7, "µm"), PixelSize(0.25, 0.4, "µm")
AFFINE = Transform("affine", Frame(161, 81, SIZES[0]), Frame(200, 120, SIZES[1], "a/moving.png"), MATRIX)
PLAIN = replace(AFFINE, fixed=Frame(161, 81), moving=Frame(200, 120, None, "moving.tif"))


def bent(transform=PLAIN, size=40, by=0.7):
    """A transform of patches whose maps differ."""
    grid = PatchGrid.cover(transform.fixed.height, transform.fixed.width, size)
    matrices = np.broadcast_to(MATRIX, (grid.rows, grid.columns, 2, 3)).copy()
    matrices[..., 1, 2] += by * np.arange(grid.columns) ** 2
    matrices[..., 0, 2] += by * np.arange(grid.rows)[:, None]
    return replace(transform, model="local", grid=grid, matrices=matrices)


def table(path):
    return np.loadtxt(path, delimiter=",", skiprows=1)


def test_control_points_are_sixteen_steps_along_the_longer_side_or_as_asked(tmp_path):
    assert export(PLAIN, "csv", tmp_path / "a.csv").points == 17 * 9
    x, y = (sorted(set(column)) for column in table(tmp_path / "a.csv")[:, :2].T)
    assert (x, y) == (list(range(0, 161, 10)), list(range(0, 81, 10)))
    tall = replace(PLAIN, fixed=Frame(81, 161))
    assert export(tall, "csv", tmp_path / "b.csv").points == 9 * 17
    assert export(PLAIN, "csv", tmp_path / "c.csv", spacing=40).points == 5 * 3
    assert export(replace(PLAIN, fixed=Frame(3, 2)), "csv", tmp_path / "d.csv", spacing=99).points == 4
    assert table(tmp_path / "d.csv")[:, :2].tolist() == [[0, 0], [2, 0], [0, 1], [2, 1]]
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == "x,y,moving_x,moving_y"


def test_rasterio_reads_the_ground_control_points(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((120, 200), np.float32)), tmp_path / "m.tif")
    transform = replace(AFFINE, moving=replace(AFFINE.moving, path=str(tmp_path / "m.tif")))
    report = export(transform, "gcp", tmp_path / "t.vrt", spacing=40)
    with rasterio.open(tmp_path / "t.vrt") as file:
        points, _ = file.gcps
        assert (file.width, file.height, file.count, file.dtypes) == (200, 120, 1, ("float32",))
        assert file.read(1).shape == (120, 200)
    assert [point.id for point in points] == [str(n + 1) for n in range(report.points)]
    fixed = np.array([[point.x / 0.5 - 0.5, -point.y / 0.7 - 0.5] for point in points])
    moving = np.array([[point.col - 0.5, point.row - 0.5] for point in points])
    assert affine.apply(MATRIX, fixed) == pytest.approx(moving, abs=1e-5)
    x, y = np.meshgrid(np.arange(0, 161, 40), np.arange(0, 81, 40))
    mapped = affine.apply(MATRIX, np.stack([x.ravel(), y.ravel()], 1).astype(float))
    assert len(points) == np.all((mapped >= -0.5) & (mapped <= [199.5, 119.5]), axis=1).sum() < x.size


def parameters(path):
    """The values of a parameter file of elastix by their names."""
    pairs = (line.strip("()").split(" ", 1) for line in path.read_text().splitlines())
    return {name: value.strip('"') if '"' in value else json.loads(f"[{value.replace(' ', ',')}]")
            for name, value in pairs}  # fmt: skip


@pytest.mark.parametrize("local", [False, True])
def test_a_parameter_file_of_elastix_places_both_images_at_the_origin(local, tmp_path):
    export(bent(AFFINE) if local else AFFINE, "elastix", tmp_path / "t.txt")
    found = parameters(tmp_path / "t.txt")
    assert len(found["TransformParameters"]) == found["NumberOfParameters"][0]
    assert (found["Size"], found["Index"], found["Spacing"]) == ([161, 81], [0, 0], [0.5, 0.7])
    assert (found["Origin"], found["Direction"]) == ([0, 0], [1, 0, 0, 1])
    assert found["FixedImageDimension"] == found["MovingImageDimension"] == [2]
    assert (found["FinalBSplineInterpolationOrder"], found["DefaultPixelValue"]) == ([1], [0])
    assert found["ResultImageFormat"] == "png"
    export(replace(PLAIN, moving=replace(PLAIN.moving, path="a.JPG")), "elastix", tmp_path / "t.txt")
    assert parameters(tmp_path / "t.txt")["ResultImageFormat"] == "tif"
    export(replace(PLAIN, moving=Frame(200, 120)), "elastix", tmp_path / "t.txt")
    assert parameters(tmp_path / "t.txt")["ResultImageFormat"] == "tif"


def distances(transform, other):
    """Distances, in moving pixels, from the points of a transform of SimpleITK."""
    units, points = Units.of(transform), transform.fixed.sample_points(60)
    there = [other.TransformPoint(point) for point in (points * np.array(units.fixed)).tolist()]
    return np.linalg.norm(np.array(there) / np.array(units.moving) - transform.map(points), axis=1)


@pytest.mark.parametrize("transform", [bent(), bent(AFFINE)], ids=["pixels", "micrometres"])
def test_the_splines_of_elastix_and_itk_are_as_near_as_they_say(transform, tmp_path):
    report = export(transform, "elastix", tmp_path / "t.txt")
    found = parameters(tmp_path / "t.txt")
    spline = SimpleITK.BSplineTransform(2, *found["BSplineTransformSplineOrder"])
    spline.SetFixedParameters(
        [*found["GridSize"], *found["GridOrigin"], *found["GridSpacing"], *found["GridDirection"]]
    )
    spline.SetParameters(found["TransformParameters"])
    assert found["GridIndex"] == [0, 0]
    assert report.knots == tuple(found["GridSize"])
    other = export(transform, "itk", tmp_path / "t.tfm")
    for error, theirs in (
        (report.fit_error_max, distances(transform, spline)),
        (other.fit_error_max, distances(transform, SimpleITK.ReadTransform(str(tmp_path / "t.tfm")))),
    ):
        assert error <= 0.01
        assert 0.3 * error < theirs.max() < 1.2 * error
    assert report.model == "BSplineTransform"
    assert other.model == "B-spline, then affine"


def test_knots_lie_as_far_apart_as_asked_or_half_a_patch_at_first(tmp_path):
    """A spline of order 3 has three knots more than intervals along 162 × 82 pixels, a pixel beyond both."""
    assert export(bent(by=5), "itk", tmp_path / "a.tfm", spacing=41).knots == (4 + 3, 2 + 3)
    with pytest.raises(RegisterError, match="the largest error of a B-spline is"):
        export(bent(by=5), "itk", tmp_path / "a.tfm", tolerance=1e-9)
    smooth = replace(bent(by=0), grid=PatchGrid.cover(81, 161, 40))
    assert export(smooth, "itk", tmp_path / "a.tfm").knots == (8 + 3, 4 + 3)
    chain = Transform("chain", PLAIN.fixed, PLAIN.moving, MATRIX, chain=(Link(PLAIN),))
    assert export(chain, "itk", tmp_path / "a.tfm").knots == (16 + 3, 8 + 3)
    enlarged = affine.compose(affine.scaling(10, 10), MATRIX)
    coarse = Transform("chain", PLAIN.fixed, PLAIN.moving, enlarged,
                       chain=(Link(bent()), Link(replace(PLAIN, matrix=affine.scaling(10, 10)))))  # fmt: skip
    finer = export(coarse, "itk", tmp_path / "b.tfm", tolerance=0.5)
    usual = export(bent(), "itk", tmp_path / "b.tfm", tolerance=0.05)
    assert finer.fit_error_max == pytest.approx(10 * usual.fit_error_max, rel=0.3)
    assert finer.fit_error_max <= 0.5


def test_options_that_are_not_given(tmp_path):
    export_format("itk").write(bent(), tmp_path / "a.tfm", ExportOptions())
    export(bent(), "itk", tmp_path / "b.tfm", tolerance=0.01)
    assert (tmp_path / "a.tfm").read_bytes() == (tmp_path / "b.tfm").read_bytes()
    assert not ExportOptions().overwrite
    for spacing in (0, -1):
        with pytest.raises(RegisterError, match="must be above 0"):
            export(PLAIN, "csv", tmp_path / "a.csv", spacing=spacing)
    assert export(PLAIN, "csv", tmp_path / "a.csv", spacing=0.9).points > 161 * 81
    with pytest.raises(RegisterError, match="--fixed-element is for --to spatialdata"):
        export(PLAIN, "csv", tmp_path / "a.csv", fixed_element="images/fixed")


def test_a_library_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("register.io.transforms.export.find_spec", lambda name: None)
    with pytest.raises(RegisterError, match=r"--to field-nifti needs nibabel.*register-cli\[export\]"):
        export(PLAIN, "field-nifti", tmp_path / "a.nii")
    assert export(PLAIN, "csv", tmp_path / "a.csv").points


def test_a_report_holds_what_applies_as_lists():
    report = ExportReport("pixels", knots=(3, 4), points=0)
    assert report.values() == {"units": "pixels", "knots": [3, 4], "points": 0}


class Parabola:
    """x' = x + a x², y' = y + b y²: a line through samples h apart is off by a h² / 4 halfway."""

    fixed, moving = SimpleNamespace(width=9, height=7), SimpleNamespace(width=9, height=7)

    def map_grid(self, x, y):
        across, down = np.meshgrid(x, y)
        return np.stack([across + 0.03 * across**2, down + 0.04 * down**2], -1)


def test_the_error_of_a_field_is_that_of_lines_between_its_samples():
    field = fields.sampled_field(Parabola(), 4.0, Units((0.5, 0.25), (2.0, 3.0), "µm"))
    assert field.error == pytest.approx(np.hypot(0.03, 0.04) * 4)
    assert field.vectors.shape == (3, 3, 2)  # 0, 4, 8 hold the pixels 0 to 6 too
    assert (field.step, field.spacing) == (4.0, (2.0, 1.0))
    assert field.vectors[1, 2] == pytest.approx([2 * (8 + 0.03 * 64) - 4, 3 * (4 + 0.04 * 16) - 1])
    assert fields.sampled_field(Parabola(), 3.0, PIXELS).vectors.shape == (3, 4, 2)
    line = SimpleNamespace(fixed=SimpleNamespace(width=9, height=1), map_grid=Parabola().map_grid)
    assert fields.sampled_field(line, 4.0, PIXELS).error == 0
    column = SimpleNamespace(fixed=SimpleNamespace(width=1, height=9), map_grid=Parabola().map_grid)
    assert fields.sampled_field(column, 4.0, PIXELS).error == 0


def test_what_the_plain_fields_say_of_themselves(tmp_path):
    for name, file in (("field-tiff", "t.tif"), ("npz", "t.npz"), ("field-mha", "t.mha")):
        assert export(PLAIN, name, tmp_path / file).field_error_max == pytest.approx(0, abs=1e-9)
    stated = json.loads((tmp_path / "t.json").read_text())
    assert (stated["first"], stated["stride"]) == ([0, 0], 1)
    assert (stated["fixed"], stated["moving"]) == ([161, 81], [200, 120])
    with np.load(tmp_path / "t.npz") as held:
        assert (held["stride"], held["fixed"].tolist(), held["moving"].tolist()) == (1, [161, 81], [200, 120])
        assert np.array_equal(held["matrix"], MATRIX)
        assert held["convention"] == stated["convention"]
        assert held["displacement"].shape == (81, 161, 2)
    image = SimpleITK.ReadImage(str(tmp_path / "t.mha"))
    assert (image.GetSize(), image.GetSpacing(), image.GetOrigin()) == ((161, 81), (1, 1), (0, 0))
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "t.tif") as file:
        assert (file.count, file.width, file.height) == (2, 161, 81)  # and no place on the earth, it warns
    export(AFFINE, "field-mha", tmp_path / "t.mha", spacing=2)
    assert SimpleITK.ReadImage(str(tmp_path / "t.mha")).GetSpacing() == (1.0, 1.4)


@pytest.mark.parametrize(("unit", "factor", "name"), [("µm", 1e-3, "mm"), ("cm", 10, "mm"), ("px", 1, None)])
def test_a_nifti_is_in_millimetres_where_the_unit_is_a_length(unit, factor, name, tmp_path):
    sizes = [PixelSize(size.x, size.y, unit) for size in SIZES]
    transform = replace(AFFINE, fixed=Frame(161, 81, sizes[0]), moving=Frame(200, 120, sizes[1]))
    report = export(transform, "field-nifti", tmp_path / "t.nii")
    assert (tmp_path / "t.nii").read_bytes()[:4] == (348).to_bytes(4, "little")  # of the header: no gzip
    image = nibabel.load(tmp_path / "t.nii")
    assert image.affine == pytest.approx(np.diag([-0.5 * factor, -0.7 * factor, 1, 1]))
    assert image.shape == (161, 81, 1, 1, 2)
    goal = affine.apply(MATRIX, np.array([[100.0, 50.0]]))[0] * [0.25, 0.4] - [50, 35]
    assert image.get_fdata()[100, 50, 0, 0] == pytest.approx(goal * factor)
    if name:
        assert (report.units, image.header.get_xyzt_units()[0]) == ("mm", "mm")
    else:
        assert report.units == "px, from the pixel sizes of both images"
    export(PLAIN, "field-nifti", tmp_path / "u.nii.gz")
    assert nibabel.load(tmp_path / "u.nii.gz").header.get_xyzt_units()[0] == "unknown"


def test_an_ome_zarr_names_its_axes_and_units(tmp_path):
    export(bent(AFFINE), "ngff", tmp_path / "a.zarr", spacing=0.25)
    root = zarr.open_group(tmp_path / "a.zarr", mode="r")
    systems = root.attrs["ome"]["scene"]["coordinateSystems"]
    assert [system["name"] for system in systems] == ["fixed", "moving"]
    assert [(axis["name"], axis["unit"]) for axis in systems[0]["axes"]] == [
        ("y", "micrometer"),
        ("x", "micrometer"),
    ]
    held = root["displacements"]
    assert held["s0"].shape == (2, 321, 641)
    assert held["s0"].chunks == (2, 512, 512)  # a tile of both numbers
    (image,) = held.attrs["ome"]["multiscales"]
    (level,) = image["datasets"]
    assert level["coordinateTransformations"][0]["scale"] == [1, 0.175, 0.125]
    assert image["coordinateSystems"][0]["axes"][0]["discrete"]
    export(PLAIN, "ngff", tmp_path / "b.zarr")
    plain = zarr.open_group(tmp_path / "b.zarr", mode="r")
    assert "unit" not in plain.attrs["ome"]["scene"]["coordinateSystems"][0]["axes"][0]
    assert "displacements" not in plain


def affine_text(a, b, c, d, x=0.0, y=0.0):
    return f"Transform: AffineTransform_double_2_2\nParameters: {a} {b} {c} {d} {x} {y}\n"


def test_a_start_has_one_transform_that_can_be_inverted(tmp_path):
    path = tmp_path / "t.tfm"
    for size in (1e-5, 3e5):
        path.write_text(affine_text(size, 0, 0, size, 5e8))
        assert read_start(path).tolist() == [[size, 0, 5e8], [0, size, 0]]  # without a centre: the origin
    for wrong in (affine_text(5e-7, 0, 0, 1e-6), affine_text(2e6, 0, 0, 1e6), affine_text(1, 0, 0, 1, 2e9)):
        path.write_text(wrong)
        with pytest.raises(RegisterError, match="cannot be inverted"):
            read_start(path)
    path.write_text(affine_text(1, 0, 0, 1) * 2)
    with pytest.raises(RegisterError, match="holds 2 ITK transforms"):
        read_start(path)
    path.write_text("#Insight\n")
    with pytest.raises(RegisterError, match="holds 0 ITK transforms"):
        read_start(path)
    path.write_text("Transform: ScaleTransform_double_2_2\nParameters: 1 2 3\n")
    with pytest.raises(RegisterError, match="is a ScaleTransform with 3 parameters"):
        read_start(path)
    path.write_text("Transform: X_double_2_2\n")
    with pytest.raises(RegisterError, match="holds 1 ITK transforms"):
        read_start(path)


def test_the_centre_of_a_start_is_its_first_two_fixed_parameters(tmp_path):
    path = tmp_path / "t.tfm"
    path.write_text("Transform: Euler2DTransform_double_2_2\nParameters: 0.3 3 4\nFixedParameters: 20 30 0\n")
    turned = SimpleITK.Euler2DTransform((20, 30), 0.3, (3, 4))
    here = np.array([[7.0, 5.0]])
    assert affine.apply(read_start(path), here)[0] == pytest.approx(turned.TransformPoint(here[0].tolist()))


def test_a_start_of_elastix_refers_to_no_other_file(tmp_path):
    path, head = tmp_path / "t.txt", '// made by elastix\n(Transform "EulerTransform")\n'
    rest = "(TransformParameters 0.3 3 4)\n(CenterOfRotationPoint 20 30)\n"
    turned = SimpleITK.Euler2DTransform((20, 30), 0.3, (3, 4))
    here = np.array([[7.0, 5.0]])
    for initial in ("", '(InitialTransformParametersFileName "NoInitialTransform")\n'):
        path.write_text(head + initial + rest)
        assert affine.apply(read_start(path), here)[0] == pytest.approx(
            turned.TransformPoint(here[0].tolist())
        )
    path.write_text('(Transform "TranslationTransform")\n(TransformParameters 3 4)\n')
    assert np.array_equal(read_start(path), affine.translation(3, 4))
    for key in ("InitialTransformParameterFileName", "InitialTransformParametersFileName"):
        path.write_text(f'{head}({key} "first.txt")\n{rest}')
        with pytest.raises(RegisterError, match=r"starts from another file \(\"first.txt\"\)"):
            read_start(path)


def test_pixel_sizes_in_different_units_leave_a_start_in_pixels(tmp_path):
    (tmp_path / "t.tfm").write_text(affine_text(1, 0.5, 0, 1, 3, 4))
    sizes = PixelSize(0.5, 0.25, "mm"), PixelSize(0.1, 0.2, "mm")
    found = read_start(tmp_path / "t.tfm", sizes)
    assert found == pytest.approx(np.array([[5, 1.25, 30], [0, 1.25, 20]]))
    other = PixelSize(0.1, 0.2, "µm")
    assert read_start(tmp_path / "t.tfm", (sizes[0], other)).tolist() == [[1, 0.5, 3], [0, 1, 4]]


def start(init, model="affine", pixels=(None, None)):
    found = initial_matrix(Settings(init=str(init), model=model), (80, 100), (50, 40), pixels)
    return None if found is None else found.numpy()


def test_every_kind_of_start(tmp_path):
    assert start("auto") is None
    assert np.array_equal(start("identity"), np.eye(2, 3))
    assert start("center") @ [49.5, 39.5, 1] == pytest.approx([19.5, 24.5])  # their middles
    assert np.array_equal(start("center")[:, :2], np.eye(2))
    with pytest.raises(RegisterError, match="no file of that name exists"):
        start(tmp_path / "none.json")
    PLAIN.save(tmp_path / "t.json")
    assert np.array_equal(start(tmp_path / "t.json"), MATRIX)
    export(PLAIN, "itk", tmp_path / "T.TFM")
    export(PLAIN, "elastix", tmp_path / "t.txt")
    for name in ("T.TFM", "t.txt"):
        assert start(tmp_path / name) == pytest.approx(MATRIX)
    (tmp_path / "t.tfm").write_text(affine_text(1, 0, 0, 1, 3, 4))
    assert start(tmp_path / "t.tfm", pixels=(PixelSize(1, 1), PixelSize(0.5, 0.25)))[:, 2].tolist() == [6, 16]


@pytest.mark.parametrize(("model", "count", "wanted"), [
    ("affine", 4, "affine"), ("local", 4, "affine"), ("affine", 3, "similarity"),
    ("affine", 1, "translation"), ("translation", 4, "translation"), ("rigid", 4, "rigid"),
])  # fmt: skip
def test_a_start_from_landmarks_is_the_richest_map_that_they_determine(model, count, wanted, tmp_path):
    fixed = np.array([[0.0, 0.0], [30.0, 0.0], [0.0, 20.0], [30.0, 25.0]])[:count]
    maps = {
        "affine": MATRIX,
        "similarity": affine.similarity(0.2, 1.3, (0, 0), (5, 6)),
        "rigid": affine.similarity(0.2, 1, (0, 0), (5, 6)),
        "translation": affine.translation(3, 4),
    }
    for name, points in (("fixed", fixed), ("moving", affine.apply(maps[wanted], fixed))):
        np.savetxt(tmp_path / f"{name}.csv", points, delimiter=",", header="x,y", comments="")
    assert start(f"{tmp_path}/fixed.csv,{tmp_path}/moving.csv", model) == pytest.approx(
        maps[wanted], abs=1e-9
    )


def test_landmarks_that_are_too_few_for_the_model_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("x,y\n1,2\n")
    with pytest.raises(RegisterError, match="rigid needs at least 2 point pairs"):
        start(f"{tmp_path}/a.csv,{tmp_path}/b.csv", "rigid")
