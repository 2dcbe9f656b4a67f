"""The damped Gauss-Newton step of patches on a GPU, in Triton.

``make`` computes the stencil (sparse matrix) of a curvature, ``solve`` runs all iterations of conjugate
gradients in one kernel, ``bend`` computes the gradient of the smoothness penalty.

Vectors are (patches, 8): four numbers for each of two components, of which the last is unused, so that the
numbers of a patch are read at once. A stencil (patches, 9, 3, 3, 4) has, for each patch, the nine patches
around it including itself, the other patch's three functions, the patch's own three functions, and the
components xx, xy and yy, the matrix entries between them. ``ties`` are the coefficients of the smoothness
penalty, which are constant: those of a patch with itself and with the next one of a line.
"""

import triton
import triton.language as tl

NUMBERS = tl.constexpr(8)
BLOCK = tl.constexpr(36)
"""Floats of a patch's stencil for one of the patches around it."""
LINES = tl.constexpr(8)
"""Rows of a curvature that are summed at once."""
SIZES = ["rows", "columns", "height", "width"]


@triton.jit
def functions(cell, share, patch):
    """The weight of a patch and its weighted offset in a cell, at ``share`` of the way through it. The patch
    is at one end of the cell."""
    bow = share * (1 - share)
    before = cell == patch
    return tl.where(before, 1 - share, share), tl.where(before, bow, -bow)


@triton.jit
def tie(ties, one, other, step, number, count, there):
    """The penalty's coefficient of function ``one`` of patch ``number`` of a line with function ``other`` of
    the patch ``step`` further, from ``ties`` (2, 2, 2, count)."""
    kind = tl.where(step == 0, 0, 4) + tl.where(step < 0, 2 * other + one, 2 * one + other)
    return tl.load(ties + kind * count + number + tl.minimum(step, 0), there, 0.0)


@triton.jit
def with_ties(mixed, other, same, ties, step, number, count, there):
    """Matrix entries (N, 4) of functions 0 1, 1 0 and 1 1 of an axis plus the penalty's coefficients, which
    are the same for xx and yy and 0 for xy."""
    straight = tl.arange(0, 4)[None, :] != 1
    mixed += tl.where(straight, tie(ties, 0, 1, step, number, count, there)[:, None], 0.0)
    other += tl.where(straight, tie(ties, 1, 0, step, number, count, there)[:, None], 0.0)
    same += tl.where(straight, tie(ties, 1, 1, step, number, count, there)[:, None], 0.0)
    return mixed, other, same


@triton.jit
def store_tied(stencil, patch, around, tied, there):
    """Store the matrix entries ``tied`` (3 functions of the patch, 3 of the other one) of patches with the
    patch number ``around`` them."""
    kind = tl.arange(0, 4)[None, :]
    at, known = stencil + (patch[:, None] * 9 + around) * BLOCK + kind * 4, there[:, None] & (kind < 3)
    for one in tl.static_range(3):
        for other in tl.static_range(3):
            tl.store(at + 12 * other + one, tied[one][other], known)


@triton.jit(do_not_specialize=SIZES)
def make(
    curvature, cell_y, share_y, first_y, cell_x, share_x, first_x, ties_y, ties_x, damping, stencil,
    counter, rows, columns, height, width, N: tl.constexpr
):  # fmt: skip
    """The stencil of a curvature (3, height, width), with the smoothness penalty and the damping.

    ``program_id(1)`` selects the patch itself or one of the four neighbours after it; for a neighbour the
    transposed block is stored as well. Entries of neighbours outside the grid are not written.
    """
    around = 4 + tl.program_id(1)
    down, right = around // 3 - 1, around % 3 - 1
    patch = tl.program_id(0) * N + tl.arange(0, N)
    count, i, j = rows * columns, patch // columns, patch % columns
    there = (patch < count) & (i + down >= 0) & (i + down < rows) & (j + right >= 0) & (j + right < columns)
    if (tl.program_id(0) == 0) & (around == 4):
        tl.store(counter, 0)

    begin_y, end_y = (
        tl.load(first_y + tl.where(down > 0, i + 1, i), there, 0),
        tl.load(first_y + tl.where(down < 0, i + 1, i + 2), there, 0),
    )
    begin_x, end_x = (
        tl.load(first_x + tl.where(right > 0, j + 1, j), there, 0),
        tl.load(first_x + tl.where(right < 0, j + 1, j + 2), there, 0),
    )
    kind = tl.arange(0, 4)[None, :]
    none, empty = tl.zeros([N, 4], tl.float32), tl.zeros([N, LINES, 4], tl.float32)
    s00, s01, s02, s10, s11, s12, s20, s21, s22 = none, none, none, none, none, none, none, none, none
    for step_y in range(0, tl.max(end_y - begin_y, 0), LINES):
        y = begin_y[:, None] + step_y + tl.arange(0, LINES)[None, :]
        inside_y = y < end_y[:, None]
        y = tl.max_contiguous(y, [1, LINES])
        cell, share = tl.load(cell_y + y, inside_y, 0), tl.load(share_y + y, inside_y, 0.0)
        own_weight, own_offset = functions(cell, share, i[:, None])
        weight, offset = functions(cell, share, (i + down)[:, None])
        ww, wo, ow, oo = empty, empty, empty, empty
        for step_x in range(tl.max(end_x - begin_x, 0)):
            x, inside_x = begin_x + step_x, begin_x + step_x < end_x
            left, part = tl.load(cell_x + x, inside_x, 0), tl.load(share_x + x, inside_x, 0.0)
            known = (inside_y & inside_x[:, None])[:, :, None] & (kind < 3)[None, :, :]
            at = tl.max_contiguous(
                (kind[None, :, :] * height + y[:, :, None]) * width + x[:, None, None], [1, LINES, 1]
            )
            bent = tl.load(curvature + at, known, 0.0)
            one, two = functions(left, part, j)
            three, four = functions(left, part, j + right)
            ww += bent * (one * three)[:, None, None]
            wo += bent * (one * four)[:, None, None]
            ow += bent * (two * three)[:, None, None]
            oo += bent * (two * four)[:, None, None]
        both = (own_weight * weight)[:, :, None]
        s00 += tl.sum(ww * both, 1)
        s01 += tl.sum(wo * both, 1)
        s10 += tl.sum(ow * both, 1)
        s11 += tl.sum(oo * both, 1)
        s02 += tl.sum(ww * (own_weight * offset)[:, :, None], 1)
        s12 += tl.sum(ow * (own_weight * offset)[:, :, None], 1)
        s20 += tl.sum(ww * (own_offset * weight)[:, :, None], 1)
        s21 += tl.sum(wo * (own_offset * weight)[:, :, None], 1)
        s22 += tl.sum(ww * (own_offset * offset)[:, :, None], 1)

    straight = kind != 1  # the penalty has no xy
    across, along = (
        there & (down == 0),
        there & (right == 0),
    )  # the penalty couples displacements along both axes, and gradients along their own axis
    s00 += tl.where(
        straight,
        (tie(ties_x, 0, 0, right, j, columns, across) + tie(ties_y, 0, 0, down, i, rows, along))[:, None],
        0.0,
    )
    s01, s10, s11 = with_ties(s01, s10, s11, ties_x, right, j, columns, across)
    s02, s20, s22 = with_ties(s02, s20, s22, ties_y, down, i, rows, along)
    if around == 4:
        more, least = (
            tl.where(straight, 1 + tl.load(damping + patch, there, 0.0)[:, None], 1.0),
            tl.where(straight, 1e-9, 0.0),
        )
        s00, s11, s22 = s00 * more + least, s11 * more + least, s22 * more + least
    store_tied(stencil, patch, around, ((s00, s01, s02), (s10, s11, s12), (s20, s21, s22)), there)
    if around != 4:
        store_tied(
            stencil,
            patch + down * columns + right,
            8 - around,
            ((s00, s10, s20), (s01, s11, s21), (s02, s12, s22)),
            there,
        )


@triton.jit
def inverse(stencil, patch, count):
    """The inverses (N, 8, 8) of the patches' own blocks, by elimination; unused numbers have rows of the
    identity."""
    i, j = tl.arange(0, NUMBERS)[None, :, None], tl.arange(0, NUMBERS)[None, None, :]
    there = (patch < count)[:, None, None] & (i % 4 < 3) & (j % 4 < 3)
    at = stencil + (patch[:, None, None] * 9 + 4) * BLOCK + (j % 4) * 12 + (i // 4 + j // 4) * 4 + i % 4
    matrix = tl.load(at, there, 0.0) + tl.where(there | (i != j), 0.0, 1.0)
    for k in range(NUMBERS):
        row = tl.sum(tl.where(i == k, matrix, 0.0), 1)[:, None, :]
        column = tl.sum(tl.where(j == k, matrix, 0.0), 2)[:, :, None]
        pivot = 1 / tl.sum(tl.where(j == k, row, 0.0), 2)[:, :, None]
        matrix = tl.where(i == k, row, tl.where(j == k, -column, matrix - column * row * pivot))
        matrix = tl.where((i == k) | (j == k), matrix * pivot, matrix)
        matrix = tl.where((i == k) & (j == k), pivot, matrix)
    return matrix


@triton.jit
def wait(counter, round):
    """Wait until all programs have called this ``round`` times; what they stored before is then visible to
    all."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release")
    while tl.atomic_add(counter, 0, sem="acquire") < round * tl.num_programs(0):
        pass
    tl.debug_barrier()


@triton.jit
def precondition(inverses, vector, patch, number, there, N: tl.constexpr):
    """The inverses times a vector (N, 8)."""
    found = tl.zeros([N, NUMBERS], tl.float32)
    for k in tl.static_range(NUMBERS):
        if k % 4 < 3:
            found += (
                tl.load(inverses + patch[:, None] * 64 + k * NUMBERS + number, there, 0.0)
                * tl.sum(tl.where(number == k, vector, 0.0), 1)[:, None]
            )
    return found


@triton.jit
def times(stencil, vector, patch, number, there, rows, columns, N: tl.constexpr):
    """The stencil times a vector in memory, for some patches (N, 8)."""
    i, j = patch // columns, patch % columns
    found = tl.zeros([N, NUMBERS], tl.float32)
    for down in range(-1, 2):
        for right in tl.static_range(-1, 2):
            known = (i + down >= 0) & (i + down < rows) & (j + right >= 0) & (j + right < columns)
            near = vector + (patch + down * columns + right) * NUMBERS
            at = stencil + (patch[:, None] * 9 + (down * 3 + right + 4)) * BLOCK + number
            for function in tl.static_range(3):
                one, two = (
                    tl.load(near + function, known, 0.0)[:, None],
                    tl.load(near + 4 + function, known, 0.0)[:, None],
                )
                found += (
                    tl.load(at + function * 12, there, 0.0) * one
                    + tl.load(at + function * 12 + 4, there, 0.0) * two
                )
    return found


@triton.jit
def dot(shares, programs, PROGRAMS: tl.constexpr):
    """The sum of the numbers of all programs."""
    each = tl.arange(0, PROGRAMS)
    return tl.sum(tl.load(shares + each, each < programs, 0.0, cache_modifier=".cg"), 0)


@triton.jit
def begin(stencil, right, inverses, vectors, patch, number, count, N: tl.constexpr):
    """The start of conjugate gradients for some patches: their inverses, the vectors r, u, w, z, q, s, p and
    x, and a copy of u that other programs read."""
    there, full = (patch < count)[:, None] & (number >= 0), number % 4 < 3
    i, j = tl.arange(0, NUMBERS)[None, :, None], tl.arange(0, NUMBERS)[None, None, :]
    known = (patch < count)[:, None, None] & (i + j >= 0)
    tl.store(
        inverses + (patch[:, None, None] * NUMBERS + i) * NUMBERS + j, inverse(stencil, patch, count), known
    )
    tl.debug_barrier()
    r = tl.load(right + (number // 4 * 3 + number % 4) * count + patch[:, None], there & full, 0.0)
    u = precondition(inverses, r, patch, number, there, N)
    at, size = vectors + patch[:, None] * NUMBERS + number, count * NUMBERS
    tl.store(at, r, there)
    tl.store(at + size, u, there)
    for k in tl.static_range(2, 8):
        tl.store(at + k * size, tl.zeros([N, NUMBERS], tl.float32), there)
    tl.store(at + 8 * size, u, there)


@triton.jit
def advance(stencil, inverses, vectors, step, alpha, beta, patch, number, rows, columns, N: tl.constexpr):
    """An iteration for some patches: the contributions of these patches to the products r u and w u.

    It stores what other programs read in the next iteration. The first one only computes w from u.
    """
    count = rows * columns
    size, there, at = (
        count * NUMBERS,
        (patch < count)[:, None] & (number >= 0),
        patch[:, None] * NUMBERS + number,
    )
    r_, u_, w_, z_, q_ = vectors, vectors + size, vectors + 2 * size, vectors + 3 * size, vectors + 4 * size
    s_, p_, x_, m_ = vectors + 5 * size, vectors + 6 * size, vectors + 7 * size, vectors + 8 * size
    m, made = m_ + step % 2 * size, m_ + (step + 1) % 2 * size
    n = times(stencil, m, patch, number, there, rows, columns, N)
    w, u = tl.load(w_ + at, there, 0.0), tl.load(u_ + at, there, 0.0)
    z = n + beta * tl.load(z_ + at, there, 0.0)
    q = tl.load(m + at, there, 0.0) + beta * tl.load(q_ + at, there, 0.0)
    s = w + beta * tl.load(s_ + at, there, 0.0)
    p = u + beta * tl.load(p_ + at, there, 0.0)
    x = tl.load(x_ + at, there, 0.0) + alpha * p
    r = tl.load(r_ + at, there, 0.0) - alpha * s
    u -= alpha * q
    w -= alpha * z
    if step == 0:
        w = n
    tl.store(z_ + at, z, there)
    tl.store(q_ + at, q, there)
    tl.store(s_ + at, s, there)
    tl.store(p_ + at, p, there)
    tl.store(x_ + at, x, there)
    tl.store(r_ + at, r, there)
    tl.store(u_ + at, u, there)
    tl.store(w_ + at, w, there)
    tl.store(made + at, precondition(inverses, w, patch, number, there, N), there)
    return tl.sum(tl.sum(r * u, 1), 0), tl.sum(tl.sum(w * u, 1), 0)


@triton.jit(do_not_specialize=["rows", "columns", "steps"])
def solve(
    stencil,
    right,
    inverses,
    vectors,
    shares,
    counter,
    found,
    rows,
    columns,
    steps,
    tolerance,
    N: tl.constexpr,
    PROGRAMS: tl.constexpr,
):
    """Pipelined conjugate gradients: both scalar products are computed at the same time, so that programs
    wait for each other once per iteration. ``vectors`` (10, patches, 8) and ``shares`` (2, 2, PROGRAMS) are
    scratch memory. Source: Ghysels & Vanroose, "Hiding global synchronization latency in the preconditioned
    Conjugate Gradient algorithm", Parallel Computing 40 (2014), algorithm 4.
    """
    program, programs = tl.program_id(0), tl.num_programs(0)
    count = rows * columns
    tiles, number = (count + N - 1) // N, tl.arange(0, NUMBERS)[None, :]
    for tile in range(program, tiles, programs):
        begin(stencil, right, inverses, vectors, tile * N + tl.arange(0, N), number, count, N)
    wait(counter, 1)
    alpha, beta, gamma, stop = 0.0, 0.0, 0.0, 0.0
    step, going = 0, steps > 0
    while going:
        ru, wu = 0.0, 0.0
        for tile in range(program, tiles, programs):
            more_ru, more_wu = advance(
                stencil,
                inverses,
                vectors,
                step,
                alpha,
                beta,
                tile * N + tl.arange(0, N),
                number,
                rows,
                columns,
                N,
            )
            ru += more_ru
            wu += more_wu
        said = shares + step % 2 * 2 * PROGRAMS
        tl.store(said + program, ru)
        tl.store(said + PROGRAMS + program, wu)
        wait(counter, step + 2)
        before = gamma
        gamma, delta = dot(said, programs, PROGRAMS), dot(said + PROGRAMS, programs, PROGRAMS)
        if step == 0:
            stop = tl.minimum(tolerance * tolerance * gamma, gamma)
            alpha = gamma / tl.maximum(delta, 1e-30)
        else:
            beta = gamma / before
            alpha = gamma / tl.maximum(delta - beta * gamma / alpha, 1e-30)
        going = (gamma > stop) & (step < steps)
        step += 1
    for tile in range(program, tiles, programs):
        patch = tile * N + tl.arange(0, N)
        there = (patch < count)[:, None] & (number % 4 < 3)
        x = tl.load(vectors + (7 * count + patch[:, None]) * NUMBERS + number, there, 0.0)
        tl.store(found + (number // 4 * 3 + number % 4) * count + patch[:, None], x, there)


@triton.jit(do_not_specialize=["rows", "columns"])
def bend(ties_y, ties_x, parameters, found, rows, columns, N: tl.constexpr):
    """The gradient (2, 3, rows, columns) of the smoothness penalty, for component ``program_id(1)``."""
    patch = tl.program_id(0) * N + tl.arange(0, N)
    count = rows * columns
    there = patch < count
    i, j = patch // columns, patch % columns
    at = parameters + tl.program_id(1) * 3 * count + patch
    move, along_x, along_y = tl.zeros([N], tl.float32), tl.zeros([N], tl.float32), tl.zeros([N], tl.float32)
    for step in tl.static_range(-1, 2):
        near = there & (j + step >= 0) & (j + step < columns)
        one, two = tl.load(at + step, near, 0.0), tl.load(at + count + step, near, 0.0)
        move += (
            tie(ties_x, 0, 0, step, j, columns, near) * one + tie(ties_x, 0, 1, step, j, columns, near) * two
        )
        along_x += (
            tie(ties_x, 1, 0, step, j, columns, near) * one + tie(ties_x, 1, 1, step, j, columns, near) * two
        )
        near = there & (i + step >= 0) & (i + step < rows)
        one, two = (
            tl.load(at + step * columns, near, 0.0),
            tl.load(at + 2 * count + step * columns, near, 0.0),
        )
        move += tie(ties_y, 0, 0, step, i, rows, near) * one + tie(ties_y, 0, 1, step, i, rows, near) * two
        along_y += tie(ties_y, 1, 0, step, i, rows, near) * one + tie(ties_y, 1, 1, step, i, rows, near) * two
    to = found + tl.program_id(1) * 3 * count + patch
    tl.store(to, move, there)
    tl.store(to + count, along_x, there)
    tl.store(to + 2 * count, along_y, there)
