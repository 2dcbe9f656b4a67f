"""The pass of ``expand.c`` for a GPU, in Triton: blend -> sample -> windowed sums -> sums along columns.

Every pixel is sampled once. The derivative of a window's loss with respect to a pixel w of the warped image
is a f + b w + c, with numbers a, b and c that are known once the window is summed. The gradient is linear in
them: gradients of the samples are summed times f, times w and times 1, and combined at the end.

A program processes some windows of a line row by row, with one warp for each group of ``LANES`` columns. The
first and the last column of a group belong to the neighbouring groups; they are needed for central
differences. The last axes of a block are (groups, lanes); channels come before them, and the components x
and y come first. Values that belong together are tuples. "pulled" stands for the gradient of the loss with
respect to points, "bent" for products of differences between pixels.
"""

import triton
import triton.language as tl

FLAT = tl.constexpr(1e-5)  # similarity/base.py
UNEXPLAINED = tl.constexpr(0.005)  # similarity/base.py
LEAST_SIMILARITY = tl.constexpr(0.1)  # similarity/base.py
LANES = tl.constexpr(32)
OWN = tl.constexpr(30)
"""The number of columns of a group, and of those that only this group has."""
TILE = tl.constexpr(32)
TILES = tl.constexpr(8)
"""The side of the tiles of a mask, and how many of them a program reads along each axis at most."""
IMAGES = ["fixed", "weight", "moving", "seen", "matrix"]
"""Arguments that may be slices of a tensor and start at any address; separate code for addresses that are
multiples of 16 bytes would only take time to compile."""
NEARLY = tl.constexpr(2)
"""Contiguous addresses (groups, lanes) declared along the groups; nearly all are contiguous along the lanes.
It makes Triton map lanes to a warp's threads and groups to warps, whatever axes precede, without exchange
between warps."""
ROOM = tl.constexpr(0.01)
"""Margin in pixels: points further than this from the border are inside despite rounding."""


@triton.jit
def before(pixel, origin, spacing, count):
    """The patch before a pixel of an axis, and the share of the way from there to the next one."""
    position = (pixel - origin) / spacing
    cell = tl.minimum(position.to(tl.int32), count - 2)
    return cell, position - cell


@triton.jit
def cell_of(pixel, origin, spacing, count):
    """The patch before a pixel of an axis."""
    cell, share = before(pixel, origin, spacing, count)
    return cell


@triton.jit
def load_three(at, step):
    """Load three values at a distance of ``step``."""
    return tl.load(at), tl.load(at + step), tl.load(at + 2 * step)


@triton.jit
def store_three(at, step, values, there):
    """Store three values at a distance of ``step``."""
    one, two, three = values
    tl.store(at, one, there)
    tl.store(at + step, two, there)
    tl.store(at + 2 * step, three, there)


@triton.jit
def add_times(values, factor, others):
    """Three values plus a factor times three others."""
    one, two, three = values
    first, second, third = others
    return one + factor * first, two + factor * second, three + factor * third


@triton.jit
def part(pairs, axis: tl.constexpr):
    """The x (0) or y (1) component of pairs (2, groups, lanes)."""
    return tl.sum(tl.where(tl.arange(0, 2)[:, None, None] == axis, pairs, 0.0), 0)


@triton.jit
def one_of(pair, axis: tl.constexpr):
    """The x (0) or y (1) component of two integers (2,)."""
    return tl.sum(tl.where(tl.arange(0, 2) == axis, pair, 0), 0)


@triton.jit
def place(position, count):
    """The pixel before a position on a line of ``count`` pixels and the share of the way to the next one.

    Also 1 where the derivative is not 0 (between the borders), and a linear sample of a line of ones.
    """
    last = (count - 1).to(tl.float32)
    seen = tl.minimum(tl.maximum(0.5 * last + 1 - tl.abs(position - 0.5 * last), 0.0), 1.0)
    inside = tl.minimum(tl.where(position > 0, position, 0.0), last)  # 0 also where it is NaN
    pixel = tl.minimum(inside.to(tl.int32), count - 2)
    return pixel, inside - pixel, ((inside > 0) & (inside < last)).to(tl.float32), seen


@triton.jit
def read(at, share_x, share_y, stride):
    """Bilinear samples and their derivatives along x and y."""
    one, three = tl.load(at), tl.load(at + stride)
    above, below = tl.load(at + 1) - one, tl.load(at + stride + 1) - three
    upper, lower = one + share_x * above, three + share_x * below
    return upper + share_y * (lower - upper), above + share_y * (below - above), lower - upper


@triton.jit
def sample(moving, seen, points, width, height, inside):
    """The moving image (channels, groups, lanes) at points (2, groups, lanes), its gradient (2, channels,
    groups, lanes) and the mask there, which is 1 if the points are known to be ``inside``."""
    px, py = part(points, 0), part(points, 1)
    if inside:
        left, top = px.to(tl.int32), py.to(tl.int32)
        corner = tl.max_contiguous(top * width + left, [NEARLY, LANES])
        value, along_x, along_y = read(
            moving + corner[None, :, :], (px - left)[None, :, :], (py - top)[None, :, :], width
        )
        shown = tl.full(px.shape, 1.0, tl.float32)
    else:
        left, share_x, free_x, seen_x = place(px, width)
        top, share_y, free_y, seen_y = place(py, height)
        corner = tl.max_contiguous(top * width + left, [NEARLY, LANES])
        value, along_x, along_y = read(
            moving + corner[None, :, :], share_x[None, :, :], share_y[None, :, :], width
        )
        along_x, along_y = along_x * free_x[None, :, :], along_y * free_y[None, :, :]
        shown, unused_x, unused_y = read(seen + corner, share_x, share_y, width)
        shown = shown * seen_x * seen_y
    return (
        value,
        tl.where(tl.arange(0, 2)[:, None, None, None] == 0, along_x[None, :, :, :], along_y[None, :, :, :]),
        shown,
    )


@triton.jit(do_not_specialize=["width", "height", "tiles"], do_not_specialize_on_alignment=IMAGES)
def ones(seen, found, width, height, tiles):
    """The minimum of each tile of a mask: 1 where all of the tile is valid."""
    x, y = (
        tl.program_id(0) * TILE + tl.arange(0, TILE)[None, :],
        tl.program_id(1) * TILE + tl.arange(0, TILE)[:, None],
    )
    shown = tl.load(seen + y * width + x, (x < width) & (y < height), 1.0)
    tl.store(found + tl.program_id(1) * tiles + tl.program_id(0), tl.min(tl.min(shown, 1), 0))


@triton.jit
def certain(
    covered, moved, start, by_y, first, last, origin, spacing, width, rows, moving_width, moving_height
):
    """Whether all points of some columns from row ``first`` to row ``last`` lie where the moving image is
    valid.

    Displacements within a cell exceed those on its two rows by at most a quarter of the factor of t (1 - t),
    which bounds the points.
    """
    low, high = start + 1e30, start - 1e30
    for cell in range(cell_of(first, origin, spacing, rows), cell_of(last, origin, spacing, rows) + 1):
        a, b, c = load_three(moved + cell * 6 * width, width)
        least, most = (
            a + 0.5 * (b - tl.abs(b)) - 0.25 * tl.abs(c),
            a + 0.5 * (b + tl.abs(b)) + 0.25 * tl.abs(c),
        )
        low = tl.minimum(low, tl.where(least <= most, start + least, -1e30))  # far outside where they are NaN
        high = tl.maximum(high, start + most)
    low, high = (
        tl.min(low + tl.minimum(by_y * first, by_y * last), 2),
        tl.max(high + tl.maximum(by_y * first, by_y * last), 2),
    )
    low, high = tl.min(low, 1), tl.max(high, 1)
    size = tl.where(tl.arange(0, 2) == 0, moving_width, moving_height)
    begin, end = low.to(tl.int32) // TILE, (high.to(tl.int32) + 1) // TILE
    fits = (low > ROOM) & (high < size - 1 - ROOM) & (end - begin < TILES)
    inside = tl.min(fits.to(tl.int32), 0)
    each, tiles, more = (
        tl.arange(0, TILES * TILES),
        (moving_width + TILE - 1) // TILE,
        tl.where(fits, end - begin, -1),
    )
    looked_at = (each % TILES <= one_of(more, 0)) & (each // TILES <= one_of(more, 1))
    seen = tl.load(
        covered + (one_of(begin, 1) + each // TILES) * tiles + one_of(begin, 0) + each % TILES, looked_at, 1.0
    )
    return (inside == 1) & (tl.min(seen, 0) == 1)


@triton.jit
def near(fixed, moving, matrix, x, y, width, moving_width, moving_height):
    """Values of both images, of one channel, near pixels x (groups, lanes) of row y."""
    px, py = (
        tl.load(matrix) * x + tl.load(matrix + 1) * y + tl.load(matrix + 2),
        tl.load(matrix + 3) * x + tl.load(matrix + 4) * y + tl.load(matrix + 5),
    )
    left = tl.minimum(tl.maximum(px, 0.0), (moving_width - 1).to(tl.float32)).to(tl.int32)
    top = tl.minimum(tl.maximum(py, 0.0), (moving_height - 1).to(tl.float32)).to(tl.int32)
    f, w = (
        tl.load(fixed + (y * width + x)[None, :, :]),
        tl.load(moving + (top * moving_width + left)[None, :, :]),
    )
    return tl.sum(f, 0), tl.sum(w, 0)


@triton.jit
def correlation(count, fw, ww, ff, wm, fm):
    """The similarity of ``similarity.ncc``, its derivative as a, b and c, and its second derivative."""
    share, per_pixel = 1 / tl.maximum(count, 1e-3), 2 / tl.maximum(count, 1.0)
    mean_w, mean_f = wm * share, fm * share
    sharp_w = 1 / (tl.maximum(ww * share - mean_w * mean_w, 0.0) + FLAT)
    sharp_f = 1 / (tl.maximum(ff * share - mean_f * mean_f, 0.0) + FLAT)
    cov = fw * share - mean_f * mean_w
    slope = cov * sharp_f * sharp_w
    value = cov * slope
    a, b = slope * per_pixel, -value * per_pixel * sharp_w
    return value, a, b, -a * mean_f - b * mean_w, tl.maximum(value, LEAST_SIMILARITY) * per_pixel * sharp_w


@triton.jit
def cosine(count, fw, ww, ff, area):
    """The same for the cosine of vectors."""
    floor = 0.02 * count + 1e-4 * area
    size, sharp = 1 / tl.sqrt((ff + floor) * (ww + floor)), 1 / (ww + floor)
    value = fw * size
    return value, size, -value * sharp, tl.zeros_like(value), tl.maximum(value, LEAST_SIMILARITY) * sharp


@triton.jit
def of_window(sums, number, WINDOWS: tl.constexpr):
    """The sum of each column's window, from the sums of columns (groups, lanes); ``number`` is the window of
    a column."""
    mine = number[None, :, :] == tl.arange(0, WINDOWS)[:, None, None]
    windows = tl.sum(tl.sum(tl.where(mine, sums[None, :, :], 0.0), 2), 1)
    return tl.sum(tl.where(mine, windows[:, None, None], 0.0), 0)


@triton.jit
def pulled_more(sums, weighted, along, t, bow):
    """Three sums (2, groups, lanes) plus those of a row: gradients (2, channels, groups, lanes),
    ``weighted``, times 1, t and t (1 - t)."""
    one, two, three = sums
    pull = tl.sum(weighted[None, :, :, :] * along, 1)
    return one + pull, two + t * pull, three + bow * pull


@triton.jit
def bent_more(sums, here, above, below, m, CHANNELS: tl.constexpr, GROUPS: tl.constexpr):
    """Three sums plus the products xx, xy and yy of central differences in pixels of weight m. Results of the
    outer lanes are not valid."""
    xx, xy, yy = sums
    lane = tl.arange(0, LANES)[None, None, :] + tl.zeros([CHANNELS, GROUPS, 1], tl.int32)
    gx = tl.gather(here, tl.minimum(lane + 1, LANES - 1), 2) - tl.gather(here, tl.maximum(lane - 1, 0), 2)
    gy = below - above
    weighted_x, weighted_y = m[None, :, :] * gx, m[None, :, :] * gy
    return xx + tl.sum(weighted_x * gx, 0), xy + tl.sum(weighted_x * gy, 0), yy + tl.sum(weighted_y * gy, 0)


@triton.jit
def store_cells(to, step, sums, share, own, ends):
    """Store cumulative sums of three values (2, groups, lanes) over a group's ``own`` columns.

    They are stored at each column that ``ends`` those after a patch, times 1, s and s (1 - s) for the share s
    of the way to the next patch: nine sums at a distance of ``step``.
    """
    share, own, ends = share[None, :, :], own[None, :, :], ends[None, :, :]
    for k in tl.static_range(3):
        pull, at = tl.where(own, sums[k], 0.0), to + 3 * k * step
        tl.store(at, tl.cumsum(pull, 2), ends)
        tl.store(at + step, tl.cumsum(pull * share, 2), ends)
        tl.store(at + 2 * step, tl.cumsum(pull * (share * (1 - share)), 2), ends)


@triton.jit
def store_pulled(
    to,
    step,
    apart,
    pieces,
    sums,
    a,
    b,
    c,
    share,
    own,
    ends,
    width,
    COSINE: tl.constexpr,
    GROUPS: tl.constexpr,
):
    """Store the gradient of columns of a line of windows: a, b and c times the sums of ``down``, which
    returns those after the last row of patches and stores those after the rows before in ``apart``."""
    none = tl.zeros([2, GROUPS, LANES], tl.float32)
    tl.debug_barrier()
    for piece in range(pieces + 1):
        by_f, by_w, by_one = sums
        if piece < pieces:
            at = apart + piece * 18 * width
            by_f, by_w = load_three(at, 2 * width), load_three(at + 6 * width, 2 * width)
            if not COSINE:
                by_one = load_three(at + 12 * width, 2 * width)
        found = add_times(add_times(add_times((none, none, none), a, by_f), b, by_w), c, by_one)
        store_cells(to + piece * 18 * step, step, found, share, own, ends)


@triton.jit
def down(
    fixed, weight, moving, seen, moved, apart, bent, from_f, from_w, start, by_y, x, own, inside, top, bottom,
    origin, spacing, width, height, moving_width, moving_height, rows, block,
    CHANNELS: tl.constexpr, COSINE: tl.constexpr, GROUPS: tl.constexpr,
):  # fmt: skip
    """Sums along the columns of a line of windows.

    The sums of weights and of weights times f w, w w, f f, w and f; and of gradients times f, w and 1, after
    the last row of patches. Those after a row before are stored in ``apart``, and products of differences,
    for each row of blocks, in ``bent``.
    """
    empty, none = tl.zeros([GROUPS, LANES], tl.float32), tl.zeros([2, GROUPS, LANES], tl.float32)
    count, fw, ww, ff, wm, fm = empty, empty, empty, empty, empty, empty
    by_f, by_w, by_one, field, squares = (
        (none, none, none),
        (none, none, none),
        (none, none, none),
        (none, none, none),
        (empty, empty, empty),
    )
    above = tl.zeros([CHANNELS, GROUPS, LANES], tl.float32)
    here, kept = above + 0, empty + 0
    tops, bottoms = (
        top + tl.zeros([GROUPS, LANES], tl.int32),
        bottom + tl.zeros([GROUPS, LANES], tl.int32),
    )  # Triton's interpreter joins tensors only
    first, blocks_apart = cell_of(top, origin, spacing, rows), (height + block - 1) // block * width
    cell, begin, until = first - 2, top // block * width, top + block
    for y in range(top - 1, bottom + 1):  # with one more row on either side
        inner = tl.minimum(tl.maximum(y, 0), height - 1)  # beyond the image the border's pixels are repeated
        behind, t = before(inner, origin, spacing, rows)
        if behind != cell:
            if (y > top) & (y < bottom):
                to = apart + (cell - first) * 18 * width
                store_three(to, 2 * width, by_f, own[None, :, :])
                store_three(to + 6 * width, 2 * width, by_w, own[None, :, :])
                by_f, by_w = (none, none, none), (none, none, none)
                if not COSINE:
                    store_three(to + 12 * width, 2 * width, by_one, own[None, :, :])
                    by_one = (none, none, none)
            cell = behind
            field = load_three(moved + cell * 6 * width, width)
        a, b, c = field
        bow = t * (1 - t)
        value, along, shown = sample(
            moving, seen, start + by_y * inner + (a + t * b + bow * c), moving_width, moving_height, inside
        )
        m = tl.load(weight + inner * width + x, own & (y >= tops) & (y < bottoms), 0.0) * shown
        f, w = tl.load(fixed + (inner * width + x)[None, :, :]), value
        if not COSINE:
            f, w = f - from_f[None, :, :], w - from_w[None, :, :]
        weighted, other = m[None, :, :] * w, m[None, :, :] * f
        count += m
        fw += tl.sum(weighted * f, 0)
        ww += tl.sum(weighted * w, 0)
        ff += tl.sum(other * f, 0)
        if not COSINE:
            wm += tl.sum(weighted, 0)
            fm += tl.sum(other, 0)
        by_f, by_w = pulled_more(by_f, other, along, t, bow), pulled_more(by_w, weighted, along, t, bow)
        if not COSINE:
            by_one = pulled_more(by_one, m[None, :, :], along, t, bow)
        squares = bent_more(squares, here, above, value, kept, CHANNELS, GROUPS)  # of the row before this one
        if (y == until) | (y == bottom):
            store_three(bent + begin, blocks_apart, squares, own)
            squares, begin, until = (empty, empty, empty), begin + width, until + block
        above, here, kept = here, value, m
    return (count, fw, ww, ff, wm, fm), by_f, by_w, by_one


@triton.jit(
    do_not_specialize=[
        "width",
        "height",
        "moving_width",
        "moving_height",
        "rows",
        "columns",
        "cells",
        "segments",
        "block",
    ],
    do_not_specialize_on_alignment=IMAGES,
)
def expand(
    fixed, weight, moving, seen, covered, matrix, moved, values, weights, losses, bends, apart, pulled, bent,
    origin_x, spacing_x, origin, spacing, width, height, moving_width, moving_height, rows, columns, cells,
    segments, block,
    CHANNELS: tl.constexpr, WINDOW: tl.constexpr, COSINE: tl.constexpr, GROUPS: tl.constexpr, SIDE:
    tl.constexpr, WINDOWS: tl.constexpr,
):  # fmt: skip
    """Similarity, weight, weighted loss and its second derivative by a pixel, of ``SIDE`` windows of line
    ``program_id(1)``, and sums for the gradient and the curvature.

    ``WINDOWS`` is a power of two, at least ``SIDE``. ``moved`` (rows - 1, 6, width) is the output of
    ``blend``; ``apart`` (lines, cells - 1, 18, width) is scratch memory. ``pulled`` (lines, ``cells``, 18,
    groups of a line, ``segments``) is the gradient along x and y times 1, t and t (1 - t), each times 1, s
    and s (1 - s), for each row and column of patches before the pixels. ``bent`` (3, rows of blocks, width)
    is the curvature of columns of blocks before it is multiplied by 1/4 and the second derivative.
    """
    line, first = tl.program_id(1), tl.program_id(0) * SIDE
    lane, axis = tl.arange(0, LANES)[None, :], tl.arange(0, 2)[:, None, None]
    column = tl.arange(0, GROUPS)[:, None] * OWN + lane - 1
    x = first * WINDOW + column
    own = (lane >= 1) & (lane <= OWN) & (column < SIDE * WINDOW) & (x < width)
    x = tl.max_contiguous(tl.minimum(tl.maximum(x, 0), width - 1), [NEARLY, LANES])
    top, bottom = line * WINDOW, tl.minimum(line * WINDOW + WINDOW, height)
    number = tl.minimum(tl.maximum(column, 0) // WINDOW, SIDE - 1)
    channel = tl.arange(0, CHANNELS)[:, None, None]
    fixed, moving, bent = (
        fixed + channel * height * width,
        moving + channel * moving_height * moving_width,
        bent + x,
    )
    moved, apart = (
        moved + axis * 3 * width + x[None, :, :],
        apart + line * (cells - 1) * 18 * width + axis * width + x[None, :, :],
    )
    start, by_y = (
        tl.load(matrix + 3 * axis) * x[None, :, :] + tl.load(matrix + 3 * axis + 2),
        tl.load(matrix + 3 * axis + 1),
    )

    from_f, from_w = tl.zeros([GROUPS, LANES], tl.float32), tl.zeros([GROUPS, LANES], tl.float32)
    if (
        not COSINE
    ):  # the variance of small numbers is more exact: subtract the pixels near the start of each window
        from_f, from_w = near(
            fixed,
            moving,
            matrix,
            tl.minimum((first + number) * WINDOW, width - 1),
            top,
            width,
            moving_width,
            moving_height,
        )
    above, below = tl.maximum(top - 1, 0), tl.minimum(bottom, height - 1)
    inside = certain(
        covered, moved, start, by_y, above, below, origin, spacing, width, rows, moving_width, moving_height
    )
    sums, by_f, by_w, by_one = down(
        fixed, weight, moving, seen, moved, apart, bent, from_f, from_w, start, by_y, x, own, inside, top,
        bottom,
        origin, spacing, width, height, moving_width, moving_height, rows, block, CHANNELS, COSINE, GROUPS,
    )  # fmt: skip

    count, fw = of_window(sums[0], number, WINDOWS), of_window(sums[1], number, WINDOWS)
    ww, ff = of_window(sums[2], number, WINDOWS), of_window(sums[3], number, WINDOWS)
    if COSINE:
        value, a, b, c, bend = cosine(count, fw, ww, ff, WINDOW * WINDOW)
    else:
        value, a, b, c, bend = correlation(
            count, fw, ww, ff, of_window(sums[4], number, WINDOWS), of_window(sums[5], number, WINDOWS)
        )
    share, unexplained = count / (WINDOW * WINDOW), tl.maximum(1 - value, 0.0) + UNEXPLAINED
    at, begins, steep = (
        line * ((width + WINDOW - 1) // WINDOW) + first + number,
        own & (column % WINDOW == 0),
        share / unexplained,
    )
    tl.store(values + at, value, begins)
    tl.store(weights + at, share, begins)
    tl.store(losses + at, tl.log(unexplained / (1 + UNEXPLAINED)) * share, begins)
    tl.store(bends + at, bend * steep, begins)
    a, b, c = -a * steep, -b * steep, -c * steep
    cell, share = before(x, origin_x, spacing_x, columns)
    pieces = cell_of(bottom - 1, origin, spacing, rows) - cell_of(top, origin, spacing, rows)
    ends = own & (
        (lane == OWN)
        | (column == SIDE * WINDOW - 1)
        | (x == width - 1)
        | (cell_of(x + 1, origin_x, spacing_x, columns) != cell)
    )
    group, step = tl.arange(0, GROUPS)[:, None], tl.num_programs(0) * GROUPS * segments
    begin = cell_of(tl.minimum(first * WINDOW + group * OWN, width - 1), origin_x, spacing_x, columns)
    slot = tl.max_contiguous((tl.program_id(0) * GROUPS + group) * segments + cell - begin, [NEARLY, LANES])
    to = pulled + line * cells * 18 * step + axis * 9 * step + slot[None, :, :]
    store_pulled(
        to, step, apart, pieces, (by_f, by_w, by_one), a, b, c, share, own, ends, width, COSINE, GROUPS
    )
