"""Pixels that are masked, transparent, NaN or no data do not change the result."""

import numpy as np
import pytest
import tifffile

import register
from benchmarks.synthetic import warped_pair
from register import settings
from register.errors import FileError
from register.io.images.model import Image
from register.io.images.open import write_image
from register.workflows import align

SIZE = 300


@pytest.fixture(scope="module")
def pair(texture):
    found = warped_pair(texture, 0.01, seed=3)
    return [(x[:SIZE, :SIZE].clip(0, 1) * 60000 + 1).astype(np.uint16) for x in (found.fixed, found.moving)]


def hidden(seed):
    """The pixels where a mask is 0, and random values for them."""
    shown = np.ones((SIZE, SIZE), bool)
    shown[60:140, 100:220] = False
    return shown, np.random.default_rng(seed).integers(0, 65535, (SIZE, SIZE)).astype(np.uint16)


def aligned(folder, fixed, moving, **values):
    for name, image in (("f.tif", fixed), ("m.tif", moving)):
        write_image(folder / name, image if isinstance(image, Image) else Image(image[None]))
    job = align.Job(
        folder / "f.tif",
        folder / "m.tif",
        folder / "out",
        settings.check(**{"preset": "fast", "init": "identity"} | values),
        overwrite=True,
    )
    return align.run(job).alignment.transform


def same(one, other):
    return np.array_equal(one.matrix, other.matrix) and np.array_equal(one.matrices, other.matrices)


@pytest.mark.slow
@pytest.mark.parametrize("which", ["fixed", "moving"])
def test_masked_pixels_change_nothing(tmp_path, pair, which):
    found = []
    for seed in (1, 2):
        shown, garbage = hidden(seed)
        tifffile.imwrite(tmp_path / "mask.tif", shown.astype(np.uint8))
        images = {"fixed": pair[0], "moving": pair[1]}
        images[which] = np.where(shown, images[which], garbage)
        found.append(aligned(tmp_path, **images, **{f"{which}_mask": str(tmp_path / "mask.tif")}))
    assert same(*found)


@pytest.mark.slow
def test_nodata_transparency_nan_and_masks_mean_the_same(tmp_path, pair):
    shown, garbage = hidden(1)
    tifffile.imwrite(tmp_path / "mask.tif", shown.astype(np.uint8))
    by_mask = aligned(
        tmp_path, np.where(shown, pair[0], garbage), pair[1], fixed_mask=str(tmp_path / "mask.tif")
    )
    by_value = aligned(tmp_path, np.where(shown, pair[0], 0).astype(np.uint16), pair[1], nodata=0)
    by_nan = aligned(tmp_path, np.where(shown, pair[0], np.nan).astype(np.float32), pair[1])
    by_opacity = aligned(
        tmp_path, Image(np.stack([pair[0], shown.astype(np.uint16) * 65535]), extra=(2,)), pair[1]
    )
    assert all(same(by_mask, x) for x in (by_value, by_nan, by_opacity))


def test_arrays_take_masks_too(pair):
    answers = []
    for seed in (1, 2):
        shown, garbage = hidden(seed)
        answers.append(
            register.align(
                np.where(shown, pair[0], garbage), pair[1], fixed_mask=shown, preset="fast", init="identity"
            ).transform
        )
    assert same(*answers)
    with pytest.raises(register.RegisterError, match="mask differ in size"):
        register.align(*pair, fixed_mask=np.ones((3, 3)))
    with pytest.raises(register.RegisterError, match="fixed_level is for files"):
        register.align(*pair, fixed_level=1)


def test_the_channel_that_is_asked_for_is_compared_and_recorded(tmp_path, pair):
    flat = np.full((SIZE, SIZE), 7, np.uint16)
    fixed = Image(np.stack([flat, pair[0]]), kind="ome", channel_names=("empty", "tissue"))
    moving = Image(np.stack([flat, flat, pair[1]]))
    chosen = aligned(tmp_path, fixed, moving, fixed_channel="tissue", moving_channel="2")
    assert (chosen.quality["fixed_grey"], chosen.quality["moving_grey"]) == (
        "channel 1 (tissue)",
        "channel 2",
    )
    assert same(chosen, aligned(tmp_path, fixed, moving))  # the channel with texture is chosen by default
    with pytest.raises(FileError, match=r"has no channel 'nucleus'; it has 2 \(0 to 1, empty, tissue\)"):
        aligned(tmp_path, fixed, moving, fixed_channel="nucleus")


def test_a_union_canvas_holds_both_images_and_the_valid_mask_is_where_the_moving_image_is(tmp_path, texture):
    whole = (texture.clip(0, 1) * 250).astype(np.uint8)
    fixed, moving = whole[:300, :300], whole[60:360, 90:390]
    found = aligned(
        tmp_path, fixed, moving, canvas="union", valid_mask=True, model="translation", init="auto"
    )
    assert found.quality["canvas"] == {"origin": [0, 0], "size": [390, 360]}
    image, valid = (tifffile.imread(tmp_path / "out" / name) for name in ("aligned.tif", "valid.tif"))
    assert image.shape == valid.shape == (360, 390)
    shown = valid > 0
    assert np.abs(image[shown].astype(int) - whole[:360, :390][shown].astype(int)).max() <= 2
    assert abs(int(shown.sum()) - 300 * 300) <= 1300  # to a row and a column of pixels
    assert (image[~shown] == 0).all()
