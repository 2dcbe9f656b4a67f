"""Saved transforms applied: to other images and points, inverted, composed and evaluated."""

import json
from dataclasses import replace

import numpy as np
import pytest
import roifile
import tifffile
import torch
from scipy.ndimage import center_of_mass, gaussian_filter

import register
from benchmarks.synthetic import warped_pair
from register.errors import FileError, RegisterError, TransformError
from register.images import interpolation
from register.io.points.open import read_point_file
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.aligned_image import OutputStyle
from register.workflows.apply import apply
from register.workflows.points import map_points

FLIPPED = torch.tensor([[0.1, -0.95, 400], [-1.02, 0.08, 420]], dtype=torch.float64)


@pytest.fixture(scope="module")
def local(texture):
    pair = warped_pair(texture, 0.02, seed=1)
    return register.align(pair.fixed, pair.moving, preset="fast").transform


@pytest.fixture(params=["translation", "rigid", "similarity", "affine", "flipped", "local", "chain"])
def transform(local, request):
    turn = torch.tensor([[0.8, -0.6, 90], [0.6, 0.8, -60]], dtype=torch.float64)
    matrices = {
        "translation": torch.tensor([[1, 0, 7.25], [0, 1, -3.5]], dtype=torch.float64),
        "rigid": turn,
        "similarity": turn * 1.1,
        "affine": torch.tensor([[0.95, 0.1, 3], [-0.08, 1.05, 5]], dtype=torch.float64),
        "flipped": FLIPPED,
    }
    if request.param == "local":
        return local
    if request.param == "chain":
        return compose.compose(
            local, compose.invert(replace(local, model="affine", grid=None, matrices=None))
        )
    return Transform(
        "affine" if request.param == "flipped" else request.param,
        local.fixed,
        local.moving,
        matrices[request.param],
    )


def points(n=200, margin=20):
    share = torch.rand(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return margin + share * torch.tensor([459.0 - 2 * margin, 399.0 - 2 * margin])


def shown(at, transform):
    return interpolation.inside(at, transform.moving.height, transform.moving.width)


def test_mapping_and_inverse_mapping_return_the_points(transform):
    error = (transform.inverse().map(transform.map(points())) - points()).norm(dim=1)
    assert float(error.median()) < 1e-3
    assert float(error.max()) < 0.02


def test_the_jacobian_equals_finite_differences_of_the_map(transform):
    _, jacobian = transform.expand(points(40).numpy())
    for axis in (0, 1):
        step = torch.eye(2, dtype=torch.float64)[axis] * 1e-5
        slope = (transform.map(points(40) + step) - transform.map(points(40) - step)) / 2e-5
        assert np.allclose(jacobian[:, :, axis], slope, atol=1e-5)


def test_a_bright_dot_is_where_its_point_is(transform):
    """Dots drawn in the moving image, found in the aligned one, against positions mapped by the inverse."""
    seen = 0
    for target in points(70, margin=40).tolist():
        there = transform.map(torch.tensor([target]))[0]
        if not bool(shown(there[None] + 8, transform) & shown(there[None] - 8, transform)):
            continue
        x, y = (
            torch.arange(transform.moving.width, dtype=torch.float64),
            torch.arange(transform.moving.height, dtype=torch.float64),
        )
        dot = torch.exp(-((x - there[0]) ** 2 + (y[:, None] - there[1]) ** 2) / (2 * 1.5**2)).numpy()
        left, top = (
            round(t) - 12 for t in target
        )  # a window of 25 pixels around the target is all that is warped
        to_window = Transform(
            "translation",
            Frame(25, 25),
            transform.fixed,
            torch.tensor([[1, 0, left], [0, 1, top]], dtype=torch.float64),
        )
        aligned = register.warp(dot, compose.compose(to_window, transform), fill=0.0)
        found = np.array(center_of_mass(aligned))[::-1] + np.array([left, top])
        assert np.hypot(*(found - transform.inverse().map(there[None])[0].numpy())) < 0.1
        seen += 1
    assert seen >= 20


def test_invert_and_compose_give_the_identity_within_the_error_they_report(transform):
    back = compose.invert(transform)
    assert (back.fixed, back.moving) == (transform.moving, transform.fixed)
    there = transform.map(points())
    assert float((back.map(there) - points()).norm(dim=1).max()) <= back.quality["round_trip_max"] + 1e-5
    both = compose.compose(transform, back)
    error = (both.map(points()) - points()).norm(dim=1)
    assert float(error.median()) < 0.05
    assert float(error.max()) <= both.quality["round_trip_max"] + 1e-5
    assert torch.allclose(compose.invert(back).map(points()), transform.map(points()), atol=1e-5)


def test_a_chain_survives_its_file(local, tmp_path):
    chain = compose.invert(local)
    chain.save(tmp_path / "c.json")
    again = register.Transform.load(tmp_path / "c.json")
    assert torch.equal(again.map(points()), chain.map(points()))
    again.save(tmp_path / "d.json")
    assert (tmp_path / "d.json").read_bytes() == (tmp_path / "c.json").read_bytes()
    content = json.loads((tmp_path / "c.json").read_text())
    for change, what in (
        (lambda c: c.pop("chain"), "chain"),
        (lambda c: c["chain"][0].pop("inverse"), "chain.0.inverse"),
        (lambda c: c["chain"][0]["transform"]["patches"]["matrices"].pop(), "rows need"),
    ):
        broken = json.loads(json.dumps(content))
        change(broken)
        (tmp_path / "e.json").write_text(json.dumps(broken))
        with pytest.raises(FileError, match=what):
            register.Transform.load(tmp_path / "e.json")


def test_transforms_with_different_middle_images_are_not_composed(local):
    with pytest.raises(TransformError, match="460 × 400"):
        compose.compose(local, replace(local, fixed=Frame(10, 10)))


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_other_resolutions(local, texture, scale, tmp_path, program):
    """At half and double resolution the aligned image is the resampled one, and mapped points agree."""
    smooth = gaussian_filter(texture, 2)
    fine = local.at_scale(2.0)
    x, y = ((np.arange(n * 2) + 0.5) / 2 - 0.5 for n in (460, 400))
    big = register.warp(
        smooth,
        Transform(
            "affine", Frame(920, 800), local.moving, torch.tensor([[0.5, 0, -0.25], [0, 0.5, -0.25]]).double()
        ),
        interpolation="bicubic",
    )
    images = {2.0: np.nan_to_num(big), 0.5: smooth.reshape(200, 2, 230, 2).mean((1, 3))}
    tifffile.imwrite(tmp_path / "i.tif", (images[scale] * 65535).astype(np.uint16))
    local.save(tmp_path / "t.json")
    assert program("apply", tmp_path / "t.json", tmp_path / "i.tif", "-o", tmp_path / "o.tif").returncode == 0
    found = tifffile.imread(tmp_path / "o.tif") / 65535
    whole = register.warp(smooth, local, fill=0.0)
    expected = whole.reshape(200, 2, 230, 2).mean((1, 3)) if scale == 0.5 else whole
    compared = found if scale == 0.5 else found.reshape(400, 2, 460, 2).mean((1, 3))
    inner = slice(30, -30), slice(30, -30)
    assert 10 * np.log10(1 / np.mean((compared - expected)[inner] ** 2)) >= 35
    assert fine.map((points() + 0.5) * 2 - 0.5).numpy() == pytest.approx(
        ((local.map(points()) + 0.5) * 2 - 0.5).numpy(), abs=1e-9
    )
    assert len(x) == 920
    assert len(y) == 800


def test_labels_keep_their_values(local, tmp_path):
    labels = np.random.default_rng(1).choice([0, 7, 300, 4_000_000_000], (400, 460)).astype(np.uint32)
    tifffile.imwrite(tmp_path / "l.tif", labels)
    local.save(tmp_path / "t.json")
    apply(local, [tmp_path / "l.tif"], tmp_path / "o.tif", labels=True)
    assert set(np.unique(tifffile.imread(tmp_path / "o.tif"))) <= {0, 7, 300, 4_000_000_000}
    with pytest.raises(FileError, match="PNG cannot hold"):
        apply(local, [tmp_path / "l.tif"], tmp_path / "o.png", labels=True)


def test_the_inverse_resamples_the_fixed_image_onto_the_moving_grid(local, texture, tmp_path):
    pair = warped_pair(texture, 0.02, seed=1)
    tifffile.imwrite(tmp_path / "f.tif", (pair.fixed * 65535).clip(0, 65535).astype(np.uint16))
    apply(local, [tmp_path / "f.tif"], tmp_path / "o.tif", inverse=True, style=OutputStyle("bicubic"))
    back = tifffile.imread(tmp_path / "o.tif") / 65535
    assert np.abs(back - pair.moving)[40:-40, 40:-40].mean() < 0.01


def test_apply_takes_many_images_and_refuses_what_does_not_fit(local, texture, tmp_path):
    for name, image in (("a", texture), ("small", texture[:100, :300])):
        tifffile.imwrite(tmp_path / f"{name}.tif", (image * 255).astype(np.uint8))
    tifffile.imwrite(
        tmp_path / "b.tif",
        (texture * 255).astype(np.uint8)[None].repeat(5, 0),
        photometric="minisblack",
        planarconfig="separate",
        metadata=None,
    )
    done = apply(local, [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out")
    assert [(moved.width, moved.height, moved.scale) for moved in done] == [(460, 400, 1.0)] * 2
    assert register.read_image(tmp_path / "out" / "b.tif").pixels.shape == (5, 400, 460)
    with pytest.raises(FileError, match="exists already"):
        apply(local, [tmp_path / "a.tif"], tmp_path / "out")
    with pytest.raises(FileError, match="300 × 100"):
        apply(local, [tmp_path / "small.tif"], tmp_path / "out2")
    with pytest.raises(RegisterError, match="two images are called a"):
        apply(local, [tmp_path / "a.tif", tmp_path / "x" / "a.tif"], tmp_path / "out3")


def test_points_keep_their_columns(local, tmp_path, program):
    local.save(tmp_path / "t.json")
    (tmp_path / "p.csv").write_text('name,Y,X\n"a, b",50,60\n\nc,399,9000\n')
    done = program("points", tmp_path / "t.json", tmp_path / "p.csv", "-o", tmp_path / "q.csv")
    assert "2 points, 1 of them on the image" in done.stdout
    lines = (tmp_path / "q.csv").read_text().splitlines()
    assert lines[0] == "name,Y,X,inside,expected_error"
    assert lines[1].startswith('"a, b",')
    (inside, error), (outside, _) = (line.split(",")[-2:] for line in lines[1:])
    assert (inside, outside) == ("true", "false")
    assert 0 < float(error) < 1
    assert (
        program(
            "points", tmp_path / "t.json", tmp_path / "q.csv", "-o", tmp_path / "r.csv", "--inverse"
        ).returncode
        == 0
    )
    back = read_point_file(tmp_path / "r.csv").points
    assert back == pytest.approx(np.array([[60, 50], [9000, 399]]), abs=2e-3)


def test_naparis_axes_are_rows_and_columns(local, tmp_path):
    (tmp_path / "p.csv").write_text("index,axis-0,axis-1,axis-2\n0,3,50,60\n")
    map_points(local, tmp_path / "p.csv", tmp_path / "q.csv")
    x, y = local.map(torch.tensor([[60.0, 50.0]]))[0].tolist()
    row = (tmp_path / "q.csv").read_text().splitlines()[1].split(",")
    assert (float(row[2]), float(row[3]), row[1]) == (
        pytest.approx(y, abs=1e-5),
        pytest.approx(x, abs=1e-5),
        "3",
    )


def test_qupath_geojson_keeps_everything_and_counts_from_the_corner(local, tmp_path):
    ring, hole = [[60, 50], [90, 50], [90, 80], [60, 50]], [[70, 60], [80, 60], [80, 65], [70, 60]]
    tree = {"type": "FeatureCollection", "mine": [1], "features": [
        {"type": "Feature", "id": "x", "geometry": {"type": "Polygon", "coordinates": [ring, hole]},
         "nucleusGeometry": {"type": "Point", "coordinates": [70, 55, 3]},
         "properties": {"objectType": "cell", "classification": {"name": "T", "color": [1, 2, 3]}}},
        {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [
            {"type": "Point", "coordinates": [-900, 5]},
        ]}, "properties": None},
        {"type": "Feature", "geometry": None, "properties": {}},
    ]}  # fmt: skip
    (tmp_path / "p.geojson").write_text(json.dumps(tree))
    map_points(local, tmp_path / "p.geojson", tmp_path / "q.geojson")
    found = json.loads((tmp_path / "q.geojson").read_text())
    first = found["features"][0]
    expected = local.map(torch.tensor(ring, dtype=torch.float64) - 0.5) + 0.5
    assert np.array(first["geometry"]["coordinates"][0]) == pytest.approx(expected.numpy(), abs=1e-5)
    assert len(first["geometry"]["coordinates"][1]) == 4
    assert first["nucleusGeometry"]["coordinates"][2] == 3
    assert (found["mine"], first["id"], first["properties"]["classification"]) == (
        [1],
        "x",
        {"name": "T", "color": [1, 2, 3]},
    )
    assert (first["properties"]["inside"], found["features"][1]["properties"]["inside"]) == (True, False)
    map_points(local, tmp_path / "q.geojson", tmp_path / "r.geojson", inverse=True)
    assert np.array(
        json.loads((tmp_path / "r.geojson").read_text())["features"][0]["geometry"]["coordinates"][0]
    ) == pytest.approx(np.array(ring), abs=1e-3)


def test_imagej_regions(local, tmp_path):
    polygon, dots = (
        np.array([[60.5, 50.25], [90, 50], [90, 80]], np.float32),
        np.array([[100, 110], [120, 30]]),
    )
    regions = [
        roifile.ImagejRoi.frompoints(polygon, name="cell"),
        roifile.ImagejRoi.frompoints(dots, name="dots"),
    ]
    regions[0].roitype, regions[1].roitype = roifile.ROI_TYPE.POLYGON, roifile.ROI_TYPE.POINT
    roifile.roiwrite(tmp_path / "p.zip", regions, mode="w")
    map_points(local, tmp_path / "p.zip", tmp_path / "q.zip")
    found = roifile.roiread(tmp_path / "q.zip")
    assert [(r.name, r.roitype) for r in found] == [(r.name, r.roitype) for r in regions]
    assert found[0].coordinates() == pytest.approx(
        (local.map(torch.from_numpy(polygon).double() - 0.5) + 0.5).numpy(), abs=1e-3
    )
    assert found[1].coordinates() == pytest.approx(
        (local.map(torch.from_numpy(dots).double()) + 0.5).numpy(), abs=1e-3
    )
    (tmp_path / "bad.roi").write_bytes(b"nothing")
    with pytest.raises(FileError, match=r"bad\.roi"):
        map_points(local, tmp_path / "bad.roi", tmp_path / "r.roi")


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "Feature"}',
        '{"type": "Point", "coordinates": ["a", 1]}',
        '{"type": "Point", "coordinates": [1]}',
        "{",
        "[]",
    ],
)
def test_broken_geojson_is_one_clear_line(local, tmp_path, text):
    (tmp_path / "p.geojson").write_text(text)
    with pytest.raises(FileError, match=r"p\.geojson"):
        map_points(local, tmp_path / "p.geojson", tmp_path / "q.geojson")
    assert not (tmp_path / "q.geojson").exists()


def test_evaluate(local, tmp_path, program):
    local.save(tmp_path / "t.json")
    fixed, moving = points(30), local.map(points(30)) + torch.tensor([3.0, 4.0])
    for name, these in (("f", fixed), ("m", moving)):
        (tmp_path / f"{name}.csv").write_text(
            ",X,Y\n" + "".join(f"{i},{x!r},{y!r}\n" for i, (x, y) in enumerate(these.tolist(), 1))
        )
    args = "evaluate", tmp_path / "t.json", tmp_path / "f.csv", tmp_path / "m.csv"
    done = program(*args, "--json", "-o", tmp_path / "rows.csv")
    found = json.loads(done.stdout)
    assert found["after"]["tre"] == pytest.approx({"median": 5, "mean": 5, "p90": 5, "max": 5})
    assert found["after"]["rtre"]["median"] == pytest.approx(5 / np.hypot(460, 400))
    assert found["birl"]["TRE Median"] == pytest.approx(5)
    before = (fixed - moving).norm(dim=1)
    assert found["robustness"] == pytest.approx(float((before > 5).double().mean()))
    assert found["interval_95"]["mean"] == pytest.approx([5, 5])
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 31
    assert program(*args, "--max-median", "4.9").returncode == 3
    assert program(*args, "--max-median", "5.1").returncode == 0
    (tmp_path / "m.csv").write_text("x,y\n1,2\n")
    done = program(*args)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "m.csv: 30 fixed and 1 moving landmarks" in done.stderr


def test_info_and_the_commands_that_write_transforms(local, tmp_path, program):
    local.save(tmp_path / "t.json")
    assert program("invert", tmp_path / "t.json", "-o", tmp_path / "i.json").returncode == 0
    done = program("compose", tmp_path / "t.json", tmp_path / "i.json", "-o", tmp_path / "c.json", "--json")
    assert json.loads(done.stdout)["round_trip_max"] < 1e-3
    tifffile.imwrite(
        tmp_path / "x.ome.tif",
        np.zeros((3, 20, 30), np.uint16),
        metadata={"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5},
    )
    files = json.loads(program("info", tmp_path / "c.json", tmp_path / "x.ome.tif", "--json").stdout)["files"]
    assert [link["inverse"] for link in files[0]["links"]] == [False, True]
    assert files[0]["det_min"] == pytest.approx(
        1, abs=0.05
    )  # at the border of patches the Jacobian is that of one side
    assert (files[1]["width"], files[1]["channels"], files[1]["pixel_size"]) == (30, 3, [0.5, 0.5])
    assert "maps a point (x, y) of the fixed image" in program("info", tmp_path / "t.json").stdout
    tifffile.imwrite(
        tmp_path / "stack.tif", np.zeros((7, 20, 30), np.uint8), metadata={"axes": "ZYX"}, imagej=True
    )
    (tmp_path / "text.png").write_text("hello")
    done = program("info", tmp_path / "text.png", tmp_path / "stack.tif", "--json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert json.loads(done.stdout)["files"][0]["axes"] == "ZYX"
    done = program("export", tmp_path / "t.json", "--to", "itk", "-o", tmp_path / "t.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "is an input" in done.stderr
    done = program("invert", tmp_path / "missing.json", "-o", tmp_path / "j.json")
    assert (done.returncode, "missing.json" in done.stderr) == (1, True)
