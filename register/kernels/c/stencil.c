/* The damped Gauss-Newton step of patches, from the curvature of their loss: the same as
   register/engine/fit/hessian.py and register/optim/conjugate_gradients.py compute with tensors.

   A patch's weight along an axis falls from 1 to 0 towards the next centre. A cell is the area between four
   neighbouring centres; these four patches have non-zero weight in it, with three functions per component.
   Along each axis the products of two of these are six functions of the position in the cell. Sums over the
   cell of the curvature times these products give all matrix entries between the four patches, like the
   stiffness matrix of an element in finite elements. The matrix is symmetric: for each patch, its own block
   and those with four of its eight neighbours, the ones after it in row-major order, are stored.

   LANES patches of a row are processed at once. The rows of patches are divided into chunks. Their number
   does not depend on the number of threads, so neither do the sums. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8 /* patches processed at once */
#define PRODUCTS                                                                                             \
    6 /* of the functions 1 - s, s and s (1 - s) at a share s of the way through a cell: see product() */
#define SUMS                                                                                                 \
    (3 * PRODUCTS * PRODUCTS) /* of a cell: of xx, xy and yy, times the products along y and along x */
#define OWN 21 /* numbers of a symmetric matrix (6, 6), row by row up to its diagonal */
#define OTHER 36
#define FOLLOWING 4
#define BLOCK                                                                                                \
    (OWN + FOLLOWING * OTHER) /* matrix entries of the six parameters of a patch: among themselves, and with \
                                 those of the neighbours after it */
#define CHUNKS 8

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * LANES)));
#define AT(address) (*(Lanes *)(address))

typedef struct {
    int rows, columns; /* of the patch grid, at least 2 each */
    int height, width; /* blocks of pixels, along y and x */
    const int *cell_y, *cell_x; /* (height), (width): the patch before each block */
    const float *share_y, *share_x; /* the share of the way to the next */
    const float *penalty_y, *penalty_x; /* (2, 2, 2, rows), (2, 2, 2, columns): the smoothness penalty: matrix
                                     entries of the displacement and the gradient along an axis of each patch
                                     of a line, with its own ones and with those of the next patch */
} Grid;

typedef struct {
    int right, down, cells, corners[2][2];
} Neighbour; /* its offset, and which corners of each common cell the two patches are at */

static const Neighbour AFTER[FOLLOWING] = {
    {1, 0, 2, {{0, 1}, {2, 3}}}, {0, 1, 2, {{0, 2}, {1, 3}}}, {-1, 1, 1, {{1, 2}}}, {1, 1, 1, {{0, 3}}}};

typedef struct {
    int cells, corner[4], from[4];
    float sign[4];
} Entry; /* of a block: the sums that it consists of, in cells in which the patch is at ``corner`` */

typedef struct {
    const Grid *grid;
    int chunks, groups, stride; /* a vector is (rows, 6, stride): LANES empty patches, those of the row, empty
                                   ones; the sums of cells have such rows too */
    size_t row, block_row, own_row; /* floats of a row of a vector, of blocks, and of factors */
    Entry entries[BLOCK];
    float *along_x; /* (width, LANES): products of each block of pixels */
    float *penalty_x; /* (2, 2, 2, stride): those of the grid, padded */
    int *top, *left; /* (rows), (columns): the first block of pixels of each cell */
    float *blocks, *factors; /* (rows, groups, BLOCK, LANES), (rows, groups, OWN, LANES) */
    float *x, *r, *z, *p, *ap; /* vectors */
    float *edge, *spill; /* (chunks, 6, stride): p of the row after a chunk, and the chunk's contribution to
                            ap there */
    float *cells; /* (chunks, 2, SUMS, stride): of the rows of cells above and below a row of patches */
    double share[2][CHUNKS]; /* contributions of the chunks to a product of two vectors */
} Work;

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }
static int triangle(int a, int b) { return a * (a + 1) / 2 + b; }

static void products(float s, float *out) {
    float l = 1 - s, q = s * l;
    out[0] = l * l, out[1] = q, out[2] = s * s, out[3] = l * q, out[4] = s * q, out[5] = q * q,
    out[6] = out[7] = 0;
}

/* The index of the product of two functions of a cell, and its sign. A function is that of the patch at the
 * start (0) or end (1) of the cell, its weight (0) or its weighted offset (1). */
static int product(int end_a, int offset_a, int end_b, int offset_b, float *sign) {
    *sign *= ((end_a & offset_a) ^ (end_b & offset_b)) ? -1.0f : 1.0f;
    if (offset_a && offset_b) return 5;
    if (offset_a) return 3 + end_b;
    if (offset_b) return 3 + end_a;
    return end_a + end_b;
}

/* Adds a sum to an entry: that of a cell with one patch at corner ``own`` and another at corner ``other``,
 * for parameter a of the one and b of the other. */
static void add_sum(Entry *entry, int own, int other, int a, int b) {
    static const int OFFSET_X[3] = {0, 1, 0},
                     OFFSET_Y[3] = {0, 0,
                         1}; /* of a patch's three functions: displacement, gradient along x and y */
    float sign = 1;
    int q = product(own / 2, OFFSET_Y[a % 3], other / 2, OFFSET_Y[b % 3], &sign);
    int p = product(own % 2, OFFSET_X[a % 3], other % 2, OFFSET_X[b % 3], &sign);
    int number = entry->cells++;
    entry->corner[number] = own;
    entry->from[number] = ((a / 3 + b / 3) * PRODUCTS + q) * PRODUCTS + p; /* xx, xy and yy */
    entry->sign[number] = sign;
}

static void list_entries(Entry *entries) {
    memset(entries, 0, sizeof(Entry) * BLOCK);
    for (int a = 0; a < 6; a++) {
        for (int b = 0; b <= a; b++)
            for (int own = 0; own < 4; own++) add_sum(entries + triangle(a, b), own, own, a, b);
        for (int n = 0; n < FOLLOWING; n++)
            for (int b = 0; b < 6; b++)
                for (int k = 0; k < AFTER[n].cells; k++)
                    add_sum(entries + OWN + n * OTHER + a * 6 + b, AFTER[n].corners[k][0],
                        AFTER[n].corners[k][1], a, b);
    }
}

/* The sums (SUMS, stride) of a row of cells over their blocks of pixels. */
static void sums_of_cells(const Work *w, const float *curvature, int i, float *out) {
    const Grid *grid = w->grid;
    for (int j = 0; j < grid->columns - 1; j++) {
        Lanes both[3][PRODUCTS] = {{{0}}};
        for (int y = w->top[i]; y < w->top[i + 1]; y++) {
            float along_y[LANES];
            products(grid->share_y[y], along_y);
            for (int k = 0; k < 3; k++) {
                const float *row = curvature + ((size_t)k * grid->height + y) * grid->width;
                Lanes sums = {0};
                for (int x = w->left[j]; x < w->left[j + 1]; x++)
                    sums += row[x] * AT(w->along_x + (size_t)x * LANES);
                for (int q = 0; q < PRODUCTS; q++) both[k][q] += along_y[q] * sums;
            }
        }
        for (int k = 0; k < 3; k++)
            for (int q = 0; q < PRODUCTS; q++)
                for (int p = 0; p < PRODUCTS; p++)
                    out[((k * PRODUCTS + q) * PRODUCTS + p) * w->stride + LANES + j] = both[k][q][p];
    }
}

/* The blocks of LANES patches of row i from column j on, from the sums of the cells above and below. */
static void blocks_of(const Work *w, const float *above, const float *below, int i, int j, float *blocks) {
    for (int k = 0; k < BLOCK; k++) {
        const Entry *entry = w->entries + k;
        Lanes sum = {0};
        for (int n = 0; n < entry->cells; n++) {
            int corner = entry->corner[n];
            sum += entry->sign[n] * AT((corner / 2 ? above : below) + (size_t)entry->from[n] * w->stride +
                                        LANES + j - corner % 2);
        }
        AT(blocks + k * LANES) = sum;
    }
    for (int component = 0; component < 6; component += 3)
        for (int a = 0; a < 2; a++)
            for (int b = 0; b < 2; b++) {
                const float *along_x = w->penalty_x + (2 * a + b) * w->stride + j,
                            *along_y = w->grid->penalty_y + (2 * a + b) * w->grid->rows + i;
                int ax = component + a, bx = component + b, ay = component + 2 * a,
                    by = component + 2 * b; /* gradients along x are second, along y third */
                if (b <= a) {
                    AT(blocks + triangle(ax, bx) * LANES) += AT(along_x);
                    AT(blocks + triangle(ay, by) * LANES) += along_y[0];
                }
                AT(blocks + (OWN + ax * 6 + bx) * LANES) += AT(along_x + 4 * w->stride);
                AT(blocks + (OWN + OTHER + ay * 6 + by) * LANES) += along_y[4 * w->grid->rows];
            }
}

/* Factorises matrices L D L' into L without its diagonal, and the inverse of D in place of the diagonal. They
 * are positive definite, so no pivoting is needed. */
static void factors_of(const float *blocks, float *out) {
    Doubles m[OWN];
    for (int k = 0; k < OWN; k++)
        for (int i = 0; i < LANES; i++) m[k][i] = blocks[k * LANES + i];
    for (int k = 0; k < 6; k++) {
        Doubles *pivot = m + triangle(k, k);
        for (int i = 0; i < LANES; i++) (*pivot)[i] = 1 / ((*pivot)[i] > 1e-30 ? (*pivot)[i] : 1e-30);
        for (int a = 5; a > k; a--) { /* last row first: the rows before it are needed unchanged */
            Doubles share = m[triangle(a, k)] * *pivot;
            for (int b = k + 1; b <= a; b++) m[triangle(a, b)] -= share * m[triangle(b, k)];
        }
        for (int a = k + 1; a < 6; a++) m[triangle(a, k)] *= *pivot;
    }
    for (int k = 0; k < OWN; k++)
        for (int i = 0; i < LANES; i++) out[k * LANES + i] = (float)m[k][i];
}

/* Solves each patch's own block: ``out`` from ``vector``, six parameters each, ``stride`` floats from one
 * parameter to the next. */
static void undo_own(const float *factors, const float *vector, int stride, float *out) {
    Lanes v[6];
    for (int a = 0; a < 6; a++) {
        v[a] = AT(vector + a * stride);
        for (int b = 0; b < a; b++) v[a] -= AT(factors + triangle(a, b) * LANES) * v[b];
    }
    for (int a = 5; a >= 0; a--) {
        v[a] *= AT(factors + triangle(a, a) * LANES);
        for (int b = a + 1; b < 6; b++) v[a] -= AT(factors + triangle(b, a) * LANES) * v[b];
        AT(out + a * stride) = v[a];
    }
}

static int begin_of(const Work *w, int chunk) { return (int)((long)w->grid->rows * chunk / w->chunks); }

static double dot(const float *one, const float *other, size_t count) {
    float sum = 0;
    for (size_t i = 0; i < count; i++) sum += one[i] * other[i];
    return sum;
}

static double sum_of(const double *numbers, int count) {
    double sum = 0;
    for (int k = 0; k < count; k++) sum += numbers[k];
    return sum;
}

/* z from r in the rows of a chunk, and the chunk's part of their product. */
static void precondition(Work *w, int chunk) {
    int begin = begin_of(w, chunk), end = begin_of(w, chunk + 1);
    for (int i = begin; i < end; i++)
        for (int g = 0; g < w->groups; g++) {
            size_t place = i * w->row + LANES + (size_t)g * LANES;
            undo_own(
                w->factors + i * w->own_row + (size_t)g * OWN * LANES, w->r + place, w->stride, w->z + place);
        }
    w->share[1][chunk] = dot(w->r + begin * w->row, w->z + begin * w->row, (end - begin) * w->row);
}

/* The damped blocks of a chunk and their factors; r, which starts as ``right``, and z from it. */
static void prepare(Work *w, const float *curvature, const float *damping, const float *right, int chunk) {
    const Grid *grid = w->grid;
    int begin = begin_of(w, chunk), end = begin_of(w, chunk + 1), columns = grid->columns;
    size_t cells = (size_t)SUMS * w->stride, all = (size_t)grid->rows * columns;
    float *above = w->cells + 2 * chunk * cells, *below = above + cells;
    memset(above, 0, sizeof(float) * 2 * cells); /* there are no cells beyond the first and the last */
    if (begin > 0) sums_of_cells(w, curvature, begin - 1, above);
    for (int i = begin; i < end; i++) {
        if (i + 1 < grid->rows)
            sums_of_cells(w, curvature, i, below);
        else
            memset(below, 0, sizeof(float) * cells);
        for (int g = 0; g < w->groups; g++) {
            float *blocks = w->blocks + i * w->block_row + (size_t)g * BLOCK * LANES, damp[LANES] = {0};
            memcpy(damp, damping + (size_t)i * columns + g * LANES,
                sizeof(float) * least(LANES, columns - g * LANES));
            blocks_of(w, above, below, i, g * LANES, blocks);
            for (int a = 0; a < 6; a++) {
                float *diagonal = blocks + triangle(a, a) * LANES;
                AT(diagonal) += AT(diagonal) * AT(damp) + 1e-9f;
            }
            factors_of(blocks, w->factors + i * w->own_row + (size_t)g * OWN * LANES);
        }
        for (int a = 0; a < 6; a++)
            memcpy(w->r + i * w->row + a * w->stride + LANES, right + a * all + (size_t)i * columns,
                sizeof(float) * columns);
        float *last = above;
        above = below, below = last;
    }
    precondition(w, chunk);
}

/* p = z + beta p in a chunk and its edge, and ap, the product of the stencil with p, without the contribution
 * of the chunk before. */
static void advance(Work *w, int chunk, float beta) {
    int begin = begin_of(w, chunk), end = begin_of(w, chunk + 1), stride = w->stride,
        more = end < w->grid->rows;
    float *edge = w->edge + chunk * w->row, *spill = w->spill + chunk * w->row;
    for (size_t k = begin * w->row; k < end * w->row; k++) w->p[k] = w->z[k] + beta * w->p[k];
    for (size_t k = 0; more && k < w->row; k++) edge[k] = w->z[end * w->row + k] + beta * edge[k];
    memset(w->ap + begin * w->row, 0, sizeof(float) * (end - begin) * w->row);
    memset(spill, 0, sizeof(float) * w->row);
    for (int i = begin; i < end; i++) {
        const float *here = w->p + i * w->row, *next = i + 1 < end ? here + w->row : edge;
        float *out = w->ap + i * w->row, *out_next = i + 1 < end ? out + w->row : spill;
        for (int g = 0; g < w->groups; g++) {
            const float *blocks = w->blocks + i * w->block_row + (size_t)g * BLOCK * LANES;
            size_t place = LANES + (size_t)g * LANES;
            Lanes own[6], sum[6], given[FOLLOWING][6] = {{{0}}};
            for (int a = 0; a < 6; a++)
                own[a] = AT(here + a * stride + place), sum[a] = AT(out + a * stride + place);
            for (int a = 0; a < 6; a++)
                for (int b = 0; b < 6; b++)
                    sum[a] += AT(blocks + (b < a ? triangle(a, b) : triangle(b, a)) * LANES) * own[b];
            for (int n = 0; n < FOLLOWING; n++) {
                const float *other = (AFTER[n].down ? next : here) + place + AFTER[n].right,
                            *tie = blocks + (OWN + n * OTHER) * LANES;
                for (int b = 0; b < 6; b++) {
                    Lanes theirs = AT(other + b * stride);
                    for (int a = 0; a < 6; a++) {
                        Lanes both = AT(tie + (a * 6 + b) * LANES);
                        sum[a] += both * theirs;
                        given[n][b] += both * own[a];
                    }
                }
            }
            for (int a = 0; a < 6; a++) AT(out + a * stride + place) = sum[a];
            for (int n = 0; n < FOLLOWING; n++)
                for (int b = 0; b < 6; b++)
                    AT((AFTER[n].down ? out_next : out) + b * stride + place + AFTER[n].right) += given[n][b];
        }
    }
    w->share[0][chunk] =
        dot(w->p + begin * w->row, w->ap + begin * w->row, (end - begin) * w->row) + dot(edge, spill, w->row);
}

/* The step along p in a chunk, and the new residual. */
static void update(Work *w, int chunk, float alpha) {
    size_t begin = begin_of(w, chunk) * w->row, end = begin_of(w, chunk + 1) * w->row;
    for (size_t k = 0; chunk > 0 && k < w->row; k++) w->ap[begin + k] += w->spill[(chunk - 1) * w->row + k];
    for (size_t k = begin; k < end; k++) {
        w->x[k] += alpha * w->p[k];
        w->r[k] -= alpha * w->ap[k];
    }
    precondition(w, chunk);
}

/* The first block of pixels of each of ``cells`` cells; one more entry for the end of the last cell. */
static void begins(const int *cell_of, int count, int cells, int *begin) {
    int place = 0;
    for (int cell = 0; cell <= cells; cell++) {
        while (place < count && cell_of[place] < cell) place++;
        begin[cell] = cell == cells ? count : place;
    }
}

/* Memory for a step, freed with one call; NULL if out of memory. */
static float *allocate(const Grid *grid, Work *w) {
    int groups = (grid->columns + LANES - 1) / LANES, stride = (groups + 2) * LANES,
        chunks = most(1, least(CHUNKS, grid->rows / 4));
    *w = (Work){.grid = grid,
        .chunks = chunks,
        .groups = groups,
        .stride = stride,
        .row = 6 * (size_t)stride,
        .block_row = (size_t)groups * BLOCK * LANES,
        .own_row = (size_t)groups * OWN * LANES};
    size_t rows = grid->rows, vector = rows * w->row;
    struct {
        float **at;
        size_t count;
    } parts[] = {{&w->x, vector}, {&w->r, vector}, {&w->z, vector}, {&w->p, vector}, {&w->ap, vector},
        {&w->edge, chunks * w->row}, {&w->spill, chunks * w->row}, {&w->penalty_x, 8 * (size_t)stride},
        {&w->along_x, (size_t)LANES * grid->width}, {&w->blocks, rows * w->block_row},
        {&w->factors, rows * w->own_row}, {&w->cells, (size_t)chunks * 2 * SUMS * stride}};
    size_t all = rows + grid->columns;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) all += parts[k].count;
    float *memory = malloc(all * sizeof(float)), *next = memory;
    if (!memory) return NULL;
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) *parts[k].at = next, next += parts[k].count;
    w->top = (int *)next, w->left = w->top + rows;
    memset(memory, 0, (char *)w->along_x - (char *)memory); /* patches beyond the grid are zero */
    return memory;
}

/* ``out`` (6, rows, columns) with (stencil + damping) out = right, by conjugate gradients preconditioned with
   each patch's own block. The stencil is that of a ``curvature`` (3, height, width), which is xx, xy and yy;
   ``damping`` is relative to the diagonal of a patch's own block. Stops after ``steps``, or when the
   preconditioned residual has fallen to ``tolerance`` times the first one. Returns 1 if out of memory. */
int solve(const Grid *grid, const float *curvature, const float *damping, const float *right, int steps,
    double tolerance, int threads, float *out) {
    Work work, *w = &work;
    float *memory = allocate(grid, w);
    if (!memory) return 1;
    list_entries(w->entries);
    begins(grid->cell_y, grid->height, grid->rows - 1, w->top);
    begins(grid->cell_x, grid->width, grid->columns - 1, w->left);
    for (int x = 0; x < grid->width; x++) products(grid->share_x[x], w->along_x + (size_t)x * LANES);
    for (int k = 0; k < 8; k++)
        memcpy(w->penalty_x + k * w->stride, grid->penalty_x + k * grid->columns,
            sizeof(float) * grid->columns);
#pragma omp parallel num_threads(threads) if (w -> chunks > 1)
    {
#pragma omp for schedule(static)
        for (int chunk = 0; chunk < w->chunks; chunk++) prepare(w, curvature, damping, right, chunk);
        double left = sum_of(w->share[1], w->chunks), stop = tolerance * tolerance * left, beta = 0;
        for (int step = 0; step < steps; step++) { /* all threads run the same steps */
#pragma omp for schedule(static)
            for (int chunk = 0; chunk < w->chunks; chunk++) advance(w, chunk, (float)beta);
            double energy = sum_of(w->share[0], w->chunks), alpha = left / (energy > 1e-30 ? energy : 1e-30);
#pragma omp for schedule(static)
            for (int chunk = 0; chunk < w->chunks; chunk++) update(w, chunk, (float)alpha);
            double before = left;
            left = sum_of(w->share[1], w->chunks);
            if (left <= stop) break;
            beta = left / before;
        }
#pragma omp for schedule(static)
        for (int i = 0; i < grid->rows; i++)
            for (int a = 0; a < 6; a++)
                memcpy(out + ((size_t)a * grid->rows + i) * grid->columns,
                    w->x + i * w->row + a * w->stride + LANES, sizeof(float) * grid->columns);
    }
    free(memory);
    return 0;
}

/* ``out`` (6, rows, columns): the gradient of the smoothness penalty at ``parameters`` (6, rows, columns).
 * Returns 0. */
int bend(const Grid *grid, const float *parameters, float *out) {
    int rows = grid->rows, columns = grid->columns, all = rows * columns;
    memset(out, 0, sizeof(float) * 6 * all);
    for (int number = 0; number < 8; number++) { /* of two components, the row and the column of the penalty's
                                                    matrix: displacement (0) or gradient (1) */
        int component = number / 4 * 3, a = number / 2 % 2, b = number % 2;
        const float *own_x = grid->penalty_x + (2 * a + b) * columns, *next_x = own_x + 4 * columns,
                    *before_x = grid->penalty_x + (4 + 2 * b + a) * columns;
        const float *own_y = grid->penalty_y + (2 * a + b) * rows, *next_y = own_y + 4 * rows,
                    *before_y = grid->penalty_y + (4 + 2 * b + a) * rows;
        const float *along_x = parameters + (component + b) * all,
                    *along_y = parameters + (component + 2 * b) * all;
        float *restrict out_x = out + (component + a) * all, *restrict out_y =
                                                                 out + (component + 2 * a) * all;
        for (int i = 0; i < rows;
            i++, along_x += columns, along_y += columns, out_x += columns, out_y += columns) {
            for (int j = 0; j < columns; j++) out_x[j] += own_x[j] * along_x[j];
            for (int j = 0; j + 1 < columns; j++) out_x[j] += next_x[j] * along_x[j + 1];
            for (int j = 1; j < columns; j++) out_x[j] += before_x[j - 1] * along_x[j - 1];
            for (int j = 0; j < columns; j++) out_y[j] += own_y[i] * along_y[j];
            for (int j = 0; i + 1 < rows && j < columns; j++) out_y[j] += next_y[i] * along_y[j + columns];
            for (int j = 0; i > 0 && j < columns; j++) out_y[j] += before_y[i - 1] * along_y[j - columns];
        }
    }
    return 0;
}
