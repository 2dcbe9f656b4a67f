"""Typed results: quality, figures of patches and provenance, in memory and in the file."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

import register
from register import api, settings
from register.compute.plan import ComputePlan
from register.engine import pair
from register.geometry import affine_tensors
from register.geometry.pixel_size import PixelSize, comparable, ratio
from register.images import pyramid
from register.transforms import compose
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Provenance, Quality, Verdict
from register.transforms.transform import Transform

GOLDEN = Path(__file__).parent / "golden"


def texture_of(seed, shape=(160, 180)):
    image = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return (image - image.min()) / np.ptp(image)


@pytest.fixture(scope="module")
def failed():
    """The alignment of two unrelated textures."""
    return register.align(texture_of(0), texture_of(1), preset="fast", model="affine", search_budget=1)


def test_the_verdict_failed_is_in_the_file_and_in_derived_transforms(failed, tmp_path, program):
    assert failed.quality.verdict == Verdict.FAILED
    failed.transform.save(tmp_path / "t.json")
    content = json.loads((tmp_path / "t.json").read_text())
    assert content["quality"]["verdict"] == "failed"
    assert content["quality"]["reasons"]
    assert content["provenance"]["settings"]["model"] == "affine"
    done = program("invert", tmp_path / "t.json", "-o", tmp_path / "i.json")
    assert "verdict              failed" in done.stdout
    assert program("compose", tmp_path / "t.json", tmp_path / "i.json", "-o", tmp_path / "c.json", "--json")
    assert json.loads((tmp_path / "c.json").read_text())["quality"]["verdict"] == "failed"
    for name in ("t.json", "i.json", "c.json"):
        assert "verdict failed" in program("info", tmp_path / name).stdout


def test_a_transform_without_a_verdict_is_unknown_and_stays_as_it_is(tmp_path, program):
    frame = Frame(50, 40)
    Transform("affine", frame, frame, affine_tensors.identity()).save(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())["quality"] == {}
    loaded = Transform.load(tmp_path / "t.json")
    assert loaded.quality.verdict == Verdict.UNKNOWN
    loaded.save(tmp_path / "u.json")
    assert (tmp_path / "u.json").read_bytes() == (tmp_path / "t.json").read_bytes()
    assert "verdict unknown" in program("info", tmp_path / "t.json").stdout
    made = compose.invert(loaded)
    assert (made.quality["verdict"], made.quality.reasons) == (
        "unknown",
        ("a source transform has no verdict",),
    )


@pytest.mark.parametrize(
    ("parts", "worst"),
    [
        ("", "unknown"),
        ("ok", "ok"),
        ("ok unknown", "unknown"),
        ("unknown suspect", "suspect"),
        ("suspect failed unknown ok", "failed"),
    ],
)
def test_the_verdict_of_a_combination_is_the_worst_of_its_parts(parts, worst):
    assert Verdict.worst(map(Verdict, parts.split())) == worst


def test_a_global_model_has_its_expected_error_at_every_point():
    image = texture_of(2)
    found = register.align(image[:-5, :-3], image[5:, 3:], preset="fast", model="affine", rotation_range=5)
    error = found.quality["expected_error"]
    assert 0 < error < 0.5
    points = torch.tensor([[20.0, 30.0], [100.0, 90.0]], dtype=torch.float64)
    assert np.asarray(found.expected_error(points)).tolist() == [error, error]
    assert found.quality is found.transform.quality


def test_an_error_of_zero_is_known():
    frame = Frame(50, 40)
    exact = Transform("affine", frame, frame, affine_tensors.identity(), quality=Quality(expected_error=0.0))
    points = torch.zeros(1, 2, dtype=torch.float64)
    assert float(exact.expected_error(points)[0]) == 0.0
    assert float(replace(exact, quality=Quality()).expected_error(points)[0]) == math.inf


def test_one_unit_per_pixel_is_a_known_pixel_size(monkeypatch):
    """Two images of 1.0 µm per pixel narrow the search as two of 0.5 µm do; unknown sizes do not."""
    known = PixelSize(1.0, 1.0, "µm")
    levels = [pyramid.base(torch.from_numpy(texture_of(3)).float()[None]) for _ in range(2)]
    ratios = []

    def align(*_, pixel_ratio, **__):
        ratios.append(pixel_ratio)
        frame = Frame(180, 160)
        return register.Alignment(Transform("affine", frame, frame, affine_tensors.identity()))

    monkeypatch.setattr(pair, "align", align)
    for sizes in ((known, known), (known, PixelSize(1.0, 1.0, "mm")), (None, known), (None, None)):
        api.align_levels(
            *levels,
            (levels[0].size, levels[1].size),
            settings.check(),
            plan=ComputePlan.of("cpu"),
            pixels=sizes,
        )
    assert ratios == [1.0, None, None, None]
    assert comparable((known, None)) is None
    assert ratio((known, PixelSize(0.5, 0.5, "µm"))) == 2.0


def test_quality_reads_as_a_mapping_with_the_keys_of_the_file():
    values = {"mine": 1, "verdict": "ok", "reasons": [], "overlap": "much", "recognised": None, "folds": 0}
    quality = Quality.of(values)
    assert dict(quality) == values
    assert list(quality) == list(values)
    assert json.dumps(dict(quality)) == json.dumps(values)
    assert (quality["verdict"], quality.get("det_min"), "folds" in quality) == ("ok", None, True)
    assert (quality.overlap, quality.folds, quality.reasons) == (None, 0, ())
    with pytest.raises(KeyError):
        quality["det_min"]


def test_an_invalid_verdict_reads_as_unknown_and_is_kept():
    quality = Quality.of({"verdict": "great"})
    assert quality.verdict == Verdict.UNKNOWN
    assert dict(quality) == {"verdict": "great"}


def test_a_new_key_takes_the_place_that_the_fields_have():
    quality = replace(Quality.of({"verdict": "ok", "overlap": 0.9, "mine": 1}), expected_error=0.1, folds=2)
    assert list(quality) == ["verdict", "expected_error", "overlap", "mine", "folds"]
    assert dict(Quality(verdict=Verdict.OK, expected_error=None)) == {"verdict": "ok", "expected_error": None}


def test_nested_records_read_and_write():
    values = {"landmarks": {"landmarks": 3, "after": {"tre": {"median": 0.5}}, "files": "a,b", "new": 1}}
    quality = Quality.of(values)
    assert quality.landmarks.after.tre.median == 0.5
    assert dict(quality) == values
    sources = {"sources": [{"fixed": None, "register": "0.1.0", "seed": 0}]}
    assert Provenance.of(sources).sources[0].seed == 0
    assert dict(Provenance.of(sources)) == sources


def test_figures_of_patches_keep_unknown_lists():
    figures = PatchFigures.of({"status": ["ok", "weak"], "colour": [1, 2]})
    assert figures.status == ("ok", "weak")
    assert dict(figures) == {"status": ["ok", "weak"], "colour": [1, 2]}


@pytest.mark.parametrize("name", ["local-1.json", "chain-1.json"])
def test_a_file_comes_back_byte_for_byte(name, tmp_path):
    """Files that version 0.1.0 wrote: an alignment with unknown keys and no verdict, and an inverse."""
    Transform.load(GOLDEN / name).save(tmp_path / name)
    assert (tmp_path / name).read_bytes() == (GOLDEN / name).read_bytes()
