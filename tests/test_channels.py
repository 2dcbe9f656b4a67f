"""Two images that name their channels are compared by the one that they have in common."""

import numpy as np
import pytest
import tifffile

import register
from benchmarks.synthetic import warped_pair
from register.errors import RegisterError
from register.images.shared_channels import Common, common, is_nuclear
from register.io.images.model import Image
from register.io.images.open import write_image
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
