"""``register.align_group``: sets of arrays and files in Python."""

import numpy as np
import pytest
import torch

import register
from register.engine.group import graph
from register.errors import RegisterError
from register.geometry import affine
from register.io.images.model import Image
from register.transforms.frame import Frame
from register.transforms.quality import Quality
from register.workflows.batch import PairOutcome
from register.workflows.sets import links as set_links
from register.workflows.sets import solve as workflow
from register.workflows.sets.images import SetImage
from register.workflows.sets.links import LinkResult, Links
from tests.test_group import section, texture

QUICK = {"preset": "fast", "model": "rigid", "rotation_range": 30.0}
POINTS = affine.points_at(np.linspace(60, 200, 9), np.linspace(60, 200, 9)).reshape(-1, 2)


@pytest.fixture(scope="module")
def made():
    """Three sections of one content with noise, an unlike canvas, and their true maps."""
    content, found = texture(1), []
    for n in range(3):
        image, matrix = section(content, 0.15 * n, np.array([4.0 * n, -3.0 * n]))
        noise = np.random.default_rng(n).normal(0, 3, image.shape)
        found.append((np.clip(image + noise, 0, 255).astype(np.uint8), matrix))
    return found


def off(group, truth, one, other):
    """The median distance of the content that two images show at the same place, in pixels."""
    at = [affine.apply(truth[n], group[n].map(POINTS)) for n in (one, other)]
    return float(np.median(np.linalg.norm(at[0] - at[1], axis=1)))


@pytest.fixture(scope="module")
def group(made):
    images = [made[0][0], torch.from_numpy(made[1][0]), made[2][0][:240].tolist(), np.zeros((90, 80))]
    return register.align_group(images, reference=0, **QUICK), images


def test_a_reference_that_failed_is_an_error(group):
    with pytest.raises(RegisterError, match="this image failed"):
        register.align_group(group[1], reference=3, **QUICK)


def test_arrays_tensors_and_lists_come_into_one_frame(group, made):
    found, _ = group
    truth = [matrix for _, matrix in made]
    assert [str(member.verdict) for member in found.members] == ["ok", "ok", "ok", "failed"]
    assert max(off(found, truth, 0, 1), off(found, truth, 0, 2)) < 0.15
    assert (found.references, len(found), found.frames[0].width) == ((0,), 4, 260)
    assert found[0].model == "translation"
    assert found[1].quality.verdict == "ok"
    assert {(link.fixed, link.moving) for link in found.links if link.verdict == "ok"} == {
        (0, 1), (0, 2), (1, 2)
    }  # fmt: skip
    assert all(link.weight > 0.5 and link.residual < 0.5 for link in found.links if link.verdict == "ok")


def test_an_image_that_does_not_belong_has_a_reason_and_no_transform(group):
    found, _ = group
    assert "constant" in found.members[3].reasons[0]
    assert (found.members[3].group, found.members[0].group) == (0, 1)
    with pytest.raises(RegisterError, match=r"image 3 has no transform: .*constant"):
        found[3]
    failed = [link for link in found.links if 3 in (link.fixed, link.moving)]
    assert failed
    assert all((link.transform, link.weight, link.residual) == (None, 0.0, None) for link in failed)


def test_an_image_is_resampled_by_its_transform(group):
    found, images = group
    aligned = register.warp(images[1], found[1])
    assert tuple(aligned.shape) == (260, 260)
    inside = np.s_[60:200, 60:200]
    apart = [np.abs(np.asarray(x)[inside] - images[0][inside].astype(float)) for x in (aligned, images[1])]
    assert np.median(apart[0]) < 0.25 * np.median(apart[1])


def test_files_give_the_result_of_arrays_and_compare_the_channel_that_all_name(made, tmp_path):
    rng = np.random.default_rng(8)
    for n, (image, _) in enumerate(made[:2]):
        planes = [rng.integers(0, 255, image.shape, np.uint8), image]
        names = ("CD8", "DAPI") if n else ("DAPI", "Ki67")
        pixels = np.stack(planes if n else planes[::-1])
        register.write_image(tmp_path / f"{n}.ome.tif", Image(pixels, kind="ome", channel_names=names))
    paths = [tmp_path / f"{n}.ome.tif" for n in range(2)]
    found = register.align_group(paths, reference="mean", **QUICK)
    link = found.links[0]
    assert (link.verdict, link.transform.quality.fixed_grey, link.transform.quality.moving_grey) == (
        "ok", "channel 0 (DAPI)", "channel 1 (DAPI)"
    )  # fmt: skip
    assert link.transform.quality.shared_channels == ("DAPI",)
    assert off(found, [matrix for _, matrix in made], 0, 1) < 0.15
    assert found.references == (None,)
    assert found[0].moving.path == str(paths[0])
    pair = register.align(*paths, **QUICK)
    assert pair.quality.shared_channels == ("DAPI",)
    assert np.array_equal(pair.transform.matrix, link.transform.matrix)


def test_masks_and_landmarks_belong_to_images_and_links(made):
    images, truth = [image for image, _ in made[:2]], [matrix for _, matrix in made[:2]]
    spoilt = images[1].copy()
    spoilt[:, :90] = np.random.default_rng(0).integers(0, 255, (260, 90))
    mask = np.ones_like(spoilt)
    mask[:, :90] = 0
    there = affine.apply(affine.compose(affine.invert(truth[1]), truth[0]), POINTS[::20])
    found = register.align_group(
        [images[0], spoilt], masks=[None, mask], held={(1, 0): (there, POINTS[::20])}, reference=0, **QUICK
    )
    assert off(found, truth, 0, 1) < 0.2
    held = found.links[0].transform.quality.held
    assert [point.kept for point in held.points] == [True] * len(POINTS[::20])


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        (1, {}, "at least two images"),
        (2, {"masks": [None]}, "1 masks for 2 images"),
        (2, {"neighbours": 0}, "neighbours is 0"),
        (2, {"order": "best"}, "order 'best'"),
        (2, {"reference": 2}, "reference 2: auto, mean, or a number below 2"),
        (2, {"fixed_channel": "DAPI"}, "fixed_channel is an option of a pair"),
        (2, {"series": 1}, "series is for files"),
        (2, {"init": "start.json"}, "init of a set is auto, identity or center"),
        (2, {"landmark_sigma": 2.0}, "landmark_sigma is the error of the landmarks"),
        (2, {"held": {(0, 2): ([], [])}}, "are not the numbers of two of 2 images"),
        (2, {"metric": "magic"}, "metric"),
    ],
)
def test_wrong_arguments_are_refused_in_one_line(count, options, message):
    with pytest.raises(RegisterError, match=message):
        register.align_group([np.zeros((40, 40))] * count, **options)
    with pytest.raises(RegisterError, match="image 1: the fixed image"):
        register.align_group([np.zeros((40, 40)), np.zeros(40)])


def test_a_set_finds_its_order_by_similarity(monkeypatch, made):
    seen = []

    def aligned(self, links, *, mirrored):
        seen.extend(links)
        return iter(())

    monkeypatch.setattr("register.workflows.sets.in_memory._Aligner.__call__", aligned)
    content = texture(5)
    near = [section(0.9**n * content + (1 - 0.81**n) ** 0.5 * texture(20), 0.0, 0)[0] for n in (0, 3, 1, 2)]
    found = register.align_group(near, order="auto", neighbours=1)
    assert found.order in ((0, 2, 3, 1), (1, 3, 2, 0))
    assert set(seen[:3]) == {(0, 2), (2, 3), (1, 3)}
    assert [str(member.verdict) for member in found.members] == ["failed"] * 4


def result(one, other, verdict, matrix, name=""):
    """A link with a known map (2, 3), without patches."""
    frame = Frame(260, 260)
    quality = Quality(verdict=verdict, expected_error=0.1)
    made = register.Transform("rigid", frame, frame, matrix, quality=quality)
    return LinkResult(one, other, PairOutcome(f"{one}--{other}{name}", "a", "b", verdict), made)


def test_a_link_keeps_the_better_of_itself_and_its_mirrored_repetition():
    asked = []

    def aligner(links, *, mirrored):
        asked.append((links, mirrored))
        verdicts = {(0, 1): "suspect", (1, 2): "failed"}
        for link in links:
            yield result(*link, "ok" if mirrored else verdicts[link], affine.identity())

    links = Links(aligner)
    links.align([(1, 0), (0, 1), (1, 2)])
    assert links.verdicts() == {(0, 1): "suspect", (1, 2): "failed"}
    set_links._mirrored(links)
    set_links._mirrored(links)
    links.align([(0, 1)])
    assert links.verdicts() == {(0, 1): "ok", (1, 2): "failed"}
    assert asked[1:] == [([(0, 1)], True), ([(0, 1)], False)], "a failed alignment has tried it itself"


def test_links_that_contradict_each_other_are_checked_by_further_ones():
    """One of the two links of the first of seven images is wrong by 40 px, and ok."""
    asked, truth = [], [affine.translation(3.0 * n, -2.0 * n) for n in range(7)]

    def aligner(links, *, mirrored):
        asked.extend(links)
        for one, other in links:
            matrix = affine.compose(truth[other], affine.invert(truth[one]))
            if (one, other) == (0, 1):
                matrix = affine.compose(affine.translation(40.0, 0.0), matrix)
            yield result(one, other, "ok", matrix)

    images = [SetImage(f"s{n}", f"s{n}.tif") for n in range(7)]
    opened = workflow.Opened((Frame(260, 260),) * 7, ("",) * 7)
    made = workflow.joined(
        Links(aligner), images, opened, range(7), register.settings.check(model="affine"),
        workflow.GroupOptions(), [],
    )  # fmt: skip
    assert set(asked) - set(graph.neighbours(range(7), 2)) == {(0, 3), (0, 4)}
    assert [str(member.verdict) for member in made.members] == ["ok"] * 7
    first = affine.compose(made.members[0].transform.matrix, affine.invert(truth[0]))
    for n, member in enumerate(made.members):
        same = affine.compose(member.transform.matrix, affine.invert(truth[n]))
        assert same == pytest.approx(first, abs=1e-4)
    wrong = next(fit for fit in made.links if (fit.result.fixed, fit.result.moving) == (0, 1))
    assert wrong.weight < 0.1
