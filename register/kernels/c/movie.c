/* One frame of a movie under a smooth displacement: its pixels at the displaced positions, and the sums of one
   Gauss-Newton step towards a reference.

   The same as register/engine/movie/tensors.py computes. The displacement is a product of one basis per axis,
   of which TAPS functions are non-zero at a pixel: B-splines, polynomials, or the patches of a transform. Rows
   are processed one after the other; sums of a row are floats, sums over rows doubles in a fixed order. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TAPS 4
#define SUMS 6

typedef struct {
    int height, width; /* of the reference */
    int frame_height, frame_width; /* at least 2 each */
    int rows, columns; /* of the coefficients */
    float matrix[6]; /* frame from reference pixels, after the displacement */
    float gain, level, limit; /* a sample s counts as (s - level) / gain; larger errors than limit are cut */
    float fill; /* the value of pixels outside the frame */
    const float *frame; /* (frame height, frame width), NaN where it is invalid */
    const float *basis_y, *basis_x; /* (TAPS, height), (TAPS, width) */
    const int *first_y, *first_x; /* (height), (width): the first of the TAPS functions */
    const float *coefficients; /* (2, rows, columns), in reference pixels */
    const float *reference, *weight; /* (height, width); NULL for resampling */
    const float *steer_x, *steer_y; /* (height, width): weight times gradient of the reference */
} Motion;

typedef struct { /* scratch memory of one row */
    float *moved_x, *moved_y; /* (columns) the coefficients of the row */
    float *across, *down; /* (width) positions in the frame, then fractions of a pixel; NaN outside */
    float *value; /* (width) samples, NaN outside */
    float *share; /* (width) weights of valid samples */
    int *place; /* (width) index of the pixel above and left */
} Row;

static int allocate_row(const Motion *m, Row *row) {
    size_t width = m->width, floats = 2 * (size_t)m->columns + 4 * width;
    float *memory = malloc(floats * sizeof(float) + width * sizeof(int));
    if (!memory) return 1;
    row->moved_x = memory, row->moved_y = memory + m->columns, row->across = row->moved_y + m->columns;
    row->down = row->across + width, row->value = row->down + width;
    row->share = row->value + width;
    row->place = (int *)(row->share + width);
    return 0;
}

/* The positions of the pixels from ``start`` to ``end`` of row ``y``, which have the same basis functions. */
static void positions(const Motion *m, Row *row, int y, int start, int end) {
    const float *cx = row->moved_x + m->first_x[start], *cy = row->moved_y + m->first_x[start];
    float cx0 = cx[0], cx1 = cx[1], cx2 = cx[2], cx3 = cx[3], cy0 = cy[0], cy1 = cy[1], cy2 = cy[2], cy3 = cy[3];
    float a = m->matrix[0], b = m->matrix[1], c = m->matrix[2], d = m->matrix[3], e = m->matrix[4], f = m->matrix[5];
    float *restrict across = row->across, *restrict down = row->down;
    const float *restrict t0 = m->basis_x, *restrict t1 = t0 + m->width, *restrict t2 = t1 + m->width,
                          *restrict t3 = t2 + m->width;
    for (int x = start; x < end; x++) {
        float u = x + (t0[x] * cx0 + t1[x] * cx1 + t2[x] * cx2 + t3[x] * cx3);
        float v = y + (t0[x] * cy0 + t1[x] * cy1 + t2[x] * cy2 + t3[x] * cy3);
        across[x] = a * u + b * v + c;
        down[x] = d * u + e * v + f;
    }
}

/* The values of ``count`` samples, NaN where ``across`` is. The arguments are ``restrict``, here and below, for
   loops that the compiler vectorises. */
static void interpolate(
    int count, const float *restrict frame, int stride, const int *restrict place, const float *restrict across,
    const float *restrict down, float *restrict value
) {
    for (int x = 0; x < count; x++) {
        int at = place[x], below = at + stride;
        float fx = across[x], fy = down[x];
        float top = (1 - fx) * frame[at] + fx * frame[at + 1]; /* exact on pixels */
        float low = (1 - fx) * frame[below] + fx * frame[below + 1];
        value[x] = (1 - fy) * top + fy * low;
    }
}

/* The samples of row ``y``. */
static void sample_row(const Motion *m, Row *row, int y) {
    float ty[TAPS];
    for (int k = 0; k < TAPS; k++) ty[k] = m->basis_y[(size_t)k * m->height + y];
    for (int component = 0; component < 2; component++) {
        const float *from = m->coefficients + ((size_t)component * m->rows + m->first_y[y]) * m->columns;
        float *to = component ? row->moved_y : row->moved_x;
        for (int j = 0; j < m->columns; j++)
            to[j] = ty[0] * from[j] + ty[1] * from[j + m->columns] + ty[2] * from[j + 2 * m->columns]
                + ty[3] * from[j + 3 * m->columns];
    }
    for (int start = 0, end; start < m->width; start = end) {
        for (end = start + 1; end < m->width && m->first_x[end] == m->first_x[start];) end++;
        positions(m, row, y, start, end);
    }
    float right = m->frame_width - 0.5f, bottom = m->frame_height - 0.5f;
    float last_x = m->frame_width - 1, last_y = m->frame_height - 1;
    int stride = m->frame_width, last_column = stride - 2, last_row = m->frame_height - 2, width = m->width;
    float *restrict across = row->across, *restrict down = row->down;
    int *restrict place = row->place;
    for (int x = 0; x < width; x++) { /* not (position outside): a NaN is outside too */
        int inside = across[x] >= -0.5f && across[x] <= right && down[x] >= -0.5f && down[x] <= bottom;
        float px = inside ? across[x] : 0, py = inside ? down[x] : 0;
        px = px < 0 ? 0 : px > last_x ? last_x : px;
        py = py < 0 ? 0 : py > last_y ? last_y : py;
        int ix = (int)px, iy = (int)py;
        ix = ix > last_column ? last_column : ix;
        iy = iy > last_row ? last_row : iy;
        across[x] = inside ? px - ix : NAN, down[x] = py - iy;
        place[x] = iy * stride + ix;
    }
    interpolate(width, m->frame, stride, place, across, down, row->value);
}

/* The frame on the pixels of the reference, ``out`` (height, width). Returns 0, or 1 without memory. */
int movie_resample(const Motion *m, float *out) {
    Row row;
    if (allocate_row(m, &row)) return 1;
    for (int y = 0; y < m->height; y++) {
        sample_row(m, &row, y);
        float *restrict to = out + (size_t)y * m->width;
        for (int x = 0; x < m->width; x++) to[x] = row.value[x] == row.value[x] ? row.value[x] : m->fill;
    }
    free(row.moved_x);
    return 0;
}

/* The error of each of ``count`` samples times what it steers by, ``to_x`` and ``to_y``, and the ``share`` of each
   in the sums; samples that are NaN become 0 and have no share. */
static void compare(
    int count, const Motion *m, const float *restrict reference, const float *restrict weight,
    const float *restrict steer_x, const float *restrict steer_y, float *restrict value, float *restrict share,
    float *restrict to_x, float *restrict to_y
) {
    float scale = 1 / m->gain, limit = m->limit, level = m->level;
    for (int x = 0; x < count; x++) {
        int valid = value[x] == value[x];
        float v = valid ? value[x] : 0;
        float error = reference[x] - (v - level) * scale;
        error = error > limit ? limit : error < -limit ? -limit : error;
        error = valid ? error : 0;
        to_x[x] = steer_x[x] * error, to_y[x] = steer_y[x] * error;
        value[x] = v, share[x] = valid ? weight[x] : 0;
    }
}

/* The gradient (2, rows, columns) of half the weighted squared error, with the opposite sign, and SUMS: weight,
 * and with it samples, their squares, samples times reference, reference, its squares. Returns 0, or 1 without
 * memory. */
int movie_step(const Motion *m, double *gradient, double *sums) {
    Row row;
    if (allocate_row(m, &row)) return 1;
    float *own = malloc(2 * m->columns * sizeof(float));
    if (!own) return free(row.moved_x), 1;
    memset(gradient, 0, sizeof(double) * 2 * m->rows * m->columns);
    memset(sums, 0, sizeof(double) * SUMS);
    int width = m->width;
    const float *restrict t0 = m->basis_x, *restrict t1 = t0 + width, *restrict t2 = t1 + width,
                          *restrict t3 = t2 + width;
    for (int y = 0; y < m->height; y++) {
        sample_row(m, &row, y);
        size_t line = (size_t)y * m->width;
        const float *restrict reference = m->reference + line, *restrict weight = m->weight + line;
        const float *restrict steer_x = m->steer_x + line, *restrict steer_y = m->steer_y + line;
        float *restrict value = row.value, *restrict share = row.share, *restrict gx = row.across, *restrict gy = row.down;
        compare(width, m, reference, weight, steer_x, steer_y, value, share, gx, gy);
        float s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0;
        for (int x = 0; x < width; x++) {
            float v = value[x], w = share[x], r = reference[x];
            s0 += w, s1 += w * v, s2 += w * v * v, s3 += w * v * r, s4 += w * r, s5 += w * r * r;
        }
        sums[0] += s0, sums[1] += s1, sums[2] += s2, sums[3] += s3, sums[4] += s4, sums[5] += s5;
        memset(own, 0, 2 * m->columns * sizeof(float));
        for (int start = 0, end; start < m->width; start = end) {
            float x0 = 0, x1 = 0, x2 = 0, x3 = 0, y0 = 0, y1 = 0, y2 = 0, y3 = 0;
            for (end = start + 1; end < m->width && m->first_x[end] == m->first_x[start];) end++;
            for (int x = start; x < end; x++) {
                x0 += t0[x] * gx[x], x1 += t1[x] * gx[x], x2 += t2[x] * gx[x], x3 += t3[x] * gx[x];
                y0 += t0[x] * gy[x], y1 += t1[x] * gy[x], y2 += t2[x] * gy[x], y3 += t3[x] * gy[x];
            }
            float *to_x = own + m->first_x[start], *to_y = to_x + m->columns;
            to_x[0] += x0, to_x[1] += x1, to_x[2] += x2, to_x[3] += x3;
            to_y[0] += y0, to_y[1] += y1, to_y[2] += y2, to_y[3] += y3;
        }
        for (int component = 0; component < 2; component++)
            for (int k = 0; k < TAPS; k++) {
                float share = m->basis_y[(size_t)k * m->height + y];
                double *to = gradient + ((size_t)component * m->rows + m->first_y[y] + k) * m->columns;
                for (int j = 0; j < m->columns; j++) to[j] += share * own[component * m->columns + j];
            }
    }
    free(own);
    free(row.moved_x);
    return 0;
}
