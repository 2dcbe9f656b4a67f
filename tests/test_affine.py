import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import affine_map

from register.geometry import affine, affine_tensors, models

numbers = st.floats(-3, 3)
matrices = st.lists(numbers, min_size=6, max_size=6).map(
    lambda v: torch.tensor(v, dtype=torch.float64).reshape(2, 3)
)


@given(matrices, numbers, numbers)
def test_apply_is_the_map_written_out(matrix, x, y):
    point = affine.apply(matrix, torch.tensor([[x, y]], dtype=torch.float64))[0]
    assert point.tolist() == pytest.approx(affine_map(matrix.tolist(), x, y), abs=1e-12)


@given(matrices, matrices, numbers, numbers)
def test_compose_applies_the_inner_map_first(outer, inner, x, y):
    p = torch.tensor([[x, y]], dtype=torch.float64)
    assert torch.allclose(
        affine.apply(affine.compose(outer, inner), p), affine.apply(outer, affine.apply(inner, p)), atol=1e-10
    )


def test_invert_undoes():
    matrix = torch.tensor([[1.2, 0.3, 5.0], [-0.2, 0.9, -7.0]], dtype=torch.float64)
    assert torch.allclose(
        affine.compose(affine.invert(matrix), matrix), affine_tensors.identity(), atol=1e-14
    )


def test_apply_to_grid_equals_apply():
    matrix = torch.randn(3, 2, 3, dtype=torch.float64)
    x, y = torch.arange(5.0).double(), torch.arange(4.0).double()
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    assert torch.allclose(
        affine.apply_to_grid(matrix, x, y), affine.apply(matrix, grid.reshape(-1, 2)).reshape(3, 4, 5, 2)
    )


def test_decompose_finds_what_similarity_put_in():
    centre = torch.tensor([10.0, 20.0])
    parts = affine.decompose(affine_tensors.similarity(math.radians(25), 1.3, centre, centre))
    assert parts == pytest.approx((25, 1.3, 1.0))


@pytest.mark.parametrize(
    ("model", "scale", "shear"),
    [("translation", 1, 0), ("rigid", 1, 0), ("similarity", 1.2, 0), ("affine", 1.2, 0.1)],
)
def test_fit_recovers_its_own_model(model, scale, shear):
    angle = 0 if model == "translation" else 0.4
    truth = affine_tensors.similarity(angle, scale, torch.zeros(2), torch.tensor([3.0, -2.0]))
    truth[0, 1] += shear
    fixed = torch.rand(12, 2, dtype=torch.float64) * 100
    assert torch.allclose(models.get(model).fit(fixed, affine.apply(truth, fixed)), truth, atol=1e-9)


def test_fit_refuses_too_few_points():
    with pytest.raises(ValueError, match="at least 3 point pairs"):
        models.AFFINE.fit(torch.zeros(2, 2), torch.zeros(2, 2))


def test_rigid_parameters_stay_rigid():
    parameters, centre = torch.tensor([[1.0, 2.0, 30.0]]), torch.tensor([50.0, 40.0])
    matrix = models.RIGID.matrix(parameters, centre, 100.0)[0]
    assert torch.allclose(matrix[:, :2] @ matrix[:, :2].T, torch.eye(2), atol=1e-6)


def test_a_fit_is_the_same_to_the_last_bit_wherever_its_numbers_lie_in_memory():
    torch.manual_seed(0)
    fixed = 400 * torch.rand(437, 2, dtype=torch.float64)
    moving = fixed @ torch.tensor([[0.99, 0.02], [-0.03, 1.01]], dtype=torch.float64) + torch.rand(
        437, 2, dtype=torch.float64
    )
    kept, found = [], set()
    for size in range(1, 400, 4):
        kept.append(torch.rand(13 * size))
        found.add(tuple(models.AFFINE.fit(fixed.clone(), moving.clone()).flatten().tolist()))
    assert len(found) == 1


def test_points_on_a_line_fit_the_map_along_it():
    fixed = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]], dtype=torch.float64)
    moving = 2 * fixed + 1
    assert torch.allclose(affine.apply(models.AFFINE.fit(fixed, moving), fixed), moving, atol=1e-9)
