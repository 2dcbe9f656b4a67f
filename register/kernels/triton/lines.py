"""Displacements of columns of pixels from patches, and sums over patches from columns, on a GPU, in Triton.

``blend`` prepares the input of ``expand.expand``; the other kernels sum its output. "pulled" stands for the
gradient of the loss with respect to points, summed along columns.
"""

import triton
import triton.language as tl

from register.kernels.triton.expand import OWN, cell_of


@triton.jit(do_not_specialize=["width", "rows", "columns"])
def blend(parameters, found, origin, spacing, width, rows, columns, N: tl.constexpr):
    """The displacement of columns of pixels, separately for each row of patches before them.

    For component k = ``program_id(2)`` after row r = ``program_id(1)`` it is found[r, k, 0] + t found[r, k,
    1] + t (1 - t) found[r, k, 2] at a share t of the way to the next row.
    """
    x, cell, component = tl.program_id(0) * N + tl.arange(0, N), tl.program_id(1), tl.program_id(2)
    there = x < width
    left = cell_of(x, origin, spacing, columns)
    behind = (x - origin) / spacing - left
    before = 1 - behind
    count = rows * columns
    at = parameters + component * 3 * count + cell * columns + left
    upper, bent = line(at, count, before, behind, there)
    lower, bow = line(at + columns, count, before, behind, there)
    to = found + (cell * 2 + component) * 3 * width + x
    tl.store(to, upper, there)
    tl.store(to + width, lower - upper, there)
    tl.store(to + 2 * width, bent - bow, there)


@triton.jit
def line(at, count, before, behind, there):
    """The displacement on a row of patches, and its derivative along y."""
    move = before * tl.load(at, there, 0.0) + behind * tl.load(at + 1, there, 0.0)
    bow = before * tl.load(at + 2 * count, there, 0.0) + behind * tl.load(at + 2 * count + 1, there, 0.0)
    return move + before * behind * (
        tl.load(at + count, there, 0.0) - tl.load(at + count + 1, there, 0.0)
    ), bow


@triton.jit(do_not_specialize=["width", "columns", "windows"])
def pool(
    bent,
    bends,
    curvature,
    width,
    columns,
    windows,
    BLOCK: tl.constexpr,
    WINDOW: tl.constexpr,
    HOLDS: tl.constexpr,
    SIDE: tl.constexpr,
):
    """The curvature (3, rows, columns) of blocks.

    ``expand``'s sums ``bent`` (3, rows, width) are summed over each block and multiplied by 1/4 and by
    ``bends``, the second derivative of its window, of which a line has ``windows``.
    """
    line, kind, number = tl.program_id(1), tl.program_id(2), tl.program_id(0) * SIDE + tl.arange(0, SIDE)
    inner, there, lines = tl.arange(0, HOLDS)[None, :], number < columns, kind * tl.num_programs(1) + line
    x = number[:, None] * BLOCK + inner
    found = tl.sum(tl.load(bent + lines * width + x, (inner < BLOCK) & (x < width), 0.0), 1)
    bend = tl.load(bends + line * BLOCK // WINDOW * windows + number * BLOCK // WINDOW, there, 0.0)
    tl.store(curvature + lines * columns + number, 0.25 * bend * found, there)


@triton.jit
def reach(first, last, origin, spacing, size):
    """The first pixel between two patches of a line and the one after the last; rounding may add one on
    either side."""
    begin = tl.minimum(tl.maximum(origin + first * spacing, 0.0), size - 1.0)
    return begin.to(tl.int32), tl.minimum((origin + last * spacing).to(tl.int32) + 1, size)


@triton.jit
def cells_of(line, origin, spacing, height, rows, WINDOW: tl.constexpr):
    """The row of patches before the first and before the last pixel of a line of windows."""
    top = tl.minimum(line * WINDOW, height - 1)
    return cell_of(top, origin, spacing, rows), cell_of(
        tl.minimum(top + WINDOW, height) - 1, origin, spacing, rows
    )


@triton.jit
def group_of(x, SPAN: tl.constexpr, GROUPS: tl.constexpr):
    """The number of a pixel's group of columns; each program has ``GROUPS`` of them in ``SPAN`` columns."""
    return x // SPAN * GROUPS + x % SPAN // OWN


@triton.jit
def between(at, number, there):
    """The ``number``-th sum of a group, from cumulative sums."""
    return tl.load(at, there, 0.0) - tl.load(at - 1, there & (number > 0), 0.0)


@triton.jit(do_not_specialize=["width", "height", "rows", "columns", "cells", "groups", "segments"])
def gather_columns(
    pulled, sums, origin_x, spacing_x, origin_y, spacing_y, width, height, rows, columns, cells, groups,
    segments,
    WINDOW: tl.constexpr, SPAN: tl.constexpr, GROUPS: tl.constexpr, N: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """Sums (n, 6, 2, columns) of the gradient over columns of pixels, for each patch of a row.

    n is the number of lines of windows times ``cells``, the rows of patches that one can overlap; rows
    without pixels are not written. Of six kinds of sums (x, y; 1, t, t (1 - t)) ``program_id(2)`` selects
    one. The two sums are those times the patch's weight and times its weighted offset. The input is that of
    the ``groups`` groups of columns of ``expand``, ``GROUPS`` for each of its programs, which have ``SPAN``
    columns.
    """
    line, kind = tl.program_id(1), tl.program_id(2)
    first, last = cells_of(line // cells, origin_y, spacing_y, height, rows, WINDOW)
    if line % cells <= last - first:
        patch = tl.program_id(0) * N + tl.arange(0, N)
        step = groups * segments
        weighted, shifted = tl.zeros([N, LONG], tl.float32), tl.zeros([N, LONG], tl.float32)
        for behind in tl.static_range(2):
            cell = patch - 1 + behind
            begin, end = reach(cell, cell + 1, origin_x, spacing_x, width)
            begin, end = group_of(begin, SPAN, GROUPS), tl.minimum(group_of(end, SPAN, GROUPS) + 1, groups)
            end = tl.where((cell >= 0) & (cell < columns - 1), end, 0)
            for more in range(0, tl.max(end - begin, 0), LONG):
                group = begin[:, None] + more + tl.arange(0, LONG)[None, :]
                program, left = group // GROUPS, group // GROUPS * SPAN + group % GROUPS * OWN
                right = tl.minimum(tl.minimum(left + OWN, (program + 1) * SPAN), width) - 1
                number = cell[:, None] - cell_of(left, origin_x, spacing_x, columns)
                there = (
                    (group < end[:, None])
                    & (number >= 0)
                    & (cell[:, None] <= cell_of(right, origin_x, spacing_x, columns))
                    & (left <= right)
                )
                at = pulled + (line * 6 + kind) * 3 * step + group * segments + number
                share, bow = between(at + step, number, there), between(at + 2 * step, number, there)
                if behind == 0:
                    weighted += share
                    shifted -= bow
                else:
                    weighted += between(at, number, there) - share
                    shifted += bow
        at = sums + (line * 6 + kind) * 2 * columns + patch
        tl.store(at, tl.sum(weighted, 1), patch < columns)
        tl.store(at + columns, tl.sum(shifted, 1), patch < columns)


@triton.jit(do_not_specialize=["height", "rows", "columns", "cells"])
def gather_rows(
    sums, slope, origin_y, spacing_y, height, rows, columns, cells, WINDOW: tl.constexpr, N: tl.constexpr
):
    """The gradient (2, 3, rows, columns) with respect to the patches, from the sums of ``gather_columns``."""
    patch, component = tl.program_id(1), tl.program_id(2)
    column = tl.program_id(0) * N + tl.arange(0, N)
    there = column < columns
    move, along_x, along_y = tl.zeros([N], tl.float32), tl.zeros([N], tl.float32), tl.zeros([N], tl.float32)
    begin, end = reach(patch - 1, patch + 1, origin_y, spacing_y, height)
    for line in range(begin // WINDOW, (end + WINDOW - 1) // WINDOW):
        first, last = cells_of(line, origin_y, spacing_y, height, rows, WINDOW)
        for cell in range(tl.maximum(patch - 1, first), tl.minimum(patch, last) + 1):
            at = sums + ((line * cells + cell - first) * 2 + component) * 6 * columns + column
            t, s = tl.load(at + 2 * columns, there, 0.0), tl.load(at + 3 * columns, there, 0.0)
            bow = tl.load(at + 4 * columns, there, 0.0)
            if cell == patch:  # its weight falls from 1 to 0
                t, s, bow = tl.load(at, there, 0.0) - t, tl.load(at + columns, there, 0.0) - s, -bow
            move += t
            along_x += s
            along_y -= bow
    to = slope + (component * 3 * rows + patch) * columns + column
    tl.store(to, move, there)
    tl.store(to + rows * columns, along_x, there)
    tl.store(to + 2 * rows * columns, along_y, there)
