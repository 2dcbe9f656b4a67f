"""Files movies are read from and written to: every format gives the same frames, and says what it lacks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile

from register.errors import RegisterError
from register.geometry.pixel_size import PixelSize
from register.io.movies.about import About
from register.io.movies.layout import Layout, sides
from register.io.movies.open import open_stack
from register.io.movies.stack import Stack
from register.io.movies.write import FORMATS, format_of
from register.workflows.movie import job

T, H, W = 12, 20, 30
SI = """SI.VERSION_MAJOR = 2020
SI.hChannels.channelSave = [1;2]
SI.hFastZ.enable = true
SI.hStackManager.enable = true
SI.hStackManager.numSlices = 2
SI.hStackManager.framesPerSlice = 1
SI.hFastZ.numDiscardFlybackFrames = 1
SI.hRoiManager.scanFrameRate = 30
"""


@pytest.fixture(scope="module")
def frames():
    """Frames (12, 20, 30) uint16 without any likeness, so that no order but the right one is equal."""
    return np.random.default_rng(0).integers(0, 60000, (T, H, W)).astype(np.uint16)


def read(path, layout=None):
    """All frames (n, c, h, w) and their stack, closed."""
    stack = open_stack([str(path)], layout or Layout())
    found = np.stack([stack.frame(n) for n in range(len(stack))])
    stack.close()
    assert found.shape[1:] == stack.shape
    assert found.dtype == stack.dtype
    return found, stack


def write_npy(path, frames):
    np.save(path, frames)


def write_big_endian(path, frames):
    np.save(path, frames.astype(">u2"))


def write_fortran(path, frames):
    np.save(path, np.asfortranarray(frames))


def write_hdf5(path, frames):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.create_dataset("imaging/raw", data=frames, chunks=(2, 10, 10), compression="gzip", shuffle=True)
        file["other"] = np.arange(10)


def write_zarr2(path, frames):
    import zarr

    array = zarr.create_array(path, shape=frames.shape, dtype=frames.dtype, chunks=(2, 10, 30), zarr_format=2)
    array[:] = frames


def write_zarr_group(path, frames):
    import zarr

    array = zarr.create_group(path, zarr_format=3).create_array(
        "deep/movie", shape=frames.shape, dtype=frames.dtype, chunks=(1, H, W)
    )
    array[:] = frames


WRITERS = {
    "npy": (write_npy, ".npy"),
    "big endian": (write_big_endian, ".npy"),
    "first index fastest": (write_fortran, ".npy"),
    "hdf5": (write_hdf5, ".h5"),
    "zarr 2": (write_zarr2, ".zarr"),
    "zarr group": (write_zarr_group, ".zarr"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_frames_of_every_format_are_the_same(tmp_path, frames, kind):
    write, ending = WRITERS[kind]
    path = tmp_path / f"m{ending}"
    write(path, frames)
    found, stack = read(path)
    assert (found[:, 0] == frames).all()
    assert stack.axis == "T"
    with pytest.raises(RegisterError, match="has no plane 1; it has one"):
        read(path, Layout(plane=1))
    found, _ = read(path, Layout(planes=3, channels=2, plane=1))
    assert (found == np.stack([frames[2:4], frames[8:10]])).all()


def test_an_array_of_four_axes_is_read_by_its_named_numbers_only(tmp_path, frames):
    np.save(tmp_path / "m.npy", frames.reshape(6, 2, H, W))
    with pytest.raises(RegisterError, match="whose axes are not named; name them by --planes and --channels"):
        read(tmp_path / "m.npy")
    found, _ = read(tmp_path / "m.npy", Layout(channels=2))
    assert (found == frames.reshape(6, 2, H, W)).all()
    found, _ = read(tmp_path / "m.npy", Layout(planes=2, plane=1))
    assert (found[:, 0] == frames[1::2]).all()
    with pytest.raises(RegisterError, match="has 2 planes; name one by --plane"):
        read(tmp_path / "m.npy", Layout(planes=2))
    np.save(tmp_path / "c.npy", np.moveaxis(frames.reshape(6, 2, H, W), 1, 3))
    found, _ = read(tmp_path / "c.npy", Layout(channels=2))
    assert (found == frames.reshape(6, 2, H, W)).all()


def test_ome_zarr_names_its_axes_and_times(tmp_path, frames):
    import zarr

    group = zarr.create_group(tmp_path / "m.ome.zarr", zarr_format=3)
    for name, step in (("0", 1), ("1", 2)):
        data = frames.reshape(6, 1, 2, H, W)[..., ::step, ::step]
        group.create_array(name, shape=data.shape, dtype=data.dtype, chunks=data.shape)[:] = data
    axes = [{"name": "t", "type": "time", "unit": "millisecond"}, {"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    sets = [
        {"path": n, "coordinateTransformations": [{"type": "scale", "scale": [50.0, 1, 2, 0.5 * s, 0.5 * s]}]}
        for n, s in (("0", 1), ("1", 2))
    ]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": sets}]}
    with pytest.raises(RegisterError, match="has 2 planes; name one by --plane"):
        read(tmp_path / "m.ome.zarr")
    found, stack = read(tmp_path / "m.ome.zarr", Layout(plane=1))
    assert (found[:, 0] == frames[1::2]).all()
    assert stack.step == 0.05
    assert stack.pixel_size == (0.5, 0.5, "µm")
    found, stack = read(tmp_path / "m.ome.zarr", Layout(plane=0, dataset="1"))
    assert (found[:, 0] == frames[::2, ::2, ::2]).all()
    assert stack.pixel_size.x == 1.0
    chunk = next(
        x for x in (tmp_path / "m.ome.zarr" / "0").rglob("*") if x.is_file() and x.name != "zarr.json"
    )
    chunk.write_bytes(chunk.read_bytes()[:10])
    with pytest.raises(RegisterError, match=r"m\.ome\.zarr"):
        read(tmp_path / "m.ome.zarr", Layout(plane=1))


def test_nwb_is_read_as_pynwb_writes_it(tmp_path, frames):
    pynwb = pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    file = pynwb.NWBFile(
        session_description="a", identifier="b", session_start_time=datetime(2026, 1, 1, tzinfo=UTC)
    )
    device = file.create_device(name="scope")
    channel = pynwb.ophys.OpticalChannel(name="green", description="green", emission_lambda=510.0)
    plane = file.create_imaging_plane(
        name="plane", optical_channel=channel, description="d", device=device, excitation_lambda=900.0,
        indicator="g", location="v1", grid_spacing=[1e-6, 2e-6], grid_spacing_unit="meters",
    )  # fmt: skip
    data = frames.transpose(0, 2, 1)  # frame, x, y
    for name in ("one", "two"):
        file.add_acquisition(
            pynwb.ophys.TwoPhotonSeries(name=name, data=data, imaging_plane=plane, rate=20.0, unit="n")
        )
    with pynwb.NWBHDF5IO(tmp_path / "m.nwb", "w") as io:
        io.write(file)
    with pytest.raises(
        RegisterError, match=r"several datasets: acquisition/one/data .*name one by --dataset"
    ):
        read(tmp_path / "m.nwb")
    found, stack = read(tmp_path / "m.nwb", Layout(dataset="acquisition/two"))
    assert (found[:, 0] == frames).all()
    assert stack.step == pytest.approx(0.05)
    assert stack.pixel_size == (pytest.approx(1.0), pytest.approx(2.0), "µm")
    with pytest.raises(RegisterError, match="has no dataset 'x'; it has acquisition/one/data"):
        read(tmp_path / "m.nwb", Layout(dataset="x"))


def test_the_binary_of_suite2p_is_read_with_its_options_or_a_size(tmp_path, frames):
    movie = (frames // 2).astype(np.int16)
    movie.tofile(tmp_path / "data.bin")
    with pytest.raises(RegisterError, match="does not state the size of its frames"):
        read(tmp_path / "data.bin")
    found, _ = read(tmp_path / "data.bin", Layout(frame_size=sides("30x20")))
    assert (found[:, 0] == movie).all()
    options = {"Ly": np.int64(H), "Lx": W, "fs": 20.0, "meanImg": np.ones((2, 2)), "path": tmp_path}
    np.save(tmp_path / "ops.npy", options)
    found, stack = read(tmp_path / "data.bin")
    assert (found[:, 0] == movie).all()
    assert stack.step == 0.05
    (tmp_path / "data.bin").write_bytes(movie.tobytes()[:-100])
    with pytest.raises(RegisterError, match="is cut off: it has 11 frames"):
        read(tmp_path / "data.bin")
    found, stack = read(tmp_path / "data.bin", Layout(allow_truncated=True))
    assert len(found) == 11
    assert "cut short" in stack.notes[0]
    with pytest.raises(RegisterError, match="width and height"):
        sides("30")


def test_options_of_suite2p_run_no_code(tmp_path, frames):
    frames.astype(np.int16).tofile(tmp_path / "data.bin")

    class Evil:
        def __reduce__(self):
            return open, (str(tmp_path / "made"), "w")

    np.save(tmp_path / "ops.npy", {"Ly": H, "Lx": W, "x": Evil()})
    assert len(read(tmp_path / "data.bin")[0]) == T
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("ending", [".npy", ".h5"])
def test_a_cut_file_is_refused_or_read_as_far_as_it_goes(tmp_path, frames, ending):
    path = tmp_path / f"m{ending}"
    if ending == ".npy":
        np.save(path, frames)
    else:
        write_hdf5(path, frames)
    path.write_bytes(path.read_bytes()[: -frames[0].nbytes // 2])
    with pytest.raises(RegisterError, match=r"cut off: 11 of 12|is cut short"):
        read(path)
    if ending == ".npy":
        found, stack = read(path, Layout(allow_truncated=True))
        assert (found[:, 0] == frames[:11]).all()
        assert "11 of its 12 frames" in stack.notes[0]
    else:
        with pytest.raises(RegisterError, match="cannot be read in part"):
            read(path, Layout(allow_truncated=True))


@pytest.mark.parametrize(
    ("name", "content"),
    [("m.npy", b"x" * 100), ("m.h5", b"x" * 100), ("m.nwb", b""), ("m.npy", b""), ("ops.bin", b"1234")],
)
def test_a_file_of_something_else_is_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RegisterError, match=name) as error:
        read(tmp_path / name)
    assert "\n" not in str(error.value)


def test_an_option_of_another_format_is_refused(tmp_path, frames):
    np.save(tmp_path / "m.npy", frames)
    tifffile.imwrite(tmp_path / "m.tif", frames, photometric="minisblack")
    for name in ("m.npy", "m.tif"):
        with pytest.raises(RegisterError, match="has no --dataset; leave it out"):
            read(tmp_path / name, Layout(dataset="data"))
        with pytest.raises(RegisterError, match="has no --frame-size; leave it out"):
            read(tmp_path / name, Layout(frame_size=(W, H)))


def test_values_that_are_no_numbers_are_refused(tmp_path):
    np.save(tmp_path / "c.npy", np.zeros((3, 4, 5), complex))
    np.save(tmp_path / "o.npy", np.array([{}, {}, {}], dtype=object))
    np.save(tmp_path / "p.npy", np.zeros((4, 5)))
    for name in "cop":
        with pytest.raises(RegisterError, match=f"{name}.npy: "):
            read(tmp_path / f"{name}.npy")


def test_scanimage_states_its_channels_planes_and_rate(tmp_path, frames):
    pages = frames  # two volumes of two planes and one flyback frame
    with tifffile.TiffWriter(tmp_path / "s.tif", bigtiff=True) as file:
        for page in pages:
            file.write(page, photometric="minisblack", software=SI, metadata=None, contiguous=False)
    with pytest.raises(RegisterError, match="3 planes alternate"):
        read(tmp_path / "s.tif")
    with pytest.raises(RegisterError, match="has no plane 2; it has 2"):
        read(tmp_path / "s.tif", Layout(plane=2))  # the flyback frame
    found, stack = read(tmp_path / "s.tif", Layout(plane=1))
    assert (found == np.stack([pages[2:4], pages[8:10]])).all()
    assert stack.step == pytest.approx(0.1)


def series(folder, frames, channels=1):
    """An OME series of one file per image, as Bruker's Prairie View writes it: each file names all others."""
    ids = [f"urn:uuid:00000000-0000-0000-0000-{n:012d}" for n in range(len(frames))]
    names = [f"a_Cycle00001_Ch{1 + n % channels}_{1 + n // channels:06d}.ome.tif" for n in range(len(frames))]
    data = "".join(
        f'<TiffData FirstC="{n % channels}" FirstT="{n // channels}" FirstZ="0" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{name}">{uuid}</UUID></TiffData>'
        for n, (name, uuid) in enumerate(zip(names, ids, strict=True))
    )
    size = f'SizeX="{W}" SizeY="{H}" SizeC="{channels}" SizeZ="1" SizeT="{len(frames) // channels}"'
    for frame, name, uuid in zip(frames, names, ids, strict=True):
        text = (
            '<?xml version="1.0"?>'
            f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="{uuid}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" {size}>{data}'
            "</Pixels></Image></OME>"
        )
        tifffile.imwrite(folder / name, frame, description=text, metadata=None)
    return names


def test_files_of_a_series_are_frames_in_their_order(tmp_path, frames):
    names = series(tmp_path, frames)
    found, _ = read(tmp_path)
    assert (found[:, 0] == frames).all()
    with pytest.raises(RegisterError, match="one of several files of a series; name their folder"):
        read(tmp_path / names[0])


def test_images_of_several_channels_do_not_follow_one_another(tmp_path, frames):
    series(tmp_path, frames, channels=2)
    with pytest.raises(RegisterError, match=r"images of several channels \(1, 2\)"):
        read(tmp_path)
    found, _ = read(tmp_path / "*_Ch2_*")
    assert (found[:, 0] == frames[1::2]).all()
    for n, frame in enumerate(frames):
        tifffile.imwrite(tmp_path / f"img_channel00{n % 2}_position000_time00{n // 2}_z000.tif", frame)
    with pytest.raises(RegisterError, match="several channels"):
        read(tmp_path / "img_*")


@dataclass
class Given:
    """Frames (n, c, h, w) that are in memory."""

    frames: np.ndarray

    shape = property(lambda self: self.frames.shape[1:])
    dtype = property(lambda self: self.frames.dtype)

    def __len__(self):
        return len(self.frames)

    def read(self, index):
        return self.frames[index]

    def close(self):
        pass


def written(folder, frames, name, compression="auto", rgb=False, step=0.05):
    """The path of frames (n, c, h, w) in a format, and the movie that they are."""
    source = folder / "source.tif"
    source.write_bytes(b"II")
    size = PixelSize(0.5, 0.25, "µm")
    stack = Stack("source.tif", (source,), Given(frames), rgb=rgb, step=step, pixel_size=size)
    chosen, packed = format_of(name, compression)
    path = chosen.target(folder / "o", "aligned")
    shifts = np.arange(2.0 * len(frames)).reshape(-1, 2)
    about = About(stack, packed, shifts, np.arange(len(frames)) == 3, np.ones((H, W), np.float32))
    with chosen.writer(path, about) as add:
        for frame in frames:
            add(chosen.encode(frame, stack, packed))
    return path


def test_the_formats_are_those_of_the_command():
    assert tuple(FORMATS) == job.FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_again(tmp_path, frames, name):
    if name == "nwb":
        pytest.importorskip("pynwb")
    for compression in (*FORMATS[name].compressions, "auto"):
        path = written(tmp_path, frames[:, None], name, compression)
        found, stack = read(path, Layout(dataset=NWB if name == "nwb" else None))
        assert (found[:, 0] == (frames // 2 if name == "suite2p" else frames)).all()
        assert stack.step == pytest.approx(0.05) or name == "tiff"
        if name in ("tiff", "ome-zarr"):
            assert stack.pixel_size == PixelSize(0.5, 0.25, "µm")
    assert not list(path.parent.glob(".*"))
    with pytest.raises(RegisterError, match=f"a movie in {name} has"):
        format_of(name, "jpeg")


NWB = "processing/ophys/MotionCorrection/CorrectedImageStack/corrected"


@pytest.mark.parametrize("name", ["tiff", "ome-zarr", "hdf5"])
@pytest.mark.parametrize("rgb", [False, True])
def test_channels_and_colours_are_written(tmp_path, frames, name, rgb):
    three = frames.reshape(4, 3, H, W)
    found, _ = read(written(tmp_path, three, name, rgb=rgb))
    assert (found == three).all()


def test_what_a_format_does_not_hold_is_refused_and_nothing_is_written(tmp_path, frames):
    pytest.importorskip("pynwb")
    two = frames.reshape(6, 2, H, W)
    for name, data, step, why in (
        ("nwb", two, 0.1, "NWB holds one channel"),
        ("nwb", frames[:, None], None, "--frame-interval"),
        ("suite2p", two, 0.1, "holds one channel"),
        ("suite2p", frames[:, None].astype(np.float32), 0.1, "holds int16, the movie float32"),
    ):
        with pytest.raises(RegisterError, match=why):
            written(tmp_path, data, name, step=step)
    assert not [x for x in (tmp_path / "o").rglob("*") if x.is_file()]


def test_what_cannot_be_written_or_compared_is_refused_before_the_first_frame(tmp_path, program):
    frames = np.random.default_rng(0).random((4, 40, 50))
    np.save(tmp_path / "m.npy", frames)
    np.save(tmp_path / "u.npy", (frames * 60000).astype(np.uint16))
    np.save(tmp_path / "v.npy", frames)
    np.save(tmp_path / "empty.npy", frames[:0])
    tifffile.imwrite(tmp_path / "z.tif", frames.astype(np.float32), imagej=True, metadata={"axes": "ZYX"})
    (tmp_path / "folder").mkdir()
    for name, options, message in (
        ("m.npy", ["--format", "suite2p"], "suite2p's binary holds int16, the movie float64"),
        ("m.npy", ["--format", "nwb"], "give --frame-interval SECONDS"),
        ("v.npy", ["--format", "suite2p", "--volume", "--planes", "2"], "holds int16, the movie float64"),
        ("m.npy", ["--fixed-channel", "DAPI"], "m.npy: has no channel 'DAPI'; it has 1"),
        ("m.npy", ["--channels", "2", "--fixed-channel", "5"], "m.npy: has no channel '5'; it has 2"),
        ("m.npy", ["--bidirectional", "13"], "--bidirectional 13: more than a quarter of the 50 px"),
        ("u.npy", ["--fill", "nan"], "--fill nan: pixels of uint16 have no NaN"),
        ("m.npy", ["--to", tmp_path / "z.tif"], "z.tif: is a stack; --to needs an image of one plane"),
        ("empty.npy", [], "empty.npy: holds no frame"),
        ("folder", [], "folder: holds no image and no movie"),
    ):
        done = program("movie", tmp_path / name, "-o", tmp_path / "o", "--workers", "1", *options)
        assert (done.returncode, message in done.stderr) == (1, True), (options, done.stderr)
        assert not (tmp_path / "o" / "unfinished").exists(), options


def test_a_stack_of_nwb_is_valid_and_has_its_shifts(tmp_path, frames):
    pynwb = pytest.importorskip("pynwb")
    path = written(tmp_path, frames[:, None], "nwb")
    assert not pynwb.validate(path=str(path))
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        stack = file.processing["ophys"]["MotionCorrection"]["CorrectedImageStack"]
        assert (stack.corrected.data[:] == frames.transpose(0, 2, 1)).all()
        assert (stack.xy_translation.data[:] == np.arange(24.0).reshape(-1, 2)).all()
        assert stack.original.external_file[0] == str(tmp_path / "source.tif")
        assert "the time of that file" in file.session_description


def test_options_for_suite2p_state_what_it_needs(tmp_path, frames):
    path = written(tmp_path, frames[:, None], "suite2p")
    assert path == tmp_path / "o" / "suite2p" / "plane0" / "data.bin"
    options = np.load(path.with_name("ops.npy"), allow_pickle=True).item()
    assert (options["Ly"], options["Lx"], options["nframes"], options["fs"]) == (H, W, T, pytest.approx(20))
    assert Path(options["reg_file"]) == path
    assert options["badframes"].nonzero()[0].tolist() == [3]
    assert options["xoff"].tolist() == list(range(0, 24, 2))
    assert (np.fromfile(path, np.int16).reshape(T, H, W) == frames // 2).all()


def test_ome_zarr_of_a_movie_is_valid(tmp_path, frames):
    yaozarrs = pytest.importorskip("yaozarrs")
    yaozarrs.validate_zarr_store(str(written(tmp_path, frames[:, None], "ome-zarr")))
