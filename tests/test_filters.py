"""OpenCV's filters give the same values as shifted sums and maxima."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from register.images import filters


@pytest.fixture
def elsewhere(monkeypatch):
    """Runs a filter as on a device whose memory OpenCV cannot read."""

    def run(work):
        with monkeypatch.context() as patch:
            patch.setattr(filters, "suits_opencv", lambda image: False)
            return work()

    return run


@pytest.mark.parametrize("shape", [(1, 37, 53), (2, 3, 64, 41), (1, 1, 3, 2), (1, 1, 1, 1)])
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_both_implementations_of_the_filter_agree(elsewhere, shape, dtype, near):
    torch.manual_seed(1)
    image = torch.rand(*shape[:-1], shape[-1] * 2, dtype=dtype)[..., ::2]  # not contiguous
    for work in (
        lambda: filters.smooth(image, 1.7),
        lambda: filters.separable(image, [0.1, 0.7, -0.4], [0.2, -0.1, 0.5, 0.3, 0.1]),
        lambda: filters.smooth_widely(image.reshape(-1, 1, *shape[-2:]), 8.0),
    ):
        assert torch.allclose(work(), elsewhere(work), atol=near, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 13])
def test_the_maximum_filter_is_exact(elsewhere, side):
    torch.manual_seed(2)
    image = torch.randn(2, 1, 31, 23)
    found = filters.highest(image, side)
    assert torch.equal(found, image.unfold(2, side, 1).unfold(3, side, 1).amax((-2, -1)))
    assert torch.equal(found, elsewhere(lambda: filters.highest(image, side)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "side"), [((24, 36), 6), ((25, 41), 6), ((7, 40), 8), ((30, 31), 2)])
def test_block_means_equal_those_of_pooling(size, side, dtype):
    image = torch.rand(2, 3, size[1], size[0], dtype=dtype).transpose(-1, -2)
    means = filters.block_means(image, side, cut=True)
    assert torch.allclose(means, avg_pool2d(image, side, ceil_mode=True, count_include_pad=False), atol=1e-6)
    if min(size) >= side:
        assert torch.allclose(filters.block_means(image, side), avg_pool2d(image, side), atol=1e-6)


def test_blocks_are_enlarged_about_their_middles():
    torch.manual_seed(3)
    image = torch.rand(2, 3, 7, 5)
    assert torch.allclose(
        filters.enlarged(image, 3),
        interpolate(image, scale_factor=3.0, mode="bilinear", align_corners=False),
        atol=1e-6,
    )


def test_filters_have_gradients():
    image = torch.rand(1, 9, 9, requires_grad=True)
    filters.smooth(image, 1.0).sum().backward()
    assert float(image.grad.sum()) == pytest.approx(81, rel=1e-5)
