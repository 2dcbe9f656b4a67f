"""Two images that name their channels are compared by the one that they have in common."""

import numpy as np
import pytest
import tifffile

import register
from benchmarks.synthetic import warped_pair
from register.errors import FileError, RegisterError
from register.geometry import affine
from register.images.shared_channels import Common, common, is_nuclear
from register.io.images.model import Image
from register.io.images.open import open_image, write_image
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows import align

NUCLEAR = "DAPI, R1_DAPI, dapi-02, DAPIr3, Hoechst33342, DNA, DNA_1, cyc001 DNA, Nuclei (round 2), FS-DRAQ5"
OTHERS = "DNA-PK, cDNA, nuclear lamin, H2AX DNA damage, DAPIX, PanCK, c3, "


@pytest.mark.parametrize("name", NUCLEAR.split(", "))
def test_nuclear_stains_are_recognised_with_the_names_of_rounds(name):
    assert is_nuclear(name)


@pytest.mark.parametrize("name", OTHERS.split(", "))
def test_other_names_are_not_nuclear(name):
    assert not is_nuclear(name)


@pytest.mark.parametrize(
    ("fixed", "moving", "expected"),
    [
        ("AF CD8 DAPI PanCK", "DAPI Ki67 CD20 FoxP3", Common("DAPI", "DAPI", ("DAPI",))),
        ("AF dapi CD8", "AF CD20 DAPI", Common("dapi", "DAPI", ("AF", "dapi"))),
        ("AF DAPI_R1", "AF DAPI_R2", Common("DAPI_R1", "DAPI_R2", ("AF",))),
        ("PanCK CD8", "CD20 PanCK", Common("PanCK", "PanCK", ("PanCK",))),
        ("A B", "B A", Common(None, None, ("A", "B"))),
        ("A A B", "A C D", Common(None, None)),
        ("mean A", "B mean", Common(None, None)),
        ("", "DAPI A", Common(None, None)),
    ],
)
def test_the_channel_in_common(fixed, moving, expected):
    assert common(fixed.split(), moving.split()) == expected


@pytest.fixture
def rounds(tmp_path, texture):
    """Two rounds that share only the nuclear stain, at different places; the first channels are unlike."""
    pair = warped_pair(texture, 0.01, seed=3)
    other = np.random.default_rng(1).normal(size=(3, 256, 256)).cumsum(2)
    other = (other - other.min()) / (other.max() - other.min())
    planes = [(x[:256, :256].clip(0, 1) * 60000).astype(np.uint16) for x in (pair.fixed, pair.moving, *other)]
    fixed = Image(np.stack([planes[2], planes[0]]), kind="ome", channel_names=("CD8", "DAPI"))
    moving = Image(
        np.stack([planes[1], planes[3], planes[4]]), kind="ome", channel_names=("DAPI", "Ki67", "FoxP3")
    )
    for name, image in (("one.ome.tif", fixed), ("two.ome.tif", moving)):
        write_image(tmp_path / name, image)
    return tmp_path


def aligned(folder, **values):
    chosen = register.settings.check(preset="fast", init="identity", **values)
    job = align.Job(folder / "one.ome.tif", folder / "two.ome.tif", folder / "out", chosen, overwrite=True)
    return align.run(job)


def test_rounds_are_aligned_by_their_nuclei_and_the_report_says_so(rounds):
    found = aligned(rounds)
    quality = found.alignment.quality
    assert (quality.verdict, quality.fixed_grey, quality.moving_grey, quality.shared_channels) == (
        "ok", "channel 1 (DAPI)", "channel 0 (DAPI)", ("DAPI",),
    )  # fmt: skip
    said = "channel 1 (DAPI) with channel 0 (DAPI); both images name DAPI"
    assert quality.compared() == said
    assert said in found.files["report"].read_text()
    chosen = aligned(
        rounds, fixed_channel="CD8", moving_channel="DAPI", model="translation"
    ).alignment.quality
    assert chosen.fixed_grey == "channel 0 (CD8)", "a channel that is asked for is compared"


def test_a_message_names_the_channels_and_what_both_share(rounds):
    image = tifffile.imread(rounds / "two.ome.tif")
    image[0] = 5
    write_image(rounds / "two.ome.tif", Image(image, kind="ome", channel_names=("DAPI", "Ki67", "FoxP3")))
    with pytest.raises(
        RegisterError, match=r"channel 1 \(DAPI\) with channel 0 \(DAPI\); names of both: DAPI"
    ):
        aligned(rounds)


@pytest.fixture
def stained(tmp_path):
    """Fluorescence images of 2, 3 and 4 channels with names, and a transform of them."""
    for count in (2, 3, 4):
        names = ("DAPI", "CD3", "PanCK", "CD8")[:count]
        pixels = np.random.default_rng(0).integers(0, 255, (count, 40, 50), np.uint8)
        write_image(tmp_path / f"c{count}.ome.tif", Image(pixels, kind="ome", channel_names=names))
    Transform("affine", Frame(50, 40), Frame(50, 40), affine.identity()).save(tmp_path / "t.json")
    return tmp_path


@pytest.mark.parametrize("count", [2, 3, 4])
def test_channels_do_not_become_the_colours_or_the_opacity_of_a_png(count, stained, program):
    name, out = stained / f"c{count}.ome.tif", stained / "out"
    (stained / "pairs.csv").write_text(f"fixed,moving\n{name},{name}\n")
    commands = {
        "--plane": ["apply", stained / "t.json", name, "-o", out / "a.png"],
        "--moving-plane": ["align", name, name, "-o", out, "--format", "png"],
        "--plane C=0": ["group", name, name.with_name("t.ome.tif"), "-o", out, "--format", "png"],
        "moving": ["batch", "--pairs", stained / "pairs.csv", "-o", out, "--format", "png", "--workers", 1],
    }
    name.with_name("t.ome.tif").write_bytes(name.read_bytes())
    for advice, command in commands.items():
        done = program(*command)
        assert done.returncode == 1, command
        message = done.stderr + done.stdout
        if command[0] != "batch":
            assert message.count("\n") == 1
        assert f"{name}: PNG holds one grey channel or red, green and blue, not {count} grey" in message
        assert advice in message
        assert not {"a.png", "aligned.png", "transform.json"} & {file.name for file in out.rglob("*")}
    with pytest.raises(FileError, match="PNG holds one grey channel"):
        write_image(stained / "b.png", open_image(name))


def test_one_channel_of_several_is_written_as_png(stained, program):
    done = program(
        "apply", stained / "t.json", stained / "c2.ome.tif", "-o", stained / "a.png", "--plane", "C=1"
    )
    assert done.returncode == 0, done.stderr
    given, made = open_image(stained / "c2.ome.tif"), open_image(stained / "a.png")
    assert np.array_equal(made.pixels[0], given.pixels[slice(1, 2), slice(None), slice(None)][0])


def test_a_png_holds_no_other_colours_and_no_metadata_of_ome(tmp_path, stained, program):
    for colour, count in (("cmyk", 4), ("lab", 3), ("rgb", 4), ("rgb", 2)):
        with pytest.raises(FileError, match="PNG holds one grey channel"):
            write_image(tmp_path / "b.png", Image(np.zeros((count, 4, 5), np.uint8), colour=colour))
    for colour, count in (("grey", 2), ("rgb", 4)):
        write_image(tmp_path / "b.png", Image(np.zeros((count, 4, 5), np.uint8), colour=colour, extra=(2,)))
    with pytest.raises(FileError, match=r"has the ending \.ome\.png"):
        write_image(tmp_path / "b.ome.png", Image(np.zeros((1, 4, 5), np.uint8)))
    done = program("apply", stained / "t.json", stained / "c2.ome.tif", "-o", tmp_path / "x.ome.png")
    assert done.returncode == 1
    assert "has the ending .ome.png" in done.stderr


STORED = {
    "--compression": ["--compression", "zstd"],
    "--compression ": ["--compression", "jpeg", "--jpeg-quality", "50"],
    "--pyramid": ["--pyramid"],
    "--pyramid pages": ["--pyramid", "pages"],
    "--jpeg-quality": ["--jpeg-quality", "50"],
    "--chunks": ["--chunks", "64"],
}


@pytest.mark.parametrize("option", STORED)
def test_options_that_a_png_does_not_have_are_refused_as_they_were_typed(option, stained, program):
    name = stained / "c2.ome.tif"
    for command in (
        ["apply", stained / "t.json", name, "-o", stained / "a.png", "--plane", "C=0"],
        ["align", name, name, "-o", stained / "out", "--format", "png"],
    ):
        done = program(*command, *STORED[option])
        assert done.returncode == 2
        assert f"Invalid value for {option.strip()}: is not allowed" in done.stderr
    assert not (stained / "a.png").exists()


def test_the_format_auto_is_tiff_for_a_png_where_its_storage_is_asked_for(stained, program):
    write_image(stained / "m.png", Image(np.zeros((1, 40, 50), np.uint8)))
    for options, suffix in (([], ".png"), (["--compression", "zstd"], ".tif"), (["--pyramid"], ".tif")):
        done = program("apply", stained / "t.json", stained / "m.png", "-o", stained / suffix[1:], *options)
        assert done.returncode == 0, done.stderr
        assert (stained / suffix[1:] / f"m{suffix}").exists()
        (stained / suffix[1:] / f"m{suffix}").unlink()
    done = program("merge", stained / "t.json", "-o", stained / "a.ome.tif", "--jpeg-quality", 50)
    assert done.returncode == 2
    assert "--jpeg-quality: is not allowed without --compression jpeg" in done.stderr


def test_what_a_format_cannot_hold_is_said_before_anything_is_computed(stained, program, monkeypatch):
    pixels = np.zeros((1, 40, 50), np.uint16)
    name, other = stained / "a.tif", stained / "b.tif"
    for path in (name, other):
        write_image(path, Image(pixels))

    def computed(*args, **options):
        raise AssertionError("the images were aligned")

    monkeypatch.setattr("register.api.align_levels", computed)
    monkeypatch.setattr("register.workflows.sets.solve.solve", computed)
    for options, message in (
        (["--compression", "jpeg"], f"{name}: JPEG cannot hold grey pixels of uint16; use deflate or zstd"),
        (
            ["--format", "ome-zarr", "--compression", "lzw"],
            f"{name}: OME-Zarr has no lzw compression; use none",
        ),
    ):
        for command in (["align", other, name], ["group", name, other]):
            done = program(*command, "-o", stained / "out", *options)
            assert done.returncode == 1
            assert message in done.stderr
            assert not (stained / "out").exists()
    done = program("apply", stained / "t.json", name, "-o", stained / "a.ome.zarr", "--compression", "jpeg")
    assert f"{name}: OME-Zarr has no jpeg compression" in done.stderr
