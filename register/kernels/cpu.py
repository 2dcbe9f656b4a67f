"""A step of the descent in one compiled pass over the pixels, where a compiler was at hand when the package was built.

``expand.c`` and ``stencil.c`` say the same as ``objective.py`` and ``stencil.py`` do with tensors, for one image on a CPU; ``gpu.py`` and ``gpu_cells.py`` for
one on a CUDA device. Tensors stay the reference: they run everywhere, and the compiled passes are held against them. ``REGISTER_NATIVE=0`` in the environment
leaves them out.
"""

import ctypes
import os
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from register.compute import cuda_graphs, device
from register.geometry.patch_grid import PatchGrid
from register.kernels.result import Kind, Summed
from register.kernels.triton import compile_ahead, launch, launch_cells

FORMAT = 7
"""What a library must say it was made for; it counts changes of the two structures below."""
TURNED = 0.1
"""Rows by which a map must change from one column to the next to be told turned."""
LINE, ALIKE = 64, 1024
"""Bytes of a line of the processor's cache, and of what lines are told apart within."""
PIECES = 16
"""Pieces of an image, each summed by one thread; their number is the same for any number of threads, and so are the sums."""


class Pair(NamedTuple):
    """What is compared: rows of pixels in one piece each, float32, those of ``moving`` and ``seen`` equally far apart. Between the centres of the pixels
    ``whole`` (left, top, right, bottom) the moving mask is 1; ``seen`` is None where it is 1 everywhere."""

    fixed: Tensor  # (c, h, w)
    weight: Tensor  # (h, w)
    moving: Tensor  # (c, h', w')
    seen: Tensor | None  # (h', w')
    whole: tuple[int, int, int, int]
    moving_from_fixed: tuple[float, ...]  # six numbers, row by row
    kind: Kind
    window: int
    still: Tensor
    """Sums (3, n) over the fixed image's n windows that are the same in each step: the first one that needs them leaves them here."""


class _Step(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_int)
            for name in ("channels", "height", "width", "moving_height", "moving_width", "moving_stride")
        ),
        *((name, ctypes.c_int) for name in ("window", "block", "rows", "columns", "cosine")),
        ("matrix", ctypes.c_float * 6),
        ("origin", ctypes.c_float * 2),
        ("spacing", ctypes.c_float * 2),
        ("whole", ctypes.c_float * 4),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "fixed",
                "weight",
                "moving",
                "seen",
                "parameters",
                "still",
                "values",
                "weights",
                "losses",
                "curvature",
            )
        ),
    )


class _Grid(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int) for name in ("rows", "columns", "height", "width")),
        *((name, ctypes.c_void_p) for name in ("cell_y", "cell_x", "share_y", "share_x", "ties_y", "ties_x")),
    )


@cache
def library() -> ctypes.CDLL | None:
    """The library for this processor; None where none was built, or where it is not wanted."""
    if os.environ.get("REGISTER_NATIVE") == "0":
        return None
    for name in (torch.backends.cpu.get_cpu_capability().lower(), "default"):
        with suppress(OSError, AttributeError):
            found = ctypes.CDLL(str(Path(__file__).parent / "c" / f"fused-{name}.so"))
            if found.format() == FORMAT:
                return found
    return None


def there(place: torch.device) -> bool:
    """Whether there is a compiled pass for a device; whether it is the quickest is another question."""
    return library() is not None if place.type == "cpu" else cuda_graphs.can_record(place) and launch.there()


def supports(fixed: Tensor, moving: Tensor) -> bool:
    """Whether there is a compiled pass for images (1, c, h, w) and (b, c, h', w')."""
    if len(fixed) > 1 or min(*fixed.shape[-2:], *moving.shape[-2:]) < 2:
        return False
    return any(works(fixed) and works(moving) for works in (works_on, launch.works_on))


def warm(place: torch.device) -> None:
    """Set a GPU up for kernels, and compile these where that was not done before, which takes some seconds; on a CPU there is nothing to do."""
    with suppress(torch.OutOfMemoryError), device.current(place):
        if launch.works_on(torch.zeros(1, device=place)):
            with cuda_graphs.warn_on_failure("compiled"):
                compile_ahead.compile_all(place)


def works_on(tensor: Tensor) -> bool:
    """Whether there is code in C for a tensor of its kind, where it is."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and library() is not None


def pair(
    fixed: Tensor,
    weight: Tensor,
    moving: Tensor,
    seen: Tensor,
    moving_from_fixed: Tensor,
    kind: Kind,
    window: int,
) -> Pair | launch.Pair:
    """A pair of images (c, h, w) with a weight and a mask (1, h, w) of their pixels and a map (2, 3) between them."""
    if launch.works_on(fixed):
        return launch.pair(fixed, weight, moving, seen, moving_from_fixed, kind, window)
    whole, numbers = _ones(seen[0]), tuple(moving_from_fixed.flatten().tolist())
    in_rows = partial(_in_rows, turned=abs(numbers[3]) > TURNED)
    partly = None if whole == (0, 0, seen.shape[2] - 1, seen.shape[1] - 1) else in_rows(seen)[0]
    lines, per_line = (-(-n // window) for n in fixed.shape[1:])
    still = fixed.new_full((3, lines * per_line), torch.nan)
    return Pair(
        fixed.contiguous(),
        weight[0].contiguous(),
        in_rows(moving),
        partly,
        whole,
        numbers,
        kind,
        window,
        still,
    )


def _in_rows(image: Tensor, *, turned: bool) -> Tensor:
    """An image (c, h, w) whose rows are in one piece each. Where a map is ``turned`` they are read down the columns, and do not follow each other at nearly a
    multiple of ``ALIKE`` bytes, whose places in a processor's cache are the same: there they are a line of it further apart."""
    width = image.shape[2]
    if not turned or (4 * width + LINE) % ALIKE > 2 * LINE:
        return image.contiguous()
    rows = image.new_empty(*image.shape[:2], width + LINE // 4)[..., :width]
    return rows.copy_(image)


def _ones(mask: Tensor) -> tuple[int, int, int, int]:
    """The first and last column and row (left, top, right, bottom) of a large part of a mask (h, w) that is 1: all of it, or what is left within the ones of
    its middle row and column, or less and less of that; nothing is left where not even its middle is 1."""
    if float(mask.amin()) == 1.0:
        return 0, 0, mask.shape[1] - 1, mask.shape[0] - 1
    height, width = mask.shape
    (top, bottom), (left, right) = (
        _ones_around_middle(line) for line in (mask[:, width // 2], mask[height // 2])
    )
    while bottom > top and right > left:
        if float(mask[top : bottom + 1, left : right + 1].amin()) == 1.0:
            return left, top, right, bottom
        across, down = (right - left) // 16 + 1, (bottom - top) // 16 + 1
        left, top, right, bottom = left + across, top + down, right - across, bottom - down
    return 0, 0, 0, 0


def _ones_around_middle(line: Tensor) -> tuple[int, int]:
    """The first and the last of the ones (n,) that the middle one is among; equal where it is none."""
    holes, middle = (line != 1).nonzero()[:, 0], len(line) // 2
    before, after = holes[holes <= middle], holes[holes >= middle]
    return int(before[-1]) + 1 if len(before) else 0, int(after[0]) - 1 if len(after) else len(line) - 1


def expand(pair: Pair | launch.Pair, grid: PatchGrid, parameters: Tensor, block: int) -> Summed:
    """The loss under patches whose ``parameters`` (2, 3, rows, columns) are displacements in the moving image, to second order.

    The side of a window is a whole number of blocks of ``block`` pixels. Raises ``MemoryError``.
    """
    if isinstance(pair, launch.Pair):
        return launch.expand(pair, grid, parameters, block)
    height, width = pair.weight.shape
    curvature = pair.fixed.new_empty(3, -(-height // block), -(-width // block))
    _, weights, losses, slope = _pass(pair, grid, parameters, block, curvature)
    return Summed(losses, weights, slope, curvature)


def similarities(pair: Pair | launch.Pair, grid: PatchGrid, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """The similarity (n,) of n windows under patches as in ``expand``, and their weights (n,)."""
    if isinstance(pair, launch.Pair):
        return launch.similarities(pair, grid, parameters)
    return _pass(pair, grid, parameters, pair.window, None)[:2]


def _pass(
    pair: Pair, grid: PatchGrid, parameters: Tensor, block: int, curvature: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if pair.window % block:
        raise ValueError(f"a window of {pair.window} pixels is no whole number of blocks of {block}")
    (channels, height, width), (moving_height, moving_width) = pair.fixed.shape, pair.moving.shape[1:]
    values, weights, losses = torch.empty_like(pair.still).unbind()
    pieces, parameters = min(PIECES, -(-height // pair.window)), parameters.contiguous()
    slope = torch.empty_like(parameters)
    step = _Step(
        *(
            channels,
            height,
            width,
            moving_height,
            moving_width,
            pair.moving.stride(1),
            pair.window,
            block,
            grid.rows,
            grid.columns,
            int(pair.kind == "cosine"),
        ),
        *(
            (ctypes.c_float * 6)(*pair.moving_from_fixed),
            (ctypes.c_float * 2)(*grid.origin),
            (ctypes.c_float * 2)(*grid.spacing),
            (ctypes.c_float * 4)(*pair.whole),
        ),
        *map(_address, (pair.fixed, pair.weight, pair.moving, pair.seen, parameters, pair.still)),
        *map(_address, (values, weights, None if curvature is None else losses, curvature)),
    )
    _call("expand", ctypes.byref(step), pieces, torch.get_num_threads(), ctypes.c_void_p(slope.data_ptr()))
    return values, weights, losses, slope


def cells(
    grid: PatchGrid, x: Tensor, y: Tensor, ties: tuple[Tensor, Tensor]
) -> "Cells | launch_cells.Cells | None":
    """What ``Cells`` says, where the positions are; None where there is no compiled pass."""
    return (
        Cells(grid, x, y, ties)
        if works_on(x)
        else launch_cells.Cells(grid, x, y, ties)
        if launch.works_on(x)
        else None
    )


class Cells:
    """Where blocks of pixels at positions ``x`` (w,) and ``y`` (h,) lie between the patches of a grid, and what ties these along x (2, 2, 2, columns) and along
    y (2, 2, 2, rows): displacement and slope of each patch of a line to its own ones and to those of the next."""

    def __init__(self, grid: PatchGrid, x: Tensor, y: Tensor, ties: tuple[Tensor, Tensor]) -> None:
        self.ties = [along.contiguous() for along in ties]
        (cell_x, share_x), (cell_y, share_y) = self.along = [
            grid.before(positions, axis) for axis, positions in enumerate((x, y))
        ]
        self.given = _Grid(
            grid.rows,
            grid.columns,
            len(y),
            len(x),
            *map(_address, (cell_y, cell_x, share_y, share_x, *self.ties[::-1])),
        )

    def bend(self, parameters: Tensor) -> Tensor:
        """The product (2, 3, rows, columns) of the ties with parameters (2, 3, rows, columns)."""
        parameters, found = parameters.contiguous(), torch.empty(parameters.shape)
        _call(
            "bend",
            ctypes.byref(self.given),
            ctypes.c_void_p(parameters.data_ptr()),
            ctypes.c_void_p(found.data_ptr()),
        )
        return found

    def solve(
        self, curvature: Tensor, damping: Tensor, right: Tensor, *, steps: int, tolerance: float
    ) -> Tensor:
        """What the stencil of a curvature (3, h, w), damped per patch (rows * columns,), takes to ``right`` (2, 3, rows, columns), nearly.

        Raises ``MemoryError``.
        """
        given, found = [x.contiguous() for x in (curvature, damping, right)], torch.empty(right.shape)
        limits = steps, ctypes.c_double(tolerance), torch.get_num_threads()
        _call(
            "solve",
            ctypes.byref(self.given),
            *(ctypes.c_void_p(x.data_ptr()) for x in given),
            *limits,
            ctypes.c_void_p(found.data_ptr()),
        )
        return found


def _call(name: str, *arguments: object) -> None:
    if getattr(library(), name)(*arguments):
        raise MemoryError(f"no memory for {name}")


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
