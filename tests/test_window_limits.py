"""Windows of files, working images and given images at their limits."""

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from register.errors import FileError, RegisterError
from register.geometry import affine
from register.images import pixels as images_pixels
from register.images.pixels import EVERYTHING
from register.images.shared_channels import Common
from register.io.images import given, windows, working
from register.io.images.model import Image, Selection
from register.io.images.open import open_image, write_image
from register.io.images.reader import image_suffixes, reader_of
from register.io.images.working import Validity
from register.registries import READERS
from register.settings import Settings

CPU = torch.device("cpu")


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


class Segments:
    """An image in segments of one value each, that is not compressed; it counts what is decoded."""

    def __init__(self, path, shape, side, samples=1, dtype=np.uint8, slow=0.0):
        self.decoded, self.threads, self.side, self.samples, self.slow = [], [], side, samples, slow
        self.dtype = np.dtype(dtype)
        count = shape[0] // samples * (-(-shape[1] // side[0])) * (-(-shape[2] // side[1]))
        path.write_bytes(bytes(n % 256 for n in range(count)))
        stored = (tuple(range(count)), (1,) * count)
        self.pixels = windows.Segmented(
            path, shape, self.dtype, side, shape[0] // samples, samples, (stored,), self.decode
        )

    def decode(self, data, index):
        time.sleep(self.slow)
        self.decoded.append(index)
        self.threads.append(threading.current_thread().name)
        return np.full((*self.side, self.samples), data[0], self.dtype)


@pytest.mark.parametrize(
    ("window", "needed"),
    [
        ((slice(0, 10), slice(0, 10)), [0]),
        ((slice(9, 10), slice(19, 20)), [1]),
        ((slice(10, 20), slice(10, 20)), [4]),
        ((slice(9, 11), slice(10, 20)), [1, 4]),
        ((slice(20, 25), slice(20, 27)), [8]),
        ((slice(0, 25), slice(5, 6)), [0, 3, 6]),
        ((slice(3, 4), slice(0, 27)), [0, 1, 2]),
        ((slice(5, 5), slice(0, 27)), []),
    ],
)
def test_only_segments_that_a_window_touches_are_decoded(tmp_path, window, needed):
    made = Segments(tmp_path / "a", (1, 25, 27), (10, 10))
    whole = np.arange(9).reshape(3, 3).repeat(10, 0).repeat(10, 1)[:25, :27]
    assert np.array_equal(made.pixels[slice(None), *window][0], whole[window])
    assert made.decoded == needed


def test_only_channels_that_a_window_touches_are_decoded(tmp_path):
    made = Segments(tmp_path / "a", (6, 10, 10), (10, 10), samples=2)
    assert made.pixels[3:5, :5, :5][:, 0, 0].tolist() == [1, 2]
    assert made.decoded == [1, 2]


@pytest.mark.parametrize(("count", "of_pool"), [(15, False), (16, True), (35, True)])
def test_two_threads_decode_windows_of_16_segments_or_more(tmp_path, count, of_pool):
    made = Segments(tmp_path / "a", (1, 2, 2 * count), (2, 2), slow=0.002)
    assert made.pixels[EVERYTHING][0, 0].tolist() == [n // 2 for n in range(2 * count)]
    assert sorted(made.decoded) == list(range(count))
    own = threading.current_thread().name
    assert len(set(made.threads)) == (2 if of_pool else 1)
    assert (own in made.threads) == (not of_pool)


@pytest.mark.parametrize(("samples", "dtype"), [(1, np.uint8), (4, np.uint8), (2, np.uint16)])
def test_64_mib_of_segments_stay_in_memory(tmp_path, samples, dtype):
    side = (1024, 1024 // samples // np.dtype(dtype).itemsize)  # a MiB each
    made = Segments(tmp_path / "a", (samples, 1024, 65 * side[1]), side, samples, dtype)
    for n in range(65):
        _ = made.pixels[:, :1, n * side[1] : n * side[1] + 1]
    assert [segment[2] for segment in made.pixels._cache] == list(range(1, 65))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_decodes_with_threads_of_its_own(tmp_path):
    one, other = (Segments(tmp_path / name, (1, 2, 40), (2, 2)) for name in "ab")
    wanted = one.pixels[EVERYTHING]  # starts the threads
    child = os.fork()
    if not child:
        signal.alarm(9)  # without threads it would wait for ever
        os._exit(0 if np.array_equal(other.pixels[EVERYTHING], wanted) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_one_segment_stays_in_memory_however_large_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "CACHE_BYTES", 3)
    made = Segments(tmp_path / "a", (1, 2, 6), (2, 2))
    _ = made.pixels[EVERYTHING]
    assert list(made.pixels._cache) == [(0, 0, 2)]


@pytest.mark.parametrize(
    ("rows", "values", "wanted"),
    [(7, 3, [(0, 3), (3, 6), (6, 7)]), (6, 3, [(0, 3), (3, 6)]), (2, 11, [(0, 1), (1, 2)]), (5, 2, [(0, 5)])],
)
def test_bands_of_an_image(monkeypatch, rows, values, wanted):
    monkeypatch.setattr(images_pixels, "BAND", 10)
    assert list(images_pixels.bands(rows, values)) == wanted


# --- the working image -----------------------------------------------------------------------------------


def test_pixels_of_the_least_opacity_and_mask_are_valid():
    pixels = np.full((2, 2, 3), 5, np.uint8)
    pixels[1, 0] = 0, 1, 255
    mask = np.array([[[1, 1, 1], [0, 1, 255]]], np.uint8)
    found = Validity(Image(pixels, extra=(2,)), None, mask).pixels()
    assert found[EVERYTHING][0].tolist() == [[0, 255, 255], [0, 255, 255]]


def test_colours_without_their_opacity():
    pixels = noise((4, 2, 3))
    rgba, four = Image(pixels, colour="rgb", extra=(2,)), Image(pixels)
    assert np.array_equal(working.without_alpha(rgba, pixels), pixels[:3])
    assert working.without_alpha(four, pixels) is pixels


def test_a_block_of_one_valid_pixel_has_its_value():
    pixels = np.full((1, 40, 60), np.nan, np.float32)
    pixels[0, 3, 5], pixels[0, 20:, 30:] = 7, 2
    level, _ = working.working_level(Image(pixels), Validity(Image(pixels)), 30)
    assert (level.image.shape, float(level.image[0, 1, 2])) == ((1, 20, 30), 7)
    assert float(level.mask[0, 1, 2]) == 0.25
    assert (level.image[0, 10:, 15:] == 2).all()


@pytest.mark.parametrize("sizes", [(511,), (512,), (1500, 512), (1500, 1400, 512), (1500, 511)])
@pytest.mark.parametrize("tall", [False, True])
def test_a_sample_is_taken_from_the_coarsest_level_of_512_pixels(sizes, tall):
    def level(size, value):
        shape = (1, size, 4) if tall else (1, 4, size)
        return np.broadcast_to(np.uint8(value), shape)

    image = Image(level(3000, 0), smaller=tuple(level(size, n) for n, size in enumerate(sizes, 1)))
    found, valid = working.sample(image, Validity(image))
    coarse = sizes[-1] == 512
    side = 512 if coarse else 1024
    assert found.shape == valid.shape == ((1, side, 4) if tall else (1, 4, side))
    assert (found == (len(sizes) if coarse else 0)).all()


@pytest.mark.parametrize(
    ("rows", "columns", "size", "scale"),
    [
        ((20, 40), (30, 60), 15, 2),
        ((20, 40), (30, 60), 16, 1),
        ((0, 8), (12, 24), 3, 4),
        ((13, 33), (1, 31), 15, 2),
        ((0, 40), (0, 60), 15, 4),
        ((0, 40), (50, 60), 20, 2),
    ],
)
def test_a_part_is_read_from_the_coarsest_level_that_is_large_enough(rows, columns, size, scale):
    pixels = noise((1, 40, 60))
    levels = tuple(np.ascontiguousarray(pixels[:, ::n, ::n]) for n in (1, 2, 4))
    image = Image(levels[0], smaller=levels[1:])
    rows, columns = slice(*rows), slice(*columns)
    part = working.working_part(image, Validity(image), size, rows, columns)
    top, left = rows.start // scale, columns.start // scale
    bottom, right = -(-rows.stop // scale), -(-columns.stop // scale)
    wanted = levels[{1: 0, 2: 1, 4: 2}[scale]][0, top:bottom, left:right]
    assert np.array_equal(part.image[0].numpy(), wanted)
    corner = affine.apply(part.original_from_level.numpy(), np.array([[-0.5, -0.5], [0.5, 0.5]]))
    assert corner.ravel() == pytest.approx(
        [left * scale - 0.5, top * scale - 0.5, (left + 1) * scale - 0.5, (top + 1) * scale - 0.5]
    )


def test_a_channel_that_an_image_does_not_have_is_one_error_about_its_file(tmp_path):
    image = Image(noise((2, 9, 9)), channel_names=("a", "b"))
    with pytest.raises(FileError, match=r"the image: .*c"):
        working.working_level(image, Validity(image), 9, channel="c")


# --- given images ----------------------------------------------------------------------------------------


def test_masks_of_given_images_are_files_or_arrays(tmp_path):
    pixels = noise((20, 30))
    mask = np.zeros((20, 30), np.uint8)
    mask[5:, 7:] = 1
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    Pillow.fromarray(mask).save(tmp_path / "m.png")
    for image in (pixels, tmp_path / "a.png"):
        for masked in (mask, tmp_path / "m.png", torch.from_numpy(mask)):
            found = given.given_image("fixed", image, masked, Settings(), CPU)
            assert np.array_equal(found.level.mask[0].numpy(), mask)
            assert found.size == (20, 30)
            assert (found.part is None) == (image is pixels)
        assert given.given_image("fixed", image, None, Settings(), CPU).level.mask.all()
    part = given.given_image("fixed", tmp_path / "a.png", mask, Settings(), CPU).part(
        slice(4, 9), slice(6, 9)
    )
    assert np.array_equal(part.mask[0].numpy(), mask[4:9, 6:9])
    with pytest.raises(RegisterError, match=r"the moving mask has shape \(5, 30\), the image \(20, 30\)"):
        given.given_image("moving", tmp_path / "a.png", mask[:5], Settings(), CPU)
    with pytest.raises(
        RegisterError, match=r"the fixed image .*is 30 × 20 pixels, the image it masks 9 × 20"
    ):
        given.given_image("fixed", pixels[:, :9], tmp_path / "m.png", Settings(), CPU)


def test_masks_that_separate_sides(tmp_path):
    sides = np.ones((20, 30), np.uint8)
    sides[:, 15:] = 2
    Pillow.fromarray(sides).save(tmp_path / "m.png")
    found = [
        given.given_labels(x, (20, 30)) for x in (sides, torch.from_numpy(sides), str(tmp_path / "m.png"))
    ]
    assert found[0] is not None
    assert all(type(each) is type(found[0]) for each in found)
    assert given.given_labels(None, (20, 30)) is given.given_labels("auto", (20, 30)) is None
    with pytest.raises(
        RegisterError, match=r"split_mask has the shape \(20, 30\), the fixed image \(20, 31\)"
    ):
        given.given_labels(sides, (20, 31))
    with pytest.raises(RegisterError, match=r"^split_mask "):
        given.given_labels(np.zeros((20, 30), np.uint8), (20, 30))
    Pillow.fromarray(sides * 0).save(tmp_path / "none.png")
    with pytest.raises(FileError, match=r"none\.png: .*draw the line, or give each side a value"):
        given.given_labels(str(tmp_path / "none.png"), (20, 30))


def test_the_channels_of_the_fixed_and_the_moving_image(tmp_path):
    pixels = noise((2, 9, 9))
    write_image(tmp_path / "a.ome.tif", Image(pixels, kind="ome", channel_names=("one", "two")))
    chosen = Settings(fixed_channel="one", moving_channel="two")
    for kind, number in (("fixed", 0), ("moving", 1)):
        found = given.given_image(kind, tmp_path / "a.ome.tif", None, chosen, CPU)
        lone = given.given_image(kind, pixels[number], None, Settings(), CPU)
        assert torch.equal(found.level.image, lone.level.image)
        indexed = Settings(**{f"{kind}_channel": str(number)})
        of_array = given.given_image(kind, np.moveaxis(pixels, 0, 2), None, indexed, CPU)
        assert torch.equal(of_array.level.image, lone.level.image)


def test_channels_that_two_files_have_in_common(tmp_path):
    for name, names in (("f", ("DAPI", "CD3", "CD8")), ("m", ("CD4", "CD3", "dapi"))):
        write_image(tmp_path / f"{name}.ome.tif", Image(noise((3, 9, 9)), kind="ome", channel_names=names))
    write_image(tmp_path / "rgb.tif", Image(noise((3, 9, 9)), colour="rgb"))
    paths = tmp_path / "f.ome.tif", tmp_path / "m.ome.tif"
    assert given.in_common(*paths, Settings()) == Common("DAPI", "dapi", ("DAPI", "CD3"))
    asked = Settings(fixed_channel="CD8")
    assert given.in_common(*paths, asked) == Common("CD8", None, ("DAPI", "CD3"))
    asked = Settings(moving_channel="CD4")
    assert given.in_common(*paths, asked) == Common(None, "CD4", ("DAPI", "CD3"))
    for other in (noise((9, 9)), tmp_path / "rgb.tif"):
        assert given.in_common(paths[0], other, asked) == Common(None, "CD4")
        assert given.in_common(other, paths[0], Settings()) == Common(None, None)


def test_settings_of_the_fixed_and_the_moving_file(tmp_path):
    frames = noise((2, 9, 9))
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", frames, metadata={"axes": "ZYX"}, photometric="minisblack", ome=True)
    planes = {"fixed_plane": "Z=0", "moving_plane": "Z=1"}
    for kind, number in (("fixed", 0), ("moving", 1)):
        found = given.given_image(kind, tmp_path / "a.tif", None, Settings(**planes), CPU)
        lone = given.given_image(kind, frames[number], None, Settings(), CPU)
        assert torch.equal(found.level.image, lone.level.image)
        for wrong, said in (({f"{kind}_level": 1}, "has no level 1"), ({"series": 3}, "has no series 3")):
            with pytest.raises(FileError, match=said):
                given.given_image(kind, tmp_path / "a.tif", None, Settings(**(planes | wrong)), CPU)


# --- readers ---------------------------------------------------------------------------------------------


def test_a_reader_that_cannot_be_loaded_is_named_only_where_it_might_help(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"something")
    READERS.add("lost", "no reader")
    try:
        with pytest.raises(FileError, match=r"a\.xyz: is of a format that no reader matches, and "):
            open_image(tmp_path / "a.xyz")
        assert ".png" in image_suffixes()
        assert reader_of(tmp_path / "a.PNG", b"something").name == "raster"
    finally:
        READERS.remove("lost")
    with pytest.raises(RegisterError, match="named by a path, not by a int"):
        open_image(3, Selection())
