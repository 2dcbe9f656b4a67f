import threading

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import register
from benchmarks.synthetic import warped_pair
from register import api
from register.compute import device
from register.engine import pair
from register.errors import AlignmentError, RegisterError
from register.geometry import affine
from register.geometry.patch_grid import PatchGrid
from register.images import pyramid
from register.images.arrays import grey_level


def errors(transform, truth):
    """The distance (h, w) of the transform from the true map (h, w, 2), in pixels."""
    still = np.stack(np.meshgrid(np.arange(truth.shape[1]), np.arange(truth.shape[0])), axis=2)
    return np.linalg.norm(transform.field().numpy() + still - truth, axis=2)


def affine_pair(texture, through, matrix, height=300, width=330, noise=0.0):
    y, x = np.mgrid[:height, :width]
    truth = np.stack([m[0] * x + m[1] * y + m[2] for m in matrix], axis=2)
    rng = np.random.default_rng(3)
    return *(image + rng.normal(0, noise, image.shape) for image in (through(texture, truth), texture)), truth


def seen(truth, shape, margin=2):
    return ((truth >= margin) & (truth <= np.array(shape[::-1]) - 1 - margin)).all(axis=2)


def test_identical_images_stay_identical(texture, device):
    alignment = register.align(texture, texture, device=device)
    assert float(alignment.transform.field().abs().max()) < 0.02
    for dtype, scale in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        pixels = (texture * scale).astype(dtype)
        assert np.array_equal(register.warp(pixels, alignment.transform), pixels)


def test_images_too_large_for_the_device_stay_on_the_cpu(texture, monkeypatch):
    def full(tensors, place):
        raise torch.OutOfMemoryError("fake")

    monkeypatch.setattr(api.device, "upload", full)
    assert grey_level(texture, place=torch.device("cuda")).level.image.device.type == "cpu"


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2", "int16", "uint32", "float16", "float64"])
@pytest.mark.parametrize("layout", ["C", "F", "reversed", "read-only"])
def test_arrays_of_any_type_and_layout_are_read(dtype, layout):
    pixels = np.arange(8 * 9).reshape(8, 9).astype(dtype)
    given = (
        np.asfortranarray(pixels)
        if layout == "F"
        else pixels[::-1, ::-1].copy()[::-1, ::-1]
        if layout == "reversed"
        else pixels.copy()
    )
    given.flags.writeable = layout != "read-only"
    level, name = grey_level(given)
    assert name == "gray"
    assert np.array_equal(level.image[0].numpy(), pixels.astype(np.float32))
    assert float(level.mask.amin()) == 1


@pytest.mark.parametrize(
    "matrix", [[[1.02, 0.10, 30], [-0.09, 0.99, 60]], [[0.97, -0.05, 60], [0.06, 1.03, 20]]]
)
@pytest.mark.parametrize("model", ["local", "affine"])
def test_a_known_affine_is_recovered_everywhere(texture, through, model, matrix, device):
    fixed, moving, truth = affine_pair(texture, through, matrix)
    assert errors(register.align(fixed, moving, model=model, device=device).transform, truth).max() < 0.05


@pytest.mark.parametrize(("model", "matrix"), [
    ("translation", [[1, 0, 33.4], [0, 1, 41.7]]),
    ("rigid", [[0.98, 0.198997, 10], [-0.198997, 0.98, 70]]),
    ("similarity", [[1.078, 0.218897, 10], [-0.218897, 1.078, 80]]),
])  # fmt: skip
def test_each_global_model_recovers_its_own_kind_and_stays_in_it(texture, through, model, matrix):
    fixed, moving, truth = affine_pair(texture, through, matrix)
    transform = register.align(fixed, moving, model=model).transform
    assert transform.grid is None
    assert errors(transform, truth)[seen(truth, moving.shape)].max() < 0.1
    linear = transform.matrix[:, :2]
    if model == "translation":
        assert np.allclose(linear, np.eye(2), atol=1e-12)
    else:
        size = 1.0 if model == "rigid" else np.linalg.norm(linear[0])
        assert np.allclose(linear @ linear.T, size**2 * np.eye(2), atol=1e-6)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.75])
def test_no_subpixel_bias(texture, through, shift):
    fixed, moving, _ = affine_pair(texture, through, [[1, 0, 30 + shift], [0, 1, 40]], noise=0.02)
    field = register.align(fixed, moving).transform.field().numpy()
    assert abs(field[..., 0].mean() - 30 - shift) < 0.02
    assert abs(field[..., 1].mean() - 40) < 0.02


@pytest.mark.parametrize(
    ("contrast", "noise", "median"),
    [("plain", 0.0, 0.10), ("plain", 0.02, 0.25), ("gamma", 0.02, 0.25), ("inverted", 0.02, 0.25)],
)
def test_a_smooth_warp_is_recovered(texture, contrast, noise, median):
    pair = warped_pair(texture, 0.02, seed=1, contrast=contrast, noise=noise)
    alignment = register.align(pair.fixed, pair.moving)
    found = errors(alignment.transform, pair.moving_from_fixed)[seen(pair.moving_from_fixed, texture.shape)]
    assert np.median(found) < median
    assert np.percentile(found, 90) < 4 * median
    assert alignment.quality["folds"] == 0
    assert alignment.quality["det_min"] > 0
    assert alignment.quality["metric"] == "ncc"


def test_patches_become_finer_where_that_improves_held_out_windows(texture):
    """A warp of 4 % is curved within a patch.

    Without noise finer patches fit it; with noise they would fit the noise.
    """
    side = {"fast": 40, "balanced": 28, "noise": 40}
    found = {}
    for case in side:
        pair = warped_pair(texture, 0.04, seed=1, noise=0.1 if case == "noise" else 0.0)
        transform = register.align(
            pair.fixed, pair.moving, preset="balanced" if case == "noise" else case
        ).transform
        found[case] = np.median(
            errors(transform, pair.moving_from_fixed)[seen(pair.moving_from_fixed, texture.shape)]
        )
        assert transform.grid.columns == PatchGrid.cover(*pair.fixed.shape, side[case]).columns
    assert found["balanced"] < 0.85 * found["fast"]


@pytest.mark.parametrize(
    "metric", ["structure", "mind", "ncc", pytest.param("mi", marks=pytest.mark.slow), "mse"]
)
def test_every_metric_works(texture, metric):
    pair = warped_pair(texture, 0.015, seed=2)
    found = errors(
        register.align(
            pair.fixed, pair.moving, metric=metric, preset="fast" if metric == "mi" else "balanced"
        ).transform,
        pair.moving_from_fixed,
    )
    assert np.median(found[seen(pair.moving_from_fixed, texture.shape)]) < (0.5 if metric == "mi" else 0.1)


@pytest.mark.parametrize("contrast", [lambda x: np.abs(2 * x - 1), lambda x: np.sin(9 * x) / 2 + 0.5])
def test_another_modality_is_matched_by_features(texture, contrast):
    """Grey values that do not rise or fall together: intensity is not chosen, and the warp is found."""
    pair = warped_pair(texture, 0.02, seed=5, noise=0.02)
    rng = np.random.default_rng(1)
    alignment = register.align(pair.fixed, contrast(texture) + rng.normal(0, 0.02, texture.shape))
    found = errors(alignment.transform, pair.moving_from_fixed)[seen(pair.moving_from_fixed, texture.shape)]
    assert alignment.quality["verdict"] == "ok"
    assert np.median(found) < 0.4
    assert np.percentile(found, 90) < 1.0


@pytest.mark.slow
def test_patches_that_do_not_improve_held_out_windows_are_left_out(texture):
    """Two images whose fine detail differs: the finest levels do not improve the alignment."""
    rng = np.random.default_rng(2)
    coarse = gaussian_filter(texture, 6)
    pair = warped_pair((coarse - coarse.min()) / np.ptp(coarse), 0.02, seed=5)
    fixed, moving = (
        x + gaussian_filter(rng.normal(0, 0.3, texture.shape), 1) for x in (pair.fixed, pair.moving)
    )
    alignment = register.align(fixed, moving)
    assert any("460 × 400 pixels were left out" in note for note in alignment.quality["notes"])
    assert np.median(errors(alignment.transform, pair.moving_from_fixed)) < 2
    assert alignment.quality["verdict"] == "ok"


def test_flat_background_follows_the_global_fit(texture):
    """An image mostly flat and noisy: the background deviates by less than a pixel from the global map."""
    y, x = np.mgrid[:400, :460]
    window = gaussian_filter((np.hypot(x - 230, y - 200) < 130).astype(float), 6)
    rng = np.random.default_rng(0)
    fixed, moving = (0.5 + window * (texture - 0.5) + rng.normal(0, 0.01, texture.shape) for _ in range(2))
    field = register.align(fixed, moving).transform.field()
    assert float(field.norm(dim=-1).max()) < 1.0


def test_two_runs_give_the_same_numbers(texture, device):
    pair = warped_pair(texture, 0.02, seed=3)
    one, two = (register.align(pair.fixed, pair.moving, device=device, preset="fast") for _ in range(2))
    assert np.array_equal(one.transform.matrices, two.transform.matrices)
    assert one.quality == two.quality


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no cuda device")
def test_cpu_and_gpu_agree(texture):
    pair = warped_pair(texture, 0.02, seed=3)
    fields = [
        register.align(pair.fixed, pair.moving, device=name).transform.field() for name in ("cpu", "cuda")
    ]
    assert float((fields[0] - fields[1]).norm(dim=-1).max()) < 0.05


def test_unrelated_images_fail_and_get_no_patches(texture):
    other = gaussian_filter(np.random.default_rng(99).normal(size=(380, 400)), 3)
    within = {"rotation_range": 10, "scale_range": 1.1, "search_budget": 1}
    alignment = register.align(texture, other, preset="fast", **within)
    assert alignment.quality["verdict"] == "failed"
    assert alignment.quality["reasons"]
    assert float(alignment.transform.field().abs().max()) == 0


def test_max_shift_bounds_every_patch(texture):
    pair = warped_pair(texture, 0.01, seed=1)
    alignment = register.align(pair.fixed, pair.moving, max_shift=2.0, preset="fast")
    centres = alignment.transform.grid.centres().reshape(-1, 2)
    away = alignment.transform.map(centres) - affine.apply(alignment.transform.matrix, centres)
    stretch = np.linalg.norm(alignment.transform.matrix[:, :2], 2)
    assert np.linalg.norm(away, axis=1).max() < 2.0 * stretch + 1e-3
    assert "capped" in alignment.transform.patch_figures["status"]
    assert any("--max-shift" in reason for reason in alignment.quality["reasons"])


def test_patch_size_sets_the_grid(texture):
    pair = warped_pair(texture, 0.02, seed=1)
    grid = register.align(pair.fixed, pair.moving, patch_size=80, preset="fast").transform.grid
    assert grid.spacing == pytest.approx((80, 80), rel=0.1)


@pytest.mark.parametrize("init", ["identity", "center"])
def test_starts_by_name(texture, init):
    inner = texture[3:-3, 4:-4]
    alignment = register.align(inner, texture, init=init)
    assert np.abs(alignment.transform.field().numpy() - [4, 3]).max() < 0.1


def test_odd_and_unequal_sizes(texture):
    alignment = register.align(texture[50:331, 60:401], texture)
    assert np.abs(alignment.transform.field().numpy() - [60, 50]).max() < 0.1


def test_an_image_smaller_than_a_patch(texture):
    alignment = register.align(
        texture[100:130, 100:135], texture[90:150, 90:150], init="center", model="local"
    )
    assert np.isfinite(alignment.transform.field().numpy()).all()


def test_nan_counts_as_no_data(texture):
    fixed, moving = texture.astype(np.float32).copy(), texture.astype(np.float32).copy()
    fixed[100:160, 50:200] = np.nan
    moving[:40] = np.nan
    assert float(register.align(fixed, moving).transform.field().abs().max()) < 0.1


@pytest.mark.parametrize(
    ("image", "what"),
    [
        (np.zeros((100, 100)), "constant"),
        (np.full((100, 100), np.nan), "no valid pixels"),
        (np.ones((1, 1)), "at least 8 × 8"),
    ],
)
def test_an_image_without_texture_is_an_error_that_names_it(texture, image, what):
    with pytest.raises(AlignmentError, match=what) as one:
        register.align(texture, image)
    assert one.value.image == "moving"
    with pytest.raises(AlignmentError, match="the fixed image"):
        register.align(image, texture)


def test_a_start_without_overlap_is_an_error(texture):
    plane = torch.from_numpy(texture)[None].float()
    level = pyramid.base(plane)
    with pytest.raises(AlignmentError, match="do not overlap"):
        pair.align(
            level,
            level,
            (texture.shape, texture.shape),
            register.Settings(),
            start=torch.tensor([[1, 0, 5000.0], [0, 1, 0]]),
        )


def test_settings_are_refused_by_name(texture):
    with pytest.raises(RegisterError, match="patch_size 2 is not allowed"):
        register.align(texture, texture, patch_size=2)
    with pytest.raises(RegisterError, match="patchsize"):
        register.align(texture, texture, patchsize=20)


@pytest.mark.parametrize(("kind", "expected"), [("cuda", ["block", "work"]), ("cpu", ["block"])])
def test_a_gpu_is_warmed_up_in_the_background_and_waited_for(kind, expected):
    begun, said = threading.Event(), []

    def work():
        begun.wait(10)
        said.append("work")

    with device.run_in_background(work, torch.device(kind)):
        said.append("block")
        begun.set()
    assert said == expected


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        ("meta", torch.OutOfMemoryError("fake"), "meta ran out of memory; the CPU is used instead"),
        (
            "mps",
            TypeError("no float64"),
            r"mps does not support an operation \(no float64\); the CPU is used instead",
        ),
    ],
)
@pytest.mark.parametrize("when", ["on the way there", "at work"])
def test_the_cpu_is_used_with_a_warning_where_a_device_fails(texture, monkeypatch, place, error, said, when):
    align, places = pair.align, []

    def upload(tensors, where):
        places.append(where.type)
        if when == "on the way there" and where.type == place:
            raise error
        return list(tensors)

    def small(*args, **kwargs):
        if when == "at work" and places[-1] == place:
            raise error
        return align(*args, **kwargs)

    monkeypatch.setattr(pair, "align", small)
    monkeypatch.setattr(api.device, "upload", upload)
    monkeypatch.setattr(api.device, "choose", lambda name: torch.device(place))
    with pytest.warns(register.RegisterWarning, match=said):
        alignment = register.align(texture, texture, model="translation")
    assert places[-2:] == [place, "cpu"]
    assert alignment.quality["verdict"] == "ok"
