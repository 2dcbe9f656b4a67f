/* The second derivative of a loss of patches, and the damped step it leads to: what register/stencil.py and optimise.conjugate_gradients say with tensors.

   A patch's weight along an axis falls from 1 to 0 towards the next centre, so between two centres, in a cell, four patches have a say, each with three
   functions per component. Along each axis the products of two of these are six functions of the place in the cell: sums over the cell of the curvature times
   them hold everything that the four patches are to each other, as the stiffness matrix of an element does in finite elements. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PRODUCTS 6 /* of the functions 1 - s, s and s (1 - s) at a share s of the way through a cell: see product() */
#define LANES 8    /* PRODUCTS, filled up */

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

/* The sums (3, PRODUCTS along y, LANES along x) of one cell. */
static void sums_of_cell(const Grid *grid, const float *curvature, const float *along_x, int top, int bottom, int left, int right, float *out) {
    memset(out, 0, sizeof(float) * 3 * PRODUCTS * LANES);
    for (int y = top; y < bottom; y++) {
        float along_y[LANES];
        products(grid->share_y[y], along_y);
        for (int k = 0; k < 3; k++) {
            const float *row = curvature + ((size_t)k * grid->height + y) * grid->width;
            float sums[LANES] = {0};
            for (int x = left; x < right; x++)
                for (int p = 0; p < LANES; p++) sums[p] += row[x] * along_x[(size_t)x * LANES + p];
            for (int q = 0; q < PRODUCTS; q++)
                for (int p = 0; p < LANES; p++) out[(k * PRODUCTS + q) * LANES + p] += along_y[q] * sums[p];
        }
    }
}

/* What one cell adds to the blocks (6, 9, 6) of the patch at its corner (end_y, end_x). */
static void add_cell(const float *sums, int end_y, int end_x, float *blocks) {
    static const int OFFSET_X[3] = {0, 1, 0}, OFFSET_Y[3] = {0, 0, 1}; /* of a patch's three functions: displacement, slope along x, slope along y */
    for (int other_y = 0; other_y < 2; other_y++)
        for (int other_x = 0; other_x < 2; other_x++) {
            int neighbour = (1 + other_y - end_y) * 3 + 1 + other_x - end_x;
            for (int a = 0; a < 3; a++)
                for (int b = 0; b < 3; b++) {
                    float sign = 1;
                    int q = product(end_y, OFFSET_Y[a], other_y, OFFSET_Y[b], &sign), p = product(end_x, OFFSET_X[a], other_x, OFFSET_X[b], &sign);
                    const float *from = sums + q * LANES + p;
                    float xx = sign * from[0], xy = sign * from[PRODUCTS * LANES], yy = sign * from[2 * PRODUCTS * LANES];
                    float *x_to = blocks + (a * 9 + neighbour) * 6 + b, *y_to = x_to + 3 * 9 * 6;
                    x_to[0] += xx;
                    x_to[3] += xy;
                    y_to[0] += xy;
                    y_to[3] += yy;
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
    int down = grid->rows - 1, across = grid->columns - 1;
    const size_t each = 3 * PRODUCTS * LANES, block = 6 * 9 * 6;
    float *sums = malloc(sizeof(float) * (each * down * across + (size_t)LANES * grid->width));
    int *top = malloc(sizeof(int) * (down + across + 2)), *left = top + down + 1;
    if (!sums || !top) {
        free(sums);
        free(top);
        return 1;
    }
    float *along_x = sums + each * down * across;
    begins(grid->cell_y, grid->height, down, top);
    begins(grid->cell_x, grid->width, across, left);
    for (int x = 0; x < grid->width; x++) products(grid->share_x[x], along_x + (size_t)x * LANES);
#pragma omp parallel num_threads(threads)
    {
#pragma omp for schedule(static)
        for (int i = 0; i < down; i++)
            for (int j = 0; j < across; j++)
                sums_of_cell(grid, curvature, along_x, top[i], top[i + 1], left[j], left[j + 1], sums + each * (i * across + j));
#pragma omp for schedule(static)
        for (int i = 0; i < grid->rows; i++)
            for (int j = 0; j < grid->columns; j++) {
                float *own = blocks + block * (i * grid->columns + j);
                memcpy(own, grid->ties + block * (i * grid->columns + j), sizeof(float) * block);
                for (int end_y = 0; end_y < 2; end_y++)
                    for (int end_x = 0; end_x < 2; end_x++) {
                        int y = i - end_y, x = j - end_x;
                        if (y >= 0 && y < down && x >= 0 && x < across) add_cell(sums + each * (y * across + x), end_y, end_x, own);
                    }
            }
    }
    free(sums);
    free(top);
    return 0;
}

/* The inverse of a symmetric positive matrix (6, 6), by its Cholesky factor. */
static void inverse(const float *matrix, const float *extra, float *out) {
    double l[6][6] = {{0}}, inv[6][6] = {{0}};
    for (int i = 0; i < 6; i++)
        for (int j = 0; j <= i; j++) {
            double sum = matrix[i * 9 * 6 + j] + (i == j ? extra[i] : 0);
            for (int k = 0; k < j; k++) sum -= l[i][k] * l[j][k];
            l[i][j] = i == j ? sqrt(sum > 1e-30 ? sum : 1e-30) : sum / l[j][j];
        }
    for (int i = 0; i < 6; i++) { /* of the factor */
        inv[i][i] = 1 / l[i][i];
        for (int j = 0; j < i; j++) {
            double sum = 0;
            for (int k = j; k < i; k++) sum -= l[i][k] * inv[k][j];
            inv[i][j] = sum / l[i][i];
        }
    }
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
            double sum = 0;
            for (int k = i > j ? i : j; k < 6; k++) sum += inv[k][i] * inv[k][j];
            out[6 * i + j] = (float)sum;
        }
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

static void precondition(int count, const float *inverses, const float *vector, float *out) {
    for (int patch = 0; patch < count; patch++)
        for (int a = 0; a < 6; a++) {
            float sum = 0;
            for (int b = 0; b < 6; b++) sum += inverses[patch * 36 + a * 6 + b] * vector[patch * 6 + b];
            out[patch * 6 + a] = sum;
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
    float *memory = malloc(sizeof(float) * ((size_t)n * 5 + (size_t)count * 36));
    if (!memory) return 1;
    float *extra = memory, *r = extra + n, *z = r + n, *p = z + n, *ap = p + n, *inverses = ap + n;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int patch = 0; patch < count; patch++) {
        const float *own = blocks + (size_t)patch * 6 * 9 * 6 + 4 * 6;
        for (int a = 0; a < 6; a++) extra[patch * 6 + a] = own[a * 9 * 6 + a] * damping[patch] + 1e-9f;
        inverse(own, extra + patch * 6, inverses + (size_t)patch * 36);
    }
    memset(out, 0, sizeof(float) * n);
    memcpy(r, right, sizeof(float) * n);
    precondition(count, inverses, r, z);
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
        precondition(count, inverses, r, z);
        double before = rz;
        rz = dot(r, z, n);
        if (rz <= stop) break;
        float beta = (float)(rz / before);
        for (int i = 0; i < n; i++) p[i] = z[i] + beta * p[i];
    }
    free(memory);
    return 0;
}
