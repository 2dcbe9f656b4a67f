/* One pass over the pixels of a level: blend -> sample -> windowed sums, and back to the patches.

   What register/objective.py says with tensors, for one image on a CPU: the displacement of the patches (patches.py), bilinear samples and their slopes
   (sampling.py), the similarity of windows with its first and second derivative (similarity.py), summed back over patches and blocks. A band of windows is
   worked on in tiles small enough to stay beside the processor, so the images are read once and nothing of their size is written. Everything that is summed
   is summed along columns first, over neighbouring pixels at once: plain loops, which a compiler turns into vector instructions.

   Threads call expand() for different bands; only the slopes of patches are shared between bands, so each call has its own. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define FLAT 1e-5f       /* similarity.FLAT */
#define UNEXPLAINED 0.005f /* similarity.UNEXPLAINED */
#define LEAST_BEND 0.1f  /* similarity.LEAST_BEND */
#define TILE 256         /* pixels along x that are worked on together, at least */
#define INDEPENDENT _Pragma("GCC ivdep") /* what a loop writes is nothing that it reads elsewhere */
#define AHEAD(address) __builtin_prefetch(address) /* what the next row will read; rows of a tile lie too far apart to be foreseen by the processor */
#define LANES 8          /* floats that are worked on at once where that is said */
#define MARGIN 16        /* floats by which rows of scratch memory begin early, and end late */
#define LOAD(address) (*(Lanes *)(address))

typedef float Lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef long long pair __attribute__((aligned(4), may_alias)); /* two numbers side by side; the first is in the lower half, as on all processors of today */

typedef struct {
    int channels, height, width;         /* of the fixed image */
    int moving_height, moving_width;     /* at least 2 each */
    int window, block;                   /* sides in pixels; a window is a whole number of blocks */
    int rows, columns;                   /* of the patch grid, at least 2 each */
    int cosine;                          /* cosine of vectors, or else the squared correlation of one channel */
    float matrix[6];                     /* moving pixels from fixed ones, without patches */
    float origin[2], spacing[2];         /* of the patch grid, along x and y */
    float whole[4];                      /* left, top, right, bottom: between the centres of these pixels the mask is 1 */
    const float *fixed, *weight;         /* (channels, height, width), (height, width) */
    const float *moving, *seen;          /* (channels, moving height, moving width); its mask, or NULL where it is 1 everywhere */
    const float *parameters;             /* (2, 3, rows, columns), displacements in moving pixels */
    float *values, *weights;             /* out, per window: its similarity and its weight */
    float *losses;                       /* out, per window: its weighted loss; NULL where only values are asked for */
    float *curvature;                    /* out, (3, blocks along y, blocks along x) */
} Step;

typedef struct {                         /* scratch memory of one call; planes have a pixel more on every side than a tile,
                                            which begins MARGIN floats from the begin of a row */
    int wide, stride;                    /* pixels of a tile along x, floats of a row */
    float *value, *along_x, *along_y;    /* (channels, window + 2, stride): the moving image and its slopes at the points */
    float *weight;                       /* (window + 2, stride) */
    float *x, *y, *share_x, *share_y, *free_x, *free_y; /* rows */
    int *corner;                         /* row: the first of four pixels */
    float from[2];                       /* a value of the fixed and one of the moving image that differ little from all in the tile */
    float *blend;                        /* (6, stride): the displacement of each column between two rows of patches */
    float *sums;                         /* (6, stride) */
    float *known;                        /* (4, stride): a, b, c and the curvature of each column's window */
    float *pulled;                       /* (6, stride) */
    float *bent;                         /* (3, stride) */
    float *hat;                          /* (width): the share of the way from a patch centre to the next */
    int *cell;                           /* (width): the patch column before a pixel */
    int *ends;                           /* (columns): where the pixels of each cell end */
} Scratch;

static int least(int a, int b) { return a < b ? a : b; }
static int most(int a, int b) { return a > b ? a : b; }
static int filled_up(int n) { return (n + LANES - 1) / LANES * LANES; }

/* The patch before a position, and the share of the way to the next one. */
static int cell_of(float position, float origin, float spacing, int count, float *share) {
    float steps = (position - origin) / spacing;
    int cell = most(0, least((int)floorf(steps), count - 2));
    *share = steps - (float)cell;
    return cell;
}

/* The displacement of the columns of a tile between two patch rows, a + t b + t (1 - t) c at a share t of the way down: a, b, c of x, then of y. */
static void blend(const Step *step, Scratch *s, int row, int begin, int end) {
    int n = step->columns, patches = step->rows * n;
    for (int k = 0; k < 2; k++) {
        const float *move = step->parameters + 3 * k * patches + row * n, *across = move + patches, *down = across + patches;
        float *restrict a = s->blend + 3 * k * s->stride, *restrict b = a + s->stride, *restrict c = b + s->stride;
        for (int x = begin, stop; x < end; x = stop) {
            int j = s->cell[x], below = j + n;
            stop = least(s->ends[j], end);
            float upper = move[j], upper_step = move[j + 1] - upper, upper_bow = across[j] - across[j + 1];
            float lower = move[below], lower_step = move[below + 1] - lower, lower_bow = across[below] - across[below + 1];
            float bow = down[j] - down[below], bow_step = down[j + 1] - down[below + 1] - bow;
            INDEPENDENT
            for (int i = x; i < stop; i++) {
                float share = s->hat[i], q = share * (1 - share), high = upper + share * upper_step + q * upper_bow;
                a[i - begin] = high;
                b[i - begin] = lower + share * lower_step + q * lower_bow - high;
                c[i - begin] = bow + share * bow_step;
            }
        }
    }
}

/* The points of the moving image that n pixels of a row from ``begin`` on meet, and whether all of them lie where it is seen for certain. The pixels before
   them, and how far beyond them they lie, are right where they do. */
static int points_of_row(const Step *step, Scratch *s, int y, int begin, int n, float t) {
    const float *m = step->matrix;
    int stride = s->stride;
    unsigned width = step->moving_width;
    float from_x = m[1] * (float)y + m[2], from_y = m[4] * (float)y + m[5], q = t * (1 - t);
    const float *restrict ax = s->blend, *restrict bx = ax + stride, *restrict cx = bx + stride;
    const float *restrict ay = cx + stride, *restrict by = ay + stride, *restrict cy = by + stride;
    float *restrict px = s->x, *restrict py = s->y, *restrict fx = s->share_x, *restrict fy = s->share_y;
    int *restrict corner = s->corner;
    float left = step->whole[0], top = step->whole[1], right = step->whole[2], bottom = step->whole[3];
    int outside = 0;
    INDEPENDENT
    for (int i = 0; i < n; i++) {
        float along = (float)(begin + i), x = m[0] * along + from_x + (ax[i] + t * bx[i] + q * cx[i]), y = m[3] * along + from_y + (ay[i] + t * by[i] + q * cy[i]);
        int column = (int)x, row = (int)y;
        px[i] = x;
        py[i] = y;
        outside |= !((x > left) & (x < right) & (y > top) & (y < bottom));
        corner[i] = (int)((unsigned)row * width + column); /* points outside may lie anywhere */
        fx[i] = x - (float)column;
        fy[i] = y - (float)row;
    }
    return !outside;
}

/* How much of a pixel of a line of ``count`` ones is seen at a position: 1 inside, falling to 0 one pixel beyond. */
static inline float seen_of_ones(float position, float last) {
    float middle = 0.5f * last, seen = middle + 1 - fabsf(position - middle);
    seen = seen > 0 ? seen : 0;
    return seen < 1 ? seen : 1;
}

/* Whether LANES points of a row have neighbouring pixels before them, as most have where the map hardly stretches or turns. */
static inline int side_by_side(const int *corner) {
    int apart = 0;
    for (int k = 0; k < LANES; k++) apart |= corner[k] - corner[0] - k;
    return !apart;
}

typedef struct { Lanes left_above, right_above, left_below, right_below; } Corners;

/* The four pixels around each of LANES points. Reading from many places is what costs: where points are neighbours all their pixels are read at once, and
   elsewhere two neighbouring pixels as one number of twice the size. */
static inline Corners read_corners(const float *image, const int *corner, int width) {
    if (side_by_side(corner)) {
        const float *above = image + corner[0], *below = above + width;
        return (Corners){LOAD(above), LOAD(above + 1), LOAD(below), LOAD(below + 1)};
    }
    int each[4][LANES];
    INDEPENDENT
    for (int i = 0; i < LANES; i++) {
        long long above = *(const pair *)(image + corner[i]), below = *(const pair *)(image + corner[i] + width);
        each[0][i] = (int)above;
        each[1][i] = (int)(above >> 32);
        each[2][i] = (int)below;
        each[3][i] = (int)(below >> 32);
    }
    return (Corners){LOAD(each[0]), LOAD(each[1]), LOAD(each[2]), LOAD(each[3])};
}

/* The pixels before points anywhere: beyond the border its value goes on, which has no slope, and less and less is seen. */
static void corners_anywhere(const Step *step, Scratch *s, int n, float *restrict seen) {
    int width = step->moving_width, height = step->moving_height;
    float last_x = (float)(width - 1), last_y = (float)(height - 1);
    const float *restrict px = s->x, *restrict py = s->y;
    float *restrict fx = s->share_x, *restrict fy = s->share_y, *restrict free_x = s->free_x, *restrict free_y = s->free_y;
    int *restrict corner = s->corner;
    INDEPENDENT
    for (int i = 0; i < n; i++) {
        float from_x = px[i], from_y = py[i], x = from_x > 0 ? from_x : 0, y = from_y > 0 ? from_y : 0; /* 0 also where it is no number */
        x = x < last_x ? x : last_x;
        y = y < last_y ? y : last_y;
        int column = least((int)x, width - 2), row = least((int)y, height - 2);
        corner[i] = row * width + column;
        fx[i] = x - (float)column;
        fy[i] = y - (float)row;
        free_x[i] = (float)((x > 0) & (x < last_x));
        free_y[i] = (float)((y > 0) & (y < last_y));
        seen[i] = seen_of_ones(from_x, last_x) * seen_of_ones(from_y, last_y);
    }
}

/* Samples of a row of n points into row ``line`` of the tile, from number ``first`` on, with their slopes, and the pixels' weights. */
static void sample_row(const Step *step, Scratch *s, int y, int begin, int n, int line, int first, int inside) {
    int width = step->moving_width, size = width * step->moving_height, all = filled_up(n);
    const float *restrict fx = s->share_x, *restrict fy = s->share_y, *restrict free_x = s->free_x, *restrict free_y = s->free_y;
    float *restrict out = s->weight + line * s->stride + first;
    const int *restrict corner = s->corner;
    const float *restrict weight = step->weight + (size_t)y * step->width + begin;
    if (inside) {
        memcpy(out, weight, sizeof(float) * n);
    } else {
        corners_anywhere(step, s, all, out);
        INDEPENDENT
        for (int i = 0; i < n; i++) out[i] *= weight[i];
    }
    if (step->seen && !inside) /* beyond the border nothing is seen: what was said of ones holds there too */
        for (int i = 0; i < all; i += LANES) {
            Corners at = read_corners(step->seen, corner + i, width);
            Lanes upper = at.left_above + LOAD(fx + i) * (at.right_above - at.left_above), lower = at.left_below + LOAD(fx + i) * (at.right_below - at.left_below);
            LOAD(out + i) *= upper + LOAD(fy + i) * (lower - upper);
        }
    for (int c = 0; c < step->channels; c++) {
        size_t place = ((size_t)c * (step->window + 2) + line) * s->stride + first;
        float *restrict value = s->value + place, *restrict along_x = s->along_x + place, *restrict along_y = s->along_y + place;
        const float *image = step->moving + (size_t)c * size;
        for (int i = 0; i < all; i += LANES) {
            AHEAD(image + corner[i] + 2 * width);
            Corners at = read_corners(image, corner + i, width);
            Lanes above = at.right_above - at.left_above, below = at.right_below - at.left_below, x = LOAD(fx + i), y = LOAD(fy + i);
            Lanes upper = at.left_above + x * above, lower = at.left_below + x * below;
            LOAD(value + i) = upper + y * (lower - upper);
            LOAD(along_x + i) = above + y * (below - above);
            LOAD(along_y + i) = lower - upper;
        }
        INDEPENDENT
        for (int i = 0; i < (inside ? 0 : n); i++) {
            along_x[i] *= free_x[i];
            along_y[i] *= free_y[i];
        }
    }
}

/* Adds one row of a tile to the sums along its columns, of both images less what ``s->from`` holds: the variance of small numbers is more exact. */
static void add_row(const Step *step, Scratch *s, int y, int begin, int n, int line) {
    int stride = s->stride;
    const float *restrict m = s->weight + line * stride + MARGIN;
    for (int c = 0; c < step->channels; c++)
        for (int i = 0; i < n; i += MARGIN) AHEAD(step->fixed + ((size_t)c * step->height + y + 1) * step->width + begin + i);
    for (int i = 0; i < n; i += MARGIN) AHEAD(step->weight + ((size_t)y + 1) * step->width + begin + i);
    float *restrict sums = s->sums, from_f = s->from[0], from_w = s->from[1];
    INDEPENDENT
    for (int i = 0; i < n; i++) sums[i] += m[i];
    for (int c = 0; c < step->channels; c++) {
        const float *restrict f = step->fixed + ((size_t)c * step->height + y) * step->width + begin;
        const float *restrict w = s->value + ((size_t)c * (step->window + 2) + line) * stride + MARGIN;
        float *restrict fw = sums + stride, *restrict ww = fw + stride, *restrict ff = ww + stride, *restrict wm = ff + stride, *restrict fm = wm + stride;
        INDEPENDENT
        for (int i = 0; i < n; i++) {
            float moved = w[i] - from_w, still = f[i] - from_f, weighted = m[i] * moved, weighed = m[i] * still;
            fw[i] += weighted * still;
            ww[i] += weighted * moved;
            ff[i] += weighed * still;
            wm[i] += weighted;
            fm[i] += weighed;
        }
    }
}

typedef struct { float value, weight, a, b, c, bend; } Known; /* as Windows and its derivatives() in similarity.py */

static Known correlation(const float *sum, float area, const float *from) {
    float count = sum[0] > 1e-3f ? sum[0] : 1e-3f, at_least_one = sum[0] > 1 ? sum[0] : 1;
    float mean_w = sum[4] / count, mean_f = sum[5] / count;
    float var_w = sum[2] / count - mean_w * mean_w, var_f = sum[3] / count - mean_f * mean_f, cov = sum[1] / count - mean_f * mean_w;
    var_w = var_w > 0 ? var_w : 0;
    var_f = var_f > 0 ? var_f : 0;
    float slope = cov / ((var_f + FLAT) * (var_w + FLAT)), value = cov * slope, per_pixel = 2 / ((var_w + FLAT) * at_least_one);
    float a = 2 * slope / at_least_one, b = -value * per_pixel;
    return (Known){value, sum[0] / area, a, b, -a * (mean_f + from[0]) - b * (mean_w + from[1]), (value > LEAST_BEND ? value : LEAST_BEND) * per_pixel};
}

static Known cosine(const float *sum, float area) {
    float share = sum[0] / area, floor_ = (0.02f * share + 1e-4f) * area;
    float size = 1 / sqrtf((sum[3] + floor_) * (sum[2] + floor_)), value = sum[1] * size;
    return (Known){value, share, size, -value / (sum[2] + floor_), 0, (value > LEAST_BEND ? value : LEAST_BEND) / (sum[2] + floor_)};
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

/* The similarity of the windows of a tile, and their derivatives over their columns. */
static void close_windows(const Step *step, Scratch *s, int line, int begin, int n) {
    int window = step->window, per_line = (step->width + window - 1) / window;
    for (int from = 0; from < n; from += window) {
        int to = least(from + window, n), place = line * per_line + (begin + from) / window;
        float sum[6];
        for (int k = 0; k < 6; k++) {
            const float *restrict each = s->sums + k * s->stride;
            float total = 0;
            INDEPENDENT
            for (int i = from; i < to; i++) total += each[i];
            sum[k] = total;
        }
        Known known = step->cosine ? cosine(sum, (float)(window * window)) : correlation(sum, (float)(window * window), s->from);
        step->values[place] = known.value;
        step->weights[place] = known.weight;
        if (!step->losses) continue;
        float left = 1 - known.value > 0 ? 1 - known.value : 0, steep = known.weight / (left + UNEXPLAINED);
        step->losses[place] = logf((left + UNEXPLAINED) / (1 + UNEXPLAINED)) * known.weight;
        float each[4] = {-known.a * steep, -known.b * steep, -known.c * steep, known.bend * steep};
        for (int k = 0; k < 4; k++)
            INDEPENDENT
            for (int i = from; i < to; i++) s->known[k * s->stride + i] = each[k];
    }
}

/* How the loss follows the points of one row, and its curvature, added along columns. */
static void pull_row(const Step *step, Scratch *s, int y, int begin, int n, int line, float t) {
    int stride = s->stride;
    const float *restrict m = s->weight + line * stride + MARGIN;
    const float *restrict a = s->known, *restrict b = a + stride, *restrict c = b + stride, *restrict bend = c + stride;
    float *restrict xx = s->bent, *restrict xy = xx + stride, *restrict yy = xy + stride, *restrict pulled = s->pulled;
    float bow = t * (1 - t);
    for (int k = 0; k < step->channels; k++) {
        const float *restrict f = step->fixed + ((size_t)k * step->height + y) * step->width + begin;
        size_t place = ((size_t)k * (step->window + 2) + line) * stride + MARGIN;
        const float *restrict w = s->value + place, *restrict dx = s->along_x + place, *restrict dy = s->along_y + place;
        INDEPENDENT
        for (int i = 0; i < n; i++) {
            float pull = (a[i] * f[i] + b[i] * w[i] + c[i]) * m[i], pull_x = pull * dx[i], pull_y = pull * dy[i];
            float gx = 0.5f * (w[i + 1] - w[i - 1]), gy = 0.5f * (w[i + stride] - w[i - stride]), bent = bend[i] * m[i], bent_x = bent * gx;
            xx[i] += bent_x * gx;
            xy[i] += bent_x * gy;
            yy[i] += bent * gy * gy;
            pulled[i] += pull_x;
            pulled[i + stride] += t * pull_x;
            pulled[i + 2 * stride] += bow * pull_x;
            pulled[i + 3 * stride] += pull_y;
            pulled[i + 4 * stride] += t * pull_y;
            pulled[i + 5 * stride] += bow * pull_y;
        }
    }
}

/* What the columns of a tile pull, given to the patches around it: the adjoint of the blend. */
static void give_to_patches(const Step *step, Scratch *s, int begin, int n, int row, float *slope) {
    int columns = step->columns, patches = step->rows * columns, stride = s->stride;
    for (int x = 0, stop; x < n; x = stop) {
        int cell = s->cell[begin + x];
        stop = least(s->ends[cell] - begin, n);
        for (int k = 0; k < 2; k++) {
            float sums[3][3]; /* 1, t and t (1 - t) along y; 1, s and s (1 - s) along x */
            for (int j = 0; j < 3; j++) {
                const float *restrict each = s->pulled + (3 * k + j) * stride, *restrict hat = s->hat + begin;
                float zero = 0, one = 0, two = 0;
                INDEPENDENT
                for (int i = x; i < stop; i++) {
                    zero += each[i];
                    one += hat[i] * each[i];
                    two += hat[i] * (1 - hat[i]) * each[i];
                }
                sums[j][0] = zero, sums[j][1] = one, sums[j][2] = two;
            }
            float *move = slope + 3 * k * patches + row * columns + cell, *across = move + patches, *down = across + patches;
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
    memset(s->pulled, 0, sizeof(float) * 6 * stride);
}

static void give_to_blocks(const Step *step, Scratch *s, int y, int begin, int n) {
    int block = step->block, per_line = (step->width + block - 1) / block, lines = (step->height + block - 1) / block;
    for (int k = 0; k < 3; k++) {
        const float *restrict each = s->bent + k * s->stride;
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
    int window = step->window, block = step->block, per_line = (step->width + window - 1) / window;
    int across = (step->width + block - 1) / block, down = (step->height + block - 1) / block;
    for (int x = begin; x < end; x += window) {
        int place = line * per_line + x / window;
        step->values[place] = step->weights[place] = 0;
        if (step->losses) step->losses[place] = 0;
    }
    if (!step->losses) return;
    for (int k = 0; k < 3; k++)
        for (int y = top / block; y * block < bottom; y++)
            for (int x = begin / block; x * block < end; x++) step->curvature[((size_t)k * down + y) * across + x] = 0;
}

/* The windows of a line from pixel ``begin`` to ``end``. */
static void tile(const Step *step, Scratch *s, int line, int begin, int end, float *slope) {
    int top = line * step->window, bottom = least(top + step->window, step->height), n = end - begin, more = step->losses != NULL;
    int left = more && begin > 0, right = more && end < step->width, stride = s->stride;
    if (!anything(step, top, bottom, begin, end)) {
        leave_empty(step, line, top, bottom, begin, end);
        return;
    }
    memset(s->sums, 0, sizeof(float) * 6 * stride);
    int first = more ? most(top - 1, 0) : top, last = more ? least(bottom + 1, step->height) : bottom;
    int cell = -1;
    float t;
    for (int y = first; y < last; y++) {
        int row = y - top + 1, here = cell_of((float)y, step->origin[1], step->spacing[1], step->rows, &t);
        if (here != cell) blend(step, s, here, begin - left, end + right);
        cell = here;
        int inside = points_of_row(step, s, y, begin - left, filled_up(n + left + right), t);
        /* the sampled row begins one pixel before the tile where there is one */
        sample_row(step, s, y, begin - left, n + left + right, row, MARGIN - left, inside);
        if (y == top && !step->cosine) { /* cosines are those of vectors from zero */
            s->from[0] = step->fixed[(size_t)y * step->width + begin + n / 2];
            s->from[1] = s->value[s->stride + MARGIN + n / 2];
        }
        if (y >= top && y < bottom) add_row(step, s, y, begin, n, row);
    }
    close_windows(step, s, line, begin, n);
    if (!more) return;
    for (int c = 0; c < step->channels; c++) { /* beyond the image its last pixels go on */
        float *plane = s->value + (size_t)c * (step->window + 2) * stride;
        for (int row = 1; row <= bottom - top; row++) {
            float *begins = plane + row * stride + MARGIN;
            if (!left) begins[-1] = begins[0];
            if (!right) begins[n] = begins[n - 1];
        }
        if (top == 0) memcpy(plane, plane + stride, sizeof(float) * stride);
        if (bottom == step->height) memcpy(plane + (bottom - top + 1) * stride, plane + (bottom - top) * stride, sizeof(float) * stride);
    }
    memset(s->pulled, 0, sizeof(float) * 6 * stride);
    memset(s->bent, 0, sizeof(float) * 3 * stride);
    cell = cell_of((float)top, step->origin[1], step->spacing[1], step->rows, &t);
    for (int y = top; y < bottom; y++) {
        int here = cell_of((float)y, step->origin[1], step->spacing[1], step->rows, &t);
        if (here != cell) give_to_patches(step, s, begin, n, cell, slope);
        cell = here;
        pull_row(step, s, y, begin, n, y - top + 1, t);
        if ((y + 1) % step->block == 0 || y + 1 == bottom) give_to_blocks(step, s, y, begin, n);
    }
    give_to_patches(step, s, begin, n, cell, slope);
}

/* What __init__.py must have been written for. */
int format(void) { return 3; }

static float *zeros(size_t count) {
    size_t bytes = (count * sizeof(float) + 63) / 64 * 64;
    float *memory = aligned_alloc(64, bytes);
    if (memory) memset(memory, 0, bytes);
    return memory;
}

/* Scratch memory of one thread, NULL where there is none; it is freed as one piece. */
static float *prepare(const Step *step, Scratch *s) {
    int wide = step->window, most_wide = TILE + MARGIN * step->window;
    while (wide < TILE || (wide % MARGIN && wide < most_wide)) wide += step->window; /* whole windows, and whole vectors */
    int stride = filled_up(wide + 2) + 2 * MARGIN;
    size_t plane = (size_t)(step->window + 2) * stride, rows = 6 + 6 + 6 + 4 + 6 + 3 + 1;
    float *memory = zeros((3 * (size_t)step->channels + 1) * plane + rows * stride + 2 * (size_t)step->width + step->columns);
    if (!memory) return NULL;
    float *next = memory;
    *s = (Scratch){.stride = stride, .wide = wide};
    struct { float **at; size_t count; } parts[] = {
        {&s->value, step->channels * plane}, {&s->along_x, step->channels * plane}, {&s->along_y, step->channels * plane}, {&s->weight, plane},
        {&s->x, stride}, {&s->y, stride}, {&s->share_x, stride}, {&s->share_y, stride}, {&s->free_x, stride}, {&s->free_y, stride},
        {&s->blend, 6 * stride}, {&s->sums, 6 * stride}, {&s->known, 4 * stride}, {&s->pulled, 6 * stride}, {&s->bent, 3 * stride},
        {&s->hat, step->width}};
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

/* All lines of windows, in pieces, by up to ``threads`` threads: every piece adds what it pulls at the patches to its own part of
   ``slopes`` (pieces, 2, 3, rows, columns), so that the result is the same for any number of threads. Returns 0, or 1 where there is no memory. */
int expand(const Step *step, int pieces, int threads, float *slopes) {
    int lines = (step->height + step->window - 1) / step->window, patches = step->rows * step->columns, failed = 0;
#pragma omp parallel num_threads(threads)
    {
        Scratch s;
        float *memory = prepare(step, &s);
        if (!memory) failed = 1;
#pragma omp for schedule(dynamic)
        for (int piece = 0; piece < pieces; piece++) {
            int end = (int)((long)lines * (piece + 1) / pieces);
            for (int line = (int)((long)lines * piece / pieces); memory && line < end; line++)
                for (int begin = 0; begin < step->width; begin += s.wide)
                    tile(step, &s, line, begin, least(begin + s.wide, step->width), slopes + 6 * (size_t)patches * piece);
        }
        free(memory);
    }
    return failed;
}
