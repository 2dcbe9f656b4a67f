import numpy as np
import pytest
import reference
import torch

from register.geometry import affine
from register.images import interpolation

POINTS = torch.tensor(
    [[0.0, 0.0], [2.25, 1.5], [-0.4, 3.0], [5.3, 4.9], [7.9, -2.0], [3.0, 2.0], [6.5, 0.1]],
    dtype=torch.float64,
)


@pytest.mark.parametrize("padding", ["border", "zeros"])
@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic"])
def test_sample_equals_the_reference(how, padding):
    image = np.random.default_rng(0).normal(size=(6, 7))
    values = interpolation.sample(
        torch.from_numpy(image)[None, None], POINTS[None, None], interpolation=how, padding=padding
    ).flatten()
    expected = [reference.sample(image, x, y, how, padding) for x, y in POINTS.tolist()]
    assert values.tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("how", ["bilinear", "bicubic"])
def test_gradients_reach_points_and_image(how):
    image = torch.rand(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(1, 3, 4, 2, dtype=torch.float64) * 3 + 1.1).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda i, p: interpolation.sample(i, p, interpolation=how), (image, points)
    )


def test_sampling_in_bands_gives_the_same_values(monkeypatch):
    image, points = torch.rand(1, 2, 30, 20), torch.rand(1, 17, 9, 2) * 20
    whole = interpolation.sample(image, points)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert torch.equal(interpolation.sample(image, points), whole)


def test_pixel_centres_give_the_pixels():
    image = torch.rand(1, 1, 5, 8, dtype=torch.float64)
    assert torch.allclose(
        interpolation.sample(image, affine.points_at(*interpolation.axes(5, 8, dtype=torch.float64))[None]),
        image,
        atol=1e-14,
    )


def test_inside_is_the_area_of_the_pixels():
    points = torch.tensor([[-0.5, 0.0], [-0.51, 0.0], [3.5, 2.5], [3.51, 0.0], [0.0, 2.51]])
    assert interpolation.inside(points, 3, 4).tolist() == [True, False, True, False, False]


def test_a_mask_is_valid_where_every_pixel_that_is_read_is():
    """Bilinear interpolation at (x, y) reads the pixels from its floor to the next one."""
    points = torch.tensor([[[1.0, 2.0], [5.5, 2.5], [3.0, 4.0]]])[None]  # reads columns 1 to 6, rows 2 to 5
    mask = torch.ones(1, 1, 6, 7)
    assert interpolation.all_valid(mask, points)
    assert not interpolation.all_valid(mask, points.expand(2, -1, -1, -1))
    for shift in ((-1.25, 0), (0.5, 0), (0, -2.25), (0, 1)):
        assert not interpolation.all_valid(mask, points + torch.tensor(shift))
    for row, column, valid in ((1, 3, True), (2, 1, False), (5, 6, False), (3, 0, True), (4, 4, False)):
        holed = mask.clone()
        holed[..., row, column] = 0.5
        assert interpolation.all_valid(holed, points) is valid
