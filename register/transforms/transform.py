"""The transform from points of the fixed image to points of the moving image."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike

from register.errors import FileError, TransformError
from register.geometry import affine, arrays, patch_grid
from register.geometry import jacobian as jacobians
from register.geometry.arrays import Float64
from register.geometry.patch_grid import PatchGrid
from register.geometry.user_points import over_points, positions
from register.transforms import convert, schema, solve
from register.transforms.frame import Frame
from register.transforms.quality import PatchFigures, Provenance, Quality
from register.transforms.schema import Json, TransformFile
from register.transforms.sides import Sides, labels_of

if TYPE_CHECKING:
    from torch import Tensor

Units = tuple[tuple[float, float], tuple[float, float]]
"""Scale and offset of x and y, from pixels to other units."""
PIXELS: Units = ((1.0, 1.0), (0.0, 0.0))
SMALLEST = 1e-12
"""The determinant from which on a global map, and its inverse, can be computed with."""
LOST = 1e-3
"""Distance in moving pixels, after the way back and forth, from which on a point has no inverse."""


@dataclass(frozen=True)
class Transform:
    """**Maps fixed (x, y) to moving (x, y)**, in pixels, 0-based, centres at integers.

    ``matrix`` (2, 3) float64 is the global map. With a ``grid``, ``matrices`` (rows, columns, 2, 3) float64
    are absolute affine maps, one per patch, and the map is their blend. With a ``chain`` (model ``chain``),
    the links are applied one after the other, the first link first, and ``matrix`` is the product of their
    global maps. With ``sides`` (model ``split``), each point is mapped by the transform of its side. Without
    any, the map is the global map. Matrices may be given as arrays, lists or tensors and are kept as arrays.
    ``extras`` holds the unknown keys of a file: those of the transform itself under the empty name, those of
    ``fixed``, ``moving`` and ``global``.
    """

    model: str
    fixed: Frame
    moving: Frame
    matrix: Float64
    grid: PatchGrid | None = None
    matrices: Float64 | None = None
    chain: tuple["Link", ...] = ()
    sides: "Sides[Transform] | None" = None
    patch_figures: PatchFigures = field(default_factory=PatchFigures)
    quality: Quality = field(default_factory=Quality)
    provenance: Provenance = field(default_factory=Provenance)
    extras: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("matrix", "matrices"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, arrays.to_numpy(getattr(self, name)))

    @overload
    def map(self, points: "Tensor") -> "Tensor": ...

    @overload
    def map(self, points: ArrayLike) -> Float64: ...

    def map(self, points: "ArrayLike | Tensor") -> "Float64 | Tensor":
        """Moving points (..., 2) float64 of fixed points (..., 2), in pixels.

        A tensor gives a tensor on the CPU; an array, or nested lists, an array; a masked array keeps its
        mask. A point that is not finite gives NaN. Raises ``RegisterError`` unless points have two numbers.
        """
        return over_points(points, self._map)

    def expand(self, points: Float64) -> tuple[Float64, Float64]:
        """Moving points (n, 2) of fixed points (n, 2), float64, and the map's Jacobian (n, 2, 2) there."""
        if self.chain:
            product = np.broadcast_to(np.eye(2), (len(points), 2, 2))
            for link in self.chain:
                points, jacobian = link.expand(points)
                product = jacobian @ product
            return points, product
        if self.sides:
            return self.sides.expand(points)
        if self.grid is None or self.matrices is None:
            linear = np.broadcast_to(self.matrix[:, :2], (len(points), 2, 2))
            return affine.apply(self.matrix, points), linear
        blended = [patch_grid.blend_at(self.grid, self.matrices, some) for some in solve.batches(points)]
        return np.concatenate([x for x, _ in blended]), np.concatenate([jacobian for _, jacobian in blended])

    def _map(self, points: Float64) -> Float64:
        """Moving points (n, 2) of fixed points (n, 2)."""
        return self.expand(points)[0]

    @overload
    def expected_error(self, points: "Tensor") -> "Tensor": ...

    @overload
    def expected_error(self, points: ArrayLike) -> Float64: ...

    def expected_error(self, points: "ArrayLike | Tensor") -> "Float64 | Tensor":
        """The expected error (...,), in moving pixels, at fixed points (..., 2): two of three are smaller.

        It is infinite where it is not known. The errors of a chain's links add as independent errors do, each
        scaled by the links after it. It is NaN for a point that is not finite.
        """
        return over_points(points, self._expected_error)

    def _expected_error(self, points: Float64) -> Float64:
        """The expected error (n,) at fixed points (n, 2)."""
        if self.chain:
            error = np.zeros(len(points))
            for link in self.chain:
                own = link.expected_error(points)
                points, jacobian = link.expand(points)
                error = np.hypot(error * np.sqrt(abs(np.linalg.det(jacobian))), own)
            return error
        if self.sides:
            error = np.full(len(points), np.inf)
            for mine, side in self.sides.divided(points):
                error[mine] = side.expected_error(points[mine])
            return np.where(self.sides.at(points) < 0, np.inf, error)
        values = self.patch_figures.expected_error
        if self.grid is not None and values:
            return np.concatenate(
                [patch_grid.blend_finite(self.grid, values, some) for some in solve.batches(points)]
            )
        overall = self.quality.expected_error
        return np.full(len(points), np.inf if overall is None else overall)

    def map_grid(self, x: ArrayLike, y: ArrayLike, units: Units | None = None) -> Float64:
        """Moving points (len(y), len(x), 2) of the grid of ascending fixed positions x and y.

        The result is in other ``units`` if given: its x and y are scaled and shifted.
        """
        x, y = positions(x, "x"), positions(y, "y")
        if self.chain or self.sides:
            return _in_units(self.map(affine.points_at(x, y)), units)
        if self.grid is None or self.matrices is None:
            return _in_units(affine.apply_to_grid(self.matrix[None], x, y)[0], units)
        (scale_x, scale_y), (left, top) = units or PIXELS
        rows = self.grid.cells(float(y[0]), float(y[-1]), 1)
        columns = self.grid.cells(float(x[0]), float(x[-1]), 0)
        near = self.grid.cut(rows, columns)
        scale = np.array([scale_x, scale_y])[:, None, None, None]
        parameters = scale * patch_grid.from_matrices(near, self.matrices[rows, columns])
        mapped = patch_grid.displacement(parameters, near.axis_basis(x, 0), near.axis_basis(y, 1))
        mapped[..., 0] += x * scale_x + left
        mapped[..., 1] += (y * scale_y + top)[:, None]
        return mapped

    def field(self) -> "Tensor":
        """The displacement (height, width, 2), moving minus fixed point, at every pixel: a tensor."""
        import torch

        x, y = np.arange(self.fixed.width, dtype=float), np.arange(self.fixed.height, dtype=float)
        return torch.from_numpy(self.map_grid(x, y) - affine.points_at(x, y))

    def inverse(self) -> "Inverse":
        """The map from moving points to fixed points."""
        return Inverse(self)

    def at_scale(self, scale: float) -> "Transform":
        """The same map between the same images with pixels ``scale`` times finer: x' = s x + (s - 1) / 2."""
        up, down = affine.scaling(scale, scale), affine.scaling(1 / scale, 1 / scale)

        def scaled(matrix: Float64) -> Float64:
            return affine.compose(affine.compose(up, matrix), down)

        return replace(
            self,
            fixed=self.fixed.at_scale(scale),
            moving=self.moving.at_scale(scale),
            matrix=scaled(self.matrix),
            grid=None if self.grid is None else self.grid.at_scale(scale),
            matrices=None if self.matrices is None else scaled(self.matrices),
            chain=tuple(replace(link, transform=link.transform.at_scale(scale)) for link in self.chain),
            sides=self.sides and self.sides.changed(self.fixed.at_scale(scale), lambda x: x.at_scale(scale)),
        )

    @property
    def continuous(self) -> bool:
        """Whether the map has no sides, and none of its links has."""
        return self.sides is None and all(link.transform.continuous for link in self.chain)

    def smallest_determinant(self) -> float:
        """A lower bound of det J over the fixed image, positive if the transform has no folds.

        A mirrored map has positive values too: the sign is relative to that of the global map.

        For a chain it is the smallest value at 64 x 64 points, because the links are checked separately and
        inverses and products of maps without folds have no folds.
        """
        if self.chain:
            jacobian = self.expand(self.fixed.sample_points(64))[1]
            return float((np.linalg.det(jacobian) * np.sign(affine.determinant(self.matrix))).min())
        if self.sides:
            return min(side.smallest_determinant() for side in self.sides.maps)
        determinant = float(affine.determinant(self.matrix))
        if self.grid is None or self.matrices is None:
            return abs(determinant)
        # a mirrored map changes the sign of every determinant: mirror it back
        upright = self.matrices if determinant >= 0 else self.matrices * np.array([[-1.0], [1.0]])
        parameters = patch_grid.from_matrices(self.grid, upright)
        return float(jacobians.smallest_determinants(self.grid, parameters).min())

    def checked(self) -> "Transform":
        """The transform itself. Raises ``TransformError`` for a non-finite value, a wrong shape or a fold."""
        for values in (self.matrix, self.matrices):
            if values is not None and not np.isfinite(values).all():
                raise TransformError("the transform holds a number that is not finite")
        if self.grid is not None and self.matrices is not None:
            expected = self.grid.rows, self.grid.columns, 2, 3
            if self.matrices.shape != expected:
                raise TransformError(
                    f"the patches have shape {self.matrices.shape}, the grid needs {expected}"
                )
        for part in (*(link.transform for link in self.chain), *(self.sides.maps if self.sides else ())):
            part.checked()
        if not self.chain and not SMALLEST < abs(float(affine.determinant(self.matrix))) < 1 / SMALLEST:
            raise TransformError("the global matrix cannot be inverted: it maps an area to nothing or to all")
        if not self.chain and self.smallest_determinant() <= 0:
            raise TransformError(
                "the transform folds: its Jacobian determinant is not positive everywhere in the fixed image"
            )
        return self

    def save(self, path: str | Path) -> None:
        """Write the JSON file atomically."""
        schema.write(self.values(), path)

    @staticmethod
    def load(path: str | Path) -> "Transform":
        """Read and check a JSON file. Raises ``FileError`` naming the file and what is wrong with it."""
        file = schema.read(path)
        try:
            return Transform.of(file).checked()
        except TransformError as error:
            raise FileError(path, str(error)) from None

    @staticmethod
    def of(file: TransformFile) -> "Transform":
        """The transform of the content of a file. Raises ``TransformError`` for a wrong number of values."""
        patches = convert.patches_of(file.patches)
        frames = {"fixed": file.fixed, "moving": file.moving}
        links = ((Transform.of(link.transform), link.inverse) for link in file.chain or ())
        sides = file.sides and Sides(
            labels_of(file.sides.columns, file.sides.rows, file.sides.runs, len(file.sides.transforms)),
            (file.fixed.width, file.fixed.height),
            tuple(map(Transform.of, file.sides.transforms)),
        )
        return Transform(
            model=file.model,
            fixed=convert.frame_of(file.fixed),
            moving=convert.frame_of(file.moving),
            matrix=np.array(file.global_.matrix),
            grid=patches.grid,
            matrices=patches.matrices,
            chain=tuple(Link(transform, inverse) for transform, inverse in links),
            sides=sides or None,
            patch_figures=patches.figures,
            quality=Quality.of(file.quality),
            provenance=Provenance.of(file.provenance),
            extras={name: convert.unknown_keys(frame) for name, frame in frames.items()}
            | {"": file.unknown(), "global": file.global_.unknown()},
        )

    def values(self) -> Json:
        """The content of the file as JSON values."""
        patches = convert.patches_values(self.grid, self.matrices, self.patch_figures)
        links = [{"inverse": link.inverse, "transform": link.transform.values()} for link in self.chain]
        return {
            "format": "register-transform",
            "version": 1,
            "convention": schema.CONVENTION,
            "fixed": convert.frame_values(self.fixed) | self._unknown("fixed"),
            "moving": convert.frame_values(self.moving) | self._unknown("moving"),
            "model": self.model,
            "global": {"matrix": self.matrix.tolist()} | self._unknown("global"),
            "patches": patches,
            **({"chain": links} if links else {}),
            **({"sides": self.sides.values(Transform.values)} if self.sides else {}),
            "quality": dict(self.quality),
            "provenance": dict(self.provenance),
        } | self._unknown("")

    def _unknown(self, part: str) -> Json:
        return dict(self.extras.get(part, {}))


@dataclass(frozen=True)
class Link:
    """One link of a chain: a transform, or its numerical inverse."""

    transform: Transform
    inverse: bool = False

    def reversed(self) -> "Link":
        """The link in the other direction."""
        return replace(self, inverse=not self.inverse)

    def expand(self, points: Float64) -> tuple[Float64, Float64]:
        """Mapped points (n, 2) and the Jacobian (n, 2, 2) of the map at points (n, 2), float64."""
        if not self.inverse:
            return self.transform.expand(points)
        mapped = self.transform.inverse().map(points)
        jacobian = np.linalg.inv(self.transform.expand(mapped)[1])
        return mapped, np.asarray(jacobian, dtype=np.float64)

    @overload
    def expected_error(self, points: "Tensor") -> "Tensor": ...

    @overload
    def expected_error(self, points: ArrayLike) -> Float64: ...

    def expected_error(self, points: "ArrayLike | Tensor") -> "Float64 | Tensor":
        """The expected error (n,) at points (n, 2), in pixels of the image they are mapped to."""
        if not self.inverse:
            return self.transform.expected_error(points)

        def error(some: Float64) -> Float64:
            mapped, jacobian = self.expand(some)
            found = self.transform.expected_error(mapped) * np.sqrt(abs(np.linalg.det(jacobian)))
            away = np.linalg.norm(self.transform.map(mapped) - some, axis=1)
            return np.where(away > LOST, np.inf, found)  # no side reaches a point in a gap

        return over_points(points, error)


@dataclass(frozen=True)
class Inverse:
    """**Maps moving (x, y) to fixed (x, y)**, computed numerically for each point."""

    forward: Transform

    @property
    def fixed(self) -> Frame:
        """The frame of the points that are mapped: that of the moving image."""
        return self.forward.moving

    @property
    def moving(self) -> Frame:
        """The frame that points are mapped to: that of the fixed image."""
        return self.forward.fixed

    @overload
    def map(self, points: "Tensor", *, steps: int = 30, tolerance: float = 1e-6) -> "Tensor": ...

    @overload
    def map(self, points: ArrayLike, *, steps: int = 30, tolerance: float = 1e-6) -> Float64: ...

    def map(
        self, points: "ArrayLike | Tensor", *, steps: int = 30, tolerance: float = 1e-6
    ) -> "Float64 | Tensor":
        """Fixed points (..., 2) of moving points (..., 2), by at most ``steps`` steps of Newton's method.

        It starts from the inverse of the nearest patch and ends within ``tolerance`` moving pixels. Points
        far outside the moving image are mapped by the outer patches. A tensor gives a tensor on the CPU, a
        masked array keeps its mask, and a point that is not finite gives NaN. Raises ``RegisterError`` for
        points that do not have two numbers.
        """
        return over_points(points, lambda target: self._map(target, steps, tolerance))

    def save(self, path: str | Path) -> None:
        """Write the inverse as a transform of its own, as ``register invert`` does, with its round-trip
        error."""
        algebra = import_module("register.transforms.compose")  # which imports this module
        algebra.invert(self.forward).save(path)

    def _map(self, target: Float64, steps: int, tolerance: float) -> Float64:
        """Fixed points (n, 2) of moving points (n, 2)."""
        for link in reversed(self.forward.chain or (Link(self.forward),)):
            if link.inverse:
                target = link.transform.map(target)
            elif link.transform.chain:
                target = link.transform.inverse().map(target, steps=steps, tolerance=tolerance)
            elif link.transform.sides:
                target = link.transform.sides.inverse(
                    target, lambda side, some: side.inverse().map(some, steps=steps, tolerance=tolerance)
                )
            else:
                target = solve.invert(link.transform, target, steps, tolerance)
        return target

    def map_grid(self, x: ArrayLike, y: ArrayLike, units: Units | None = None) -> Float64:
        """Fixed points (len(y), len(x), 2) of moving positions x and y, as ``Transform.map_grid``."""
        return _in_units(self.map(affine.points_at(positions(x, "x"), positions(y, "y"))), units)


def _in_units(points: Float64, units: Units | None) -> Float64:
    return points if units is None else points * np.array(units[0]) + np.array(units[1])
