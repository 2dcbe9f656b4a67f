/* The second derivative of a loss of patches, and the damped step it leads to: what register/stencil.py and optimise.conjugate_gradients say with tensors.

   A patch's weight along an axis falls from 1 to 0 towards the next centre, so between two centres, in a cell, four patches have a say, each with three
   functions per component. Along each axis the products of two of these are six functions of the place in the cell: sums over the cell of the curvature times
   them hold everything that the four patches are to each other, as the stiffness matrix of an element does in finite elements. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PRODUCTS 6 /* of the functions 1 - s, s and s (1 - s) at a share s of the way through a cell: see product() */
#define LANES 8    /* numbers worked on at once: PRODUCTS, filled up, or patches */
#define BLOCK (6 * 9 * 6) /* how the six numbers of a patch are tied to those of the nine patches around it */

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef double Doubles __attribute__((vector_size(8 * LANES)));

typedef struct {
    int rows, columns;      /* of the patch grid, at least 2 each */
    int height, width;      /* blocks of pixels, along y and x */
    const int *cell_y, *cell_x;     /* (height), (width): the patch before each block */
    const float *share_y, *share_x; /* the share of the way to the next */
    const float *ties;      /* (rows * columns, 6, 9, 6): what ties neighbours whatever is seen */
} Grid;

static void products(float s, float *out) {
    float l = 1 - s, q = s * l;
    out[0] = l * l, out[1] = q, out[2] = s * s, out[3] = l * q, out[4] = s * q, out[5] = q * q, out[6] = out[7] = 0;
}

/* Which of the products two functions of a cell have, and its sign: of the patches at the begin (0) or end (1), their weight (0) or their weighted offset (1). */
static int product(int end_a, int offset_a, int end_b, int offset_b, float *sign) {
    *sign *= ((end_a & offset_a) ^ (end_b & offset_b)) ? -1.0f : 1.0f;
    if (offset_a && offset_b) return 5;
    if (offset_a) return 3 + end_b;
    if (offset_b) return 3 + end_a;
    return end_a + end_b;
}

/* The sums (3, PRODUCTS along y, PRODUCTS along x) of one cell, ``apart`` numbers from each other. */
static void sums_of_cell(const Grid *grid, const float *curvature, const float *along_x, int top, int bottom, int left, int right, float *out, int apart) {
    Lanes both[3][PRODUCTS] = {{{0}}};
    for (int y = top; y < bottom; y++) {
        float along_y[LANES];
        products(grid->share_y[y], along_y);
        for (int k = 0; k < 3; k++) {
            const float *row = curvature + ((size_t)k * grid->height + y) * grid->width;
            Lanes sums = {0};
            for (int x = left; x < right; x++) sums += row[x] * *(const Lanes *)(along_x + (size_t)x * LANES);
            for (int q = 0; q < PRODUCTS; q++) both[k][q] += along_y[q] * sums;
        }
    }
    for (int k = 0; k < 3; k++)
        for (int q = 0; q < PRODUCTS; q++)
            for (int p = 0; p < PRODUCTS; p++) out[((k * PRODUCTS + q) * PRODUCTS + p) * apart] = both[k][q][p];
}

typedef struct { int from[4][4][36], to[36]; float sign[4][4][36]; } Table; /* by the patch's corner of a cell, the neighbour's, and the numbers of both */

/* Which of a cell's sums tie the six numbers of the patches at two of its corners. */
static void fill(Table *table) {
    static const int OFFSET_X[3] = {0, 1, 0}, OFFSET_Y[3] = {0, 0, 1}; /* of a patch's three functions: displacement, slope along x, slope along y */
    for (int own = 0; own < 4; own++)
        for (int other = 0; other < 4; other++)
            for (int a = 0; a < 6; a++)
                for (int b = 0; b < 6; b++) {
                    float sign = 1;
                    int q = product(own / 2, OFFSET_Y[a % 3], other / 2, OFFSET_Y[b % 3], &sign);
                    int p = product(own % 2, OFFSET_X[a % 3], other % 2, OFFSET_X[b % 3], &sign);
                    table->from[own][other][a * 6 + b] = ((a / 3 + b / 3) * PRODUCTS + q) * PRODUCTS + p; /* xx, xy and yy */
                    table->sign[own][other][a * 6 + b] = sign;
                    table->to[a * 6 + b] = a * 9 * 6 + b;
                }
}

/* The blocks of LANES neighbouring patches from ``column`` on: sums of the cells in the rows above and below them (NULL beyond the grid), ``apart`` numbers from
   each other, the first cell's being the one left of the first patch. */
static void blocks_of(const Table *table, const float *above, const float *below, int apart, int column, float (*blocks)[LANES]) {
    memset(blocks, 0, sizeof(float) * BLOCK * LANES);
    for (int own = 0; own < 4; own++) {
        const float *sums = own / 2 ? above : below;
        if (!sums) continue;
        sums += column + 1 - own % 2;
        for (int other = 0; other < 4; other++) {
            int neighbour = (1 + other / 2 - own / 2) * 3 + 1 + other % 2 - own % 2;
            for (int k = 0; k < 36; k++) {
                const Lanes *from = (const Lanes *)(sums + (size_t)table->from[own][other][k] * apart);
                *(Lanes *)blocks[table->to[k] + neighbour * 6] += table->sign[own][other][k] * *from;
            }
        }
    }
}

/* Where the blocks of each of ``cells`` cells begin; one more entry for where the last ones end. */
static void begins(const int *cell_of, int count, int cells, int *begin) {
    int place = 0;
    for (int cell = 0; cell <= cells; cell++) {
        while (place < count && cell_of[place] < cell) place++;
        begin[cell] = cell == cells ? count : place;
    }
}

/* The stencil (rows * columns, 6, 9, 6) of a curvature (3, height, width), which is xx, xy and yy. Returns 1 where there is no memory. */
int couple(const Grid *grid, const float *curvature, int threads, float *blocks) {
    int down = grid->rows - 1, across = grid->columns - 1, apart = across + 2 * LANES; /* nothing lies beyond the first cell and the last */
    const size_t each = (size_t)3 * PRODUCTS * PRODUCTS * apart;
    float *sums = calloc(each * down + (size_t)LANES * grid->width, sizeof(float));
    int *top = malloc(sizeof(int) * (down + across + 2)), *left = top + down + 1;
    if (!sums || !top) {
        free(sums);
        free(top);
        return 1;
    }
    float *along_x = sums + each * down;
    Table table;
    fill(&table);
    begins(grid->cell_y, grid->height, down, top);
    begins(grid->cell_x, grid->width, across, left);
    for (int x = 0; x < grid->width; x++) products(grid->share_x[x], along_x + (size_t)x * LANES);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int i = 0; i < down; i++)
            for (int j = 0; j < across; j++)
                sums_of_cell(grid, curvature, along_x, top[i], top[i + 1], left[j], left[j + 1], sums + each * i + 1 + j, apart);
#pragma omp for schedule(static)
        for (int i = 0; i < grid->rows; i++)
            for (int j = 0; j < grid->columns; j += LANES) {
                float tied[BLOCK][LANES];
                blocks_of(&table, i > 0 ? sums + each * (i - 1) : NULL, i < down ? sums + each * i : NULL, apart, j, tied);
                for (int patch = j; patch < j + LANES && patch < grid->columns; patch++) {
                    size_t place = (size_t)BLOCK * (i * grid->columns + patch);
                    for (int k = 0; k < BLOCK; k++) blocks[place + k] = grid->ties[place + k] + tied[k][patch - j];
                }
            }
    }
    free(sums);
    free(top);
    return 0;
}

/* The inverses of up to LANES symmetric positive matrices (6, 6), the own blocks of neighbouring patches with ``extra`` on the diagonal, by elimination without
   pivots, which such matrices do not need: all at once, and column by column, each filled up to LANES numbers. */
static void inverses_of(const float *blocks, const float *extra, int count, float *out) {
    Doubles m[6][6];
    for (int a = 0; a < 6; a++)
        for (int b = 0; b < 6; b++)
            for (int i = 0; i < LANES; i++) {
                int patch = i < count ? i : 0;
                m[a][b][i] = blocks[((size_t)patch * 6 + a) * 9 * 6 + 4 * 6 + b] + (a == b ? extra[patch * 6 + a] : 0);
            }
    for (int k = 0; k < 6; k++) {
        for (int i = 0; i < LANES; i++) m[k][k][i] = 1 / (m[k][k][i] > 1e-30 ? m[k][k][i] : 1e-30);
        for (int a = 0; a < 6; a++) {
            if (a == k) continue;
            m[a][k] *= -m[k][k];
            for (int b = 0; b < 6; b++)
                if (b != k) m[a][b] += m[a][k] * m[k][b];
        }
        for (int b = 0; b < 6; b++)
            if (b != k) m[k][b] *= m[k][k];
    }
    for (int i = 0; i < count; i++)
        for (int b = 0; b < 6; b++)
            for (int a = 0; a < LANES; a++) out[(i * 6 + b) * LANES + a] = a < 6 ? (float)m[a][b][i] : 0;
}

/* The product (count, 6) of the damped stencil with a vector (count, 6). */
static void times(int rows, int columns, const float *blocks, const float *extra, const float *vector, int threads, float *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) {
            float near[9 * 6] = {0};
            for (int dy = -1; dy < 2; dy++)
                for (int dx = -1; dx < 2; dx++)
                    if (i + dy >= 0 && i + dy < rows && j + dx >= 0 && j + dx < columns)
                        memcpy(near + ((dy + 1) * 3 + dx + 1) * 6, vector + 6 * ((i + dy) * columns + j + dx), sizeof(float) * 6);
            size_t patch = (size_t)i * columns + j;
            for (int a = 0; a < 6; a++) {
                const float *row = blocks + (patch * 6 + a) * 9 * 6;
                float sum = 0;
                for (int k = 0; k < 9 * 6; k++) sum += row[k] * near[k];
                out[patch * 6 + a] = sum + extra[patch * 6 + a] * vector[patch * 6 + a];
            }
        }
}

static void precondition(int count, const float *inverses, const float *vector, int threads, float *out) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int patch = 0; patch < count; patch++) {
        Lanes sums = {0};
        for (int b = 0; b < 6; b++) sums += vector[patch * 6 + b] * *(const Lanes *)(inverses + ((size_t)patch * 6 + b) * LANES);
        memcpy(out + patch * 6, &sums, sizeof(float) * 6);
    }
}

static double dot(const float *one, const float *other, int count) {
    float sum = 0;
    for (int i = 0; i < count; i++) sum += one[i] * other[i];
    return sum;
}

/* ``out`` (count, 6) with (stencil + damping) out = right, by conjugate gradients preconditioned with each patch's own block. A patch's ``damping`` is a
   share of its own diagonal. Stops after ``steps``, or when the preconditioned residual has fallen to a share ``tolerance``. Returns 1 where there is no
   memory. */
int solve(int rows, int columns, const float *blocks, const float *damping, const float *right, int steps, double tolerance, int threads, float *out) {
    int count = rows * columns, n = 6 * count;
    float *memory = malloc(sizeof(float) * ((size_t)n * 5 + (size_t)n * LANES));
    if (!memory) return 1;
    float *extra = memory, *r = extra + n, *z = r + n, *p = z + n, *ap = p + n, *inverses = ap + n;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int patch = 0; patch < count; patch += LANES) {
        int some = count - patch < LANES ? count - patch : LANES;
        for (int i = patch; i < patch + some; i++)
            for (int a = 0; a < 6; a++) extra[i * 6 + a] = blocks[((size_t)i * 6 + a) * 9 * 6 + 4 * 6 + a] * damping[i] + 1e-9f;
        inverses_of(blocks + (size_t)patch * 6 * 9 * 6, extra + patch * 6, some, inverses + (size_t)patch * 6 * LANES);
    }
    memset(out, 0, sizeof(float) * n);
    memcpy(r, right, sizeof(float) * n);
    precondition(count, inverses, r, threads, z);
    memcpy(p, z, sizeof(float) * n);
    double rz = dot(r, z, n), stop = tolerance * tolerance * rz;
    for (int step = 0; step < steps; step++) {
        times(rows, columns, blocks, extra, p, threads, ap);
        double energy = dot(p, ap, n);
        float alpha = (float)(rz / (energy > 1e-30 ? energy : 1e-30));
        for (int i = 0; i < n; i++) {
            out[i] += alpha * p[i];
            r[i] -= alpha * ap[i];
        }
        precondition(count, inverses, r, threads, z);
        double before = rz;
        rz = dot(r, z, n);
        if (rz <= stop) break;
        float beta = (float)(rz / before);
        for (int i = 0; i < n; i++) p[i] = z[i] + beta * p[i];
    }
    free(memory);
    return 0;
}
