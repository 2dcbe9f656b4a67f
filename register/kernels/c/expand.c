/* One pass over the pixels of a level: blend -> sample -> windowed sums -> sums over patches.

   The same as register/engine/fit/objective.py computes with tensors, for one pair of images on a CPU: the
   displacement by the patches, bilinear samples and their gradients, the similarity of windows with its first
   and second derivative, summed over patches and blocks. A line of windows is processed in tiles that fit the
   processor's cache, so the images are read once and nothing of their size is written. A tile is filled row
   by row; sums over it run down its columns, LANES columns at once, in registers.

   The lines of windows are divided into chunks. Their number does not depend on the number of threads, so
   neither do the sums. */

#ifdef __AVX__
#include <immintrin.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FLAT 1e-5f /* similarity/base.py */
#define UNEXPLAINED 0.005f /* similarity/base.py */
#define LEAST_SIMILARITY 0.1f /* similarity/base.py */
#define TILE 256 /* least width of a tile in pixels */
#define INDEPENDENT _Pragma("GCC ivdep") /* no iteration of the loop reads what another one writes */
#define AHEAD(address)                                                                                       \
    __builtin_prefetch(address) /* the next row's data: the distance between rows of a tile is too long for  \
                                   the processor's own prefetching */
#define INLINE inline __attribute__((always_inline)) /* vector arguments stay in registers */
#define LANES 8 /* floats in a vector */
#define MARGIN 16 /* floats before and after a row of scratch memory: a line of the cache */
/* Compiles ``work`` separately for the two common cases, with their numbers as constants: correlations of one
 * channel, and cosines of two. */
#define BY_KIND(work)                                                                                        \
    do {                                                                                                     \
        if (!step->cosine) {                                                                                 \
            enum { channels = 1, cosine = 0 };                                                               \
            work;                                                                                            \
        } else if (step->channels == 2) {                                                                    \
            enum { channels = 2, cosine = 1 };                                                               \
            work;                                                                                            \
        } else {                                                                                             \
            enum { cosine = 1 };                                                                             \
            int channels = step->channels;                                                                   \
            work;                                                                                            \
        }                                                                                                    \
    } while (0)
#define LOAD(address) (*(Lanes *)(address))
#define COUNT ((Ints){0, 1, 2, 3, 4, 5, 6, 7})

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int Ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef unsigned Unsigned __attribute__((vector_size(4 * LANES)));
typedef double two_floats __attribute__((aligned(4), may_alias)); /* read and copied as one number */
typedef long long pair __attribute__((aligned(4),
    may_alias)); /* two neighbours; the first one is in the lower half (little endian) */

typedef struct {
    int channels, height, width; /* of the fixed image */
    int moving_height, moving_width; /* at least 2 each */
    int moving_stride; /* from a row to the next one in memory, of its image and mask */
    int window, block; /* sides in pixels; a window is a multiple of a block */
    int rows, columns; /* of the patch grid, at least 2 each */
    int cosine; /* cosine of vectors, or else the squared correlation of one channel */
    float matrix[6]; /* moving from fixed pixels, without the patches */
    float origin[2], spacing[2]; /* of the patch grid, along x and y */
    float valid_box[4]; /* left, top, right, bottom: between the centres of these pixels the mask is 1 */
    const float *fixed, *weight; /* (channels, height, width), (height, width) */
    const float *moving; /* (channels, moving height, moving width) */
    const float *moving_mask; /* (moving height, moving width), or NULL where it is 1 everywhere */
    const float *parameters; /* (2, 3, rows, columns), displacements in moving pixels */
    float *fixed_sums; /* (3, windows): sums that are the same in each step; NaN until computed */
    float *values, *weights; /* out, per window: its similarity and its weight */
    float *losses; /* out, per window: its weighted loss; NULL where only values are wanted */
    float *curvature; /* out, (3, blocks along y, blocks along x) */
} Step;

typedef struct { /* scratch memory of one call: planes (window + 2, stride), with one more row above and below
                    a tile, whose first column is number MARGIN, and rows (stride) */
    int wide, stride; /* pixels of a tile along x, floats of a row */
    float *value, *along_x, *along_y; /* (channels) planes: the moving image and its gradient at the points */
    float *fixed, *weight; /* (channels) planes and a plane */
    float *x, *y, *share_x, *share_y, *free_x, *free_y; /* rows */
    int *corner; /* row: the first of four pixels */
    float from[2]; /* one value of the fixed and one of the moving image, subtracted from all in the tile */
    float *blend; /* 6 rows: the displacement of each column between two rows of patches */
    float *sums; /* 6 rows */
    float *known; /* 4 rows: a, b, c and the curvature of each column's window */
    float *squares; /* 3 rows: weighted products of differences between pixels, xx, xy and yy */
    float *column_sums; /* (lines, 6, padded width): the gradient of the loss summed along each column between
                           two rows of patches, for as many rows as a line of windows can overlap */
    int lines;
    float *down, *bow; /* (window + 2): for each row of pixels the share t of the way from one row of
                          patches to the next, and t (1 - t) */
    float *hat; /* (width): the share of the way from a patch centre to the next */
    int *cell; /* (width): the patch column before a pixel */
    int *ends; /* (columns): the end of the pixels of each cell */
} Scratch;

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }
static int padded_size(int n) { return (n + LANES - 1) / LANES * LANES; }

static int lines_of(const Step *step) { return (step->height + step->window - 1) / step->window; }
static int window_at(const Step *step, int line, int x) {
    return line * ((step->width + step->window - 1) / step->window) + x / step->window;
}

/* The patch before a position, and the share of the way to the next one. */
static int cell_of(float position, float origin, float spacing, int count, float *share) {
    float steps = (position - origin) / spacing;
    int cell = most(0, least((int)floorf(steps), count - 2));
    *share = steps - (float)cell;
    return cell;
}

/* The points of the columns of a tile from ``begin`` between two rows of patches, without the map's constant
   of a row: a + t b + t (1 - t) c at a share t of the way down; a, b, c of x, then of y. */
static void blend(const Step *step, Scratch *s, int row, int begin, int first, int end) {
    int n = step->columns, patches = step->rows * n;
    for (int k = 0; k < 2; k++) {
        const float *move = step->parameters + 3 * k * patches + row * n, *across = move + patches,
                    *down = across + patches;
        float *restrict a = s->blend + 3 * k * s->stride + MARGIN, *restrict b = a + s->stride,
                        *restrict c = b + s->stride;
        for (int x = first, stop; x < end; x = stop) {
            int j = s->cell[x], below = j + n;
            stop = least(s->ends[j], end);
            float upper = move[j], upper_step = move[j + 1] - upper, upper_bow = across[j] - across[j + 1];
            float lower = move[below], lower_step = move[below + 1] - lower,
                  lower_bow = across[below] - across[below + 1];
            float bow = down[j] - down[below], bow_step = down[j + 1] - down[below + 1] - bow;
            INDEPENDENT
            for (int i = x; i < stop; i++) {
                float share = s->hat[i], q = share * (1 - share),
                      high = upper + share * upper_step + q * upper_bow;
                a[i - begin] = step->matrix[3 * k] * (float)i + high;
                b[i - begin] = lower + share * lower_step + q * lower_bow - high;
                c[i - begin] = bow + share * bow_step;
            }
        }
    }
}

/* The points in the moving image of n pixels of a row, from number ``first`` of the tile on. */
static void points_of_row(const Step *step, Scratch *s, int y, int first, int n, float t) {
    const float *m = step->matrix;
    float from_x = m[1] * (float)y + m[2], from_y = m[4] * (float)y + m[5], q = t * (1 - t);
    const float *restrict ax = s->blend + first, *restrict bx = ax + s->stride, *restrict cx = bx + s->stride;
    const float *restrict ay = cx + s->stride, *restrict by = ay + s->stride, *restrict cy = by + s->stride;
    float *restrict px = s->x, *restrict py = s->y;
    INDEPENDENT
    for (int i = 0; i < n; i++) {
        px[i] = from_x + (ax[i] + t * bx[i] + q * cx[i]);
        py[i] = from_y + (ay[i] + t * by[i] + q * cy[i]);
    }
}

/* A linear sample of a line of ones at a position: 1 inside, falling to 0 one pixel beyond the ends. */
static INLINE float valid_of_ones(float position, float last) {
    float middle = 0.5f * last, valid = middle + 1 - fabsf(position - middle);
    valid = valid > 0 ? valid : 0;
    return valid < 1 ? valid : 1;
}

static INLINE int any(Ints numbers) {
#ifdef __AVX__
    return !_mm256_testz_si256((__m256i)numbers, (__m256i)numbers);
#else
    int found = 0;
    for (int k = 0; k < LANES; k++) found |= numbers[k];
    return found;
#endif
}

typedef struct {
    Lanes left_above, right_above, left_below, right_below;
} Corners;

/* Two neighbouring pixels at each of LANES places: the left ones and the right ones. */
static INLINE void read_pairs(const float *image, const int *place, Lanes *left, Lanes *right) {
#ifdef __AVX__
    __m128 two[LANES / 2];
    for (int i = 0; i < LANES / 2; i++) { /* in the order that the shuffles below expect */
        int k = i == 1 ? 2 : i == 2 ? 1 : i;
        const float *one = image + place[2 * k], *other = image + place[2 * k + 1];
        __m128d both = {*(const two_floats *)one, *(const two_floats *)other};
        two[i] = _mm_castpd_ps(both);
    }
    __m256 first = _mm256_insertf128_ps(_mm256_castps128_ps256(two[0]), two[1], 1),
           second = _mm256_insertf128_ps(_mm256_castps128_ps256(two[2]), two[3], 1);
    *left = (Lanes)_mm256_shuffle_ps(first, second, 0x88);
    *right = (Lanes)_mm256_shuffle_ps(first, second, 0xdd);
#else
    int each[2][LANES];
    for (int i = 0; i < LANES; i++) {
        long long both = *(const pair *)(image + place[i]);
        each[0][i] = (int)both;
        each[1][i] = (int)(both >> 32);
    }
    *left = LOAD(each[0]), *right = LOAD(each[1]);
#endif
}

/* The four pixels around each of LANES points anywhere. Reads from many places are slow, so two neighbours
 * are read as one number. */
static INLINE void read_scattered(const float *image, const int *corner, int width, Corners *out) {
    read_pairs(image, corner, &out->left_above, &out->right_above);
    read_pairs(image + width, corner, &out->left_below, &out->right_below);
}

typedef struct {
    const float *moving;
    size_t size, plane;
    int channels, stride;
    float *value, *along_x, *along_y;
} Samples; /* input and output of sample() */

static INLINE Samples samples_of(const Step *step, const Scratch *s, size_t place, int channels) {
    size_t size = (size_t)step->moving_stride * step->moving_height,
           plane = (size_t)(step->window + 2) * s->stride;
    return (Samples){step->moving, size, plane, channels, step->moving_stride, s->value + place,
        s->along_x + place, s->along_y + place};
}

/* Samples of all channels and their gradients at LANES points, stored from number ``i`` on. ``corner`` is the
   pixel before each point, x and y the distance from there. Where these pixels are neighbours in a row, as
   for most points of a map with little scaling or rotation, they are read as vectors. */
static INLINE void sample(const Samples to, int i, Ints corner, Lanes x, Lanes y) {
    int scattered = any(corner - (corner[0] + COUNT)), first = corner[0];
    for (int c = 0; c < to.channels; c++) {
        const float *image = to.moving + c * to.size, *at = image + first;
        size_t place = c * to.plane + i;
        Corners near;
        AHEAD(at + 2 * to.stride);
        if (__builtin_expect(scattered, 0)) {
            Ints corners = corner;
            read_scattered(image, (const int *)&corners, to.stride, &near);
        } else {
            near = (Corners){LOAD(at), LOAD(at + 1), LOAD(at + to.stride), LOAD(at + to.stride + 1)};
        }
        Lanes above = near.right_above - near.left_above, below = near.right_below - near.left_below;
        Lanes upper = near.left_above + x * above, lower = near.left_below + x * below;
        LOAD(to.value + place) = upper + y * (lower - upper);
        LOAD(to.along_x + place) = above + y * (below - above);
        LOAD(to.along_y + place) = lower - upper;
    }
}

/* Samples of a row of n points from number ``first`` of the tile on. Returns 0 if some of them lie where the
   moving image is not valid; with ``certain`` none of them does, and this is not tested. */
static INLINE int sample_inside(const Step *step, const Scratch *s, int y, int first, int n, int line,
    float t, int certain, int channels) {
    const float *m = step->matrix, *ax = s->blend + first, *bx = ax + s->stride, *cx = bx + s->stride,
                *ay = cx + s->stride, *by = ay + s->stride, *cy = by + s->stride;
    float from_x = m[1] * (float)y + m[2], from_y = m[4] * (float)y + m[5], q = t * (1 - t);
    const float *box = step->valid_box;
    float left = box[0], top = box[1], right = box[2], bottom = box[3];
    int stride = step->moving_stride;
    unsigned last = stride * (step->moving_height - 1) - 2; /* corners of points outside are replaced by 0 */
    Samples to = samples_of(step, s, (size_t)line * s->stride + first, channels);
    Ints outside = {0};
    for (int i = 0; i < n; i += LANES) {
        Lanes x = from_x + (LOAD(ax + i) + t * LOAD(bx + i) + q * LOAD(cx + i));
        Lanes y = from_y + (LOAD(ay + i) + t * LOAD(by + i) + q * LOAD(cy + i));
        Ints column = __builtin_convertvector(x, Ints), row = __builtin_convertvector(y, Ints),
             corner = (Ints)((Unsigned)row * (unsigned)stride + (Unsigned)column);
        if (!certain) outside |= ~((x > left) & (x < right) & (y > top) & (y < bottom)) & (COUNT < n - i);
        if (!certain) corner &= (Unsigned)corner <= last;
        sample(to, i, corner, x - __builtin_convertvector(column, Lanes),
            y - __builtin_convertvector(row, Lanes));
    }
    return certain || !any(outside);
}

/* The pixels before points anywhere. Beyond the border the value is that of the border and the gradient 0;
 * the validity falls to 0 within a pixel. */
static void corners_anywhere(const Step *step, Scratch *s, int n, float *restrict valid) {
    int width = step->moving_width, height = step->moving_height;
    float last_x = (float)(width - 1), last_y = (float)(height - 1);
    const float *restrict px = s->x, *restrict py = s->y;
    float *restrict fx = s->share_x, *restrict fy = s->share_y, *restrict free_x = s->free_x,
                    *restrict free_y = s->free_y;
    int *restrict corner = s->corner;
    INDEPENDENT
    for (int i = 0; i < n; i++) {
        float from_x = px[i], from_y = py[i], x = from_x > 0 ? from_x : 0,
              y = from_y > 0 ? from_y : 0; /* 0 also where it is NaN */
        x = x < last_x ? x : last_x;
        y = y < last_y ? y : last_y;
        int column = least((int)x, width - 2), row = least((int)y, height - 2);
        corner[i] = row * step->moving_stride + column;
        fx[i] = x - (float)column;
        fy[i] = y - (float)row;
        free_x[i] = (float)((x > 0) & (x < last_x));
        free_y[i] = (float)((y > 0) & (y < last_y));
        valid[i] = valid_of_ones(from_x, last_x) * valid_of_ones(from_y, last_y);
    }
}

/* Samples of a row of points anywhere; their validity is stored in place of their weight. */
static void sample_anywhere(const Step *step, Scratch *s, int y, int first, int n, int line, float t) {
    int all = padded_size(n);
    size_t place = (size_t)line * s->stride + first;
    float *valid = s->weight + place;
    points_of_row(step, s, y, first, all, t);
    corners_anywhere(step, s, all, valid);
    Samples to = samples_of(step, s, place, step->channels);
    for (int i = 0; i < all; i += LANES) {
        Lanes x = LOAD(s->share_x + i), y = LOAD(s->share_y + i);
        sample(to, i, *(const Ints *)(s->corner + i), x, y);
        for (int c = 0; c < to.channels; c++) {
            LOAD(to.along_x + c * to.plane + i) *= LOAD(s->free_x + i);
            LOAD(to.along_y + c * to.plane + i) *= LOAD(s->free_y + i);
        }
        if (step->moving_mask) { /* beyond the border the validity is that of a mask of ones */
            Corners near;
            read_scattered(step->moving_mask, s->corner + i, to.stride, &near);
            Lanes upper = near.left_above + x * (near.right_above - near.left_above),
                  lower = near.left_below + x * (near.right_below - near.left_below);
            LOAD(valid + i) *= upper + y * (lower - upper);
        }
    }
}

/* A row of a tile, with one more pixel on each side where there is one (and some more, which are not
 * used). */
static void fill_row(const Step *step, Scratch *s, int y, int begin, int n, int left, int right, int line,
    float t, int certain) {
    int first = MARGIN - (left ? LANES : 0), count = n + right + MARGIN - first;
    size_t place = (size_t)line * s->stride + MARGIN, from = (size_t)y * step->width + begin;
    float *restrict weight = s->weight + place;
    for (int i = 0; i < n; i += MARGIN) AHEAD(step->weight + from + step->width + i);
    int inside;
    if (certain)
        BY_KIND((void)cosine; inside = sample_inside(step, s, y, first, count, line, t, 1, channels));
    else
        BY_KIND((void)cosine; inside = sample_inside(step, s, y, first, count, line, t, 0, channels));
    if (inside) {
        memcpy(weight, step->weight + from, sizeof(float) * n);
    } else {
        sample_anywhere(step, s, y, first, count, line, t);
        for (int i = 0; i < n; i++) weight[i] *= step->weight[from + i];
    }
    for (int c = 0; c < step->channels; c++) {
        const float *fixed = step->fixed + (size_t)c * step->height * step->width + from;
        for (int i = 0; i < n; i += MARGIN) AHEAD(fixed + step->width + i);
        memcpy(s->fixed + (size_t)c * (step->window + 2) * s->stride + place, fixed, sizeof(float) * n);
    }
}

enum {
    COUNTED,
    PRODUCT,
    WARPED,
    FIXED,
    WARPED_MEAN,
    FIXED_MEAN,
    SUMS
}; /* sums of weights, and of weights times f w, w w, f f, w and f: fixed image f, warped moving image w */
static const int KEPT[3] = {
    COUNTED, FIXED, FIXED_MEAN}; /* the same in each step where the moving image is valid everywhere */

/* The sums along the columns of a tile. ``s->from`` is subtracted from both images, since the variance of
   small numbers is more exact; cosines need no means, and nothing is subtracted. With ``kept`` the sums that
   are the same in each step are not computed again. */
static INLINE void add_rows(
    const Step *step, const Scratch *s, int rows, int n, int kept, int cosine, int channels) {
    int stride = s->stride, plane = (step->window + 2) * stride;
    float from_f = cosine ? 0 : s->from[0], from_w = cosine ? 0 : s->from[1];
    for (int i = MARGIN; i < MARGIN + n; i += LANES) {
        Lanes sums[SUMS] = {{0}};
        for (int line = 1; line <= rows; line++) {
            int place = line * stride + i;
            Lanes m = LOAD(s->weight + place);
            if (!kept) sums[COUNTED] += m;
            for (int c = 0; c < channels; c++, place += plane) {
                Lanes moved = LOAD(s->value + place) - from_w, fixed = LOAD(s->fixed + place) - from_f,
                      weighted = m * moved;
                sums[PRODUCT] += weighted * fixed;
                sums[WARPED] += weighted * moved;
                if (!cosine) sums[WARPED_MEAN] += weighted;
                if (kept) continue;
                Lanes weighed = m * fixed;
                sums[FIXED] += weighed * fixed;
                if (!cosine) sums[FIXED_MEAN] += weighed;
            }
        }
        for (int k = 0; k < SUMS; k++) LOAD(s->sums + k * stride + i) = sums[k];
    }
}

typedef struct {
    float value, weight, a, b, c, curvature;
} Known; /* similarity of a window; its derivative by a pixel w is a f + b w + c */

static Known correlation(const float *sum, float area, const float *from) {
    float count = sum[COUNTED] > 1e-3f ? sum[COUNTED] : 1e-3f,
          at_least_one = sum[COUNTED] > 1 ? sum[COUNTED] : 1;
    float mean_w = sum[WARPED_MEAN] / count, mean_f = sum[FIXED_MEAN] / count,
          cov = sum[PRODUCT] / count - mean_f * mean_w;
    float var_w = sum[WARPED] / count - mean_w * mean_w, var_f = sum[FIXED] / count - mean_f * mean_f;
    var_w = var_w > 0 ? var_w : 0;
    var_f = var_f > 0 ? var_f : 0;
    float ratio = cov / ((var_f + FLAT) * (var_w + FLAT)), value = cov * ratio,
          per_pixel = 2 / ((var_w + FLAT) * at_least_one);
    float a = 2 * ratio / at_least_one, b = -value * per_pixel;
    return (Known){value, sum[COUNTED] / area, a, b, -a * (mean_f + from[0]) - b * (mean_w + from[1]),
        (value > LEAST_SIMILARITY ? value : LEAST_SIMILARITY) * per_pixel};
}

static Known cosine(const float *sum, float area) {
    float share = sum[COUNTED] / area, floor_ = (0.02f * share + 1e-4f) * area, warped = sum[WARPED] + floor_;
    float size = 1 / sqrtf((sum[FIXED] + floor_) * warped), value = sum[PRODUCT] * size;
    return (Known){value, share, size, -value / warped, 0,
        (value > LEAST_SIMILARITY ? value : LEAST_SIMILARITY) / warped};
}

/* The sums of groups of ``side`` of n numbers; the last group may be smaller. */
static void sum_groups(const float *restrict each, int n, int side, float *restrict out) {
    int complete = n / side;
    for (int group = 0; group < complete; group++) out[group] = 0;
    for (int i = 0; i < side; i++) {
        INDEPENDENT
        for (int group = 0; group < complete; group++) out[group] += each[group * side + i];
    }
    if (n % side) {
        out[complete] = 0;
        for (int i = complete * side; i < n; i++) out[complete] += each[i];
    }
}

/* The similarity of the windows of a tile, and their derivatives for each column. With ``kept`` the sums that
 * are the same in each step are read; with ``certain`` they are stored for the steps to come. */
static void close_windows(const Step *step, Scratch *s, int line, int begin, int n, int kept, int certain) {
    int window = step->window, windows = window_at(step, lines_of(step), 0);
    for (int from = 0; from < n; from += window) {
        int to = least(from + window, n), place = window_at(step, line, begin + from);
        float sum[SUMS];
        for (int k = 0; k < SUMS; k++) {
            const float *restrict each = s->sums + k * s->stride + MARGIN;
            float total = 0;
            INDEPENDENT
            for (int i = from; i < to; i++) total += each[i];
            sum[k] = total;
        }
        for (int k = 0; k < 3; k++) {
            float *fixed_sum = step->fixed_sums + k * windows + place;
            if (kept)
                sum[KEPT[k]] = *fixed_sum;
            else if (certain)
                *fixed_sum = sum[KEPT[k]];
        }
        Known known = step->cosine ? cosine(sum, (float)(window * window))
                                   : correlation(sum, (float)(window * window), s->from);
        step->values[place] = known.value;
        step->weights[place] = known.weight;
        if (!step->losses) continue;
        float left = 1 - known.value > 0 ? 1 - known.value : 0, steep = known.weight / (left + UNEXPLAINED);
        step->losses[place] = logf((left + UNEXPLAINED) / (1 + UNEXPLAINED)) * known.weight;
        float each[4] = {-known.a * steep, -known.b * steep, -known.c * steep, known.curvature * steep};
        for (int k = 0; k < 4; k++) INDEPENDENT
        for (int i = from; i < to; i++) s->known[k * s->stride + MARGIN + i] = each[k];
    }
}

static int row_of(const Step *step, int y) {
    float share;
    return cell_of((float)y, step->origin[1], step->spacing[1], step->rows, &share);
}

/* The sums (6, padded width) along columns between a row of patches and the next one. */
static float *column_sums_at(const Step *step, const Scratch *s, int cell) {
    return s->column_sums + (size_t)(cell % s->lines) * 6 * padded_size(step->width);
}

/* The gradient of the loss with respect to the points of some rows of a tile, added to the sums along columns
 * between two rows of patches, and the loss's curvature. */
static INLINE void add_gradients(
    const Step *step, const Scratch *s, int first, int end, int begin, int n, float *out, int channels) {
    int stride = s->stride, plane = (step->window + 2) * stride, padded = padded_size(step->width);
    for (int i = MARGIN; i < MARGIN + n; i += LANES) {
        const float *known = s->known + i;
        Lanes a = LOAD(known), b = LOAD(known + stride), c = LOAD(known + 2 * stride),
              curvature = 0.25f * LOAD(known + 3 * stride);
        Lanes xx = {0}, xy = {0}, yy = {0}, x_sum = {0}, x_down = {0}, x_bow = {0}, y_sum = {0}, y_down = {0},
              y_bow = {0};
        for (int line = first; line < end; line++) {
            float t = s->down[line], bow = s->bow[line];
            int place = line * stride + i;
            Lanes m = LOAD(s->weight + place), curved = curvature * m;
            for (int k = 0; k < channels; k++, place += plane) {
                const float *w = s->value + place;
                Lanes gradient = (a * LOAD(s->fixed + place) + b * LOAD(w) + c) * m,
                      gradient_x = gradient * LOAD(s->along_x + place),
                      gradient_y = gradient * LOAD(s->along_y + place);
                Lanes gx = LOAD(w + 1) - LOAD(w - 1), gy = LOAD(w + stride) - LOAD(w - stride),
                      curved_x = curved * gx;
                xx += curved_x * gx;
                xy += curved_x * gy;
                yy += curved * gy * gy;
                x_sum += gradient_x;
                x_down += t * gradient_x;
                x_bow += bow * gradient_x;
                y_sum += gradient_y;
                y_down += t * gradient_y;
                y_bow += bow * gradient_y;
            }
        }
        Lanes squares[3] = {xx, xy, yy}, sums[6] = {x_sum, x_down, x_bow, y_sum, y_down, y_bow};
        for (int k = 0; k < 3; k++) LOAD(s->squares + k * stride + i) += squares[k];
        for (int k = 0; k < 6; k++) LOAD(out + (size_t)k * padded + begin + i - MARGIN) += sums[k];
    }
}

/* Adds the sums along all columns between a row of patches and the next one to the gradient with respect
 * to the patches: the adjoint of blend(). */
static void add_to_patches(const Step *step, Scratch *s, int row, float *gradient) {
    int columns = step->columns, patches = step->rows * columns, padded = padded_size(step->width);
    float *column_sums = column_sums_at(step, s, row);
    for (int x = 0, stop; x < step->width; x = stop) {
        int cell = s->cell[x];
        stop = s->ends[cell];
        for (int k = 0; k < 2; k++) {
            float sums[3][3]; /* 1, t and t (1 - t) along y; 1, s and s (1 - s) along x */
            for (int j = 0; j < 3; j++) {
                const float *restrict each = column_sums + (size_t)(3 * k + j) * padded;
                const float *restrict hat = s->hat;
                float zero = 0, one = 0, two = 0;
                INDEPENDENT
                for (int i = x; i < stop; i++) {
                    zero += each[i];
                    one += hat[i] * each[i];
                    two += hat[i] * (1 - hat[i]) * each[i];
                }
                sums[j][0] = zero, sums[j][1] = one, sums[j][2] = two;
            }
            float *move = gradient + 3 * k * patches + row * columns + cell, *across = move + patches,
                  *down = across + patches;
            float upper[3], lower[3];
            for (int j = 0; j < 3; j++) lower[j] = sums[1][j], upper[j] = sums[0][j] - sums[1][j];
            move[0] += upper[0] - upper[1];
            move[1] += upper[1];
            move[columns] += lower[0] - lower[1];
            move[columns + 1] += lower[1];
            across[0] += upper[2];
            across[1] -= upper[2];
            across[columns] += lower[2];
            across[columns + 1] -= lower[2];
            down[0] += sums[2][0] - sums[2][1];
            down[1] += sums[2][1];
            down[columns] -= sums[2][0] - sums[2][1];
            down[columns + 1] -= sums[2][1];
        }
    }
    memset(column_sums, 0, sizeof(float) * 6 * padded);
}

static void add_to_blocks(const Step *step, Scratch *s, int y, int begin, int n) {
    int block = step->block, per_line = (step->width + block - 1) / block,
        lines = (step->height + block - 1) / block;
    for (int k = 0; k < 3; k++) {
        const float *restrict each = s->squares + k * s->stride + MARGIN;
        float *out = step->curvature + ((size_t)k * lines + y / block) * per_line + begin / block;
        sum_groups(each, n, block, out);
    }
    memset(s->squares, 0, sizeof(float) * 3 * s->stride);
}

static int any_weight(const Step *step, int top, int bottom, int begin, int end) {
    for (int y = top; y < bottom; y++)
        for (int x = begin; x < end; x++)
            if (step->weight[(size_t)y * step->width + x] > 0) return 1;
    return 0;
}

/* The results of a tile without weight: zeros. */
static void leave_empty(const Step *step, int line, int top, int bottom, int begin, int end) {
    int block = step->block, across = (step->width + block - 1) / block,
        down = (step->height + block - 1) / block;
    for (int x = begin; x < end; x += step->window) {
        int place = window_at(step, line, x);
        step->values[place] = step->weights[place] = 0;
        if (step->losses) step->losses[place] = 0;
    }
    if (!step->losses) return;
    for (int k = 0; k < 3; k++)
        for (int y = top / block; y * block < bottom; y++)
            for (int x = begin / block; x * block < end; x++)
                step->curvature[((size_t)k * down + y) * across + x] = 0;
}

/* Whether all points of rows ``top`` to ``bottom`` and columns ``begin`` to ``end`` (excluded) lie where the
   moving image is valid. Displacements exceed those of the patches around by at most half a gradient along
   each axis, which bounds the points. */
static int certainly_inside(const Step *step, const Scratch *s, int top, int bottom, int begin, int end) {
    const float *m = step->matrix;
    int patches = step->rows * step->columns, last_row = row_of(step, bottom - 1) + 1,
        last_column = s->cell[end - 1] + 1, inside = 1;
    for (int k = 0; k < 2; k++) {
        float least_move = INFINITY, most_move = -INFINITY, bow = 0, edge[4];
        for (int i = row_of(step, top); i <= last_row; i++)
            for (int j = s->cell[begin]; j <= last_column; j++) {
                const float *move = step->parameters + 3 * k * patches + i * step->columns + j;
                float across = fabsf(move[patches]) + fabsf(move[2 * patches]);
                least_move = *move < least_move ? *move : least_move;
                most_move = *move > most_move ? *move : most_move;
                bow = across > bow ? across : bow;
            }
        for (int corner = 0; corner < 4; corner++)
            edge[corner] = m[3 * k] * (float)(corner % 2 ? end - 1 : begin) +
                           m[3 * k + 1] * (float)(corner / 2 ? bottom - 1 : top) + m[3 * k + 2];
        float from = fminf(fminf(edge[0], edge[1]), fminf(edge[2], edge[3])) + least_move - bow / 2;
        float to = fmaxf(fmaxf(edge[0], edge[1]), fmaxf(edge[2], edge[3])) + most_move + bow / 2;
        inside &= from > step->valid_box[k] + 0.01f &&
                  to < step->valid_box[2 + k] - 0.01f; /* with a margin for rounding; false for NaN */
    }
    return inside;
}

/* The windows of a line from pixel ``begin`` to ``end``. */
static void tile(const Step *step, Scratch *s, int line, int begin, int end) {
    int top = line * step->window, bottom = least(top + step->window, step->height), rows = bottom - top,
        n = end - begin, more = step->losses != NULL;
    int left = more && begin > 0, right = more && end < step->width, stride = s->stride;
    if (!any_weight(step, top, bottom, begin, end)) {
        leave_empty(step, line, top, bottom, begin, end);
        return;
    }
    int first = more ? most(top - 1, 0) : top, last = more ? least(bottom + 1, step->height) : bottom,
        blended = -1;
    int certain = end + LANES <= step->width &&
                  certainly_inside(step, s, first, last, most(begin - LANES, 0), end + LANES);
    for (int y = first; y < last; y++) {
        int cell = cell_of((float)y, step->origin[1], step->spacing[1], step->rows, s->down + y - top + 1);
        if (cell != blended)
            blend(step, s, cell, begin, most(begin - LANES, 0), least(end + LANES, step->width));
        blended = cell;
        float t = s->down[y - top + 1];
        s->bow[y - top + 1] = t * (1 - t);
        fill_row(step, s, y, begin, n, left, right, y - top + 1, t, certain);
    }
    if (!step->cosine) { /* cosines need no means */
        size_t middle = (size_t)(rows + 1) / 2 * stride + MARGIN + n / 2;
        s->from[0] = s->fixed[middle];
        s->from[1] = s->value[middle];
    }
    int kept = certain && step->fixed_sums[window_at(step, line, begin)] >= 0; /* NaN: not computed yet */
    if (kept)
        BY_KIND(add_rows(step, s, rows, n, 1, cosine, channels));
    else
        BY_KIND(add_rows(step, s, rows, n, 0, cosine, channels));
    close_windows(step, s, line, begin, n, kept, certain);
    if (!more) return;
    for (int c = 0; c < step->channels; c++) { /* beyond the image the border's pixels are repeated */
        float *plane = s->value + (size_t)c * (step->window + 2) * stride;
        for (int row = 1; row <= rows; row++) {
            float *begins = plane + row * stride + MARGIN;
            if (!left) begins[-1] = begins[0];
            if (!right) begins[n] = begins[n - 1];
        }
        if (top == 0) memcpy(plane, plane + stride, sizeof(float) * stride);
        if (bottom == step->height)
            memcpy(plane + (rows + 1) * stride, plane + rows * stride, sizeof(float) * stride);
    }
    memset(s->squares, 0, sizeof(float) * 3 * stride);
    for (int y = top, next; y < bottom; y = next) { /* rows of one block between the same patches */
        int cell = row_of(step, y);
        for (next = y + 1; next < bottom && next % step->block && row_of(step, next) == cell;) next++;
        float *sums = column_sums_at(step, s, cell);
        BY_KIND((void)cosine; add_gradients(step, s, y - top + 1, next - top + 1, begin, n, sums, channels));
        if (next % step->block == 0 || next == bottom) add_to_blocks(step, s, next - 1, begin, n);
    }
}

/* Some lines of windows, and their contribution to the gradient with respect to the patches. */
static void chunk(const Step *step, Scratch *s, int line, int end, float *gradient) {
    int given = row_of(step, line * step->window);
    for (; line < end; line++) {
        for (int begin = 0; begin < step->width; begin += s->wide)
            tile(step, s, line, begin, least(begin + s->wide, step->width));
        int bottom = least((line + 1) * step->window, step->height),
            until = line + 1 < end ? row_of(step, bottom) : row_of(step, bottom - 1) + 1;
        for (; step->losses && given < until; given++) add_to_patches(step, s, given, gradient);
    }
}

/* The version of Step and Grid, which cpu.py compares with its own. */
int format(void) { return 7; }

/* Memory of which the first ``zeros`` floats are zero. */
static float *allocate(size_t count, size_t zeros) {
    float *memory = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    if (memory) memset(memory, 0, zeros * sizeof(float));
    return memory;
}

/* Scratch memory of one thread, freed with one call; NULL if out of memory. */
static float *prepare(const Step *step, Scratch *s) {
    int wide = step->window, lines = (int)((float)step->window / step->spacing[1]) + 2;
    while ((wide < TILE && wide < step->width) || wide % MARGIN)
        wide += step->window; /* a multiple of windows and of vectors */
    int stride =
        wide + (wide / MARGIN % 2 ? 2 : 3) * MARGIN; /* rows start in different sets of the cache */
    size_t plane = (size_t)(step->window + 2) * stride, rows = 6 + 6 + 6 + 4 + 3 + 1,
           columns = (size_t)lines * 6 * padded_size(step->width);
    size_t all = columns + (4 * (size_t)step->channels + 1) * plane + rows * stride +
                 2 * (size_t)(step->window + 2 + step->width) + step->columns;
    float *memory = allocate(all, columns);
    if (!memory) return NULL;
    float *next = memory;
    *s = (Scratch){.stride = stride, .wide = wide, .lines = lines};
    struct {
        float **at;
        size_t count;
    } parts[] = {{&s->column_sums, columns}, {&s->value, step->channels * plane},
        {&s->along_x, step->channels * plane}, {&s->along_y, step->channels * plane},
        {&s->fixed, step->channels * plane}, {&s->weight, plane}, {&s->x, stride}, {&s->y, stride},
        {&s->share_x, stride}, {&s->share_y, stride}, {&s->free_x, stride}, {&s->free_y, stride},
        {&s->blend, 6 * stride}, {&s->sums, 6 * stride}, {&s->known, 4 * stride}, {&s->squares, 3 * stride},
        {&s->down, step->window + 2}, {&s->bow, step->window + 2}, {&s->hat, step->width}};
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) *parts[k].at = next, next += parts[k].count;
    s->corner = (int *)next, next += stride;
    s->cell = (int *)next, next += step->width;
    s->ends = (int *)next;
    for (int x = 0; x < step->width; x++) {
        s->cell[x] = cell_of((float)x, step->origin[0], step->spacing[0], step->columns, &s->hat[x]);
        s->ends[s->cell[x]] = x + 1;
    }
    return memory;
}

/* The first line of windows of a chunk. */
static int line_of(const Step *step, int number, int chunks) {
    return (int)((long)lines_of(step) * number / chunks);
}

/* The smallest distance at which two chunks never have a patch in common. */
static int chunk_distance(const Step *step, int chunks) {
    int distance = 1;
    for (int number = 0; number < chunks; number++) {
        int last =
            row_of(step, least(line_of(step, number + 1, chunks) * step->window, step->height) - 1) + 1;
        while (number + distance < chunks &&
               row_of(step, line_of(step, number + distance, chunks) * step->window) <= last)
            distance++;
    }
    return distance;
}

/* All lines of windows, in chunks, by up to ``threads`` threads, and the gradient (2, 3, rows, columns) of
   the loss with respect to the patches. Chunks without a common patch add to the same array, others to
   different ones, so the result is the same for any number of threads. Returns 0, or 1 if out of memory. */
int expand(const Step *step, int chunks, int threads, float *gradient) {
    int size = 6 * step->rows * step->columns, failed = 0, distance = chunk_distance(step, chunks);
    float *sums = allocate((size_t)distance * size, (size_t)distance * size);
    if (!sums) return 1;
#pragma omp parallel num_threads(threads)
    {
        Scratch s;
        float *memory = prepare(step, &s);
        if (!memory) failed = 1;
#pragma omp for schedule(dynamic)
        for (int number = 0; number < chunks; number++)
            if (memory)
                chunk(step, &s, line_of(step, number, chunks), line_of(step, number + 1, chunks),
                    sums + (size_t)(number % distance) * size);
        free(memory);
#pragma omp for
        for (int i = 0; i < size; i++) {
            float sum = 0;
            for (int k = 0; k < distance; k++) sum += sums[(size_t)k * size + i];
            gradient[i] = sum;
        }
    }
    free(sums);
    return failed;
}
