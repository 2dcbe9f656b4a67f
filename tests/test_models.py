"""Global models: their maps, and a model that is added as a record."""

import importlib
import json

import numpy as np
import pytest
import tifffile
import torch

from register.errors import RegisterError
from register.geometry import affine, arrays, models
from register.geometry.models import GlobalModel
from register.registries import MODELS

SCALE, SHIFT = 1.06, (7.0, -4.0)


def scaled(parameters):
    """One factor for both axes, 1 at the identity."""
    return (1 + parameters[:, 0])[:, None, None] * arrays.identity(2, parameters)


def fit_scale(fixed, moving):
    return np.eye(2) * (fixed * moving).sum() / np.square(fixed).sum()


TOY = GlobalModel(
    "toy",
    linear_parameters=1,
    linear=scaled,
    fit_linear=fit_scale,
    least_points=2,
    contained_in=("similarity", "affine"),
    rotates=False,
)


@pytest.fixture
def toy():
    importlib.import_module("register.cli.align")
    MODELS.add("toy", TOY)
    yield TOY
    MODELS.remove("toy")


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("name", MODELS.names())
def test_a_model_at_zero_is_the_identity_in_the_kind_it_was_given(name, kind):
    model = models.get(name)
    zero, centre = kind(np.zeros((2, model.parameters))), kind(np.array([40.0, 30.0]))
    found = model.matrix(zero, centre, 25.0)
    assert type(found) is type(zero)
    assert np.allclose(found, affine.identity())


@pytest.mark.parametrize("name", MODELS.names())
def test_a_unit_of_a_parameter_moves_a_point_at_the_radius_by_about_a_pixel(name):
    model = models.get(name)
    centre, radius = np.array([40.0, 30.0]), 25.0
    moved = model.matrix(np.eye(model.parameters), centre, radius)
    ring = centre + radius * np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    distance = np.linalg.norm(affine.apply(moved, ring) - ring, axis=-1).max(1)
    assert distance == pytest.approx(np.ones(model.parameters), abs=0.05)


@pytest.mark.parametrize("name", MODELS.names())
def test_a_fit_recovers_every_member_of_its_model(name):
    model, rng = models.get(name), np.random.default_rng(1)
    truth = model.matrix(rng.normal(0, 5, (1, model.parameters)), np.array([50.0, 60.0]), 80.0)[0]
    fixed = rng.uniform(0, 100, (12, 2))
    assert np.allclose(model.fit(fixed, affine.apply(truth, fixed)), truth, atol=1e-9)


def test_the_product_of_two_models_has_a_name(toy):
    assert models.common("translation", "rigid") == "rigid"
    assert models.common("similarity", "translation") == "similarity"
    assert models.common("toy", "toy") == "toy"
    assert models.common("toy", "rigid") == "similarity"
    assert models.common("affine", "toy") == "affine"


def test_another_record_than_a_model_is_refused():
    MODELS.add("toy", "not a model")
    try:
        with pytest.raises(RegisterError, match="'toy' is a str"):
            models.get("toy")
    finally:
        MODELS.remove("toy")


def test_a_model_added_after_the_command_was_imported_aligns(toy, texture, through, program, tmp_path):
    y, x = np.mgrid[:220, :240]
    truth = np.stack([SCALE * x + SHIFT[0], SCALE * y + SHIFT[1] + 20], axis=2)
    for name, image in (("fixed", through(texture, truth)), ("moving", texture)):
        tifffile.imwrite(tmp_path / f"{name}.tif", (image.clip(0, 1) * 65535).astype(np.uint16))
    images = tmp_path / "fixed.tif", tmp_path / "moving.tif"
    out = tmp_path / "out"
    done = program("align", *images, "-o", out, "--model", "toy", "--preset", "fast", "--no-report")
    assert done.returncode == 0, done.stderr
    content = json.loads((out / "transform.json").read_text())
    assert content["model"] == "toy"
    expected = [[SCALE, 0, SHIFT[0]], [0, SCALE, SHIFT[1] + 20]]
    found = np.array(content["global"]["matrix"])
    assert np.allclose(found[:, :2], np.array(expected)[:, :2], atol=1e-3)
    assert np.allclose(found[:, 2], np.array(expected)[:, 2], atol=0.1)
    assert found[0, 0] == found[1, 1]
    assert found[0, 1] == found[1, 0] == 0
    written = program("invert", out / "transform.json", "-o", tmp_path / "inverse.json")
    assert written.returncode == 0, written.stderr
    assert json.loads((tmp_path / "inverse.json").read_text())["model"] == "toy"
