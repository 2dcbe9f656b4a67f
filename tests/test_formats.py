"""Every kind of image file is read and, through the identity transform, written unchanged."""

import json

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
import zarr
from ome_types import from_tiff
from PIL import Image as Pillow

import register
from register.errors import FileError
from register.geometry import affine_tensors
from register.io.images.masks import read_mask
from register.io.images.model import Selection
from register.io.images.open import open_image
from register.io.images.working import Validity, working_level
from register.transforms.canvas import Canvas
from register.transforms.frame import Frame
from register.transforms.transform import Transform
from register.workflows.aligned_image import OutputStyle, aligned_image, write_aligned
from register.workflows.apply import apply

RNG = np.random.default_rng(0)
H, W = 70, 90
ICC = b"\0\0\2\x0cprofile" + bytes(120)
GEO = [
    (33550, 12, 3, (10.0, 10.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 500000.0, 4600000.0, 0.0), True),
    (34735, 3, 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True),
]


def pixels(dtype, *shape):
    if np.dtype(dtype).kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    if np.dtype(dtype) == bool:
        return RNG.random(shape) > 0.5
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def identity_transform(width=W, height=H, pixel_size=None):
    frame = Frame(width, height, pixel_size)
    return Transform("affine", frame, frame, affine_tensors.identity())


TIFFS = {
    **{
        np.dtype(d).name: (pixels(d, H, W), {})
        for d in (bool, "u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")
    },
    "big-endian": (pixels("u2", H, W), {"byteorder": ">"}),
    "bigtiff": (pixels("u2", H, W), {"bigtiff": True}),
    "rgb": (pixels("u1", H, W, 3), {"photometric": "rgb"}),
    "rgb 16 planar": (pixels("u2", 3, H, W), {"photometric": "rgb", "planarconfig": "separate"}),
    "rgba": (pixels("u1", H, W, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "rgba premultiplied": (pixels("u2", H, W, 4), {"photometric": "rgb", "extrasamples": ["assocalpha"]}),
    "cmyk": (pixels("u1", H, W, 4), {"photometric": "separated"}),
    "lab": (pixels("u1", H, W, 3), {"photometric": "cielab"}),
    "white is zero": (pixels("u1", H, W), {"photometric": "miniswhite"}),
    "palette": (pixels("u1", H, W), {"photometric": "palette", "colormap": pixels("u2", 3, 256)}),
    "five samples": (pixels("u2", 5, H, W), {"photometric": "minisblack", "planarconfig": "separate"}),
    "five samples together": (pixels("u2", H, W, 5), {"photometric": "minisblack", "planarconfig": "contig"}),
    "pages": (pixels("u2", 3, H, W), {"photometric": "minisblack", "metadata": {"axes": "CYX"}}),
    **{
        name: (pixels("u2", H, W), {"compression": name, "tile": (32, 48)})
        for name in ("zlib", "lzw", "zstd", "lzma", "packbits", "jpegxl", "jpeg2000")
    },
    "webp": (
        pixels("u1", H, W, 3),
        {"photometric": "rgb", "compression": "webp", "compressionargs": {"lossless": True}},
    ),
    "jpeg": (pixels("u1", H, W, 3), {"photometric": "rgb", "compression": "jpeg", "tile": (32, 32)}),
    "predictor": (pixels("f4", H, W), {"compression": "zlib", "predictor": 3}),
    "strips": (pixels("u2", H, W), {"compression": "zlib", "rowsperstrip": 7}),
    "profile": (pixels("u1", H, W, 3), {"photometric": "rgb", "iccprofile": ICC}),
    "on the earth": (
        pixels("i2", H, W),
        {"extratags": [*GEO, (42113, 2, 6, "-9999", True)], "metadata": None},
    ),
    "imagej": (pixels("u2", H, W), {"imagej": True, "resolution": (2.0, 2.0), "metadata": {"unit": "um"}}),
}


def written(path, name):
    """The pixels of one of the files, which is written."""
    data, options = TIFFS[name]
    options = {"metadata": None, **options}
    file = {key: options.pop(key) for key in ("byteorder", "bigtiff", "imagej") if key in options}
    with tifffile.TiffWriter(path, **file) as writer:
        writer.write(data, **options)
    return data


@pytest.mark.parametrize("name", TIFFS)
def test_the_identity_writes_the_image_unchanged(tmp_path, name):
    data = written(tmp_path / "in.tif", name)
    before = register.read_image(tmp_path / "in.tif")
    apply(
        identity_transform(pixel_size=before.pixel_size),
        [tmp_path / "in.tif"],
        tmp_path / "out.tif",
        style=OutputStyle("nearest" if name == "palette" else "bilinear"),
    )
    after = register.read_image(tmp_path / "out.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "out.tif"), tifffile.imread(tmp_path / "in.tif"))
    assert tifffile.imread(tmp_path / "out.tif").dtype == data.dtype
    for what in ("colour", "extra", "layout", "icc", "nodata", "pixel_size"):
        if what == "pixel_size" and name == "on the earth":
            continue  # it is part of the georeference, which comes from the fixed image
        assert getattr(after, what) == getattr(before, what), what
    assert before.palette is None or np.array_equal(after.palette, before.palette)


@pytest.mark.parametrize("name", TIFFS)
def test_windows_equal_the_same_part_of_the_full_image(tmp_path, name):
    written(tmp_path / "in.tif", name)
    image = open_image(tmp_path / "in.tif")
    whole = tifffile.imread(tmp_path / "in.tif")
    whole = (
        whole[None] if whole.ndim == 2 else whole if whole.shape[-2:] == (H, W) else np.moveaxis(whole, 2, 0)
    )
    for rows, columns in (
        (slice(0, H), slice(0, W)),
        (slice(3, 41), slice(30, 77)),
        (slice(69, 70), slice(0, 1)),
    ):
        assert np.array_equal(image.pixels[slice(0, image.channels), rows, columns], whole[:, rows, columns])


@pytest.mark.parametrize("shape", ["grey", "rgb", "channels"])
@pytest.mark.parametrize("side", [600, 1301])
def test_ome_tiff_is_valid_and_keeps_names_colours_position_and_levels(tmp_path, shape, side):
    data = {
        "grey": pixels("u2", side, side),
        "rgb": pixels("u1", side, side, 3),
        "channels": pixels("u2", 3, side, side),
    }[shape]
    axes = {"grey": "YX", "rgb": "YXS", "channels": "CYX"}[shape]
    metadata = {
        "axes": axes,
        "PhysicalSizeX": 0.325,
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": 0.3,
        "PhysicalSizeYUnit": "µm",
    }
    planes = 3 if shape == "channels" else 1
    metadata["Plane"] = {
        "PositionX": [12.5] * planes,
        "PositionXUnit": ["µm"] * planes,
        "PositionY": [-3.0] * planes,
        "PositionYUnit": ["µm"] * planes,
    }
    if shape == "channels":
        metadata["Channel"] = {"Name": ["DAPI", "FITC", "Cy5"], "Color": [65535, 16711935, -16776961]}
    tifffile.imwrite(
        tmp_path / "in.ome.tif",
        data,
        photometric="rgb" if shape == "rgb" else "minisblack",
        tile=(256, 256),
        metadata=metadata,
    )
    image = open_image(tmp_path / "in.ome.tif")
    write_aligned(
        tmp_path / "out.ome.tif",
        aligned_image(image, image, identity_transform(side, side), OutputStyle()),
        OutputStyle(pyramid=True),
    )
    again = open_image(tmp_path / "out.ome.tif")
    for what in (
        "kind",
        "pixel_size",
        "channel_names",
        "channel_colours",
        "position",
        "colour",
        "size",
    ):
        assert getattr(again, what) == getattr(image, what), what
    assert np.array_equal(again.in_memory().pixels, image.in_memory().pixels)
    assert len(again.smaller) == (1 if side == 600 else 2)
    coarse = open_image(tmp_path / "out.ome.tif", Selection(level=1))
    assert coarse.pixel_size.xy == (0.65, 0.6)
    assert coarse.size == ((side + 1) // 2, (side + 1) // 2)
    assert again.smaller[0].shape[1:] == ((side + 1) // 2, (side + 1) // 2)
    assert abs(float(again.smaller[0][:, :, :].mean()) - float(again.pixels[:, :, :].mean())) < 0.01 * float(
        np.iinfo(data.dtype).max
    )
    described = from_tiff(tmp_path / "out.ome.tif").images[0].pixels
    assert (described.physical_size_x, described.physical_size_y) == (0.325, 0.3)
    assert [channel.name for channel in described.channels] == (
        ["DAPI", "FITC", "Cy5"] if shape == "channels" else [None]
    )
    with tifffile.TiffFile(tmp_path / "out.ome.tif") as file:
        assert len(file.series) == 1
        assert file.pages[0].is_tiled


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_of_both_versions(tmp_path, version):
    data = pixels("u2", 2, 5, 200, 150)
    axes = [{"name": "c", "type": "channel"}, {"name": "z", "type": "space"}] + [
        {"name": n, "type": "space", "unit": "micrometer"} for n in "yx"
    ]
    scales = [[1, 1, 0.5, 0.5], [1, 1, 1.0, 1.0]]
    sets = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for i, scale in enumerate(scales)
    ]
    image = {"axes": axes, "datasets": sets, "version": "0.4" if version == 2 else "0.5"}
    group = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=version)
    omero = {"channels": [{"label": "DAPI", "color": "0000FF"}, {"label": "FITC", "color": "00FF00"}]}
    meaning = {"multiscales": [image], "omero": omero}
    group.attrs.update(meaning if version == 2 else {"ome": meaning})
    for i, level in enumerate((data, data[..., ::2, ::2])):
        group.create_array(str(i), shape=level.shape, dtype=level.dtype, chunks=(1, 1, 64, 64))[:] = level
    with pytest.raises(FileError, match=r"axes CZYX .*--fixed-plane Z=0"):
        open_image(tmp_path / "a.zarr")
    found = open_image(tmp_path / "a.zarr", Selection(plane="Z=3"))
    assert np.array_equal(found.in_memory().pixels, data[:, 3])
    assert (found.pixel_size, found.channel_names) == ((0.5, 0.5, "µm"), ("DAPI", "FITC"))
    assert found.smaller[0].shape == (2, 100, 75)
    assert open_image(tmp_path / "a.zarr", Selection(level=1, plane="Z=3")).pixel_size.xy == (1.0, 1.0)


def test_formats_of_pillow(tmp_path):
    grey, colour = pixels("u1", H, W), pixels("u1", H, W, 3)
    for name in ("a.bmp", "a.pgm", "a.webp"):
        Pillow.fromarray(colour if name == "a.webp" else grey).save(tmp_path / name, lossless=True)
        assert register.read_image(tmp_path / name).size == (H, W)
    assert np.array_equal(register.read_image(tmp_path / "a.pgm").pixels[0], grey)
    (tmp_path / "deep.pgm").write_bytes(
        b"P5 %d %d 65535\n" % (W, H) + pixels("u2", H, W).byteswap().tobytes()
    )
    assert register.read_image(tmp_path / "deep.pgm").pixels.dtype == np.uint16
    Pillow.fromarray(colour).convert("CMYK").save(tmp_path / "cmyk.jpg")
    assert register.read_image(tmp_path / "cmyk.jpg").colour == "cmyk"


def test_png_keeps_palette_profile_and_sixteen_bit_colour(tmp_path):
    picture = Pillow.fromarray(pixels("u1", H, W, 3)).quantize(64)
    picture.save(tmp_path / "p.png", icc_profile=ICC)
    (tmp_path / "deep.png").write_bytes(imagecodecs.png_encode(pixels("u2", H, W, 3)))
    for name in ("p.png", "deep.png"):
        apply(identity_transform(), [tmp_path / name], tmp_path / f"out_{name}", style=OutputStyle("nearest"))
        before, after = (register.read_image(tmp_path / x) for x in (name, f"out_{name}"))
        assert np.array_equal(before.pixels, after.pixels)
        assert (before.colour, before.icc, before.dtype) == (after.colour, after.icc, after.dtype)
    assert np.array_equal(
        np.asarray(Pillow.open(tmp_path / "out_p.png").convert("RGB")), np.asarray(picture.convert("RGB"))
    )


def test_the_largest_series_is_read_and_others_by_number(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for side in (40, 90, 60):
            file.write(np.full((side, side), side, np.uint8), metadata=None)
    found = open_image(tmp_path / "a.tif")
    assert found.size == (90, 90)
    assert "series 1 of 3" in found.notes[0]
    assert open_image(tmp_path / "a.tif", Selection(series=2)).size == (60, 60)
    with pytest.raises(FileError, match="has no series 7; it has 3"):
        open_image(tmp_path / "a.tif", Selection(series=7))


def test_a_stack_names_its_axes_and_a_plane_of_it_is_read(tmp_path):
    data = pixels("u2", 4, 3, H, W)
    tifffile.imwrite(tmp_path / "a.ome.tif", data, photometric="minisblack", metadata={"axes": "TZYX"})
    with pytest.raises(FileError, match=r"axes TZYX \(4 × 3 × 70 × 90\).*--moving-plane T=0,Z=0"):
        open_image(tmp_path / "a.ome.tif")
    assert np.array_equal(
        open_image(tmp_path / "a.ome.tif", Selection(plane="t=2, z=1")).in_memory().pixels[0], data[2, 1]
    )
    with pytest.raises(FileError, match="has no plane Z=9"):
        open_image(tmp_path / "a.ome.tif", Selection(plane="Z=9"))


@pytest.mark.parametrize("dtype", ["u8", "i8", "c8"])
def test_types_that_cannot_be_interpolated_are_refused_by_name(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((H, W), dtype))
    with pytest.raises(FileError, match=r"a\.tif.*(int64|complex64)"):
        apply(identity_transform(), [tmp_path / "a.tif"], tmp_path / "o.tif")
    assert not (tmp_path / "o.tif").exists()


def test_nodata_fills_outside_the_moving_image_and_the_georeference_is_kept(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", pixels("i2", H, W), extratags=[*GEO, (42113, 2, 6, "-9999", True)], metadata=None
    )
    image = open_image(tmp_path / "a.tif")
    shifted = Transform("affine", Frame(W, H), Frame(W, H), affine_tensors.translation(20.0, 0.0))
    union = Canvas(-30, -10, W + 40, H + 10)
    write_aligned(
        tmp_path / "o.tif", aligned_image(image, image, shifted, OutputStyle(), union), OutputStyle()
    )
    with tifffile.TiffFile(tmp_path / "o.tif") as file:
        page = file.pages[0]
        assert page.tags[33550].value == (10.0, 10.0, 0.0)
        assert page.tags[33922].value[:5] == (
            30.0,
            10.0,
            0.0,
            500000.0,
            4600000.0,
        )  # the raster point at that place
        assert page.tags[34735].value[-1] == 32633
        assert float(page.tags[42113].value.strip("\0")) == -9999
        found = page.asarray()
    with tifffile.TiffWriter(tmp_path / "levels.tif") as file:
        file.write(pixels("i2", 64, 80), subifds=1, extratags=GEO, metadata=None)
        file.write(pixels("i2", 32, 40), subfiletype=1, metadata=None)
    tags = {tag[0]: tag[3] for tag in open_image(tmp_path / "levels.tif", Selection(level=1)).geotags}
    assert tags[33550] == (20.0, 20.0, 0.0)
    assert (found[:, -20:] == -9999).all()
    assert (found[10:, 30 : 30 + W - 20] == image.in_memory().pixels[0][:, 20:]).all()


def test_overviews_of_a_geotiff_are_levels(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number in (0, 1, 2):
            file.write(pixels("u1", 64 >> number, 80 >> number), subfiletype=min(number, 1), metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert [level.shape for level in (image.pixels, *image.smaller)] == [
        (1, 64, 80),
        (1, 32, 40),
        (1, 16, 20),
    ]


def test_rasterio_finds_the_aligned_image_at_the_place_of_the_fixed_one(tmp_path):
    import rasterio

    tifffile.imwrite(tmp_path / "f.tif", pixels("u1", H, W), extratags=GEO, metadata=None)
    tifffile.imwrite(
        tmp_path / "m.tif", pixels("i2", H, W), extratags=[(42113, 2, 6, "-9999", True)], metadata=None
    )
    fixed, moving = (open_image(tmp_path / name) for name in ("f.tif", "m.tif"))
    for canvas in (None, Canvas(-30, -10, W + 40, H + 10)):
        write_aligned(
            tmp_path / "o.tif",
            aligned_image(moving, fixed, identity_transform(), OutputStyle(), canvas),
            OutputStyle(),
        )
        with rasterio.open(tmp_path / "f.tif") as there, rasterio.open(tmp_path / "o.tif") as here:
            assert here.crs == there.crs
            assert here.crs.to_epsg() == 32633
            left, top = (canvas.left, canvas.top) if canvas else (0, 0)
            assert here.transform == there.transform @ type(there.transform).translation(left, top)
            assert (here.nodata, here.dtypes) == (-9999, ("int16",))


def test_fill_is_white_for_brightfield_and_black_for_the_rest(tmp_path):
    stained = np.full((H, W, 3), 240, np.uint8)
    stained[20:50, 20:60] = (150, 60, 140)
    gone = Transform("affine", Frame(W, H), Frame(W, H), affine_tensors.translation(W, 0.0))
    for name, data, expected in (
        ("stained", stained, 255),
        ("dark", 255 - stained, 0),
        ("grey", pixels("u2", H, W), 0),
    ):
        tifffile.imwrite(
            tmp_path / f"{name}.tif", data, photometric="rgb" if data.ndim == 3 else "minisblack"
        )
        apply(gone, [tmp_path / f"{name}.tif"], tmp_path / f"o_{name}.tif")
        assert (tifffile.imread(tmp_path / f"o_{name}.tif") == expected).all(), name


def test_masks_are_images_or_polygons(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", pixels("u1", H, W))
    image = open_image(tmp_path / "a.tif")
    ring = [[10, 20], [50, 20], [50, 60], [10, 60], [10, 20]]
    hole = [[20, 30], [30, 30], [30, 40], [20, 40], [20, 30]]
    tree = {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {},
                "geometry": {"type": "Polygon", "coordinates": [ring, hole]},
            }
        ],
    }
    (tmp_path / "m.geojson").write_text(json.dumps(tree))
    drawn = read_mask(str(tmp_path / "m.geojson"), image.size)[slice(0, 1), slice(0, H), slice(0, W)][0] > 0
    assert drawn[25, 15]
    assert not drawn[35, 25]
    assert not drawn[10, 15]
    assert abs(int(drawn.sum()) - (40 * 40 - 10 * 10)) <= 200  # up to a pixel at the edges
    part = (
        read_mask(str(tmp_path / "m.geojson"), image.size)[slice(0, 1), slice(22, 50), slice(12, 40)][0] > 0
    )
    assert np.array_equal(part, drawn[22:50, 12:40])
    tifffile.imwrite(tmp_path / "small.tif", pixels("u1", 9, 9))
    with pytest.raises(FileError, match="9 × 9 pixels, the image it masks 90 × 70"):
        read_mask(str(tmp_path / "small.tif"), image.size)
    (tmp_path / "none.geojson").write_text('{"type": "Point", "coordinates": [1, 2]}')
    with pytest.raises(FileError, match="holds no polygon"):
        read_mask(str(tmp_path / "none.geojson"), image.size)


def test_a_working_image_is_the_mean_of_blocks_of_pixels_of_any_level(tmp_path):
    data = pixels("u2", 1000, 1200)
    tifffile.imwrite(tmp_path / "a.tif", data, tile=(128, 128), compression="zlib")
    image = open_image(tmp_path / "a.tif")
    level, name = working_level(image, Validity(image), 250)
    assert name == "gray"
    assert level.size == (250, 300)
    assert np.allclose(level.image[0], data.reshape(250, 4, 300, 4).mean((1, 3)), rtol=1e-5)
    assert torch.equal(level.original_from_level, affine_tensors.scaling(4, 4))


def test_damaged_files_raise_a_register_error():
    """A few of the mutants that ``benchmarks.fuzz`` makes by the thousand."""
    from benchmarks import fuzz

    assert fuzz.run(200, None) == []
