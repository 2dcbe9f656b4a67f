"""``register group``: a set of images in one frame, what does not belong named, links done again alone."""

import csv
import json
from dataclasses import replace

import jsonschema
import numpy as np
import ome_types
import pytest
import tifffile
from scipy.ndimage import gaussian_filter, map_coordinates

import register
from register import settings
from register.errors import RegisterError
from register.geometry import affine
from register.report import group as page
from register.settings import Settings
from register.transforms import group_schema
from register.workflows import align, batch
from register.workflows.sets import images as inputs
from register.workflows.sets import order

SIDE = 260


def texture(seed, size=SIDE + 120):
    rng = np.random.default_rng(seed)
    layers = sum(s * gaussian_filter(rng.normal(size=(size, size)), s) for s in (1.5, 3, 8))
    return layers / layers.std()


def section(content, angle, shift, mirrored=False):
    """An image of some content, and its map (2, 3) from pixels to the content."""
    matrix = affine.similarity(angle, 1.0, (SIDE / 2, SIDE / 2), np.array(content.shape) / 2 + shift)
    if mirrored:
        matrix = affine.compose(matrix, np.array([[-1.0, 0, SIDE - 1], [0, 1, 0]]))
    x = np.arange(SIDE, dtype=float)
    points = affine.apply_to_grid(matrix[None], x, x)[0]
    values = map_coordinates(content, [points[..., 1], points[..., 0]], order=3, mode="reflect")
    return np.clip(128 + 40 * values, 0, 255).astype(np.uint8), matrix


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    """Three sections, one of them mirrored, and a foreign one, with their true maps."""
    folder = tmp_path_factory.mktemp("sections")
    content, rng, truth = texture(1), np.random.default_rng(2), {}
    for n in range(3):
        content = 0.9 * content + 0.43 * texture(10 + n)
        image, truth[f"s{n}"] = section(content, 0.2 * n, rng.uniform(-8, 8, 2), mirrored=n == 1)
        tifffile.imwrite(folder / f"s{n}.tif", image)
    tifffile.imwrite(folder / "s9_foreign.tif", section(texture(99), 0, 0)[0])
    return folder, truth


def errors(out, truth):
    """The median error of every image against the first, in pixels."""
    points = affine.points_at(np.linspace(60, 200, 9), np.linspace(60, 200, 9)).reshape(-1, 2)
    found = {name: register.Transform.load(out / name / "transform.json") for name in truth}
    first = found["s0"]
    return {
        name: float(
            np.median(
                np.linalg.norm(
                    affine.apply(truth[name], found[name].map(points))
                    - affine.apply(truth["s0"], first.map(points)),
                    axis=1,
                )
            )
        )
        for name in truth
    }


@pytest.mark.slow
def test_a_set_is_aligned_and_what_does_not_belong_is_named(sections, tmp_path, program):
    folder, truth = sections
    out = tmp_path / "out"
    asked = ["group", folder, "-o", out, "--preset", "fast", "--model", "rigid", "--rotation-range", "40"]
    asked += ["--workers", "1", "--max-size", "180"]
    merged = ["--merge", tmp_path / "all.ome.tif", "--volume", tmp_path / "volume.ome.tif", "--overwrite"]
    done = program(*asked, *merged)
    assert done.returncode == 3, done.stderr
    assert "s9_foreign  failed" in done.stdout
    file = json.loads((out / "group.json").read_text())
    shipped = json.loads((inputs.Path(group_schema.__file__).parent / "group.schema.json").read_text())
    assert shipped == group_schema.schema()
    jsonschema.validate(file, shipped)
    verdicts = {image["id"]: image["verdict"] for image in file["images"]}
    assert verdicts == {"s0": "ok", "s1": "ok", "s2": "ok", "s9_foreign": "failed"}
    assert max(errors(out, truth).values()) < 0.5
    assert register.Transform.load(out / "s1" / "transform.json").quality.det_global < 0, "it is mirrored"
    assert not (out / "s9_foreign" / "aligned.tif").exists()
    rows = list(csv.DictReader((out / "summary.csv").read_text().splitlines()))
    assert [row["mirrored"] for row in rows] == ["", "yes", "", ""]
    channels = ome_types.from_tiff(tmp_path / "all.ome.tif").images[0].pixels.channels
    assert [channel.name for channel in channels] == ["s0", "s1", "s2"]
    volume = tifffile.imread(tmp_path / "volume.ome.tif")
    assert np.array_equal(volume[1], tifffile.imread(out / "s1" / "aligned.tif"))
    assert not volume[3].any()
    again = program(*asked, "--no-images")
    assert again.stdout.count("done before") >= 5
    assert not (out / "s1" / "aligned.tif").exists()
    clean = errors(out, truth)
    path = out / "links" / "s0--s2" / "transform.json"
    spoilt = register.Transform.load(path)
    replace(spoilt, matrix=affine.compose(affine.translation(30.0, 5.0), spoilt.matrix)).save(path)
    program(*asked)  # three links cannot tell which of them is wrong, only that one is
    found = {image["id"]: image for image in json.loads((out / "group.json").read_text())["images"]}
    assert all(found[name]["verdict"] == "suspect" for name in truth)
    assert "contradict each other" in found["s2"]["reasons"][0]
    points = affine.points_at(np.array([60.0, 200]), np.array([60.0, 200])).reshape(-1, 2)
    back = affine.compose(affine.invert(truth["s2"]), truth["s0"])
    for name, values in (("f.csv", points), ("m.csv", affine.apply(back, points))):
        text = "\n".join(f"{x},{y}" for x, y in values)
        (tmp_path / name).write_text(f"x,y\n{text}\n")
    done = program(*asked, "--link", f"s0,s2,{tmp_path / 'f.csv'},{tmp_path / 'm.csv'}")
    line = next(line for line in done.stdout.splitlines() if line.startswith("s0--s2:"))
    assert "done again: init changed" in line
    assert done.stdout.count("done again") == 1
    links = {(x["fixed"], x["moving"]): x for x in json.loads((out / "group.json").read_text())["links"]}
    assert links["s0", "s2"]["weight"] > 0.5
    assert all(error < 1.5 * clean[name] + 0.05 for name, error in errors(out, truth).items())


@pytest.mark.slow
def test_a_dask_cluster_aligns_the_links_of_a_set(sections, tmp_path, program):
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    folder, truth = sections
    paths = [folder / f"{name}.tif" for name in ("s0", "s2")]
    asked = ["--preset", "fast", "--model", "rigid", "--rotation-range", "40", "--max-size", "180",
             "--no-images"]  # fmt: skip
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = ["--scheduler", cluster.scheduler_address]
        done = program("group", *paths, folder / "s1.tif", "-o", tmp_path / "dask", *asked, *address)
        assert done.returncode == 0, done.stderr
    local = program("group", *paths, folder / "s1.tif", "-o", tmp_path / "local", *asked, "--workers", "1")
    assert local.returncode == 0, local.stderr
    assert max(errors(tmp_path / "dask", truth).values()) < 0.5
    for name in truth:
        one, other = (
            register.Transform.load(tmp_path / place / name / "transform.json") for place in ("dask", "local")
        )
        assert np.allclose(one.matrix, other.matrix, atol=1e-9), name
        assert one.quality.verdict == other.quality.verdict == "ok"
    done = program("group", *paths, "-o", tmp_path / "none", *asked, "--scheduler", "tcp://127.0.0.1:1")
    assert (done.returncode, "cannot connect" in done.stderr) == (1, True), done.stderr


def test_a_link_holds_its_landmarks_whichever_image_is_named_first(tmp_path, program):
    rng = np.random.default_rng(5)
    for name in ("s0", "s1"):
        tifffile.imwrite(tmp_path / f"{name}.tif", rng.integers(0, 255, (240, 260), dtype=np.uint8))
    matrix = np.array([[0.8, 0.6, -40.0], [-0.6, 0.8, 210.0]])
    points = rng.uniform(30, 210, (6, 2))
    for name, values in (("f.csv", points), ("m.csv", affine.apply(matrix, points))):
        (tmp_path / name).write_text("x,y\n" + "".join(f"{x},{y}\n" for x, y in values))
    asked = ("group", tmp_path, "-o", tmp_path / "out", "--preset", "fast", "--model", "similarity",
             "--rotation-range", "0", "--scale-range", "1", "--workers", "1", "--no-images")  # fmt: skip
    done = program(*asked, "--link-hold", f"s1,s0,{tmp_path / 'm.csv'},{tmp_path / 'f.csv'}")
    link = json.loads((tmp_path / "out" / "group.json").read_text())["links"][0]
    assert link["verdict"] == "suspect", done.stdout
    assert "6 landmarks agree" in link["reasons"][0]
    made = register.Transform.load(tmp_path / "out" / "links" / "s0--s1" / "transform.json")
    others = rng.uniform(30, 210, (20, 2))
    assert np.linalg.norm(made.map(others) - affine.apply(matrix, others), axis=1).max() < 2
    assert [point.kept for point in made.quality.held.points] == [True] * 6


def test_images_come_from_folders_patterns_and_tables_in_natural_order(tmp_path):
    for name in ("s10.tif", "s2.tif", "s1.tif", "notes.txt"):
        (tmp_path / name).write_bytes(b"II*\0")
    assert [image.id for image in inputs.listed([str(tmp_path)])] == ["s1", "s2", "s10"]
    assert [image.id for image in inputs.listed([str(tmp_path / "s?.tif")])] == ["s1", "s2"]
    table = tmp_path / "set.csv"
    table.write_text("image,id,channel,position\ns1.tif,late,DAPI,2\ns2.tif,early,,1\n")
    found = inputs.from_table(str(table))
    assert [(image.id, image.channel) for image in found] == [("early", None), ("late", "DAPI")]
    pair = inputs.link_pair(*found, Settings(), mirrored=True)
    assert (pair.id, pair.settings.moving_channel, pair.settings.allow_flip) == (
        "early--late.mirrored",
        "DAPI",
        True,
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("image,colour\na.tif,red\n", "has a column 'colour'; columns are image, id"),
        ("id\na\n", "has no column image"),
        ("image,position\na.tif,first\n", "line 2: position 'first' is not a number"),
        ("image,id\n,a\n", "line 2 names no image"),
        ("image\na.tif\na.tif\n", "is named twice"),
        ("image\na.tif\n", "at least two images"),
        ("image,id\na.tif,x\nb.tif,X\n", "line 3: the id 'X' is named twice"),
    ],
)
def test_a_table_that_is_wrong_is_refused_in_one_line(tmp_path, table, message):
    (tmp_path / "set.csv").write_text(table)
    with pytest.raises(RegisterError, match=message):
        inputs.from_table(str(tmp_path / "set.csv"))


def test_wrong_usage_is_refused_before_anything_is_computed(tmp_path, program):
    for n in range(2):
        tifffile.imwrite(tmp_path / f"s{n}.tif", np.full((40, 40), n, np.uint8))
    points = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for n, path in enumerate(points, start=1):
        path.write_text("x,y\n" + "".join(f"{k},{k}\n" for k in range(n)))
    for options, code, message in (
        (["--reference", "s7"], 1, "--reference 's7': auto, mean, or one of s0, s1"),
        (["--link", "s0,s7,a.csv,b.csv"], 2, "no image has the id 's7'"),
        (["--link-hold", "s0,s1,a.csv,b.csv"], 2, "--link-hold: a.csv does not exist"),
        (["--link-hold", f"s0,s0,{points[0]},{points[0]}"], 2, "both ids are the same"),
        (["--link", f"s0,s1,{points[0]},{points[1]}"], 2, "row i of both files must be the same landmark"),
        (["--landmark-sigma", "2"], 2, "is the error of the landmarks of --link-hold"),
        (["--landmarks-hold", "a.csv,b.csv"], 2, "No such option"),
        (["--thickness", "3"], 1, "--thickness is the distance of the planes of a --volume"),
        (["--merge", tmp_path / "all.png"], 1, "cannot hold many named channels"),
        (["--init", "start.json"], 2, "start one link by"),
    ):
        done = program("group", tmp_path, "-o", tmp_path / "out", *options)
        assert (done.returncode, message in done.stderr) == (code, True), (options, done.stderr)
        assert not (tmp_path / "out").exists()
    planned = program("group", tmp_path, "--dry-run", "--json")
    assert json.loads(planned.stdout)["links"] == [["s0", "s1"]]
    for n in range(2, 6):
        tifffile.imwrite(tmp_path / f"s{n}.tif", np.full((40, 40), n, np.uint8))
    assert len(json.loads(program("group", tmp_path, "--dry-run", "--json").stdout)["links"]) == 15


def test_links_are_not_aligned_again_for_what_is_written(tmp_path):
    for n in range(2):
        tifffile.imwrite(tmp_path / f"s{n}.tif", section(texture(1), 0, (n, 0))[0])
    images = [inputs.SetImage(f"s{n}", str(tmp_path / f"s{n}.tif")) for n in range(2)]
    usual = settings.check(preset="fast", model="translation", rotation_range=0.0, max_size=128)
    batch.align_pair(inputs.link_pair(*images, usual), str(tmp_path / "links"))
    written = settings.check(
        preset="fast", model="translation", rotation_range=0.0, max_size=128, canvas="union", fill="3",
        interpolation="nearest", compression="zstd", format="ome-tiff", pyramid=True, report=False,
    )  # fmt: skip
    again = batch.align_pair(inputs.link_pair(*images, written), str(tmp_path / "links"))
    assert again.note == "done before"
    other = batch.align_pair(inputs.link_pair(*images, replace(written, seed=1)), str(tmp_path / "links"))
    assert other.note == "done again: seed changed"


def test_files_that_cannot_be_written_are_refused_before_the_first_link(tmp_path, program):
    for name, kind, size in (("a", "uint16", (60, 60)), ("b", "uint16", (50, 60)), ("c", "uint8", (60, 60))):
        tifffile.imwrite(tmp_path / f"{name}.tif", np.arange(np.prod(size)).reshape(size).astype(kind))
    out, one = tmp_path / "out", tmp_path / "x.ome.tif"
    alike, mixed = (("a", "b"), ("a", "c"))
    for names, options, message in (
        (alike, ["--volume", one, "--thickness", "2"], "a.tif states none"),
        (mixed, ["--volume", one], "a volume needs one kind of image"),
        (mixed, ["--merge", one], "use --dtype uint16"),
        (mixed, ["--merge", one, "--dtype", "uint8"], "do not fit into --dtype uint8"),
        (alike, ["--compression", "jpeg"], "a.tif: JPEG cannot hold grey pixels of uint16"),
        (alike, ["--no-images", "--merge", one, "--compression", "jpeg"], "x.ome.tif: JPEG cannot hold"),
        (alike, ["--dtype", "uint8"], "--dtype is the type of the values of --merge"),
        (alike, ["--merge", one, "--volume", one], "is named by --merge and by --volume"),
        (alike, ["--merge", out / "a" / "x.ome.tif"], "choose another --merge"),
        (alike, ["--volume", out / "links" / "x.ome.tif"], "choose another --volume"),
        (alike, ["--volume", tmp_path / "old.ome.tif"], "use --overwrite or another --volume"),
    ):
        (tmp_path / "old.ome.tif").touch()
        done = program("group", *(tmp_path / f"{name}.tif" for name in names), "-o", out, *options)
        assert (done.returncode, message in done.stderr) == (1, True), (options, done.stderr)
        assert not out.exists(), options
        assert not one.exists()


def test_a_group_file_that_is_wrong_is_refused(tmp_path):
    path = tmp_path / "group.json"
    for text, message in (
        ("{", "is not a group file"),
        ('{"version": 2}', "has version 2"),
        ("{}", "format"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "is not a group file"),
    ):
        path.write_text(text)
        with pytest.raises(RegisterError, match=message):
            group_schema.read(path)


def test_the_page_draws_the_graph_and_names_everything():
    grey = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    rows = [page.SetRow(f"s{n}", "ok", "", 1, 0.1, grey, grey) for n in range(3)]
    rows.append(page.SetRow("<foreign>", "failed", "no link", 0, None, None, None))
    links = [
        page.LinkRow(0, 1, "ok", 1.0, 0.1, 0.05, ""),
        page.LinkRow(1, 3, "failed", 0.0, None, None, "why"),
    ]
    text = page.page("out", [("images", "4")], rows, links, ["a note"])
    assert text.count('class="frame"') == 3
    assert text.count("<figcaption>Section ") == 4
    assert text.count("<path ") == 2
    assert "stroke-width" in text
    assert "&lt;foreign&gt;" in text
    assert "<foreign>" not in text


def test_images_without_matches_come_last_in_an_order():
    matched = np.array([[0, 0, 9, 1], [0, 0, 0, 0], [9, 0, 0, 30], [1, 0, 30, 0]], float)
    assert order.order_of(matched) == [0, 2, 3, 1]


def test_links_share_what_is_prepared_of_an_image_and_give_the_same_bits(tmp_path):
    for n in range(3):
        tifffile.imwrite(
            tmp_path / f"s{n}.tif", section(texture(1), 0.0, np.array([n, 2.0 * n]))[0][:150, :150]
        )
    align._PREPARED.clear()
    chosen = register.settings.check(preset="fast", model="translation", rotation_range=5.0)
    jobs = [
        align.Job(
            tmp_path / f"s{a}.tif", tmp_path / f"s{b}.tif", tmp_path / f"{a}{b}", chosen, True, brief=True
        )
        for a, b in ((0, 1), (1, 2))
    ]
    for job in jobs:
        align.run(job)
    assert len(align._PREPARED) == 3
    again = replace(jobs[1], brief=False, output=tmp_path / "whole")
    whole = align.run(again)
    assert sorted(path.name for path in (tmp_path / "12").iterdir()) == ["transform.json"]
    one, other = (register.Transform.load(tmp_path / name / "transform.json") for name in ("12", "whole"))
    assert np.array_equal(one.matrix, other.matrix)
    assert one.quality.similarity_after == other.quality.similarity_after
    assert whole.files["report"].exists()
    tifffile.imwrite(tmp_path / "s1.tif", np.zeros((60, 60), np.uint8))
    with pytest.raises(RegisterError, match="constant"):
        align.run(replace(jobs[0], overwrite=True))
