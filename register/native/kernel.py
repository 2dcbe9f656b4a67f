"""The pass of ``expand.c`` for a GPU, in Triton: some windows side by side are one program, and a row of each is worked on at once.

A window's row has a pixel more on either side, which its neighbours' differences need. Rows are read twice: once for what windows sum, once, from the cache,
for what their similarity pulls at.
"""

import triton
import triton.language as tl

FLAT = tl.constexpr(1e-5)  # similarity.FLAT
UNEXPLAINED = tl.constexpr(0.005)  # similarity.UNEXPLAINED
LEAST_BEND = tl.constexpr(0.1)  # similarity.LEAST_BEND


@triton.jit
def points(along, cells, shares, matrix, x, y, width, rows):
    """The points of the moving image that pixels x of row y meet. ``along`` (2, 2 rows, width) holds, for each component, the displacement at every row of
    patches and then its weighted slope along y."""
    row, t = tl.load(cells + y), tl.load(shares + y)
    at = along + row * width + x
    bow = rows * width
    upper, lower = tl.load(at), tl.load(at + width)
    move_x = upper + t * (lower - upper) + t * (1 - t) * (tl.load(at + bow) - tl.load(at + bow + width))
    at += 2 * bow
    upper, lower = tl.load(at), tl.load(at + width)
    move_y = upper + t * (lower - upper) + t * (1 - t) * (tl.load(at + bow) - tl.load(at + bow + width))
    px = tl.load(matrix) * x + (tl.load(matrix + 1) * y + tl.load(matrix + 2)) + move_x
    py = tl.load(matrix + 3) * x + (tl.load(matrix + 4) * y + tl.load(matrix + 5)) + move_y
    return px, py, t


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
def read(image, corner, share_x, share_y, stride):
    """Linear samples, and their slopes along x and y."""
    one, two = tl.load(image + corner), tl.load(image + corner + 1)
    three, four = tl.load(image + corner + stride), tl.load(image + corner + stride + 1)
    above, below = two - one, four - three
    upper, lower = one + share_x * above, three + share_x * below
    return upper + share_y * (lower - upper), above + share_y * (below - above), lower - upper


@triton.jit
def value_of(image, corner, share_x, share_y, stride):
    """Linear samples alone."""
    value, along_x, along_y = read(image, corner, share_x, share_y, stride)
    return value


@triton.jit
def meet(seen, weight, along, cells, shares, matrix, x, y, own, width, rows, moving_width, moving_height):
    """Of pixels x of row y: the first of the four pixels of the moving image around their points, the shares of the way to the others, where the value changes,
    the pixels' weights, and the share of the way between rows of patches."""
    px, py, t = points(along, cells, shares, matrix, x, y, width, rows)
    left, share_x, free_x, seen_x = place(px, moving_width)
    top, share_y, free_y, seen_y = place(py, moving_height)
    corner = top * moving_width + left
    shown = value_of(seen, corner, share_x, share_y, moving_width)
    m = tl.where(own, tl.load(weight + y * width + x) * shown * seen_x * seen_y, 0.0)
    return corner, share_x, share_y, free_x, free_y, m, t


@triton.jit
def sample(image, seen, weight, along, cells, shares, matrix, x, y, own, width, rows, moving_width, moving_height):
    """Of pixels x of row y: the value of the moving image where they meet it, its slopes there, the pixels' weights, and the share between rows of patches."""
    corner, share_x, share_y, free_x, free_y, m, t = meet(seen, weight, along, cells, shares, matrix, x, y, own, width, rows, moving_width, moving_height)
    value, along_x, along_y = read(image, corner, share_x, share_y, moving_width)
    return value, along_x * free_x, along_y * free_y, m, t


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
def sums(
    fixed, moving, seen, weight, along, cells, shares, matrix, x, own, top, bottom, from_f, from_w, width, height, rows, moving_width, moving_height,
    CHANNELS: tl.constexpr, SIDE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """What windows sum of both images less ``from_f`` and ``from_w``: the weights, and weighted products and values."""
    count, fw, ww = tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32)
    ff, wm, fm = tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32)
    for y in range(top, bottom):
        corner, share_x, share_y, free_x, free_y, m, t = meet(seen, weight, along, cells, shares, matrix, x, y, own, width, rows, moving_width, moving_height)
        count += m
        for c in range(CHANNELS):
            w = value_of(moving + c * moving_height * moving_width, corner, share_x, share_y, moving_width) - from_w
            f = tl.load(fixed + (c * height + y) * width + x) - from_f
            fw += m * w * f
            ww += m * w * w
            ff += m * f * f
            wm += m * w
            fm += m * f
    return (
        tl.sum(count, 1)[:, None],
        tl.sum(fw, 1)[:, None],
        tl.sum(ww, 1)[:, None],
        tl.sum(ff, 1)[:, None],
        tl.sum(wm, 1)[:, None],
        tl.sum(fm, 1)[:, None],
    )


@triton.jit
def store(out, step, one, two, three, there, add):
    """Stores three values ``step`` apart, added to what is there where ``add`` says so."""
    tl.store(out, one + tl.load(out, add, 0.0), there)
    tl.store(out + step, two + tl.load(out + step, add, 0.0), there)
    tl.store(out + 2 * step, three + tl.load(out + 2 * step, add, 0.0), there)


@triton.jit
def pull(
    fixed, moving, seen, weight, along, cells, shares, matrix, pieces, first_piece, end_piece, pulled, bent, a, b, c, bend, x, lane, own, add, top, bottom,
    width, height, rows, moving_width, moving_height, block,
    SIDE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """What one channel pulls at the columns of each piece, and its curvature in the columns of each row of blocks; rows come one by one, each known before the
    one above it is worked on."""
    before_lane, after_lane = tl.maximum(lane - 1, 0), tl.minimum(lane + 1, LANES - 1)
    blocks_apart = (height + block - 1) // block * width
    row = tl.maximum(top - 1, 0)
    before, _, _, _, _ = sample(moving, seen, weight, along, cells, shares, matrix, x, row, own, width, rows, moving_width, moving_height)
    here, along_x, along_y, m, t = sample(moving, seen, weight, along, cells, shares, matrix, x, top, own, width, rows, moving_width, moving_height)
    xx, xy, yy = tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32)
    for piece in range(first_piece, end_piece):
        x0, x1, x2 = tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32)
        y0, y1, y2 = tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32)
        for y in range(tl.load(pieces + piece), tl.load(pieces + piece + 1)):
            row = tl.minimum(y + 1, height - 1)
            after, next_x, next_y, next_m, next_t = sample(
                moving, seen, weight, along, cells, shares, matrix, x, row, own, width, rows, moving_width, moving_height
            )
            slope = (a * tl.load(fixed + y * width + x) + b * here + c) * m
            slope_x, slope_y, bow = slope * along_x, slope * along_y, t * (1 - t)
            x0 += slope_x
            x1 += t * slope_x
            x2 += bow * slope_x
            y0 += slope_y
            y1 += t * slope_y
            y2 += bow * slope_y
            gx, gy = 0.5 * (tl.gather(here, after_lane, 1) - tl.gather(here, before_lane, 1)), 0.5 * (after - before)
            xx += m * gx * gx
            xy += m * gx * gy
            yy += m * gy * gy
            if ((y + 1) % block == 0) | (y + 1 == bottom):
                store(bent + y // block * width + x, blocks_apart, xx * bend, xy * bend, yy * bend, own, add)
                xx, xy, yy = tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32), tl.zeros([SIDE, LANES], tl.float32)
            before, here, along_x, along_y, m, t = here, after, next_x, next_y, next_m, next_t
        store(pulled + piece * 6 * width + x, width, x0, x1, x2, own, add)
        store(pulled + (piece * 6 + 3) * width + x, width, y0, y1, y2, own, add)


@triton.jit
def expand(
    fixed, weight, moving, seen, matrix, along, cells, shares, pieces, firsts, values, weights, losses, pulled, bent,
    width, height, moving_width, moving_height, rows, block,
    CHANNELS: tl.constexpr, WINDOW: tl.constexpr, COSINE: tl.constexpr, SIDE: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """``SIDE`` windows of line ``program_id(1)``. Pieces are rows of one line behind the same row of patches; ``firsts`` says which is the first of each line.

    Out: per window its value, weight and weighted loss; per piece, in each column, what is pulled along x and along y, times 1, t and t (1 - t); per row of
    blocks, in each column, the curvature xx, xy and yy.
    """
    line = tl.program_id(1)
    number = tl.program_id(0) * SIDE + tl.arange(0, SIDE)[:, None]
    lane = tl.arange(0, LANES)[None, :] + number * 0
    x = number * WINDOW + lane - 1
    own = (lane >= 1) & (lane <= WINDOW) & (x < width)
    x = tl.minimum(tl.maximum(x, 0), width - 1)  # beyond the image its last pixels go on
    top = line * WINDOW
    bottom = tl.minimum(top + WINDOW, height)

    from_f, from_w = tl.zeros([SIDE, 1], tl.float32), tl.zeros([SIDE, 1], tl.float32)
    if not COSINE:  # the variance of small numbers is more exact
        begin = tl.minimum(number * WINDOW, width - 1)
        from_f = tl.load(fixed + top * width + begin)
        from_w, _, _, _, _ = sample(moving, seen, weight, along, cells, shares, matrix, begin, top, begin >= 0, width, rows, moving_width, moving_height)
    count, fw, ww, ff, wm, fm = sums(
        fixed, moving, seen, weight, along, cells, shares, matrix, x, own, top, bottom, from_f, from_w, width, height, rows, moving_width, moving_height,
        CHANNELS, SIDE, LANES,
    )  # fmt: skip
    if COSINE:
        value, a, b, c, bend = cosine(count, fw, ww, ff, WINDOW * WINDOW)
    else:
        value, a, b, c, bend = correlation(count, fw, ww, ff, wm, fm, from_f, from_w)
    share, unexplained = count / (WINDOW * WINDOW), tl.maximum(1 - value, 0.0) + UNEXPLAINED
    per_line = (width + WINDOW - 1) // WINDOW
    at, there = line * per_line + number, number < per_line
    tl.store(values + at, value, there)
    tl.store(weights + at, share, there)
    tl.store(losses + at, tl.log(unexplained / (1 + UNEXPLAINED)) * share, there)
    steep = share / unexplained
    a, b, c, bend = -a * steep, -b * steep, -c * steep, bend * steep
    for channel in range(CHANNELS):
        pull(
            fixed + channel * height * width, moving + channel * moving_height * moving_width, seen, weight, along, cells, shares, matrix,
            pieces, tl.load(firsts + line), tl.load(firsts + line + 1), pulled, bent, a, b, c, bend, x, lane, own, own & (channel > 0), top, bottom,
            width, height, rows, moving_width, moving_height, block, SIDE, LANES,
        )  # fmt: skip
