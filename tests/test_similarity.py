import pytest
import torch

import register
from register.errors import RegisterError
from register.images import descriptors, filters, preprocess
from register.registries import SIMILARITIES
from register.similarity import registry
from register.similarity.base import FixedImage, Similarity, Windows


def picture(seed=0, size=96):
    return (
        filters.smooth(torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(seed)), 1.5)
        .mul(4)
        .sub(1.5)
        .clamp(0, 1)
    )


@pytest.mark.parametrize("name", SIMILARITIES.names())
def test_an_image_is_most_similar_to_itself(name):
    weight = torch.ones(1, 1, 96, 96)
    descriptor = registry.get(name).descriptor or (lambda image, mask: image)
    one, other = (descriptor(x, weight) for x in (picture(0), picture(1)))
    same, different = (
        registry.get(name).function(FixedImage(one, weight, 16), x).mean() for x in (one, other)
    )
    assert float(same) > float(different) + 0.2
    assert float(same) <= 1 + 1e-5


@pytest.mark.parametrize("name", ["ncc", "mi"])
def test_contrast_may_be_reversed(name):
    one, weight = picture(0), torch.ones(1, 1, 96, 96)
    values = [
        float(registry.get(name).function(FixedImage(one, weight, 16), x).mean()) for x in (one, 1 - one)
    ]
    assert values[1] == pytest.approx(values[0], rel=0.02)


@pytest.mark.parametrize("name", SIMILARITIES.names())
def test_gradients_are_those_of_finite_differences(name):
    fixed, warped = (
        torch.rand(1, 1, 12, 12).double(),
        torch.rand(1, 1, 12, 12, dtype=torch.float64, requires_grad=True),
    )
    weight = torch.ones(1, 1, 12, 12, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda w: registry.get(name).function(FixedImage(fixed, weight, 6), w).loss(), (warped,), atol=1e-4
    )


@pytest.mark.parametrize("name", SIMILARITIES.names())
def test_pixels_without_weight_contribute_no_loss_and_no_gradient(name):
    fixed, weight = picture(0), torch.ones(1, 1, 96, 96)
    weight[..., :32] = 0
    warped = picture(1).requires_grad_()
    garbage = warped.detach().clone()
    garbage[..., :32] = 0.7
    value = registry.get(name).function(FixedImage(fixed, weight, 16), warped).mean()
    assert torch.equal(
        registry.get(name).function(FixedImage(fixed, weight, 16), garbage).mean(), value.detach()
    )
    assert float(torch.autograd.grad(value.sum(), warped)[0][..., :32].abs().max()) == 0


@pytest.mark.parametrize("name", SIMILARITIES.names())
def test_flat_images_give_numbers(name):
    flat, weight = torch.full((1, 1, 40, 40), 0.3), torch.ones(1, 1, 40, 40)
    windows = registry.get(name).function(FixedImage(flat, weight, 16), flat)
    assert bool(torch.isfinite(windows.loss()).all())


def test_window_sums_cover_the_rest_at_the_border():
    sums = filters.window_sums(torch.ones(1, 1, 10, 7), 4)
    assert sums[0, 0].tolist() == [[16, 12], [16, 12], [8, 6]]


def test_the_structure_similarity_ignores_contrast_and_rotates_with_the_image():
    image, mask = picture(3), torch.ones(1, 1, 96, 96)
    vectors = descriptors.orientation(image, mask)
    assert torch.allclose(descriptors.orientation(1 - image, mask), vectors, atol=1e-3)
    turned = descriptors.orientation(image.rot90(1, (2, 3)), mask)
    assert torch.allclose(turned.rot90(-1, (2, 3))[..., 8:-8, 8:-8], -vectors[..., 8:-8, 8:-8], atol=2e-2)


def test_self_similarity_ignores_contrast_and_moves_with_the_image():
    image, mask = picture(3), torch.ones(1, 1, 96, 96)
    vectors = descriptors.self_similarity(image, mask)
    assert torch.allclose(descriptors.self_similarity(1 - image, mask), vectors, atol=1e-4)
    moved = descriptors.self_similarity(image.roll((3, 5), (2, 3)), mask)
    assert torch.allclose(
        moved.roll((-3, -5), (2, 3))[..., 12:-12, 12:-12], vectors[..., 12:-12, 12:-12], atol=1e-4
    )


@pytest.mark.parametrize("name", ["structure", "mind"])
def test_masked_pixels_do_not_change_features(name):
    image, mask = picture(3), torch.ones(1, 1, 96, 96)
    mask[..., 60:, :] = 0
    garbage = torch.where(mask > 0, image, torch.rand(1, 1, 96, 96))
    descriptor = registry.get(name).descriptor
    one, other = (descriptor(x * mask, mask) for x in (image, garbage))
    assert torch.equal(one, other)
    assert float(descriptor(garbage, mask)[..., 60:, :].abs().max()) == 0


def test_surroundings_are_found_and_objects_are_not():
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(200.0), indexing="ij")
    disc = ((x - 100) ** 2 + (y - 100) ** 2 < 70**2).float() * (0.5 + 0.3 * picture(0, 200)[0])
    found = preprocess.constant_border(disc, torch.ones(1, 200, 200))
    assert float(found.float().mean()) == pytest.approx(1 - 3.1416 * 70**2 / 200**2, abs=0.03)
    assert float(preprocess.constant_border(picture(0, 200)[0], torch.ones(1, 200, 200)).float().mean()) == 0


def test_flat_noise_has_no_texture_weight():
    plane = 0.5 + 0.03 * torch.randn(1, 120, 120, generator=torch.Generator().manual_seed(0))
    plane[:, :, 60:] += 0.4 * (picture(0, 120)[0][:, :, 60:] - 0.5)
    weight = preprocess.texture_weight(plane, torch.ones_like(plane))
    assert float(weight[:, :, :45].mean()) < 0.2 * float(weight[:, :, 75:].mean())


def test_a_similarity_that_a_program_adds_aligns_a_pair_up_to_its_verdict(texture):
    def toy(fixed, warped):
        """One minus the mean absolute difference of each window."""
        apart = filters.window_sums((fixed.image - warped).abs() * fixed.weight, fixed.side).flatten(1)
        return Windows(1 - apart / fixed.count.clamp(min=1e-3), fixed.count / fixed.side**2)

    SIMILARITIES.add("toy", Similarity("toy", toy, curved=False))
    try:
        fixed, moving = texture[10:210, 10:250], texture[7:207, 14:254]
        alignment = register.align(fixed, moving, metric="toy", preset="fast")
    finally:
        SIMILARITIES.remove("toy")
    assert alignment.quality["metric"] == "toy"
    assert alignment.quality["verdict"] == "ok"
    points = torch.tensor([[60.0, 60.0], [120.0, 100.0], [180.0, 140.0]], dtype=torch.float64)
    shift = alignment.transform.map(points) - points
    assert float((shift - torch.tensor([-4.0, 3.0])).norm(dim=1).max()) < 0.3


def test_a_record_of_another_type_is_refused_by_name():
    SIMILARITIES.add("toy", "not a similarity")
    try:
        with pytest.raises(RegisterError, match="'toy' is a str"):
            registry.get("toy")
    finally:
        SIMILARITIES.remove("toy")
