"""The choice of the grey image that is compared."""

import numpy as np
import pytest
import torch

from register.errors import RegisterError
from register.images import grayscale

RNG = torch.Generator().manual_seed(0)
EVERYWHERE = torch.ones(1, 200, 200, dtype=torch.bool)


def blobs(size=200):
    y, x = torch.meshgrid(torch.arange(size) / 9, torch.arange(size) / 7, indexing="ij")
    return (torch.sin(x) * torch.cos(y))[None] * 100 + 128


def noise(scale):
    return 128 + scale * torch.randn(1, 200, 200, generator=RNG)


def test_the_channel_with_structure_is_found_among_noise_and_emptiness():
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        planes = torch.cat([[blobs(), noise(60), torch.full((1, 200, 200), 9.0)][i] for i in order])
        chosen = grayscale.choose(planes, EVERYWHERE, colour="grey", white=255.0)
        assert chosen.name == f"channel {order.index(0)}"
        assert torch.equal(chosen(planes), blobs())


def test_of_equally_good_channels_the_first_is_used():
    planes = torch.cat([0.1 * blobs(), blobs(), blobs()])
    assert (
        grayscale.choose(planes, EVERYWHERE, colour="grey", white=None, names=("DAPI", "A", "B")).name
        == "channel 0 (DAPI)"
    )


def test_of_channels_of_noise_alone_the_first_is_used():
    """The covariance of neighbours is negative where nothing but noise is there."""
    noise = np.random.default_rng(0).uniform(size=(2, 40, 50)).astype(np.float32)
    planes, valid = torch.from_numpy(noise), torch.ones(1, 40, 50)
    assert max(grayscale.texture(planes[c : c + 1], valid) for c in range(2)) < 0
    assert grayscale.choose(planes, valid, colour="grey", white=None).name == "channel 0"


def test_masked_pixels_do_not_influence_the_choice_of_channel():
    planes = torch.cat([noise(5), blobs()])
    shown = EVERYWHERE.clone()
    shown[:, :100] = False
    planes[0, :100] = 1e6 * blobs()[0, :100]
    assert grayscale.choose(planes, shown, colour="grey", white=None).name == "channel 1"


def test_colours_are_compared_by_luminance_unless_asked_otherwise():
    planes = torch.full((3, 200, 200), 250.0)
    planes[:, 60:120, 60:120] = torch.tensor([150.0, 60.0, 140.0])[:, None, None]
    assert grayscale.brightfield(planes, EVERYWHERE, 255.0)
    assert not grayscale.brightfield(255 - planes, EVERYWHERE, 255.0)
    assert not grayscale.brightfield(
        planes.mean(0, keepdim=True).expand(3, -1, -1), EVERYWHERE, 255.0
    )  # without stain
    assert grayscale.choose(planes, EVERYWHERE, colour="rgb", white=255.0).name == "luminance"
    density = grayscale.choose(planes, EVERYWHERE, colour="rgb", white=255.0, wanted="density")(planes)
    assert float(density[0, 90, 90]) > 0.4 > 0.02 > float(density[0, 5, 5])


@pytest.mark.parametrize(
    ("wanted", "expected"), [("mean", 2.0), ("max", 3.0), ("1", 2.0), ("Cy5", 3.0), ("gray", 2.0)]
)
def test_the_requested_channel_is_used(wanted, expected):
    planes = torch.tensor([1.0, 2.0, 3.0])[:, None, None].expand(3, 200, 200)
    chosen = grayscale.choose(
        planes, EVERYWHERE, colour="grey", white=None, wanted=wanted, names=("DAPI", "FITC", "Cy5")
    )
    assert np.unique(chosen(planes)) == expected


def test_an_unknown_channel_is_refused_with_the_known_ones():
    with pytest.raises(RegisterError, match=r"no channel '3'; it has 3 \(0 to 2, DAPI, FITC, Cy5\)"):
        grayscale.choose(
            torch.zeros(3, 200, 200),
            EVERYWHERE,
            colour="grey",
            white=None,
            wanted="3",
            names=("DAPI", "FITC", "Cy5"),
        )
