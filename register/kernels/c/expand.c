/* One pass over the pixels of a level: blend -> sample -> windowed sums, and back to the patches.

   What register/objective.py says with tensors, for one image on a CPU: the displacement of the patches
   (patches.py), bilinear samples and their slopes (sampling.py), the similarity of windows with its first and
   second derivative (similarity.py), summed back over patches and blocks. A line of windows is worked on in
   tiles small enough to stay beside the processor, so the images are read once and nothing of their size is
   written. A tile is filled row by row, and what is summed over it is summed down its columns, LANES of them
   at once, without leaving the processor's registers.

   Lines are taken in pieces, whose number is the same for any number of threads, and so are all sums. */

#ifdef __AVX__
#include <immintrin.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FLAT 1e-5f /* similarity.FLAT */
#define UNEXPLAINED 0.005f /* similarity.UNEXPLAINED */
#define LEAST_BEND 0.1f /* similarity.LEAST_BEND */
#define TILE 256 /* pixels along x that are worked on together, at least */
#define INDEPENDENT _Pragma("GCC ivdep") /* what a loop writes is nothing that it reads elsewhere */
#define AHEAD(address)                                                                                       \
    __builtin_prefetch(address) /* what the next row will read; rows of a tile lie too far apart to be       \
                                   foreseen by the processor */
#define INLINE inline __attribute__((always_inline)) /* vectors are not to be handed over in memory */
#define LANES 8 /* floats that are worked on at once where that is said */
#define MARGIN 16 /* floats by which rows of scratch memory begin early, and end late: a line of the cache   \
                   */
/* Does work with constants for what is common, each in code of its own: correlations of one channel, and
 * cosines of two. */
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
typedef double two_floats __attribute__((aligned(4), may_alias)); /* read and moved as one number */
typedef long long pair __attribute__((aligned(4),
    may_alias)); /* two numbers side by side; the first is in the lower half, as on all processors of today */

typedef struct {
    int channels, height, width; /* of the fixed image */
    int moving_height, moving_width; /* at least 2 each */
    int moving_stride; /* from a row to the next one in memory, of its image and mask */
    int window, block; /* sides in pixels; a window is a whole number of blocks */
    int rows, columns; /* of the patch grid, at least 2 each */
    int cosine; /* cosine of vectors, or else the squared correlation of one channel */
    float matrix[6]; /* moving pixels from fixed ones, without patches */
    float origin[2], spacing[2]; /* of the patch grid, along x and y */
    float whole[4]; /* left, top, right, bottom: between the centres of these pixels the mask is 1 */
    const float *fixed, *weight; /* (channels, height, width), (height, width) */
    const float *moving,
        *seen; /* (channels, moving height, moving width); its mask, or NULL where it is 1 everywhere */
    const float *parameters; /* (2, 3, rows, columns), displacements in moving pixels */
    float *still; /* (3, windows): sums that are the same in each step, not a number as long as they are not
                     known */
    float *values, *weights; /* out, per window: its similarity and its weight */
    float *losses; /* out, per window: its weighted loss; NULL where only values are asked for */
    float *curvature; /* out, (3, blocks along y, blocks along x) */
} Step;

typedef struct { /* scratch memory of one call: planes (window + 2, stride) have a row more above and below a
                    tile, which begins MARGIN floats from the begin of a row, and rows (stride) */
    int wide, stride; /* pixels of a tile along x, floats of a row */
    float *value, *along_x, *along_y; /* (channels) planes: the moving image and its slopes at the points */
    float *fixed, *weight; /* (channels) planes and a plane */
    float *x, *y, *share_x, *share_y, *free_x, *free_y; /* rows */
    int *corner; /* row: the first of four pixels */
    float from[2]; /* a value of the fixed and one of the moving image that differ little from all in the tile
                    */
    float *blend; /* 6 rows: the displacement of each column between two rows of patches */
    float *sums; /* 6 rows */
    float *known; /* 4 rows: a, b, c and the curvature of each column's window */
    float *bent; /* 3 rows */
    float *pulled; /* (lines, 6, filled up width): by all columns, between as many rows of patches as a line
                      of windows may meet */
    int lines;
    float *down, *bow; /* (window + 2): the share t of the way of a row from a row of patches to the next, and
                          t (1 - t) */
    float *hat; /* (width): the share of the way from a patch centre to the next */
    int *cell; /* (width): the patch column before a pixel */
    int *ends; /* (columns): where the pixels of each cell end */
} Scratch;

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }
static int filled_up(int n) { return (n + LANES - 1) / LANES * LANES; }

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

/* Where the columns of a tile from ``begin`` are met between two patch rows, but for what the map adds in a
   row: a + t b + t (1 - t) c at a share t of the way down; a, b, c of x, then of y. */
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

/* Where n pixels of a row from number ``first`` of the tile on are met in the moving image. */
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

/* How much of a pixel of a line of ``count`` ones is seen at a position: 1 inside, falling to 0 one pixel
 * beyond. */
static INLINE float seen_of_ones(float position, float last) {
    float middle = 0.5f * last, seen = middle + 1 - fabsf(position - middle);
    seen = seen > 0 ? seen : 0;
    return seen < 1 ? seen : 1;
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

/* Two neighbours at each of LANES places, as those on the left and those on the right. */
static INLINE void read_pairs(const float *image, const int *place, Lanes *left, Lanes *right) {
#ifdef __AVX__
    __m128 two[LANES / 2];
    for (int i = 0; i < LANES / 2; i++) { /* in the order that what follows undoes */
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

/* The four pixels around each of LANES points that lie anywhere. Reading from many places is what costs, so
 * two neighbours are read as one number. */
static INLINE void read_apart(const float *image, const int *corner, int width, Corners *out) {
    read_pairs(image, corner, &out->left_above, &out->right_above);
    read_pairs(image + width, corner, &out->left_below, &out->right_below);
}

typedef struct {
    const float *moving;
    size_t size, plane;
    int channels, stride;
    float *value, *along_x, *along_y;
} Samples; /* what sample() reads and writes */

static INLINE Samples samples_of(const Step *step, const Scratch *s, size_t place, int channels) {
    size_t size = (size_t)step->moving_stride * step->moving_height,
           plane = (size_t)(step->window + 2) * s->stride;
    return (Samples){step->moving, size, plane, channels, step->moving_stride, s->value + place,
        s->along_x + place, s->along_y + place};
}

/* Samples of all channels at LANES points into the places from number ``i`` on, with their slopes: the pixels
   before the points, and how far beyond them these lie. Where the points have neighbouring pixels before
   them, as most have where the map hardly stretches or turns, their pixels are read at once. */
static INLINE void sample(const Samples to, int i, Ints corner, Lanes x, Lanes y) {
    int apart = any(corner - (corner[0] + COUNT)), first = corner[0];
    for (int c = 0; c < to.channels; c++) {
        const float *image = to.moving + c * to.size, *at = image + first;
        size_t place = c * to.plane + i;
        Corners near;
        AHEAD(at + 2 * to.stride);
        if (__builtin_expect(apart, 0)) {
            Ints corners = corner;
            read_apart(image, (const int *)&corners, to.stride, &near);
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

/* Samples of a row of n points from number ``first`` of the tile on, if all of them lie where the moving
   image is seen, as may be known before; or else returns 0. */
static INLINE int sample_inside(const Step *step, const Scratch *s, int y, int first, int n, int line,
    float t, int certain, int channels) {
    const float *m = step->matrix, *ax = s->blend + first, *bx = ax + s->stride, *cx = bx + s->stride,
                *ay = cx + s->stride, *by = ay + s->stride, *cy = by + s->stride;
    float from_x = m[1] * (float)y + m[2], from_y = m[4] * (float)y + m[5], q = t * (1 - t);
    float left = step->whole[0], top = step->whole[1], right = step->whole[2], bottom = step->whole[3];
    int apart = step->moving_stride;
    unsigned last = apart * (step->moving_height - 1) - 2; /* points outside may lie anywhere */
    Samples to = samples_of(step, s, (size_t)line * s->stride + first, channels);
    Ints outside = {0};
    for (int i = 0; i < n; i += LANES) {
        Lanes x = from_x + (LOAD(ax + i) + t * LOAD(bx + i) + q * LOAD(cx + i));
        Lanes y = from_y + (LOAD(ay + i) + t * LOAD(by + i) + q * LOAD(cy + i));
        Ints column = __builtin_convertvector(x, Ints), row = __builtin_convertvector(y, Ints),
             corner = (Ints)((Unsigned)row * (unsigned)apart + (Unsigned)column);
        if (!certain) outside |= ~((x > left) & (x < right) & (y > top) & (y < bottom)) & (COUNT < n - i);
        if (!certain) corner &= (Unsigned)corner <= last;
        sample(to, i, corner, x - __builtin_convertvector(column, Lanes),
            y - __builtin_convertvector(row, Lanes));
    }
    return certain || !any(outside);
}

/* The pixels before points anywhere: beyond the border its value goes on, which has no slope, and less and
 * less is seen. */
static void corners_anywhere(const Step *step, Scratch *s, int n, float *restrict seen) {
    int width = step->moving_width, height = step->moving_height;
    float last_x = (float)(width - 1), last_y = (float)(height - 1);
    const float *restrict px = s->x, *restrict py = s->y;
    float *restrict fx = s->share_x, *restrict fy = s->share_y, *restrict free_x = s->free_x,
                    *restrict free_y = s->free_y;
    int *restrict corner = s->corner;
    INDEPENDENT
    for (int i = 0; i < n; i++) {
        float from_x = px[i], from_y = py[i], x = from_x > 0 ? from_x : 0,
              y = from_y > 0 ? from_y : 0; /* 0 also where it is no number */
        x = x < last_x ? x : last_x;
        y = y < last_y ? y : last_y;
        int column = least((int)x, width - 2), row = least((int)y, height - 2);
        corner[i] = row * step->moving_stride + column;
        fx[i] = x - (float)column;
        fy[i] = y - (float)row;
        free_x[i] = (float)((x > 0) & (x < last_x));
        free_y[i] = (float)((y > 0) & (y < last_y));
        seen[i] = seen_of_ones(from_x, last_x) * seen_of_ones(from_y, last_y);
    }
}

/* The same of points anywhere, with how much is seen of them in place of their weight. */
static void sample_anywhere(const Step *step, Scratch *s, int y, int first, int n, int line, float t) {
    int all = filled_up(n);
    size_t place = (size_t)line * s->stride + first;
    float *seen = s->weight + place;
    points_of_row(step, s, y, first, all, t);
    corners_anywhere(step, s, all, seen);
    Samples to = samples_of(step, s, place, step->channels);
    for (int i = 0; i < all; i += LANES) {
        Lanes x = LOAD(s->share_x + i), y = LOAD(s->share_y + i);
        sample(to, i, *(const Ints *)(s->corner + i), x, y);
        for (int c = 0; c < to.channels; c++) {
            LOAD(to.along_x + c * to.plane + i) *= LOAD(s->free_x + i);
            LOAD(to.along_y + c * to.plane + i) *= LOAD(s->free_y + i);
        }
        if (step->seen) { /* beyond the border nothing is seen: what was said of ones holds there too */
            Corners near;
            read_apart(step->seen, s->corner + i, to.stride, &near);
            Lanes upper = near.left_above + x * (near.right_above - near.left_above),
                  lower = near.left_below + x * (near.right_below - near.left_below);
            LOAD(seen + i) *= upper + y * (lower - upper);
        }
    }
}

/* A row of a tile, with a pixel more on the sides where there is one (and some more, that nothing is made
 * of). */
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
    STILL,
    WARPED_MEAN,
    STILL_MEAN,
    SUMS
}; /* weights; they times f w, w w, f f, w and f, of the fixed image f and the moving one w */
static const int KEPT[3] = {
    COUNTED, STILL, STILL_MEAN}; /* the same in each step where the moving image is seen everywhere */

/* The sums along the columns of a tile of so many rows, of both images less what ``s->from`` holds: the
   variance of small numbers is more exact. Cosines are those of vectors from zero and need no means, and what
   is ``kept`` is not summed again. */
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
                Lanes moved = LOAD(s->value + place) - from_w, still = LOAD(s->fixed + place) - from_f,
                      weighted = m * moved;
                sums[PRODUCT] += weighted * still;
                sums[WARPED] += weighted * moved;
                if (!cosine) sums[WARPED_MEAN] += weighted;
                if (kept) continue;
                Lanes weighed = m * still;
                sums[STILL] += weighed * still;
                if (!cosine) sums[STILL_MEAN] += weighed;
            }
        }
        for (int k = 0; k < SUMS; k++) LOAD(s->sums + k * stride + i) = sums[k];
    }
}

typedef struct {
    float value, weight, a, b, c, bend;
} Known; /* as Windows and its derivatives() in similarity.py */

static Known correlation(const float *sum, float area, const float *from) {
    float count = sum[COUNTED] > 1e-3f ? sum[COUNTED] : 1e-3f,
          at_least_one = sum[COUNTED] > 1 ? sum[COUNTED] : 1;
    float mean_w = sum[WARPED_MEAN] / count, mean_f = sum[STILL_MEAN] / count,
          cov = sum[PRODUCT] / count - mean_f * mean_w;
    float var_w = sum[WARPED] / count - mean_w * mean_w, var_f = sum[STILL] / count - mean_f * mean_f;
    var_w = var_w > 0 ? var_w : 0;
    var_f = var_f > 0 ? var_f : 0;
    float slope = cov / ((var_f + FLAT) * (var_w + FLAT)), value = cov * slope,
          per_pixel = 2 / ((var_w + FLAT) * at_least_one);
    float a = 2 * slope / at_least_one, b = -value * per_pixel;
    return (Known){value, sum[COUNTED] / area, a, b, -a * (mean_f + from[0]) - b * (mean_w + from[1]),
        (value > LEAST_BEND ? value : LEAST_BEND) * per_pixel};
}

static Known cosine(const float *sum, float area) {
    float share = sum[COUNTED] / area, floor_ = (0.02f * share + 1e-4f) * area, warped = sum[WARPED] + floor_;
    float size = 1 / sqrtf((sum[STILL] + floor_) * warped), value = sum[PRODUCT] * size;
    return (Known){
        value, share, size, -value / warped, 0, (value > LEAST_BEND ? value : LEAST_BEND) / warped};
}

/* The sums of groups of ``side`` of n numbers; the last one may be cut. */
static void sum_groups(const float *restrict each, int n, int side, float *restrict out) {
    int whole = n / side;
    for (int group = 0; group < whole; group++) out[group] = 0;
    for (int i = 0; i < side; i++) {
        INDEPENDENT
        for (int group = 0; group < whole; group++) out[group] += each[group * side + i];
    }
    if (n % side) {
        out[whole] = 0;
        for (int i = whole * side; i < n; i++) out[whole] += each[i];
    }
}

/* The similarity of the windows of a tile, and their derivatives over their columns. What is the same in each
 * step is ``kept`` or, if it will be, ``certain``. */
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
            float *still = step->still + k * windows + place;
            if (kept)
                sum[KEPT[k]] = *still;
            else if (certain)
                *still = sum[KEPT[k]];
        }
        Known known = step->cosine ? cosine(sum, (float)(window * window))
                                   : correlation(sum, (float)(window * window), s->from);
        step->values[place] = known.value;
        step->weights[place] = known.weight;
        if (!step->losses) continue;
        float left = 1 - known.value > 0 ? 1 - known.value : 0, steep = known.weight / (left + UNEXPLAINED);
        step->losses[place] = logf((left + UNEXPLAINED) / (1 + UNEXPLAINED)) * known.weight;
        float each[4] = {-known.a * steep, -known.b * steep, -known.c * steep, known.bend * steep};
        for (int k = 0; k < 4; k++) INDEPENDENT
        for (int i = from; i < to; i++) s->known[k * s->stride + MARGIN + i] = each[k];
    }
}

static int row_of(const Step *step, int y) {
    float share;
    return cell_of((float)y, step->origin[1], step->spacing[1], step->rows, &share);
}

/* Where is summed (6, filled up width) what is pulled between a row of patches and the next one. */
static float *pulled_at(const Step *step, const Scratch *s, int cell) {
    return s->pulled + (size_t)(cell % s->lines) * 6 * filled_up(step->width);
}

/* How the loss follows the points of some rows of a tile, added along columns to what is ``pulled`` at the
 * patches around them, and its curvature. */
static INLINE void pull_rows(
    const Step *step, const Scratch *s, int first, int end, int begin, int n, float *pulled, int channels) {
    int stride = s->stride, plane = (step->window + 2) * stride, whole = filled_up(step->width);
    for (int i = MARGIN; i < MARGIN + n; i += LANES) {
        const float *known = s->known + i;
        Lanes a = LOAD(known), b = LOAD(known + stride), c = LOAD(known + 2 * stride),
              bend = 0.25f * LOAD(known + 3 * stride);
        Lanes xx = {0}, xy = {0}, yy = {0}, x_sum = {0}, x_down = {0}, x_bow = {0}, y_sum = {0}, y_down = {0},
              y_bow = {0};
        for (int line = first; line < end; line++) {
            float t = s->down[line], bow = s->bow[line];
            int place = line * stride + i;
            Lanes m = LOAD(s->weight + place), bent = bend * m;
            for (int k = 0; k < channels; k++, place += plane) {
                const float *w = s->value + place;
                Lanes pull = (a * LOAD(s->fixed + place) + b * LOAD(w) + c) * m,
                      pull_x = pull * LOAD(s->along_x + place), pull_y = pull * LOAD(s->along_y + place);
                Lanes gx = LOAD(w + 1) - LOAD(w - 1), gy = LOAD(w + stride) - LOAD(w - stride),
                      bent_x = bent * gx;
                xx += bent_x * gx;
                xy += bent_x * gy;
                yy += bent * gy * gy;
                x_sum += pull_x;
                x_down += t * pull_x;
                x_bow += bow * pull_x;
                y_sum += pull_y;
                y_down += t * pull_y;
                y_bow += bow * pull_y;
            }
        }
        Lanes squares[3] = {xx, xy, yy}, pulls[6] = {x_sum, x_down, x_bow, y_sum, y_down, y_bow};
        for (int k = 0; k < 3; k++) LOAD(s->bent + k * stride + i) += squares[k];
        for (int k = 0; k < 6; k++) LOAD(pulled + (size_t)k * whole + begin + i - MARGIN) += pulls[k];
    }
}

/* What all columns between a row of patches and the next one pull, given to the patches: the adjoint of the
 * blend. */
static void give_to_patches(const Step *step, Scratch *s, int row, float *slope) {
    int columns = step->columns, patches = step->rows * columns, whole = filled_up(step->width);
    float *pulled = pulled_at(step, s, row);
    for (int x = 0, stop; x < step->width; x = stop) {
        int cell = s->cell[x];
        stop = s->ends[cell];
        for (int k = 0; k < 2; k++) {
            float sums[3][3]; /* 1, t and t (1 - t) along y; 1, s and s (1 - s) along x */
            for (int j = 0; j < 3; j++) {
                const float *restrict each = pulled + (size_t)(3 * k + j) * whole, *restrict hat = s->hat;
                float zero = 0, one = 0, two = 0;
                INDEPENDENT
                for (int i = x; i < stop; i++) {
                    zero += each[i];
                    one += hat[i] * each[i];
                    two += hat[i] * (1 - hat[i]) * each[i];
                }
                sums[j][0] = zero, sums[j][1] = one, sums[j][2] = two;
            }
            float *move = slope + 3 * k * patches + row * columns + cell, *across = move + patches,
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
    memset(pulled, 0, sizeof(float) * 6 * whole);
}

static void give_to_blocks(const Step *step, Scratch *s, int y, int begin, int n) {
    int block = step->block, per_line = (step->width + block - 1) / block,
        lines = (step->height + block - 1) / block;
    for (int k = 0; k < 3; k++) {
        const float *restrict each = s->bent + k * s->stride + MARGIN;
        float *out = step->curvature + ((size_t)k * lines + y / block) * per_line + begin / block;
        sum_groups(each, n, block, out);
    }
    memset(s->bent, 0, sizeof(float) * 3 * s->stride);
}

static int anything(const Step *step, int top, int bottom, int begin, int end) {
    for (int y = top; y < bottom; y++)
        for (int x = begin; x < end; x++)
            if (step->weight[(size_t)y * step->width + x] > 0) return 1;
    return 0;
}

/* Nothing in the tile has weight. */
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

/* Whether pixels of some rows and columns, the last ones not among them, meet the moving image where it is
   seen, whatever the patches between them: no displacement is beyond those of the patches around by more than
   half a slope along each axis. */
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
        inside &= from > step->whole[k] + 0.01f &&
                  to < step->whole[2 + k] - 0.01f; /* with room for rounding; no number is not inside */
    }
    return inside;
}

/* The windows of a line from pixel ``begin`` to ``end``. */
static void tile(const Step *step, Scratch *s, int line, int begin, int end) {
    int top = line * step->window, bottom = least(top + step->window, step->height), rows = bottom - top,
        n = end - begin, more = step->losses != NULL;
    int left = more && begin > 0, right = more && end < step->width, stride = s->stride;
    if (!anything(step, top, bottom, begin, end)) {
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
    if (!step->cosine) { /* cosines are those of vectors from zero */
        size_t middle = (size_t)(rows + 1) / 2 * stride + MARGIN + n / 2;
        s->from[0] = s->fixed[middle];
        s->from[1] = s->value[middle];
    }
    int kept = certain && step->still[window_at(step, line, begin)] >= 0; /* or it is no number yet */
    if (kept)
        BY_KIND(add_rows(step, s, rows, n, 1, cosine, channels));
    else
        BY_KIND(add_rows(step, s, rows, n, 0, cosine, channels));
    close_windows(step, s, line, begin, n, kept, certain);
    if (!more) return;
    for (int c = 0; c < step->channels; c++) { /* beyond the image its last pixels go on */
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
    memset(s->bent, 0, sizeof(float) * 3 * stride);
    for (int y = top, next; y < bottom; y = next) { /* rows of one block and between the same patches */
        int cell = row_of(step, y);
        for (next = y + 1; next < bottom && next % step->block && row_of(step, next) == cell;) next++;
        float *pulled = pulled_at(step, s, cell);
        BY_KIND((void)cosine; pull_rows(step, s, y - top + 1, next - top + 1, begin, n, pulled, channels));
        if (next % step->block == 0 || next == bottom) give_to_blocks(step, s, next - 1, begin, n);
    }
}

/* Some lines of windows, and what they pull at the patches. */
static void piece(const Step *step, Scratch *s, int line, int end, float *slope) {
    int given = row_of(step, line * step->window);
    for (; line < end; line++) {
        for (int begin = 0; begin < step->width; begin += s->wide)
            tile(step, s, line, begin, least(begin + s->wide, step->width));
        int bottom = least((line + 1) * step->window, step->height),
            until = line + 1 < end ? row_of(step, bottom) : row_of(step, bottom - 1) + 1;
        for (; step->losses && given < until; given++) give_to_patches(step, s, given, slope);
    }
}

/* What __init__.py must have been written for. */
int format(void) { return 7; }

/* Memory of which the begin is zero. */
static float *allocate(size_t count, size_t zeros) {
    float *memory = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    if (memory) memset(memory, 0, zeros * sizeof(float));
    return memory;
}

/* Scratch memory of one thread, NULL where there is none; it is freed as one piece. */
static float *prepare(const Step *step, Scratch *s) {
    int wide = step->window, lines = (int)((float)step->window / step->spacing[1]) + 2;
    while ((wide < TILE && wide < step->width) || wide % MARGIN)
        wide += step->window; /* whole windows, and whole vectors */
    int stride =
        wide + (wide / MARGIN % 2 ? 2 : 3) * MARGIN; /* rows begin in different places of the cache */
    size_t plane = (size_t)(step->window + 2) * stride, rows = 6 + 6 + 6 + 4 + 3 + 1,
           pulled = (size_t)lines * 6 * filled_up(step->width);
    size_t all = pulled + (4 * (size_t)step->channels + 1) * plane + rows * stride +
                 2 * (size_t)(step->window + 2 + step->width) + step->columns;
    float *memory = allocate(all, pulled);
    if (!memory) return NULL;
    float *next = memory;
    *s = (Scratch){.stride = stride, .wide = wide, .lines = lines};
    struct {
        float **at;
        size_t count;
    } parts[] = {{&s->pulled, pulled}, {&s->value, step->channels * plane},
        {&s->along_x, step->channels * plane}, {&s->along_y, step->channels * plane},
        {&s->fixed, step->channels * plane}, {&s->weight, plane}, {&s->x, stride}, {&s->y, stride},
        {&s->share_x, stride}, {&s->share_y, stride}, {&s->free_x, stride}, {&s->free_y, stride},
        {&s->blend, 6 * stride}, {&s->sums, 6 * stride}, {&s->known, 4 * stride}, {&s->bent, 3 * stride},
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

/* The first line of windows of a piece. */
static int line_of(const Step *step, int number, int pieces) {
    return (int)((long)lines_of(step) * number / pieces);
}

/* How many pieces follow each other until one has no patch in common with the first. */
static int pieces_apart(const Step *step, int pieces) {
    int apart = 1;
    for (int number = 0; number < pieces; number++) {
        int last =
            row_of(step, least(line_of(step, number + 1, pieces) * step->window, step->height) - 1) + 1;
        while (number + apart < pieces &&
               row_of(step, line_of(step, number + apart, pieces) * step->window) <= last)
            apart++;
    }
    return apart;
}

/* All lines of windows, in pieces, by up to ``threads`` threads, and what they pull at the patches as
   ``slope`` (2, 3, rows, columns). Pieces with no patch in common add to one sum and neighbours to different
   ones, so that the result is the same for any number of threads. Returns 0, or 1 where there is no memory.
 */
int expand(const Step *step, int pieces, int threads, float *slope) {
    int size = 6 * step->rows * step->columns, failed = 0, apart = pieces_apart(step, pieces);
    float *sums = allocate((size_t)apart * size, (size_t)apart * size);
    if (!sums) return 1;
#pragma omp parallel num_threads(threads)
    {
        Scratch s;
        float *memory = prepare(step, &s);
        if (!memory) failed = 1;
#pragma omp for schedule(dynamic)
        for (int number = 0; number < pieces; number++)
            if (memory)
                piece(step, &s, line_of(step, number, pieces), line_of(step, number + 1, pieces),
                    sums + (size_t)(number % apart) * size);
        free(memory);
#pragma omp for
        for (int i = 0; i < size; i++) {
            float sum = 0;
            for (int k = 0; k < apart; k++) sum += sums[(size_t)k * size + i];
            slope[i] = sum;
        }
    }
    free(sums);
    return failed;
}
