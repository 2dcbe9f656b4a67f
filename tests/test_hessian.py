"""The stencil of the Hessian, checked against the second derivative of the loss of the displacement field."""

import pytest
import torch

from register.engine.fit import hessian
from register.geometry import patch_grid, patch_tensors
from register.geometry.patch_grid import PatchGrid
from register.geometry.smoothness import SmoothnessPenalty
from register.images import interpolation

STIFFNESS = 0.7


@pytest.fixture(params=[(5, 4, 10.3, 12.7), (2, 2, 41.0, 38.0), (2, 6, 41.0, 7.6)])
def problem(request):
    """HessianBuilder of a grid over 38 x 41 pixels, a positive curvature on them, and a product.

    The product is the second derivative of its loss times parameters, computed directly.
    """
    columns, rows, *spacing = request.param
    grid = PatchGrid(columns, rows, (-0.5, -0.5), tuple(spacing))
    ties = SmoothnessPenalty.of(grid, dtype=torch.float64)
    x, y = interpolation.axes(38, 41, dtype=torch.float64)
    xx, yy, share = torch.rand(3, 38, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    curvature = torch.stack([xx, (2 * share - 1) * (xx * yy).sqrt(), yy])

    def bend(v):
        basis_x, basis_y = grid.axis_basis(x, 0), grid.axis_basis(y, 1)
        moved = patch_grid.displacement(v, basis_x, basis_y)
        tensor = torch.stack(
            [torch.stack([curvature[0], curvature[1]], -1), torch.stack([curvature[1], curvature[2]], -1)], -2
        )
        return (
            patch_tensors.gather((tensor @ moved[..., None])[..., 0], basis_x, basis_y)
            + STIFFNESS * ties(v)[1]
        )

    return hessian.HessianBuilder(grid, x, y, ties, STIFFNESS), curvature, bend


def test_the_stencil_product_equals_that_of_the_displacement_field(problem):
    couplings, curvature, bend = problem
    v = torch.randn(
        2,
        3,
        couplings.grid.rows,
        couplings.grid.columns,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(1),
    )
    product = couplings.hessian(curvature) @ v.reshape(6, -1).T
    assert torch.allclose(product.T.reshape_as(v), bend(v), atol=1e-10)


def test_the_hessian_is_symmetric_positive_and_gives_its_diagonal(problem):
    couplings, curvature, _ = problem
    found = couplings.hessian(curvature)
    count = couplings.grid.count
    dense = torch.stack(
        [(found @ unit.reshape(count, 6)).flatten() for unit in torch.eye(6 * count, dtype=torch.float64)]
    )
    assert torch.allclose(dense, dense.T, atol=1e-10)
    assert float(torch.linalg.eigvalsh(dense).min()) > -1e-9
    for number, block in enumerate(found.own):
        assert torch.allclose(block, dense[6 * number : 6 * number + 6, 6 * number : 6 * number + 6])
    extra = torch.rand(count, 6, dtype=torch.float64)
    assert torch.allclose(found.damped(extra) @ extra, found @ extra + extra.square())
