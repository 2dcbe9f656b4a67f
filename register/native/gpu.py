"""A step of the descent in one compiled pass over the pixels on a CUDA device."""

import os
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from register import patches, replay
from register.native.summed import METRICS, Summed
from register.patches import PatchGrid

TRITON = 3, 3
"""The oldest version that can exchange the numbers of a row."""
SIDE, WARPS = 4, 4
"""Windows side by side that one program works on, and the warps it has for them."""


class Pair(NamedTuple):
    """What is compared: pixels in one piece, float32, and the map (2, 3) between them, all on one device."""

    fixed: Tensor  # (c, h, w)
    weight: Tensor  # (h, w)
    moving: Tensor  # (c, h', w')
    seen: Tensor  # (h', w')
    moving_from_fixed: Tensor
    metric: str
    window: int


@cache
def there() -> bool:
    """Whether there is a compiler that knows all that the kernel needs, and it is wanted."""
    with suppress(PackageNotFoundError):
        return os.environ.get("REGISTER_NATIVE") != "0" and tuple(int(x) for x in version("triton").split(".")[:2]) >= TRITON
    return False


def works_on(tensor: Tensor) -> bool:
    """Whether the kernel can read a tensor of its kind, where it is."""
    return replay.records(tensor.device) and tensor.dtype == torch.float32 and there()


def pair(fixed: Tensor, weight: Tensor, moving: Tensor, seen: Tensor, moving_from_fixed: Tensor, metric: str, window: int) -> Pair:
    """A pair of images (c, h, w) with a weight and a mask (1, h, w) of their pixels and a map (2, 3) between them."""
    return Pair(fixed.contiguous(), weight[0].contiguous(), moving.contiguous(), seen[0].contiguous(), moving_from_fixed.contiguous(), metric, window)


def expand(pair: Pair, grid: PatchGrid, parameters: Tensor, block: int) -> Summed:
    """The same as ``native.expand``. Products of matrices do what is done along x, the kernel all that is done per pixel."""
    from register.native import kernel  # Triton is there on a GPU only, and takes a while to load

    (channels, height, width), (moving_height, moving_width) = pair.fixed.shape, pair.moving.shape[1:]
    new, device, window = pair.fixed.new_empty, pair.fixed.device, pair.window
    x, y = (torch.arange(n, dtype=torch.float32, device=device) for n in (width, height))
    basis = grid.axis_basis(x, 0)
    along = (patches.coefficients(parameters) @ basis.T).contiguous()
    steps = (y - grid.origin[1]) / grid.spacing[1]
    cells = steps.floor().clamp(0, grid.rows - 2)
    pieces, firsts = _pieces(cells, grid.rows, window)
    lines, per_line = -(-height // window), -(-width // window)
    values, weights, losses = new(3, lines * per_line).unbind()
    pulled, bent = new(len(pieces) - 1, 6, width), new(3, -(-height // block), width)
    kernel.expand[(-(-per_line // SIDE), lines)](
        *(pair.fixed, pair.weight, pair.moving, pair.seen, pair.moving_from_fixed),
        *(along, cells.int(), steps - cells, pieces, firsts, values, weights, losses, pulled, bent),
        *(width, height, moving_width, moving_height, grid.rows, block),
        CHANNELS=channels,
        WINDOW=window,
        COSINE=METRICS[pair.metric] == 1,
        SIDE=SIDE,
        LANES=lanes(window),
        num_warps=WARPS,
        enable_fp_fusion=True,
    )
    curvature = pad(bent, (0, -width % block)).reshape(*bent.shape[:2], -1, block).sum(-1)
    return Summed(losses, weights, _to_patches(pulled @ basis, cells[pieces[:-1].long().clamp(max=height - 1)], grid.rows), curvature)


def lanes(window: int) -> int:
    """How many pixels of a row are worked on at once for each window: those of the window and one on either side, filled up to a power of two."""
    return 1 << (window + 1).bit_length()


def _pieces(cells: Tensor, patch_rows: int, window: int) -> tuple[Tensor, Tensor]:
    """Where rows of pixels (h,) begin that lie on one line of windows and, by their ``cells``, behind the same row of patches, and the end of the last; and for
    each line its first piece, and the end of its last. Some pieces are empty, so that nothing needs to be known of the numbers to tell how many there are."""
    height = len(cells)
    lines = torch.arange(0, height, window, device=cells.device)
    between = torch.searchsorted(cells, torch.arange(1, patch_rows - 1, dtype=cells.dtype, device=cells.device))
    begins = torch.cat([lines, between]).sort().values
    firsts = torch.searchsorted(begins, lines)
    return pad(begins, (0, 1), value=height).int(), pad(firsts, (0, 1), value=len(begins)).int()


def _to_patches(sums: Tensor, cells: Tensor, rows: int) -> Tensor:
    """The slope (2, 3, rows, columns) to patches, from what pieces (n, 6, 2 columns) that lie behind rows ``cells`` (n,) of patches pull."""
    each = (cells == torch.arange(rows - 1, device=cells.device)[:, None]).to(sums) @ sums.flatten(1)
    one, t, bow = each.reshape(rows - 1, 2, 3, 2, -1).unbind(2)  # (rows - 1, component, function along x, columns)
    before, after = (0, 0, 0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 0, 0, 1)
    moves, slopes = pad(one - t, after) + pad(t, before), pad(bow, after) - pad(bow, before)
    return torch.stack([moves[:, :, 0], moves[:, :, 1], slopes[:, :, 0]], 2).permute(1, 2, 0, 3)
