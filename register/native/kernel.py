"""The pass of ``expand.c`` for a GPU, in Triton: what windows sum, then what their similarity pulls at.

Programs work on groups of ``LANES`` columns, a few rows at a time. Where differences between neighbours are wanted, a group has a column more on either side.
Axes are channels, rows, groups and lanes.
"""

import triton
import triton.language as tl

FLAT = tl.constexpr(1e-5)  # similarity.FLAT
UNEXPLAINED = tl.constexpr(0.005)  # similarity.UNEXPLAINED
LEAST_BEND = tl.constexpr(0.1)  # similarity.LEAST_BEND
LANES = tl.constexpr(32)
OWN = tl.constexpr(30)
"""Columns of a group, and those of them that are its own."""


@triton.jit
def cell_of(pixel, origin, spacing, count):
    """The patch before a pixel of an axis."""
    return tl.minimum(((pixel - origin) / spacing).to(tl.int32), count - 2)


@triton.jit
def along(moved, cell, width):
    """What ``blend`` found of a row of patches."""
    at = moved + cell * 6 * width
    return tl.load(at), tl.load(at + width), tl.load(at + 2 * width), tl.load(at + 3 * width), tl.load(at + 4 * width), tl.load(at + 5 * width)


@triton.jit
def both(moved, cell, rows, width):
    """The same of a row and of the next one, of which the last row of patches has none."""
    ax, bx, cx, ay, by, cy = along(moved, cell, width)
    dx, ex, fx, dy, ey, fy = along(moved, tl.minimum(cell + 1, rows - 2), width)
    return ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy


@triton.jit
def place(position, count):
    """The pixel before a position on a line of ``count``, the share of the way to the next one, whether the value changes there, and how much of a line of
    ones is seen."""
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
def shown(seen, at, share_x, share_y, stride, wanted):
    """Linear samples of a mask; 1 where none is ``wanted``."""
    one, two = tl.load(seen + at, wanted, 1.0), tl.load(seen + at + 1, wanted, 1.0)
    three, four = tl.load(seen + at + stride, wanted, 1.0), tl.load(seen + at + stride + 1, wanted, 1.0)
    upper, lower = one + share_x * (two - one), three + share_x * (four - three)
    return upper + share_y * (lower - upper)


@triton.jit
def sample(
    moving, seen, partly, weight, y, x, own, from_x, from_y, by_y_x, by_y_y, cell, ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy,
    origin, spacing, width, height, moving_width, moving_height,
):  # fmt: skip
    """Of pixels x (groups, lanes) of rows y, which lie behind row ``cell`` of patches or the next one: the values of the moving image where they meet it
    (channels, rows, groups, lanes), its slopes there, the pixels' weights (rows, groups, lanes), and the rows' share of the way between rows of patches."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)[:, None, None]
    t = (y - origin) / spacing - cell
    first = t < 1
    t = tl.where(first, t, t - 1)
    bow = t * (1 - t)
    a, b, c = tl.where(first, ax[None, :, :], dx[None, :, :]), tl.where(first, bx[None, :, :], ex[None, :, :]), tl.where(first, cx[None, :, :], fx[None, :, :])
    px = from_x[None, :, :] + by_y_x * y + (a + t * b + bow * c)
    a, b, c = tl.where(first, ay[None, :, :], dy[None, :, :]), tl.where(first, by[None, :, :], ey[None, :, :]), tl.where(first, cy[None, :, :], fy[None, :, :])
    py = from_y[None, :, :] + by_y_y * y + (a + t * b + bow * c)
    left, share_x, free_x, seen_x = place(px, moving_width)
    top, share_y, free_y, seen_y = place(py, moving_height)
    corner = tl.max_contiguous(top * moving_width + left, [1, 1, LANES])  # nearly: lanes lie side by side in memory
    m = tl.load(weight + y * width + x[None, :, :]) * seen_x * seen_y * shown(seen, corner, share_x, share_y, moving_width, partly)
    value, along_x, along_y = read(moving + corner[None, :, :, :], share_x[None, :, :, :], share_y[None, :, :, :], moving_width)
    return value, along_x * free_x[None, :, :, :], along_y * free_y[None, :, :, :], tl.where(own, m, 0.0), t


@triton.jit
def near(fixed, moving, matrix, x, y, width, moving_height, moving_width):
    """Values of images of one channel near pixels x (groups, lanes) of row y."""
    px, py = tl.load(matrix) * x + tl.load(matrix + 1) * y + tl.load(matrix + 2), tl.load(matrix + 3) * x + tl.load(matrix + 4) * y + tl.load(matrix + 5)
    left = tl.minimum(tl.maximum(px, 0.0), (moving_width - 1).to(tl.float32)).to(tl.int32)
    top = tl.minimum(tl.maximum(py, 0.0), (moving_height - 1).to(tl.float32)).to(tl.int32)
    f, w = tl.load(fixed + (y * width + x)[None, None, :, :]), tl.load(moving + (top * moving_width + left)[None, None, :, :])
    return tl.sum(tl.sum(f, 0), 0), tl.sum(tl.sum(w, 0), 0)


@triton.jit
def correlation(count, fw, ww, ff, wm, fm, from_f, from_w):
    """As ``similarity.ncc``: the value, a, b and c of its slope, and its curvature."""
    n = tl.maximum(count, 1e-3)
    per_pixel = 2 / tl.maximum(count, 1.0)
    mean_w, mean_f = wm / n, fm / n
    var_w, var_f = tl.maximum(ww / n - mean_w * mean_w, 0.0) + FLAT, tl.maximum(ff / n - mean_f * mean_f, 0.0) + FLAT
    cov = fw / n - mean_f * mean_w
    slope = cov / (var_f * var_w)
    value = cov * slope
    a, b = slope * per_pixel, -value * per_pixel / var_w
    return value, a, b, -a * (mean_f + from_f) - b * (mean_w + from_w), tl.maximum(value, LEAST_BEND) * per_pixel / var_w


@triton.jit
def cosine(count, fw, ww, ff, area):
    """As ``similarity.cosine``."""
    floor = 0.02 * count + 1e-4 * area
    size = 1 / tl.sqrt((ff + floor) * (ww + floor))
    value = fw * size
    return value, size, -value / (ww + floor), tl.zeros_like(value), tl.maximum(value, LEAST_BEND) / (ww + floor)


@triton.jit
def neighbours(values, distance, STEP: tl.constexpr):
    """Of values (channels, rows, groups, lanes) those of the rows ``distance`` further down, 0 where there is none."""
    step = tl.arange(0, STEP)
    taken = (step[:, None] + distance == step[None, :])[None, :, :, None, None]
    return tl.sum(tl.where(taken, values[:, None, :, :, :], 0.0), 2)


@triton.jit
def differences(here, above, below, CHANNELS: tl.constexpr, STEP: tl.constexpr):
    """Between the pixels on either side of each (channels, rows, 1, lanes), along x and along y, with the rows above and below; nothing of the outer lanes."""
    step, lane = tl.arange(0, STEP)[None, :, None, None], tl.arange(0, LANES)[None, None, None, :] + tl.zeros([CHANNELS, STEP, 1, LANES], tl.int32)
    gx = tl.gather(here, tl.minimum(lane + 1, LANES - 1), 3) - tl.gather(here, tl.maximum(lane - 1, 0), 3)
    return gx, tl.where(step == STEP - 1, below, neighbours(here, 1, STEP)) - tl.where(step == 0, above, neighbours(here, -1, STEP))


@triton.jit
def to_windows(sums, local, first, window, SPANS: tl.constexpr):
    """What windows (n,) sum of columns (groups, lanes): ``local`` (columns) counts up to ``SPANS`` windows from the ``first`` one of their group."""
    spans = tl.arange(0, SPANS)
    each = tl.sum(tl.where(local[None, :, :] == spans[:, None, None], sums[None, :, :], 0.0), 2)  # (spans, groups)
    number = first[None, :] + spans[:, None]
    return tl.sum(tl.sum(tl.where(number[None, :, :] == window[:, None, None], each[None, :, :], 0.0), 2), 1)


@triton.jit
def store_windows(values, weights, losses, derivatives, step, share, value, a, b, c, bend, there):
    """The similarity of windows, their weight, their weighted loss, and its derivatives, ``step`` apart, from those of the similarity."""
    unexplained = tl.maximum(1 - value, 0.0) + UNEXPLAINED
    steep = share / unexplained
    tl.store(values, value, there)
    tl.store(weights, share, there)
    tl.store(losses, tl.log(unexplained / (1 + UNEXPLAINED)) * share, there)
    tl.store(derivatives, -a * steep, there)
    tl.store(derivatives + step, -b * steep, there)
    tl.store(derivatives + 2 * step, -c * steep, there)
    tl.store(derivatives + 3 * step, bend * steep, there)


@triton.jit
def pulled_more(x0, x1, x2, y0, y1, y2, slope_x, slope_y, t, mine):
    """Six sums of a row of patches, and what rows of pixels that are ``mine`` add to them: slopes along x and y times 1, t and t (1 - t)."""
    one, two, three = tl.where(mine, 1.0, 0.0), tl.where(mine, t, 0.0), tl.where(mine, t * (1 - t), 0.0)
    x0, x1, x2 = x0 + tl.sum(one * slope_x, 0), x1 + tl.sum(two * slope_x, 0), x2 + tl.sum(three * slope_x, 0)
    return x0, x1, x2, y0 + tl.sum(one * slope_y, 0), y1 + tl.sum(two * slope_y, 0), y2 + tl.sum(three * slope_y, 0)


@triton.jit
def bent_more(xx, xy, yy, gx, gy, m):
    """Three sums of a row of blocks, and what differences between neighbours add to them in pixels of weight m."""
    return xx + tl.sum(m * tl.sum(gx * gx, 0), 0), xy + tl.sum(m * tl.sum(gx * gy, 0), 0), yy + tl.sum(m * tl.sum(gy * gy, 0), 0)


@triton.jit
def store_bent(to, step, xx, xy, yy, bend, there):
    """Three values times one, ``step`` apart."""
    tl.store(to, xx * bend, there)
    tl.store(to + step, xy * bend, there)
    tl.store(to + 2 * step, yy * bend, there)


@triton.jit
def store_pulled(to, step, x0, x1, x2, y0, y1, y2, there):
    """Six values, ``step`` apart."""
    tl.store(to, x0, there)
    tl.store(to + step, x1, there)
    tl.store(to + 2 * step, x2, there)
    tl.store(to + 3 * step, y0, there)
    tl.store(to + 4 * step, y1, there)
    tl.store(to + 5 * step, y2, there)


@triton.jit(do_not_specialize=["width", "height", "moving_width", "moving_height", "rows"])
def compare(
    fixed, weight, moving, seen, wholly, matrix, moved, values, weights, losses, derivatives,
    origin, spacing, width, height, moving_width, moving_height, rows,
    CHANNELS: tl.constexpr, WINDOW: tl.constexpr, STEP: tl.constexpr, COSINE: tl.constexpr,
    GROUPS: tl.constexpr, SIDE: tl.constexpr, WINDOWS: tl.constexpr, SPANS: tl.constexpr,
):  # fmt: skip
    """Of ``SIDE`` windows of line ``program_id(1)``, the similarity, the weight, the weighted loss, and ``derivatives`` (4, n): a, b and c of the loss's slope
    a f + b w + c to the warped pixels w, and its curvature. ``WINDOWS``, a power of two, can hold ``SIDE``, and ``SPANS`` the windows that a group of columns
    is part of. ``moved`` (rows - 1, 6, width) is what ``blend`` makes of patches. ``STEP`` rows are worked on at a time."""
    line, first = tl.program_id(1), tl.program_id(0) * SIDE
    group = tl.arange(0, GROUPS)
    column = group[:, None] * LANES + tl.arange(0, LANES)[None, :]
    number = column // WINDOW
    x = first * WINDOW + column
    own = (column < SIDE * WINDOW) & (x < width)
    x = tl.max_contiguous(tl.minimum(x, width - 1), [1, LANES])
    top = line * WINDOW
    bottom = tl.minimum(top + WINDOW, height)
    channel, step = tl.arange(0, CHANNELS)[:, None, None, None], tl.arange(0, STEP)
    fixed += channel * height * width
    moving += channel * moving_height * moving_width
    moved += x
    partly = tl.load(wholly) == 0
    xy, yy = tl.load(matrix + 1), tl.load(matrix + 4)
    from_x, from_y = tl.load(matrix) * x + tl.load(matrix + 2), tl.load(matrix + 3) * x + tl.load(matrix + 5)
    empty, none = tl.zeros([GROUPS, LANES], tl.float32), tl.zeros([CHANNELS, GROUPS, LANES], tl.float32)
    cell = -1
    ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy = empty, empty, empty, empty, empty, empty, empty, empty, empty, empty, empty, empty

    from_f, from_w = empty, empty
    if not COSINE:  # the variance of small numbers is more exact: less the pixels about where each window begins
        begin = tl.minimum((first + number) * WINDOW, width - 1)
        from_f, from_w = near(fixed, moving, matrix, begin, top, width, moving_height, moving_width)

    count, fw, ww, ff, wm, fm = empty, none, none, none, none, none
    for begin_y in range(top, bottom, STEP):
        now = cell_of(tl.minimum(begin_y, bottom - 1), origin, spacing, rows)
        if now != cell:
            cell = now
            ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy = both(moved, cell, rows, width)
        y = begin_y + step
        w, unused_x, unused_y, m, t = sample(
            moving, seen, partly, weight, y, x, own[None, :, :] & (y < bottom)[:, None, None], from_x, from_y, xy, yy, cell,
            ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy, origin, spacing, width, height, moving_width, moving_height,
        )  # fmt: skip
        f = tl.load(fixed + (tl.minimum(y, height - 1)[:, None, None] * width + x[None, :, :])[None, :, :, :])
        if not COSINE:
            w, f = w - from_w[None, None, :, :], f - from_f[None, None, :, :]
        weighted, other = m[None, :, :, :] * w, m[None, :, :, :] * f
        count += tl.sum(m, 0)
        fw += tl.sum(weighted * f, 1)
        ww += tl.sum(weighted * w, 1)
        ff += tl.sum(other * f, 1)
        if not COSINE:
            wm += tl.sum(weighted, 1)
            fm += tl.sum(other, 1)

    window, local, left = tl.arange(0, WINDOWS), number - group[:, None] * LANES // WINDOW, group * LANES // WINDOW
    count = to_windows(count, local, left, window, SPANS)
    fw, ww = to_windows(tl.sum(fw, 0), local, left, window, SPANS), to_windows(tl.sum(ww, 0), local, left, window, SPANS)
    ff = to_windows(tl.sum(ff, 0), local, left, window, SPANS)
    if COSINE:
        value, a, b, c, bend = cosine(count, fw, ww, ff, WINDOW * WINDOW)
    else:
        start = ((column == number * WINDOW) & (column < SIDE * WINDOW)).to(tl.float32)  # one column of each window
        value, a, b, c, bend = correlation(
            count, fw, ww, ff, to_windows(tl.sum(wm, 0), local, left, window, SPANS), to_windows(tl.sum(fm, 0), local, left, window, SPANS),
            to_windows(start * from_f, local, left, window, SPANS), to_windows(start * from_w, local, left, window, SPANS),
        )  # fmt: skip
    per_line = (width + WINDOW - 1) // WINDOW
    at, there, windows = line * per_line + first + window, (window < SIDE) & (first + window < per_line), (height + WINDOW - 1) // WINDOW * per_line
    store_windows(values + at, weights + at, losses + at, derivatives + at, windows, count / (WINDOW * WINDOW), value, a, b, c, bend, there)


@triton.jit(do_not_specialize=["width", "height", "moving_width", "moving_height", "rows", "cells"])
def pull(
    fixed, weight, moving, seen, wholly, matrix, moved, derivatives, pulled, bent,
    origin, spacing, width, height, moving_width, moving_height, rows, cells,
    CHANNELS: tl.constexpr, WINDOW: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    """What some columns of line ``program_id(1)`` of windows pull at, from the ``derivatives`` of ``compare``: per row of blocks, in each column, the curvature
    xx, xy and yy; and, along x and along y, the slope times 1, t and t (1 - t), apart for each row of patches that the line lies behind: (lines, ``cells``, 6,
    width). ``STEP`` rows are worked on at a time, no more than a block has. What belongs to the next row of blocks or of patches already is kept apart."""
    line, lane = tl.program_id(1), tl.arange(0, LANES)[None, :]
    x = tl.program_id(0) * OWN + lane - 1
    own = (lane >= 1) & (lane <= OWN) & (x < width)
    x = tl.max_contiguous(tl.minimum(tl.maximum(x, 0), width - 1), [1, LANES])  # beyond the image its last pixels go on
    top, bottom = line * WINDOW, tl.minimum(line * WINDOW + WINDOW, height)
    channel, step = tl.arange(0, CHANNELS)[:, None, None, None], tl.arange(0, STEP)
    fixed, moving, moved = fixed + channel * height * width, moving + channel * moving_height * moving_width, moved + x
    bent, pulled = bent + x, pulled + line * cells * 6 * width + x
    partly = tl.load(wholly) == 0
    xy, yy = tl.load(matrix + 1), tl.load(matrix + 4)
    from_x, from_y = tl.load(matrix) * x + tl.load(matrix + 2), tl.load(matrix + 3) * x + tl.load(matrix + 5)
    empty = tl.zeros([1, LANES], tl.float32)
    per_line = (width + WINDOW - 1) // WINDOW
    windows, at = (height + WINDOW - 1) // WINDOW * per_line, derivatives + line * per_line + x // WINDOW
    a, b, c = tl.load(at)[None, None, :, :], tl.load(at + windows)[None, None, :, :], tl.load(at + 2 * windows)[None, None, :, :]
    bend = tl.load(at + 3 * windows) * 0.25

    blocks_apart = (height + BLOCK - 1) // BLOCK * width
    first_cell = cell_of(top, origin, spacing, rows)
    piece, number = first_cell, top // BLOCK
    bent_xx, bent_xy, bent_yy, next_xx, next_xy, next_yy = empty, empty, empty, empty + 0, empty + 0, empty + 0
    x0, x1, x2, y0, y1, y2 = empty, empty, empty, empty, empty, empty
    next_x0, next_x1, next_x2, next_y0, next_y1, next_y2 = empty + 0, empty + 0, empty + 0, empty + 0, empty + 0, empty + 0
    above, cell = tl.zeros([CHANNELS, 1, LANES], tl.float32), -1
    ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy = empty, empty, empty, empty, empty, empty, empty, empty, empty, empty, empty, empty
    for begin_y in range(top - STEP, bottom, STEP):  # the first time round finds the row above
        now = cell_of(tl.minimum(tl.maximum(begin_y, 0), bottom - 1), origin, spacing, rows)
        if now != cell:
            cell = now
            ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy = both(moved, cell, rows, width)
        y = begin_y + step
        here, along_x, along_y, m, t = sample(
            moving, seen, partly, weight, y, x, own[None, :, :] & ((y >= top) & (y < bottom))[:, None, None], from_x, from_y, xy, yy, cell,
            ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy, origin, spacing, width, height, moving_width, moving_height,
        )  # fmt: skip
        below, unused_x, unused_y, unused_m, unused_t = sample(
            moving, seen, partly, weight, begin_y + STEP + tl.arange(0, 1), x, own[None, :, :], from_x, from_y, xy, yy, cell,
            ax, bx, cx, ay, by, cy, dx, ex, fx, dy, ey, fy, origin, spacing, width, height, moving_width, moving_height,
        )  # fmt: skip
        rows_ = tl.minimum(tl.maximum(y, 0), height - 1)
        slope = a * tl.load(fixed + (rows_[:, None, None] * width + x[None, :, :])[None, :, :, :]) + b * here + c
        slope_x, slope_y = tl.sum(slope * along_x, 0) * m, tl.sum(slope * along_y, 0) * m
        mine = (cell_of(rows_, origin, spacing, rows) == piece)[:, None, None]
        x0, x1, x2, y0, y1, y2 = pulled_more(x0, x1, x2, y0, y1, y2, slope_x, slope_y, t, mine)
        next_x0, next_x1, next_x2, next_y0, next_y1, next_y2 = pulled_more(next_x0, next_x1, next_x2, next_y0, next_y1, next_y2, slope_x, slope_y, t, mine == 0)
        gx, gy = differences(here, above[:, None, :, :], below, CHANNELS, STEP)
        mine = (y // BLOCK == number)[:, None, None]
        bent_xx, bent_xy, bent_yy = bent_more(bent_xx, bent_xy, bent_yy, gx, gy, tl.where(mine, m, 0.0))
        next_xx, next_xy, next_yy = bent_more(next_xx, next_xy, next_yy, gx, gy, tl.where(mine, 0.0, m))
        above = tl.sum(tl.where((step == STEP - 1)[None, :, None, None], here, 0.0), 1)

        if begin_y >= top:
            end = tl.minimum(begin_y + STEP, bottom)
            done, following = end == bottom, end // BLOCK
            if (following != number) | done:
                store_bent(bent + number * width, blocks_apart, bent_xx, bent_xy, bent_yy, bend, own)
                if done & ((end - 1) // BLOCK != number):
                    store_bent(bent + (number + 1) * width, blocks_apart, next_xx, next_xy, next_yy, bend, own)
                number = following
                bent_xx, bent_xy, bent_yy, next_xx, next_xy, next_yy = next_xx, next_xy, next_yy, empty + 0, empty + 0, empty + 0
            last = cell_of(end - 1, origin, spacing, rows)
            if (last != piece) | done:
                store_pulled(pulled + (piece - first_cell) * 6 * width, width, x0, x1, x2, y0, y1, y2, own)
                if done & (last != piece):
                    store_pulled(pulled + (last - first_cell) * 6 * width, width, next_x0, next_x1, next_x2, next_y0, next_y1, next_y2, own)
                piece = last
                x0, x1, x2, y0, y1, y2 = next_x0, next_x1, next_x2, next_y0, next_y1, next_y2
                next_x0, next_x1, next_x2, next_y0, next_y1, next_y2 = empty + 0, empty + 0, empty + 0, empty + 0, empty + 0, empty + 0
