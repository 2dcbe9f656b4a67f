"""The pass of ``expand.c`` for a GPU, in Triton: blend -> sample -> windowed sums, and back to columns of
pixels. Every pixel is sampled once.

The loss of a window follows its pixels w of the warped image by a f + b w + c, of numbers that are known when
the whole window has been summed. What that pulls at is linear in them: slopes are summed times f, times w and
as they are, and put together at the end.

A program goes down some windows of a line, row by row, a warp for each group of ``LANES`` columns, whose
first and last one belong to the groups beside them: differences between neighbours are wanted. Axes are
groups and lanes; channels, where there are any, come before them, and x and y, where something has both,
before all. What comes and goes together is a tuple.
"""

import triton
import triton.language as tl

FLAT = tl.constexpr(1e-5)  # similarity.FLAT
UNEXPLAINED = tl.constexpr(0.005)  # similarity.UNEXPLAINED
LEAST_SIMILARITY = tl.constexpr(0.1)  # similarity.base.LEAST_SIMILARITY
LANES = tl.constexpr(32)
OWN = tl.constexpr(30)
"""Columns of a group, and those of them that are its own."""
TILE = tl.constexpr(32)
TILES = tl.constexpr(8)
"""The side of the tiles that a mask is looked at in, and how many a program looks at along each axis at
most."""
IMAGES = ["fixed", "weight", "moving", "seen", "matrix"]
"""What may be one of several in a tensor, and so begin anywhere: code of its own for what begins at a
multiple of 16 bytes would only take time to compile."""
NEARLY = tl.constexpr(2)
"""How many places in memory (groups, lanes) are said to follow each other along the groups, as all of them
nearly do along the lanes: so lanes become those of a warp, and groups warps, whatever comes before these
axes, and nothing need be brought from one to the other."""
ROOM = tl.constexpr(0.01)
"""How far from a border, in pixels, points certainly are within it, whatever rounding does."""


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
    """Three values, ``step`` apart."""
    return tl.load(at), tl.load(at + step), tl.load(at + 2 * step)


@triton.jit
def store_three(at, step, values, there):
    """Three values, ``step`` apart."""
    one, two, three = values
    tl.store(at, one, there)
    tl.store(at + step, two, there)
    tl.store(at + 2 * step, three, there)


@triton.jit
def add_times(values, factor, others):
    """Three values, and a factor times three others."""
    one, two, three = values
    first, second, third = others
    return one + factor * first, two + factor * second, three + factor * third


@triton.jit
def part(pairs, axis: tl.constexpr):
    """What pairs (2, groups, lanes) hold along x (0) or y (1)."""
    return tl.sum(tl.where(tl.arange(0, 2)[:, None, None] == axis, pairs, 0.0), 0)


@triton.jit
def one_of(pair, axis: tl.constexpr):
    """That of two whole numbers (2,) along x (0) or y (1)."""
    return tl.sum(tl.where(tl.arange(0, 2) == axis, pair, 0), 0)


@triton.jit
def place(position, count):
    """The pixel before a position on a line of ``count``, the share of the way to the next one, whether the
    value changes there, and how much of a line of ones is seen."""
    last = (count - 1).to(tl.float32)
    seen = tl.minimum(tl.maximum(0.5 * last + 1 - tl.abs(position - 0.5 * last), 0.0), 1.0)
    inside = tl.minimum(tl.where(position > 0, position, 0.0), last)  # 0 also where it is no number
    pixel = tl.minimum(inside.to(tl.int32), count - 2)
    return pixel, inside - pixel, ((inside > 0) & (inside < last)).to(tl.float32), seen


@triton.jit
def read(at, share_x, share_y, stride):
    """Linear samples, and their slopes along x and y."""
    one, three = tl.load(at), tl.load(at + stride)
    above, below = tl.load(at + 1) - one, tl.load(at + stride + 1) - three
    upper, lower = one + share_x * above, three + share_x * below
    return upper + share_y * (lower - upper), above + share_y * (below - above), lower - upper


@triton.jit
def sample(moving, seen, points, width, height, inside):
    """The moving image (channels, groups, lanes) at points (2, groups, lanes), its slopes (2, channels,
    groups, lanes), and how much of it is seen there: all, where points are known to be ``inside``."""
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
    """The least number of each tile of a mask: 1 where all of it is seen."""
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
    """Whether all pixels of some columns from row ``first`` to row ``last`` meet the moving image where it is
    seen, whatever patches do between those two: no displacement is beyond those of a cell's rows by more than
    a fourth of what t (1 - t) is multiplied with."""
    low, high = start + 1e30, start - 1e30
    for cell in range(cell_of(first, origin, spacing, rows), cell_of(last, origin, spacing, rows) + 1):
        a, b, c = load_three(moved + cell * 6 * width, width)
        least, most = (
            a + 0.5 * (b - tl.abs(b)) - 0.25 * tl.abs(c),
            a + 0.5 * (b + tl.abs(b)) + 0.25 * tl.abs(c),
        )
        low = tl.minimum(
            low, tl.where(least <= most, start + least, -1e30)
        )  # far outside where they are no numbers
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
    """Values of images of one channel near pixels x (groups, lanes) of row y."""
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
    """As ``similarity.ncc``: the value, a, b and c of its slope, and its curvature."""
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
    """As ``similarity.cosine``."""
    floor = 0.02 * count + 1e-4 * area
    size, sharp = 1 / tl.sqrt((ff + floor) * (ww + floor)), 1 / (ww + floor)
    value = fw * size
    return value, size, -value * sharp, tl.zeros_like(value), tl.maximum(value, LEAST_SIMILARITY) * sharp


@triton.jit
def of_window(sums, number, WINDOWS: tl.constexpr):
    """What the window sums that each of some columns (groups, lanes) is part of, the ``number``-th of those
    that there is room for."""
    mine = number[None, :, :] == tl.arange(0, WINDOWS)[:, None, None]
    windows = tl.sum(tl.sum(tl.where(mine, sums[None, :, :], 0.0), 2), 1)
    return tl.sum(tl.where(mine, windows[:, None, None], 0.0), 0)


@triton.jit
def pulled_more(sums, weighted, along, t, bow):
    """Three sums (2, groups, lanes), and what a row adds to them: slopes (2, channels, groups, lanes),
    ``weighted``, times 1, t and t (1 - t)."""
    one, two, three = sums
    pull = tl.sum(weighted[None, :, :, :] * along, 1)
    return one + pull, two + t * pull, three + bow * pull


@triton.jit
def bent_more(sums, here, above, below, m, CHANNELS: tl.constexpr, GROUPS: tl.constexpr):
    """Three sums, and what differences between the pixels on either side add to them in pixels of weight m:
    those along x times themselves, these times those along y, and the latter times themselves. Nothing of the
    outer lanes is right."""
    xx, xy, yy = sums
    lane = tl.arange(0, LANES)[None, None, :] + tl.zeros([CHANNELS, GROUPS, 1], tl.int32)
    gx = tl.gather(here, tl.minimum(lane + 1, LANES - 1), 2) - tl.gather(here, tl.maximum(lane - 1, 0), 2)
    gy = below - above
    weighted_x, weighted_y = m[None, :, :] * gx, m[None, :, :] * gy
    return xx + tl.sum(weighted_x * gx, 0), xy + tl.sum(weighted_x * gy, 0), yy + tl.sum(weighted_y * gy, 0)


@triton.jit
def store_cells(to, step, sums, share, own, ends):
    """What three values (2, groups, lanes) sum over a group's ``own`` columns up to each that ``ends`` those
    behind a patch: as they are, and times s and s (1 - s), of the share s of the way to the next patch, the
    nine of them ``step`` apart."""
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
    """What columns of a line of windows pull at: a, b and c times what ``down`` summed, behind the last of
    its rows of patches, or stored ``apart``."""
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
    """What columns of a line of windows sum: weights, and these times f w, w w, f f, w and f; and slopes
    times f, times w and as they are, behind the last row of patches. Those behind a row before are stored
    ``apart``, and squares of differences, for each row of blocks, as ``bent``."""
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
    for y in range(top - 1, bottom + 1):  # with the rows on either side
        inner = tl.minimum(tl.maximum(y, 0), height - 1)  # beyond the image its last pixels go on
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
        squares = bent_more(
            squares, here, above, value, kept, CHANNELS, GROUPS
        )  # of the row before, which this one is below
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
    """Of ``SIDE`` windows of line ``program_id(1)``, for which ``WINDOWS``, a power of two, has room, the
    similarity, the weight, the weighted loss and its curvature to each pixel; what they pull at; and ``bent``
    (3, rows of blocks, width), which times the curvature and a fourth is the patches' one. What is ``pulled``
    (lines, ``cells``, 18, groups of a line, ``segments``) is, along x and along y, the slope times 1, t and t
    (1 - t), each times 1, s and s (1 - s), for every row and column of patches that pixels lie behind.
    ``moved`` (rows - 1, 6, width) is what ``blend`` makes of patches, and ``apart`` (lines, cells - 1, 18,
    width) room to work in."""
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
    ):  # the variance of small numbers is more exact: less the pixels about where each window begins
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
