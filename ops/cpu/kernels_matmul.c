/* Packing, and products of packed panels. */
#include "ops/cpu/strip.h"

void KERNEL(transpose_panel)(float *panel, const float *w, int64_t w_row, int64_t n_rows, int64_t C)
{
    for (int64_t c = 0; c < C; c += LANES) {
        struct lanes rows[LANES];
        for (int64_t r = 0; r < LANES; r++)
            rows[r] = r < n_rows ? lanes_get(w + r * w_row + c, C - c, 0) : lanes_all(0);
        lanes_transpose(rows);
        for (int64_t k = 0; k < min_i64(C - c, LANES); k++)
            lanes_store(panel + (c + k) * LANES, rows[k]);
    }
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

/* The last block, of fewer rows, is as wide as they are. */
void KERNEL(pack_blocks)(float *blocks, const float *x, int64_t ld, int64_t n_steps,
                         int64_t n_columns)
{
    int64_t whole = n_columns / TILE_ROWS, at = whole * TILE_ROWS, left = n_columns - at;

    pack(blocks, x, ld, n_steps, n_columns, 0, whole, TILE_ROWS);
    for (int64_t k = 0; k < n_steps; k++)
        memcpy(blocks + at * n_steps + k * left, x + k * ld + at, (size_t)left * sizeof(float));
}

/* ---- Pairs of bfloat16. */
enum { ROW_STEPS = 2 * LANES };

INLINE struct lanes get_some(const float *x, int64_t n)
{
    return n > 0 ? lanes_get(x, n, 0) : lanes_all(0);
}

/* The pairs of 32 numbers of a row, of which n are there. */
INLINE struct lanes get_row(const float *x, int64_t n)
{
    if (n >= ROW_STEPS)
        return pair_row(lanes_load(x), lanes_load(x + LANES));
    return pair_row(get_some(x, n), get_some(x + LANES, n - LANES));
}

/* The pairs of sixteen columns of two rows: n columns, has_odd rows are there. */
INLINE struct lanes get_columns(const float *x, int64_t ld, int64_t n, int has_odd)
{
    if (n >= LANES && has_odd)
        return pair_join(lanes_load(x), lanes_load(x + ld));
    return pair_join(get_some(x, n), get_some(x + ld, has_odd ? n : 0));
}

/* Columns of a few rows on: rows of a matrix are far apart for the processor to foresee. */
INLINE void fetch_ahead(const float *x, int64_t ld)
{
    __builtin_prefetch(x + 4 * ld);
    __builtin_prefetch(x + 5 * ld);
}

void KERNEL(pair_panel)(float *panel, const float *w, int64_t w_row, int64_t n_rows, int64_t C)
{
    for (int64_t c = 0; c < C; c += ROW_STEPS) {
        struct lanes words[LANES];
        int64_t n_words = min_i64((C - c + 1) / 2, LANES);
        for (int64_t r = 0; r < LANES; r++)
            words[r] = r < n_rows ? get_row(w + r * w_row + c, C - c) : lanes_all(0);
        lanes_transpose(words);
        for (int64_t k = 0; k < n_words; k++)
            lanes_store(panel + (c / 2 + k) * LANES, words[k]);
    }
}

/* n panels side by side. */
INLINE void pair_some_columns(float *panels, const float *x, int64_t ld, int64_t n_steps,
                              int64_t n_columns, const int n)
{
    int64_t n_pairs = (n_steps + 1) / 2;

    for (int64_t k = 0; k < n_pairs; k++)
        UNROLL for (int i = 0; i < n; i++)
        {
            const float *from = x + 2 * k * ld + i * LANES;
            lanes_store(panels + (i * n_pairs + k) * LANES,
                        get_columns(from, ld, n_columns - i * LANES, 2 * k + 1 < n_steps));
            fetch_ahead(from, ld);
        }
}

/* Few places that are written to at a time. */
void KERNEL(pair_columns)(float *panels, const float *x, int64_t ld, int64_t n_steps,
                          int64_t n_columns, int64_t first, int64_t last)
{
    int64_t p = first, panel = (n_steps + 1) / 2 * LANES;

    for (; p + PACK_TOGETHER <= last; p += PACK_TOGETHER)
        pair_some_columns(panels + p * panel, x + p * LANES, ld, n_steps, n_columns - p * LANES,
                          PACK_TOGETHER);
    for (; p < last; p++)
        pair_some_columns(panels + p * panel, x + p * LANES, ld, n_steps, n_columns - p * LANES, 1);
}

/* n rows of 16 words as 16 steps of n: words of pairs, or inputs. */
INLINE void turn_words(float *inputs, const float *words, int64_t n_rows)
{
    float turned[TILE_ROWS * LANES], *to = PAIR_WORDS == 1 ? inputs : turned;

    if (TILE_ROWS % 4 == 0 && n_rows == TILE_ROWS) {
        for (int k = 0; k < LANES; k += 4)
            for (int r = 0; r < TILE_ROWS; r += 4)
                transpose_quad(to + k * TILE_ROWS + r, TILE_ROWS, words + r * LANES + k, LANES);
    } else {
        for (int64_t k = 0; k < LANES; k++)
            for (int64_t r = 0; r < n_rows; r++)
                to[k * n_rows + r] = words[r * LANES + k];
    }
    for (int64_t i = 0; i < n_rows && PAIR_WORDS > 1; i++)
        pair_store(inputs + i * LANES * PAIR_WORDS, lanes_load(turned + i * LANES));
}

/* A block of n rows. */
INLINE void pair_block(float *block, const float *x, int64_t ld, int64_t n_rows, int64_t n_steps)
{
    int64_t n_pairs = (n_steps + 1) / 2;

    for (int64_t k = 0; k < n_pairs; k += LANES) {
        float words[TILE_ROWS * LANES], inputs[TILE_ROWS * LANES * PAIR_WORDS];
        float *to = block + k * n_rows * PAIR_WORDS;
        for (int64_t r = 0; r < n_rows; r++) {
            const float *from = x + r * ld + 2 * k;
            lanes_store(words + r * LANES, get_row(from, n_steps - 2 * k));
            __builtin_prefetch(from + TILE_ROWS * ld);
            __builtin_prefetch(from + TILE_ROWS * ld + LANES);
        }
        if (n_pairs - k >= LANES) {
            turn_words(to, words, n_rows);
        } else {
            turn_words(inputs, words, n_rows);
            memcpy(to, inputs, (size_t)((n_pairs - k) * n_rows * PAIR_WORDS) * sizeof(float));
        }
    }
}

void KERNEL(pair_rows)(float *blocks, const float *x, int64_t ld, int64_t n_rows, int64_t n_steps)
{
    int64_t n_pairs = (n_steps + 1) / 2;

    for (int64_t r = 0; r < n_rows; r += TILE_ROWS) {
        float *block = blocks + r * n_pairs * PAIR_WORDS;
        if (n_rows - r >= TILE_ROWS)
            pair_block(block, x + r * ld, ld, TILE_ROWS, n_steps);
        else
            pair_block(block, x + r * ld, ld, n_rows - r, n_steps);
    }
}

/* Step k of the blocks that n columns make, from a pair of rows of which `left` are there. */
INLINE void pair_block_step(float *blocks, int64_t n_pairs, int64_t k, const float *x, int64_t ld,
                            int64_t n, int64_t left, int has_odd)
{
    float inputs[LANES * PAIR_WORDS];

    pair_store(inputs, get_columns(x, ld, left, has_odd));
    for (int64_t i = 0; i < n; i += TILE_ROWS) {
        int64_t n_rows = min_i64(TILE_ROWS, n - i);
        memcpy(blocks + (i * n_pairs + k * n_rows) * PAIR_WORDS, inputs + i * PAIR_WORDS,
               (size_t)(n_rows * PAIR_WORDS) * sizeof(float));
    }
    fetch_ahead(x, ld);
}

void KERNEL(pair_blocks)(float *blocks, const float *x, int64_t ld, int64_t n_steps,
                         int64_t n_columns)
{
    enum { WIDE = LANES / TILE_ROWS * TILE_ROWS };
    int64_t n_pairs = (n_steps + 1) / 2;

    for (int64_t k = 0; k < n_pairs; k++)
        for (int64_t i = 0; i < n_columns; i += WIDE) {
            const float *from = x + 2 * k * ld + i;
            float *to = blocks + i * n_pairs * PAIR_WORDS;
            int64_t left = n_columns - i;
            int has_odd = 2 * k + 1 < n_steps;
            if (left >= WIDE)
                pair_block_step(to, n_pairs, k, from, ld, WIDE, left, has_odd);
            else
                pair_block_step(to, n_pairs, k, from, ld, left, left, has_odd);
        }
}

/* ---- Products. */
/* The next tile's outputs and the start of its inputs are on their way while this one computes. */
INLINE void prefetch_tile(const struct product *x, const float *a, const float *out, int64_t n_rows)
{
    for (int64_t r = 0; r < n_rows; r++) {
        __builtin_prefetch(out + r * x->out_row, 1);
        __builtin_prefetch(out + r * x->out_row + TILE_PANELS * LANES - 1, 1);
        if (x->add)
            __builtin_prefetch(x->add + (out - x->out) + r * x->out_row);
        __builtin_prefetch(a + r * x->a_row);
    }
}

static void multiply_rows(const struct product *x, int64_t first_row, int64_t last_row,
                          int64_t first_panel, int64_t last_panel)
{
    int64_t together = last_row - first_row <= FEW_ROWS ? last_panel - first_panel : TILE_PANELS;

    for (int64_t p = first_panel; p < last_panel; p += together) {
        int64_t end_panel = min_i64(p + together, last_panel);
        int64_t n_columns = min_i64(end_panel * LANES, x->n_columns) - p * LANES;
        for (int64_t row = first_row; row < last_row; row += TILE_ROWS) {
            struct tile tile;
            const float *a = x->a + row * x->a_row;
            float *out = x->out + row * x->out_row + p * LANES;
            int64_t n_rows = min_i64(TILE_ROWS, last_row - row);
            tile.a_step = 1;
            tile.b = x->b + p * x->b_panel;
            tile.b_panel = x->b_panel;
            tile.b_step = LANES;
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
                prefetch_tile(x, a + TILE_ROWS * x->a_row, out + TILE_ROWS * x->out_row,
                              min_i64(TILE_ROWS, last_row - row - TILE_ROWS));
            tile_multiply(&tile, n_rows);
        }
    }
}

/* n_rows of whole blocks, or one of fewer rows, from `row` on; n_columns of panels from p on. */
static void multiply_strip(const struct product *x, struct strip *strip, int64_t row,
                           int64_t n_rows, int64_t p, int64_t n_columns)
{
    int64_t at = row * x->out_row + p * LANES, height = min_i64(n_rows, TILE_ROWS);
    int64_t words = x->pairs ? PAIR_WORDS : 1;

    strip->a = x->a + row * x->n_steps * words;
    strip->out = x->out + at;
    strip->add = x->add ? x->add + at : NULL;
    strip->n_blocks = n_columns < LANES ? 1 : n_rows / height;
    if (n_columns >= FEW_PANELS * LANES && x->pairs && height <= FEW_ROWS) {
        strip_few_functions[height - 1](strip);
    } else if (n_columns >= LANES) {
        strip_functions[x->pairs][n_columns >= TILE_PANELS * LANES][height - 1](strip);
    } else {
        for (int64_t r = 0; r < n_rows; r += height) {
            strip_part(*strip, height, n_columns, x->pairs);
            strip->a += height * x->n_steps * words;
            strip->out += height * x->out_row;
            strip->add = strip->add ? strip->add + height * x->out_row : NULL;
        }
    }
}

static void multiply_blocks(const struct product *x, int64_t n_rows, int64_t first_panel,
                            int64_t last_panel)
{
    int64_t whole = n_rows / TILE_ROWS * TILE_ROWS, n_panels;
    int64_t n_blocks = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    struct strip strip = {.b_panel = x->b_panel,
                          .n_steps = x->n_steps,
                          .out_row = x->out_row,
                          .accumulate = x->accumulate};

    for (int64_t p = first_panel; p < last_panel; p += n_panels) {
        int64_t left = min_i64(last_panel * LANES, x->n_columns) - p * LANES;
        n_panels = n_rows <= FEW_ROWS && x->pairs && left >= FEW_PANELS * LANES ? FEW_PANELS
                   : left >= TILE_PANELS * LANES                                ? TILE_PANELS
                                                                                : 1;
        strip.b = x->b + p * x->b_panel;
        strip.bias = x->bias ? x->bias + p * LANES : NULL;
        strip.ahead = (const char *)strip.b;
        strip.ahead_step = strip.ahead_block = 0;
        if (p + n_panels < last_panel) {
            strip.ahead += n_panels * x->b_panel * (int64_t)sizeof(float);
            strip.ahead_step = LANES * (int64_t)sizeof(float) / n_blocks;
            strip.ahead_block = x->n_steps * LANES * (int64_t)sizeof(float) / n_blocks;
        }
        int64_t n_columns = min_i64(left, n_panels * LANES);
        if (whole)
            multiply_strip(x, &strip, 0, whole, p, n_columns);
        if (whole < n_rows)
            multiply_strip(x, &strip, whole, n_rows - whole, p, n_columns);
    }
}

void KERNEL(product)(const struct product *product, int64_t first_row, int64_t last_row,
                     int64_t first_panel, int64_t last_panel)
{
    unsigned before = product->pairs ? flush_start() : 0;

    if (product->blocks)
        multiply_blocks(product, last_row, first_panel, last_panel);
    else
        multiply_rows(product, first_row, last_row, first_panel, last_panel);
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
