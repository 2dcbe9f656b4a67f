import numpy as np
import pytest
import reference
import torch

from register.errors import RegisterError
from register.transforms.frame import Frame
from register.transforms.resample import warp_pixels
from register.transforms.transform import Transform

MATRIX = torch.tensor([[0.95, 0.12, 1.3], [-0.1, 1.04, 2.2]], dtype=torch.float64)


def affine(matrix=MATRIX, width=40, height=36):
    return Transform("affine", Frame(width, height), Frame(44, 40), matrix)


def image(dtype, channels=1):
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(channels, 40, 44)).astype(dtype)
    return rng.integers(
        0, np.iinfo(dtype).max if np.dtype(dtype) != np.int16 else 9000, (channels, 40, 44)
    ).astype(dtype)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_warp_equals_the_reference(interpolation):
    pixels = image(np.float64)
    aligned = warp_pixels(pixels, affine(), interpolation=interpolation, fill=-9.0)
    for row, column in [(0, 0), (3, 5), (20, 30), (35, 39), (17, 2)]:
        x, y = reference.affine_map(MATRIX.tolist(), column, row)
        inside = -0.5 <= x <= 43.5 and -0.5 <= y <= 39.5
        value = reference.sample(pixels[0], x, y, interpolation, "border") if inside else -9.0
        if interpolation == "bicubic" and inside:  # a cubic is bounded by its pixels here
            around = np.pad(pixels[0], 4, mode="edge")[
                int(np.floor(y)) + 3 : int(np.floor(y)) + 7, int(np.floor(x)) + 3 : int(np.floor(x)) + 7
            ]
            value = min(max(value, around.min()), around.max())
        assert aligned[0, row, column] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_dtype_and_channels_stay(dtype, channels):
    aligned = warp_pixels(image(dtype, channels), affine())
    assert aligned.dtype == dtype
    assert aligned.shape == (channels, 36, 40)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.float32, np.float64])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_the_identity_is_lossless(dtype, interpolation):
    pixels = image(dtype, 2)
    still = affine(torch.eye(2, 3, dtype=torch.float64), 44, 40)
    assert np.array_equal(warp_pixels(pixels, still, interpolation=interpolation), pixels)


@pytest.mark.parametrize("tile", [7, 16, 33])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic"])
def test_tiles_leave_no_seam(tile, interpolation):
    whole, tiled = (
        warp_pixels(image(np.uint16), affine(), interpolation=interpolation, tile=n).astype(int)
        for n in (4096, tile)
    )
    assert np.abs(whole - tiled).max() <= (0 if interpolation == "nearest" else 1)


def test_labels_are_not_interpolated():
    labels = np.random.default_rng(1).choice([0, 7, 300, 4_000_000_000], (1, 40, 44)).astype(np.uint32)
    assert set(np.unique(warp_pixels(labels, affine(), interpolation="nearest"))) <= {
        0,
        7,
        300,
        4_000_000_000,
    }


def test_cubic_overshoot_does_not_wrap():
    pixels = np.where(np.arange(44) < 20, 0, 255).astype(np.uint8)[None, None].repeat(40, 1)
    aligned = warp_pixels(
        pixels, affine(torch.tensor([[1, 0, 0.4], [0, 1, 0]]).double(), 44, 40), interpolation="bicubic"
    )[0, 5]
    assert (np.diff(aligned[:40].astype(int)) >= 0).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_nan_spreads_only_to_pixels_that_interpolate_it(interpolation):
    pixels = np.ones((1, 40, 44), np.float32)
    pixels[0, 20, 21] = np.nan
    moved = warp_pixels(
        pixels, affine(torch.tensor([[1, 0, 0.5], [0, 1, 0]]).double(), 44, 40), interpolation=interpolation
    )
    reach = {"bilinear": [20, 21], "bicubic": [19, 20, 21, 22]}[interpolation]
    assert np.argwhere(np.isnan(moved[0])).tolist() == [[20, column] for column in reach]
    assert np.allclose(moved[~np.isnan(moved)], 1)


def test_a_tenth_of_a_pixel_is_exact_far_out():
    pixels = np.zeros((1, 3, 90_010), np.float32)
    pixels[0, :, 90_000] = 1
    moved = warp_pixels(
        pixels,
        Transform(
            "translation", Frame(90_010, 3), Frame(90_010, 3), torch.tensor([[1, 0, 0.1], [0, 1, 0]]).double()
        ),
    )
    assert moved[0, 1, 89_999:90_001] == pytest.approx([0.1, 0.9], abs=1e-6)


def test_types_that_cannot_be_interpolated_exactly_are_refused():
    with pytest.raises(RegisterError, match="int64"):
        warp_pixels(np.zeros((1, 40, 44), np.int64), affine())
