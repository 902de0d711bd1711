/* Packing, and products of packed panels. */
#include "ops/cpu/tile.h"

/* Four rows of four become four columns of the panel. */
INLINE void transpose_quad(float *panel, const float *w, int64_t w_row)
{
    quad_f32 a = quad_load(w), b = quad_load(w + w_row);
    quad_f32 c = quad_load(w + 2 * w_row), d = quad_load(w + 3 * w_row);
    quad_f32 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad_f32 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad_f32 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    quad_f32 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);

    quad_store(panel, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    quad_store(panel + LANES, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    quad_store(panel + 2 * LANES, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    quad_store(panel + 3 * LANES, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

void KERNEL(transpose_panel)(float *panel, const float *w, int64_t w_row, int64_t n_rows, int64_t C)
{
    int64_t whole_rows = n_rows / 4 * 4, whole_columns = C / 4 * 4;

    for (int64_t c = 0; c < whole_columns; c += 4)
        for (int64_t r = 0; r < whole_rows; r += 4)
            transpose_quad(panel + c * LANES + r, w + r * w_row + c, w_row);
    for (int64_t c = whole_columns; c < C; c++)
        for (int64_t r = 0; r < whole_rows; r++)
            panel[c * LANES + r] = w[r * w_row + c];
    for (int64_t r = whole_rows; r < LANES; r++)
        for (int64_t c = 0; c < C; c++)
            panel[c * LANES + r] = r < n_rows ? w[r * w_row + c] : 0;
}

enum { PACK_TOGETHER = 4 };   /* whole cache lines of a row are read before the next row */

/* n whole panels, or blocks, side by side. */
INLINE void pack_whole(float *to, const float *from, int64_t ld, int64_t n_steps, const int width,
                       const int n)
{
    for (int64_t k = 0; k < n_steps; k++)
        UNROLL for (int i = 0; i < n; i++)
            memcpy(to + (i * n_steps + k) * width, from + k * ld + i * width,
                   (size_t)width * sizeof(float));
}

INLINE void pack(float *packed, const float *x, int64_t ld, int64_t n_steps, int64_t n_columns,
                 int64_t first, int64_t last, const int width)
{
    int64_t i = first;

    int64_t whole = min_i64(last, n_columns / width);
    for (; i + PACK_TOGETHER <= whole; i += PACK_TOGETHER)
        pack_whole(packed + i * n_steps * width, x + i * width, ld, n_steps, width, PACK_TOGETHER);
    for (; i < whole; i++)
        pack_whole(packed + i * n_steps * width, x + i * width, ld, n_steps, width, 1);
    for (; i < last; i++) {
        int64_t n = n_columns - i * width;
        float *to = packed + i * n_steps * width;
        memset(to, 0, (size_t)(n_steps * width) * sizeof(float));
        for (int64_t k = 0; k < n_steps; k++)
            memcpy(to + k * width, x + k * ld + i * width, (size_t)n * sizeof(float));
    }
}

void KERNEL(pack_columns)(float *panels, const float *x, int64_t ld, int64_t n_steps,
                          int64_t n_columns, int64_t first, int64_t last)
{
    pack(panels, x, ld, n_steps, n_columns, first, last, LANES);
}

void KERNEL(pack_blocks)(float *blocks, const float *x, int64_t ld, int64_t n_steps,
                         int64_t n_columns, int64_t first, int64_t last)
{
    pack(blocks, x, ld, n_steps, n_columns, first, last, TILE_ROWS);
}

/* ---- Pairs of bfloat16. */
enum { ROW_STEPS = 2 * LANES };

INLINE struct lanes get_rounded(const float *x, int64_t n)
{
    return n > 0 ? lanes_round_bf16(lanes_get(x, n, 0)) : lanes_all(0);
}

void KERNEL(pair_row)(float *words, const float *x, int64_t n_steps)
{
    int64_t k = 0, n_words = (n_steps + 1) / 2 * PAIR_WORDS;

    for (; k + ROW_STEPS <= n_steps; k += ROW_STEPS)
        pair_store_row(words + k / 2 * PAIR_WORDS, get_rounded(x + k, LANES),
                       get_rounded(x + k + LANES, LANES));
    if (k < n_steps) {
        float last[LANES * PAIR_WORDS];
        pair_store_row(last, get_rounded(x + k, n_steps - k),
                       get_rounded(x + k + LANES, n_steps - k - LANES));
        memcpy(words + k / 2 * PAIR_WORDS, last,
               (size_t)(n_words - k / 2 * PAIR_WORDS) * sizeof(float));
    }
}

void KERNEL(pair_panel)(float *panel, const float *w, int64_t w_row, int64_t n_rows, int64_t C)
{
    for (int64_t c = 0; c < C; c += ROW_STEPS) {
        float block[LANES * LANES] = {0}, turned[LANES * LANES];
        int64_t n = C - c, n_words = min_i64((n + 1) / 2, LANES);
        for (int64_t r = 0; r < n_rows; r++) {
            float *words = block + r * LANES;
            lanes_narrow(words, get_rounded(w + r * w_row + c, n));
            lanes_narrow(words + LANES / 2, get_rounded(w + r * w_row + c + LANES, n - LANES));
        }
        for (int k = 0; k < LANES; k += 4)
            for (int r = 0; r < LANES; r += 4)
                transpose_quad(turned + k * LANES + r, block + r * LANES + k, LANES);
        memcpy(panel + c / 2 * LANES, turned, (size_t)(n_words * LANES) * sizeof(float));
    }
}

void KERNEL(pair_columns)(float *panels, const float *x, int64_t ld, int64_t n_steps,
                          int64_t n_columns, int64_t first, int64_t last)
{
    int64_t n_pairs = (n_steps + 1) / 2;

    for (int64_t k = 0; k < n_pairs; k++)
        for (int64_t p = first; p < last; p++) {
            const float *from = x + 2 * k * ld + p * LANES;
            int64_t n = n_columns - p * LANES;
            struct lanes even = get_rounded(from, n);
            struct lanes odd = get_rounded(from + ld, 2 * k + 1 < n_steps ? n : 0);
            lanes_store(panels + (p * n_pairs + k) * LANES, lanes_join(even, odd));
        }
}

void KERNEL(pair_blocks)(float *blocks, const float *x, int64_t ld, int64_t n_steps,
                         int64_t n_columns, int64_t first, int64_t last)
{
    enum { TOGETHER = LANES / TILE_ROWS, WORDS = TILE_ROWS * PAIR_WORDS };
    int64_t n_pairs = (n_steps + 1) / 2;

    for (int64_t k = 0; k < n_pairs; k++)
        for (int64_t i = first; i < last; i += TOGETHER) {
            const float *from = x + 2 * k * ld + i * TILE_ROWS;
            int64_t n = n_columns - i * TILE_ROWS;
            float words[LANES * PAIR_WORDS];
            pair_store(words, get_rounded(from, n),
                       get_rounded(from + ld, 2 * k + 1 < n_steps ? n : 0));
            for (int64_t j = 0; j < min_i64(TOGETHER, last - i); j++)
                memcpy(blocks + ((i + j) * n_pairs + k) * WORDS, words + j * WORDS,
                       WORDS * sizeof(float));
        }
}

/* The next tile's outputs and the start of its inputs are on their way while this one computes. */
INLINE void prefetch_tile(const struct product *x, const float *a, const float *out, int64_t n_rows)
{
    for (int64_t r = 0; r < n_rows; r++) {
        __builtin_prefetch(out + r * x->out_row, 1);
        __builtin_prefetch(out + r * x->out_row + TILE_PANELS * LANES - 1, 1);
        if (x->add)
            __builtin_prefetch(x->add + (out - x->out) + r * x->out_row);
        if (x->a_step == 1)
            __builtin_prefetch(a + r * x->a_row);
    }
}

/* Tile i of n fetches its share of the two panels that come next. */
INLINE void set_ahead(struct tile *tile, const float *next, int64_t i, int64_t n)
{
    tile->ahead = (const char *)(next + i * tile->n_steps / n * LANES);
    tile->ahead_step = LANES * (int64_t)sizeof(float) / n;
}

static void multiply(const struct product *x, int64_t first_row, int64_t last_row,
                     int64_t first_panel, int64_t last_panel)
{
    int64_t together = last_row - first_row <= FEW_ROWS ? last_panel - first_panel : TILE_PANELS;

    for (int64_t p = first_panel; p < last_panel; p += together) {
        int64_t end_panel = min_i64(p + together, last_panel);
        int64_t n_columns = min_i64(end_panel * LANES, x->n_columns) - p * LANES;
        for (int64_t row = first_row; row < last_row; row += TILE_ROWS) {
            struct tile tile;
            const float *a = x->a + row / TILE_ROWS * x->a_block;
            float *out = x->out + row * x->out_row + p * LANES;
            int64_t n_rows = min_i64(TILE_ROWS, last_row - row);
            tile.a_step = x->a_step;
            tile.b = x->b + p * x->b_panel;
            tile.b_panel = x->b_panel;
            tile.b_step = LANES;
            tile.pairs = x->pairs;
            tile.n_steps = x->n_steps;
            tile.n_columns = n_columns;
            tile.accumulate = x->accumulate;
            tile.bias = x->bias ? x->bias + p * LANES : NULL;
            tile.add = x->add ? x->add + row * x->out_row + p * LANES : NULL;
            tile.add_row = x->out_row;
            for (int64_t r = 0; r < n_rows; r++) {
                tile.a[r] = a + r * x->a_row;
                tile.out[r] = out + r * x->out_row;
            }
            if (row + TILE_ROWS < last_row)
                prefetch_tile(x, a + x->a_block, out + TILE_ROWS * x->out_row,
                              min_i64(TILE_ROWS, last_row - row - TILE_ROWS));
            tile.ahead = (const char *)tile.b;
            tile.ahead_step = 0;
            if (x->pairs && end_panel < last_panel)
                set_ahead(&tile, x->b + end_panel * x->b_panel, (row - first_row) / TILE_ROWS,
                          (last_row - first_row + TILE_ROWS - 1) / TILE_ROWS);
            tile_multiply(&tile, n_rows);
        }
    }
}

void KERNEL(product)(const struct product *product, int64_t first_row, int64_t last_row,
                     int64_t first_panel, int64_t last_panel)
{
    unsigned before = product->pairs ? flush_start() : 0;

    multiply(product, first_row, last_row, first_panel, last_panel);
    if (product->pairs)
        flush_end(before);
}

void KERNEL(sum_columns)(float *out, const float *x, int64_t ld, int64_t n_rows, int64_t n_columns)
{
    for (int64_t c = 0; c < n_columns; c += LANES) {
        int64_t n = n_columns - c;
        struct lanes sum = lanes_get(out + c, n, 0);
        for (int64_t r = 0; r < n_rows; r++)
            sum = lanes_add(sum, lanes_get(x + r * ld + c, n, 0));
        lanes_put(out + c, sum, n);
    }
}
