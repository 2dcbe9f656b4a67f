"""The same bits for any number of threads: sums, products, and everything that an alignment returns."""

import numpy as np
import pytest
import torch

import register
from register.compute import device, sums
from register.images import descriptors
from register.registries import MODELS, SIMILARITIES

THREADS = 1, 2, 3, 4
SIZE = 180, 184
"""More pixels than PyTorch computes with a single thread (32768)."""
needs_mkl = pytest.mark.skipif(
    not torch.backends.mkl.is_available(), reason="equal bits are promised only for a PyTorch with MKL"
)


def for_each_count(compute):
    found = []
    for count in THREADS:
        with device.using_threads(count):
            assert torch.get_num_threads() == count
            found.append(compute())
    return found


def assert_same_bits(compute):
    first, *others = for_each_count(compute)
    assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("shape", [(1, 1, 400, 500), (3, 1, 200, 300), (1, 1, 7, 90_001)])
def test_sums_have_the_same_bits(shape):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert_same_bits(lambda: sums.plane(values))
    assert_same_bits(lambda: sums.total(values))
    assert_same_bits(lambda: sums.deviation(values))
    assert torch.allclose(sums.plane(values), values.sum((-2, -1), keepdim=True), rtol=1e-4, atol=0.01)
    assert float(sums.total(values)) == pytest.approx(float(values.double().sum()), abs=0.05)
    assert float(sums.deviation(values)) == pytest.approx(float(values.std()), rel=1e-5)


@needs_mkl
@pytest.mark.parametrize("shape", [(600, 2048, 100), (6, 700, 20), (101, 200, 20), (2, 1024, 150)])
def test_products_have_the_same_bits(shape):
    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(rows, inner, generator=generator), torch.randn(inner, columns, generator=generator)
    assert_same_bits(lambda: a @ b)


@needs_mkl
def test_products_have_the_same_bits_after_the_number_of_threads_changed():
    with device.using_threads(3):
        with device.using_threads(2), device.worker_threads() as pool:
            pool.submit(torch.get_num_threads).result()
        a, b = (
            torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in [(6, 700), (700, 20)]
        )
        found = a @ b
    with device.using_threads(1):
        assert torch.equal(a @ b, found)


@pytest.mark.parametrize("descriptor", [descriptors.orientation, descriptors.self_similarity])
def test_descriptors_have_the_same_bits(texture, descriptor):
    image = torch.from_numpy(texture[: SIZE[0], : SIZE[1]]).float()[None, None]
    mask = torch.ones_like(image)
    mask[..., :20, :30] = 0
    assert_same_bits(lambda: descriptor(image, mask))


def aligned(texture, **options):
    """The field, the quality and the losses of an alignment at each number of threads."""
    fixed = texture[: SIZE[0], : SIZE[1]]
    moving = texture[3 : SIZE[0] + 3, 5 : SIZE[1] + 5] ** 1.3
    mask = np.ones(SIZE, bool)
    mask[:15, :25] = False
    found = []
    for count in THREADS:
        alignment = register.align(fixed, moving, moving_mask=mask, preset="fast", threads=count, **options)
        field = np.asarray(alignment.transform.field()).tobytes()
        found.append((field, dict(alignment.quality), alignment.history))
    return found


@needs_mkl
@pytest.mark.parametrize(
    "metric",
    [pytest.param(x, marks=pytest.mark.slow if x == "mi" else ()) for x in SIMILARITIES.names()],
)
def test_every_similarity_gives_the_same_bits(texture, metric):
    first, *others = aligned(texture, metric=metric, model="translation", init="identity")
    assert others == [first] * len(others)


@needs_mkl
@pytest.mark.parametrize("model", MODELS.names())
def test_every_model_gives_the_same_bits(texture, model):
    first, *others = aligned(texture, metric="structure", model=model, init="identity")
    assert others == [first] * len(others)


@needs_mkl
def test_an_alignment_with_search_and_patches_has_the_same_bits(texture):
    first, *others = aligned(texture)
    assert others == [first] * len(others)


@needs_mkl
@pytest.mark.parametrize("metric", [pytest.param("mind", marks=pytest.mark.slow), "ncc"])
def test_tensors_without_kernels_give_the_same_bits(texture, tensors_only, metric):
    with tensors_only():
        first, *others = aligned(texture, metric=metric, init="identity", max_size=150)
    assert others == [first] * len(others)
