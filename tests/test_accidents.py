"""No format comes in by accident: every one is read with its own values, or refused by its name."""

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import register
from register.errors import FileError
from register.io.images.raster import PILLOW
from register.io.images.reader import image_suffixes

RNG = np.random.default_rng(5)
H, W = 30, 44
GREY = RNG.integers(0, 256, (H, W), np.uint8)
COLOUR = np.stack([np.add.outer(a * np.arange(H), b * np.arange(W)) for a, b in ((3, 3), (5, 1), (1, 4))], -1)
COLOUR = COLOUR.astype(np.uint8)
DEEP = RNG.integers(0, 65536, (H, W, 3), np.uint16)
Pillow.init()


def planes(array):
    return array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0)


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("name", sorted(set(Pillow.OPEN) - {"TIFF"}))
def test_what_pillow_accepts_is_read_on_purpose_or_refused(tmp_path, name):
    path = tmp_path / "picture.bin"
    if name not in Pillow.SAVE:
        assert name not in PILLOW
        return
    options = {"lossless": True} if name == "WEBP" else {}
    saved = None
    for picture in (COLOUR, GREY, GREY > 127, GREY.astype(np.float32)):
        try:
            Pillow.fromarray(picture).save(path, name, **options)
            saved = picture
            break
        except (OSError, ValueError, KeyError):
            continue
    if saved is None:
        assert name not in PILLOW
    elif name in (*PILLOW, "PPM"):
        found = register.read_image(path).coloured().pixels[:, :, :]
        difference = np.abs(found - planes(saved).astype(float)).mean()
        assert difference <= (10 if name in ("JPEG", "GIF") else 0)
    elif name == "DIB":  # without the header of a BMP
        with pytest.raises(FileError):
            register.read_image(path)
    else:
        with pytest.raises(FileError, match=r"not an image in a format|which register does not read"):
            register.read_image(path)


def netpbm(kind, array, largest):
    height, width = array.shape[:2]
    head = f"{kind}\n# a comment\n{width} {height}\n{largest}\n".encode()
    if kind in ("P2", "P3"):
        return head + " ".join(map(str, array.ravel())).encode()
    return head + array.astype(">u2" if largest > 255 else "u1").tobytes()


@pytest.mark.parametrize("largest", [1, 100, 255, 256, 1000, 4095, 65535])
@pytest.mark.parametrize("kind", ["P2", "P3", "P5", "P6"])
def test_netpbm_keeps_its_values_whatever_the_largest_is(tmp_path, kind, largest):
    shape = (H, W, 3) if kind in ("P3", "P6") else (H, W)
    values = RNG.integers(0, largest + 1, shape)
    (tmp_path / "a.pnm").write_bytes(netpbm(kind, values, largest))
    found = register.read_image(tmp_path / "a.pnm")
    assert np.array_equal(found.pixels, planes(values))
    assert found.dtype == (np.uint8 if largest < 256 else np.uint16)


def test_bitmaps_and_floats_of_netpbm(tmp_path):
    bits = RNG.random((H, W)) > 0.5
    packed = np.packbits(~bits, axis=1).tobytes()
    (tmp_path / "a.pbm").write_bytes(b"P4\n%d %d\n" % (W, H) + packed)
    plain = "\n".join("".join("0" if x else "1" for x in row) for row in bits)
    (tmp_path / "b.pbm").write_text(f"P1\n# drawn\n{W} {H}\n{plain}\n")
    for name in "ab":
        assert np.array_equal(register.read_image(tmp_path / f"{name}.pbm").pixels[0], bits)
    for kind, shape in (("Pf", (H, W)), ("PF", (H, W, 3))):
        values = RNG.normal(size=shape).astype(np.float32)
        for scale, order in ((-1.0, "<f4"), (2.0, ">f4")):
            head = f"{kind}\n{W} {H}\n{scale}\n".encode()
            (tmp_path / "a.pfm").write_bytes(head + values[::-1].astype(order).tobytes())
            assert np.array_equal(register.read_image(tmp_path / "a.pfm").pixels, planes(values))


@pytest.mark.parametrize(
    "content", [b"P5 9 9 255\n123", b"P6\n3\n", b"P2 2 2 9 1 2 3", b"P2 1 1 9 12", b"P5 -1 3 9 "]
)
def test_damaged_netpbm_is_refused(tmp_path, content):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(FileError, match=r"a\.pgm"):
        register.read_image(tmp_path / "a.pgm")


@pytest.mark.parametrize("codec", ["jp2", "j2k"])
@pytest.mark.parametrize("values", [DEEP, DEEP[..., 0], DEEP[..., 0].astype(np.int16), COLOUR])
def test_jpeg_2000_keeps_its_values(tmp_path, codec, values):
    path = tmp_path / f"a.{codec}"
    path.write_bytes(imagecodecs.jpeg2k_encode(values, level=0, codecformat=codec))
    found = register.read_image(path)
    assert found.dtype == values.dtype
    assert np.array_equal(found.pixels, planes(values))


def test_the_picture_of_a_camera_with_several_images_is_the_first(tmp_path):
    one, two = (Pillow.fromarray(np.full((H, W, 3), value, np.uint8)) for value in (60, 200))
    one.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[two])
    assert abs(int(register.read_image(tmp_path / "a.jpg").pixels.mean()) - 60) < 3


def test_a_preview_is_not_its_slide(tmp_path):
    """Without the libraries that read slides, and with them: neither takes the preview."""
    (tmp_path / "_a_").mkdir()
    (tmp_path / "a").mkdir()
    for name in ("a.vsi", "a.bif"):
        tifffile.imwrite(tmp_path / name, GREY)
    Pillow.fromarray(COLOUR).save(tmp_path / "a.mrxs", "JPEG")
    Pillow.fromarray(COLOUR).save(tmp_path / "a.vms", "JPEG")
    (tmp_path / "a.nd2").write_bytes(imagecodecs.jpeg2k_encode(GREY))
    for name, format_name in {
        "a.vsi": "an Olympus VSI",
        "a.bif": "a Ventana BIF",
        "a.mrxs": "a 3DHISTECH MRXS",
        "a.vms": "a Hamamatsu VMS",
    }.items():
        with pytest.raises(FileError, match=rf"{name}: is {format_name}.*convert it with bfconvert"):
            register.read_image(tmp_path / name)
        assert f".{name.split('.')[1]}" in image_suffixes()
    with pytest.raises(FileError, match=r"a\.nd2: "):
        register.read_image(tmp_path / "a.nd2")
