"""The joint solution of a set, against simulated links with known truth."""

from dataclasses import replace

import numpy as np
import pytest

from register.engine.group import fields, global_maps, graph, solution
from register.engine.group.links import Link, parts, sampled
from register.geometry import affine, patch_grid
from register.geometry.patch_grid import PatchGrid
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict
from register.transforms.transform import Transform

SIZE = 400
FRAME = Frame(SIZE, SIZE)
GRID = PatchGrid.cover(SIZE, SIZE, 40)
PAIRS = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (0, 2), (1, 3), (2, 4), (3, 5)]


def smooth_field(rng, amplitude, grid=GRID):
    """A field (rows, columns, 2) of three waves."""
    points = grid.centres()
    field = np.zeros_like(points)
    for _ in range(3):
        wave, phase = rng.normal(size=2) * 2 * np.pi / 300, rng.uniform(0, 6, 2)
        field += np.sin(points @ wave)[..., None] * np.cos(phase) + np.cos(points @ wave)[..., None] * np.sin(
            phase
        )
    return amplitude * field / np.abs(field).max()


def local(matrix, field, error=0.1, verdict="ok"):
    figures = PatchFigures(expected_error=(error,) * GRID.count)
    maps = fields.maps_of(GRID, matrix, field)
    return Transform(
        "local", FRAME, FRAME, matrix, GRID, maps, patch_figures=figures, quality=Quality(verdict=verdict)
    )


@pytest.fixture(scope="module")
def truth():
    """Six images: the true maps from image 0, whose rotations are large and whose warps add up."""
    rng = np.random.default_rng(5)
    made, field = [local(affine.identity(), np.zeros((GRID.rows, GRID.columns, 2)))], 0
    for _ in range(5):
        field = field + smooth_field(rng, 2.0)
        angle, scale = rng.uniform(-3, 3), rng.uniform(0.95, 1.05)
        made.append(
            local(affine.similarity(angle, scale, (200, 200), (200 + rng.uniform(-9, 9), 200)), field)
        )
    return made


def link(truth, one, other, rng, noise=0.15, error=0.15, verdict="ok"):
    """The link between two images with smooth errors, fitted to its true map on a grid as alignments do."""
    exact = compose.compose(compose.invert(truth[one]), truth[other])
    points = GRID.centres().reshape(-1, 2)
    wish = exact.map(points) + smooth_field(rng, noise).reshape(-1, 2)
    matrix = exact.matrix
    field = affine.apply(affine.invert(matrix), wish) - points
    made = local(matrix, field.reshape(GRID.rows, GRID.columns, 2), error, verdict)
    return Link.of(one, other, made)


def links_of(truth, pairs, seed=1, **values):
    rng = np.random.default_rng(seed)
    return [link(truth, *pair, rng, **values) for pair in pairs]


def errors(found, truth, images):
    """The median error of each image in its pixels, inside the frame."""
    points = FRAME.sample_points(30)
    points = points[np.linalg.norm(points - 199.5, axis=1) < 180]
    return {
        i: float(np.median(np.linalg.norm(found[i].map(points) - truth[i].map(points), axis=1)))
        for i in images
    }


def test_half_gradients_reproduce_every_quadratic_field():
    x, y = GRID.centres()[..., 0] / 100, GRID.centres()[..., 1] / 100
    field = np.stack([x**2 - x * y + y, 0.5 * y**2 + x * y - 1], -1)
    points = np.random.default_rng(0).uniform(0, SIZE - 1, (500, 2))
    found = patch_grid.blend_at(GRID, fields.maps_of(GRID, affine.identity(), field), points)[0] - points
    x, y = points.T / 100
    assert np.abs(found - np.stack([x**2 - x * y + y, 0.5 * y**2 + x * y - 1], -1)).max() < 1e-9


def test_exact_links_give_the_true_maps(truth):
    pairs = PAIRS
    links = links_of(truth, pairs, noise=0.0)
    found = solution.solve([FRAME] * 6, range(6), links, reference=0)
    assert (
        max(errors(found.transforms, truth, range(6)).values()) < 0.09
    )  # what the grids of the simulated links lose
    assert np.array_equal(found.transforms[0].map(FRAME.sample_points(5)), FRAME.sample_points(5))
    assert found.kept.min() > 0.9


def test_joint_solution_is_better_than_the_chain_and_expects_its_error(truth):
    links = links_of(truth, PAIRS)
    found = solution.solve([FRAME] * 6, range(6), links, reference=0).transforms
    chain = {0: truth[0], 1: links[0].transform}
    for n in range(1, 5):
        chain[n + 1] = compose.compose(chain[n], links[n].transform)
    joint, chained = (errors(made, truth, [3, 4, 5]) for made in (found, chain))
    assert np.mean([joint[n] / chained[n] for n in joint]) < 0.8
    for n, error in joint.items():
        expected = [x for x in found[n].patch_figures.expected_error if x is not None]
        assert 0.2 < error / np.median(expected) < 1.5


def test_a_spoilt_link_loses_its_weight_and_does_no_harm(truth):
    pairs = PAIRS
    links = links_of(truth, pairs)
    clean = errors(solution.solve([FRAME] * 6, range(6), links, reference=0).transforms, truth, range(6))
    bad = links[3]
    for shift in (8.0, 60.0):
        moved = affine.compose(affine.translation(shift, -shift), bad.transform.matrices)
        matrix = affine.compose(affine.translation(shift, -shift), bad.transform.matrix)
        links[3] = replace(bad, transform=replace(bad.transform, matrix=matrix, matrices=moved))
        found = solution.solve([FRAME] * 6, range(6), links, reference=0)
        spoilt = errors(found.transforms, truth, range(6))
        assert found.kept[3] < 0.1
        assert np.delete(found.kept, 3).min() > solution.AGREES
        assert all(spoilt[n] < 1.5 * clean[n] + 0.03 for n in range(6))
        given = solution.verdicts(found, range(6), links)
        assert {verdict for verdict, _ in given.values()} == {Verdict.OK}


def test_links_that_are_global_only_do_not_hold_the_others_back(truth):
    """Of image 3 little tissue is left: its links are affine, and sure of themselves."""
    links = links_of(truth, PAIRS)
    clean = errors(solution.solve([FRAME] * 6, range(6), links, reference=0).transforms, truth, range(6))
    for n, one in enumerate(links):
        if 3 in (one.fixed, one.moving):
            matrix, few = one.transform.matrix, PatchGrid.cover(SIZE, SIZE, 120)
            maps = np.broadcast_to(matrix, (few.rows, few.columns, 2, 3)).copy()
            figures = PatchFigures(expected_error=(0.03,) * few.count)
            plain = replace(one.transform, grid=few, matrices=maps, patch_figures=figures)
            links[n] = replace(one, transform=plain)
    assert [link.is_local for link in links].count(False) == 4
    found = solution.solve([FRAME] * 6, range(6), links, reference=0)
    spoilt = errors(found.transforms, truth, range(6))
    assert all(spoilt[n] < 1.5 * clean[n] + 0.03 for n in range(6) if n != 3)


@pytest.mark.slow
def test_an_image_that_only_one_suspect_link_joins_fails(truth):
    links = links_of(truth, [pair for pair in PAIRS if 5 not in pair])
    links += links_of(truth, [(3, 5), (4, 5)], verdict="suspect")
    found = solution.solve([FRAME] * 6, range(6), links, reference=0)
    assert solution.verdicts(found, range(6), links)[5][0] == Verdict.SUSPECT
    bad = links[-1]
    shifted = affine.compose(affine.translation(90.0, 0.0), bad.transform.matrices)
    moved = affine.compose(affine.translation(90.0, 0.0), bad.transform.matrix)
    links[-1] = replace(bad, transform=replace(bad.transform, matrix=moved, matrices=shifted))
    found = solution.solve([FRAME] * 6, range(6), links, reference=0)
    assert solution.verdicts(found, range(6), links)[5][0] == Verdict.FAILED


def test_a_mean_frame_has_no_net_rotation_scale_or_shear_and_holds_all_images():
    rng = np.random.default_rng(3)
    maps = np.array([
        affine.compose(
            affine.similarity(rng.normal(0, 0.2), rng.uniform(0.8, 1.3), (0, 0), rng.normal(size=2) * 20),
            np.array([[1.0, rng.normal(0, 0.1), 0], [0, 1, 0]]),
        )
        for _ in range(6)
    ])  # fmt: skip
    found = global_maps.without_net_shape(maps)
    linear = found[:, :, :2]
    values, vectors = np.linalg.eigh(linear @ linear.swapaxes(1, 2))
    assert np.abs(((vectors * np.log(values)[:, None]) @ vectors.swapaxes(1, 2)).mean(0)).max() < 1e-9
    assert abs(np.angle(np.mean([global_maps._direction(m) for m in found]))) < 1e-9
    frame, moved = solution._frame([FRAME] * 6, found, None)
    corners = np.array([[-0.5, -0.5], [-0.5, SIZE - 0.5], [SIZE - 0.5, -0.5], [SIZE - 0.5, SIZE - 0.5]])
    assert all(frame.contains(affine.apply(m, corners) * 0.999999).all() for m in moved)


@pytest.mark.parametrize("model", ["translation", "rigid", "similarity", "affine"])
def test_global_models_are_recovered_also_mirrored(model):
    rng = np.random.default_rng(2)
    maps = [affine.identity()]
    for n in range(4):
        angle = 0.0 if model == "translation" else rng.uniform(-3, 3)
        scale = 1.0 if model in ("translation", "rigid") else rng.uniform(0.7, 1.4)
        made = affine.similarity(angle, scale, (200, 200), rng.uniform(190, 210, 2))
        if n == 2:
            made = affine.compose(np.array([[-1.0, 0, SIZE - 1], [0, 1, 0]]), made)
        if model == "affine":
            made = affine.compose(np.array([[1.0, rng.normal(0, 0.1), 0], [0, 1, 0]]), made)
        maps.append(made)
    links = []
    for one, other in graph.neighbours(range(5), 2):
        matrix = affine.compose(maps[other], affine.invert(maps[one]))
        quality = Quality(verdict="ok", expected_error=0.1)
        links.append(Link.of(one, other, Transform("affine", FRAME, FRAME, matrix, quality=quality)))
    found = solution.solve([FRAME] * 5, range(5), links, reference=0, model=model)
    for n, matrix in enumerate(maps):
        assert found.transforms[n].matrix == pytest.approx(matrix, abs=1e-6)


def test_the_order_of_shuffled_images_is_found():
    rng = np.random.default_rng(4)
    place = rng.permutation(14)
    apart = np.abs(place[:, None] - place[None])
    distance = 1 - 0.8**apart + rng.normal(0, 0.02, (14, 14))
    order = graph.shortest_order((distance + distance.T) / 2)
    assert np.abs(np.diff(place[order])).max() == 1


def test_links_go_around_those_that_are_not_ok_and_join_parts():
    order = [3, 0, 1, 2, 4, 5, 6]
    pairs = graph.neighbours(order, 1)
    assert pairs == [(3, 0), (0, 1), (1, 2), (2, 4), (4, 5), (5, 6)]
    verdicts = dict.fromkeys(pairs, "ok") | {(1, 2): "failed"}
    more = graph.around(order, verdicts)
    assert {(0, 2), (1, 4)} <= set(more)
    assert not set(more) & set(pairs)
    assert len(graph.others(range(6), dict.fromkeys(PAIRS, "ok"))) == 6
    assert graph.others(range(4), {(0, 1): "ok", (1, 2): "ok", (2, 3): "failed", (1, 3): "failed"}) == [
        (0, 2)
    ]
    assert parts(5, [(0, 1), (3, 4), (1, 4)]) == [[0, 1, 3, 4], [2]]


def test_images_that_match_nothing_are_given_up_and_doubtful_ones_linked_further():
    order = [3, 0, 1, 2, 4, 5, 6, 7]
    verdicts = dict.fromkeys(graph.neighbours(order, 2), "ok")
    more = graph.further(order, verdicts, [3])
    assert more == [(2, 3), (3, 4)]
    assert graph.further(order, verdicts | dict.fromkeys(more, "ok"), [3]) == []
    assert graph.further(order, verdicts, [4]) == [(4, 7), (0, 4), (3, 4)]
    foreign = dict.fromkeys([(0, 4), (1, 4), (2, 4)], "failed") | {(4, 5): "suspect"}
    assert graph.further(order, verdicts | foreign | {(4, 6): "suspect"}, [4]) == []
    assert not [pair for pair in graph.around(order, foreign) if 4 in pair]
    damaged = {(0, 4): "failed", (2, 4): "suspect", (4, 5): "suspect"}
    assert [pair for pair in graph.around(order, damaged) if 4 in pair]


def test_the_best_connected_image_is_in_the_middle():
    assert graph.best_connected([0, 1, 2, 3, 4], {(n, n + 1): 4.0 for n in range(4)})[0] == 2


def test_points_of_a_link_lie_on_both_images():
    moved = Transform(
        "translation", FRAME, FRAME, affine.translation(300.0, 0.0), quality=Quality(verdict="ok")
    )
    found = sampled(Link.of(0, 1, moved))
    assert FRAME.contains(found.mapped).all()
    assert 0 < len(found.points) < 100


def test_the_reference_is_not_an_image_that_is_mirrored_relative_to_most_others():
    mirror = np.array([[-1.0, 0, SIZE - 1], [0, 1, 0]])
    maps = [affine.identity(), mirror, affine.translation(3.0, 2.0)]
    links = []
    for one, other in ((0, 1), (1, 2)):  # the mirrored image is in the middle
        matrix = affine.compose(maps[other], affine.invert(maps[one]))
        quality = Quality(verdict="ok", expected_error=0.1)
        links.append(Link.of(one, other, Transform("affine", FRAME, FRAME, matrix, quality=quality)))
    found = solution.solve([FRAME] * 3, range(3), links, model="rigid")
    assert found.reference == 0
    assert affine.determinant(found.transforms[1].matrix) < 0
