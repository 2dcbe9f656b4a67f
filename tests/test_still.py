"""What stays at its place while the content moves does not decide."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import color, data

import register
from benchmarks.synthetic import warped_pair
from register.engine import still
from register.engine.fit.working_copy import working_copy
from register.engine.pair import Alignment
from register.engine.quality import residual_motion
from register.images import pyramid
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Quality, Verdict
from register.transforms.transform import Transform

SHIFT = np.array([21, -30])
NOISE = np.random.default_rng(4)
FRAMES = Frame(340, 300), Frame(340, 300)


def burnt(view, minute):
    """A view (h, w) in [0, 1] as uint8, with a time stamp and a data bar."""
    ink, noise = np.zeros((300, 340), np.uint8), NOISE.normal(0, 4, (300, 340))
    cv2.putText(ink, f"2026-11-27 10:{minute}", (10, 34), 0, 0.8, 255, 2)
    cv2.putText(ink, "HV 5.00 kV mag 2500x", (10, 290), 0, 0.7, 255, 2)
    grey = np.clip(60 + 110 * view + noise, 0, 255)
    return np.where(ink > 127, 190, grey).astype(np.uint8)


def views(texture):
    """Two views (300, 340) of a texture; ``SHIFT`` maps fixed to moving."""
    x, y = SHIFT
    return [texture[row : row + 300, column : column + 340] for row, column in ((20, 70), (20 - y, 70 - x))]


def copies(*images):
    return [working_copy(pyramid.base(torch.from_numpy(x)[None].float()), still.SIDE, "x") for x in images]


def test_burnt_in_text_is_left_out(texture):
    pair = [burnt(view, minute) for view, minute in zip(views(texture), (13, 14), strict=True)]
    found = register.align(*pair, preset="fast")
    assert found.quality.verdict == "ok"
    assert any("stays at its place" in note for note in found.quality.notes)
    errors = np.linalg.norm(found.transform.field().numpy() - SHIFT, axis=2)
    assert np.median(errors[60:240]) < 0.2


def test_content_that_cannot_be_found_is_suspect(texture):
    """The content of both images differs: only the text agrees, and the text alone does not decide."""
    other = gaussian_filter(np.random.default_rng(99).normal(size=(300, 340)), 2.5)
    pair = [pyramid.base(torch.from_numpy(burnt(x, 13))[None].float()) for x in (texture[:300, :340], other)]
    asked = []

    def run(fixed, moving):
        """An alignment that rests on the text: it fails without."""
        asked.append(float(fixed.mask.mean()))
        verdict = Verdict.OK if asked[-1] == 1 else Verdict.FAILED
        quality = Quality(verdict=verdict, reasons=(), notes=(), expected_error=0.03)
        figures = PatchFigures(expected_error=(0.03, 0.03))
        return Alignment(Transform("rigid", *FRAMES, np.eye(2, 3), quality=quality, patch_figures=figures))

    found = still.align(*pair, run)
    assert asked[0] == 1
    assert 0.5 < asked[1] < 0.95
    assert found.quality.verdict == "suspect"
    assert "text, a scale bar or dust" in found.quality.reasons[0]
    assert found.quality.expected_error is None
    assert found.transform.patch_figures.expected_error == (None, None)


def test_content_that_stays_too_is_no_reason_to_doubt(texture):
    """Sparse objects on noise, and texture with text, without any displacement."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:300, :340]
    objects = sum(np.exp(-((x - a) ** 2 + (y - b) ** 2) / 18) for a, b in rng.uniform(20, 280, (25, 2)))
    for one in (lambda: objects + rng.normal(0, 0.1, objects.shape), lambda: burnt(texture[:300, :340], 13)):
        pair = copies(one(), one())
        edges = [still.Edges.of(level.image, level.mask) for level in pair]
        stays = still._still(*edges, still.Equality.of(*edges).pixels)
        assert stays is None or still.follows(*pair, stays, None)


def test_the_same_place_and_the_map_are_told_apart(texture):
    fixed, moving = copies(*(burnt(view, 13) for view in views(texture)))
    edges = [still.Edges.of(level.image, level.mask) for level in (fixed, moving)]
    stays = still._still(*edges, still.Equality.of(*edges).pixels)
    assert stays is not None
    assert bool(stays[20:34, 20:200].float().mean() > 0.9)
    assert float(stays[80:230].float().mean()) < 0.05
    transform = Transform("translation", *FRAMES, np.array([[1.0, 0, SHIFT[0]], [0, 1, SHIFT[1]]]))
    assert not still.follows(fixed, moving, stays, None)
    assert still.follows(fixed, moving, stays, transform)


@pytest.mark.parametrize("pattern", ["columns", "none"])
def test_a_pattern_of_the_sensor_does_not_decide_in_silence(texture, pattern):
    """Faint content moves under the gains of pixels and columns, which are in both images."""
    rng = np.random.default_rng(5)
    gains = 0.06 * rng.normal(size=(1, 340)) + 0.03 * rng.normal(size=(300, 340))
    content = [0.5 + 0.04 * gaussian_filter(view - texture.mean(), 2) / 0.1 for view in views(texture)]
    stays = gains if pattern == "columns" else 0.0
    fixed, moving = (view + stays + rng.normal(0, 0.008, view.shape) for view in content)
    found = register.align(fixed, moving, model="translation", preset="fast")
    wrong = np.linalg.norm(found.transform.map([[170.0, 150.0]])[0] - [170, 150] - SHIFT) > 1
    assert wrong == (pattern == "columns")
    if wrong:
        assert found.quality.verdict == "suspect"
        assert any("while a pattern stays" in reason for reason in found.quality.reasons), (
            found.quality.reasons
        )


def test_what_differs_has_moved_only_where_it_is_the_same_elsewhere(texture):
    """Noise, gains, other contrast and a fit that is not exact are no motion."""
    rng = np.random.default_rng(6)
    one, other = (torch.from_numpy(view.copy())[None].float() for view in views(texture))
    dust = gaussian_filter(rng.normal(size=(1, 300, 340)), (0, 2, 2))
    stays, mask = torch.from_numpy(0.15 * dust / dust.std()).float(), torch.ones(1, 300, 340)
    light = torch.linspace(0.6, 1.4, 340)
    found = residual_motion.find(one + stays, other + stays, mask)
    assert found is not None
    assert abs(found.x - SHIFT[0]) <= 1
    assert abs(found.y - SHIFT[1]) <= 1
    for same in (one + 0.3 * torch.rand_like(one), one * light, one.square(), -one):
        assert residual_motion.find(one + stays, same + stays, mask) is None


def test_images_of_other_sizes_are_aligned_as_they_are():
    levels = [pyramid.base(torch.rand(1, side, 40)) for side in (40, 50)]
    asked = []
    result = SimpleNamespace()
    assert still.align(*levels, lambda *given: asked.append(given) or result) is result
    assert asked == [tuple(levels)]


def test_content_that_a_deformation_leaves_at_its_place_is_not_left_out():
    """Vessels are equal where the deformation undoes the global map, or moves them along themselves."""
    pair = warped_pair(color.rgb2gray(data.retina())[200:800, 200:800], 0.01, seed=2)
    quality = register.align(pair.fixed, pair.moving, preset="fast").quality
    assert quality["verdict"] == "ok"
    assert not any("stays at its place" in note for note in quality["notes"])
