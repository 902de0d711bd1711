/*
 * ops/cpu/strip.h - products whose rows lie in packed blocks: the blocks, one after another, times
 * the same few panels. Private to the kernels_*.c files.
 *
 * What tile.h says of bits holds here: one accumulator per output walks the steps in order. A block
 * is one pointer that runs on, so that between two blocks the processor has little else to do.
 */
#ifndef HONE_OPS_CPU_STRIP_H
#define HONE_OPS_CPU_STRIP_H

#include "ops/cpu/tile.h"
#include FLUSH_H
#include PAIRS_H

struct strip {
    const float *a;              /* n_blocks of [n_steps][n_rows], or of pairs */
    const float *b;              /* panel p, step k: 16 floats at b + p * b_panel + k * 16 */
    int64_t b_panel;
    const char *ahead;           /* of pairs: fetched from the two panels that come next; */
    int64_t ahead_step, ahead_block;   /* bytes from a step, and a block, to the next */
    int64_t n_steps, n_blocks;
    float *out;                  /* row r, panel p at out + r * out_row + 16 p */
    int64_t out_row;
    int accumulate;              /* start from out instead of 0 */
    const float *bias;           /* of the panels, or NULL */
    const float *add;            /* or NULL; its rows lie as those of out */
};

#define STRIP_LOAD(r, p)                                                                           \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = vector_load(out + r * out_row + p * WIDTH);
#define STRIP_COLUMN(r, p)                                                                         \
    if (p < n_parts)                                                                               \
        column[p] = vector_load(b + p / PARTS * b_panel + p % PARTS * WIDTH);
#define STRIP_MULTIPLY(r, p)                                                                       \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = pairs ? pair_multiply(sum[r][p], a + r * words, column[p])                     \
                          : a[r] * column[p] + sum[r][p];
#define STRIP_BIAS(r, p)                                                                           \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = sum[r][p] + vector_load(bias + p * WIDTH);
#define STRIP_ADD(r, p)                                                                            \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = sum[r][p] + vector_load(add + r * out_row + p * WIDTH);
#define STRIP_STORE(r, p)                                                                          \
    if (r < n_rows && p < n_parts)                                                                 \
        vector_store(out + r * out_row + p * WIDTH, sum[r][p]);

/* The next block's outputs are on their way while this one computes. */
INLINE void strip_fetch_outputs(const float *out, const float *add, int64_t out_row,
                                const int n_rows, const int n_panels)
{
    for (int r = 0; r < n_rows; r++) {
        __builtin_prefetch(out + r * out_row, 1);
        if (n_panels > 1)
            __builtin_prefetch(out + r * out_row + n_panels * LANES - 1, 1);
        if (add)
            __builtin_prefetch(add + r * out_row);
        if (add && n_panels > 1)
            __builtin_prefetch(add + r * out_row + n_panels * LANES - 1);
    }
}

INLINE void strip_run(const struct strip *strip, const int n_rows, const int n_panels,
                      const int pairs)
{
    const int n_parts = n_panels * PARTS, words = pairs ? PAIR_WORDS : 1;
    vector_f32 sum[MOST_ROWS][MOST_PARTS], column[MOST_PARTS];
    const float *a = strip->a, *bias = strip->bias, *add = strip->add;
    int64_t b_panel = strip->b_panel, out_row = strip->out_row, ahead_step = strip->ahead_step;
    float *out = strip->out;

    for (int64_t i = 0; i < strip->n_blocks; i++) {
        const float *b = strip->b, *end = b + strip->n_steps * LANES;
        const char *ahead = strip->ahead + i * strip->ahead_block;
        TILE_EACH(ZERO)
        if (strip->accumulate) {
            TILE_EACH(STRIP_LOAD)
        }
        if (i + 1 < strip->n_blocks)
            strip_fetch_outputs(out + n_rows * out_row, add ? add + n_rows * out_row : NULL,
                                out_row, n_rows, n_panels);
        for (; b < end; b += LANES) {
            TILE_ROW(STRIP_COLUMN, 0)
            if (pairs) {
                __builtin_prefetch(ahead, 0, 2);
                __builtin_prefetch(ahead + b_panel * (int64_t)sizeof(float), 0, 2);
                ahead += ahead_step;
            }
            TILE_EACH(STRIP_MULTIPLY)
            a += n_rows * words;
        }
        if (bias) {
            TILE_EACH(STRIP_BIAS)
        }
        if (add) {
            TILE_EACH(STRIP_ADD)
            add += n_rows * out_row;
        }
        TILE_EACH(STRIP_STORE)
        out += n_rows * out_row;
    }
}

/* One function per size: the compiler keeps the sums of each in registers. */
#define STRIP_FUNCTION(rows, panels, pairs, name)                                                  \
    static __attribute__((noinline)) void strip_##rows##name(const struct strip *strip)            \
    {                                                                                              \
        strip_run(strip, rows < TILE_ROWS ? rows : TILE_ROWS, panels, pairs);                      \
    }
#define STRIP_FUNCTIONS(rows)                                                                      \
    STRIP_FUNCTION(rows, 1, 0, _single)                                                            \
    STRIP_FUNCTION(rows, TILE_PANELS, 0, _whole)                                                   \
    STRIP_FUNCTION(rows, 1, 1, _pairs)                                                             \
    STRIP_FUNCTION(rows, TILE_PANELS, 1, _pairs_whole)
STRIP_FUNCTIONS(1)
STRIP_FUNCTIONS(2)
STRIP_FUNCTIONS(3)
STRIP_FUNCTIONS(4)
STRIP_FUNCTIONS(5)
STRIP_FUNCTIONS(6)
STRIP_FUNCTIONS(7)
STRIP_FUNCTIONS(8)
STRIP_FUNCTION(1, FEW_PANELS, 1, _pairs_few)
STRIP_FUNCTION(2, FEW_PANELS, 1, _pairs_few)

/* [pairs][as wide as a tile][rows - 1] */
#define STRIP_TABLE(suffix)                                                                        \
    {strip_1##suffix, strip_2##suffix, strip_3##suffix, strip_4##suffix,                           \
     strip_5##suffix, strip_6##suffix, strip_7##suffix, strip_8##suffix}
static void (*const strip_functions[2][2][8])(const struct strip *strip) = {
    {STRIP_TABLE(_single), STRIP_TABLE(_whole)},
    {STRIP_TABLE(_pairs), STRIP_TABLE(_pairs_whole)},
};
/* Of pairs: [rows - 1] */
static void (*const strip_few_functions[FEW_ROWS])(const struct strip *strip) = {
    strip_1_pairs_few, strip_2_pairs_few};

/* A panel of which n < 16 columns exist, under one block: through a copy. */
static __attribute__((unused, noinline)) void strip_part(struct strip strip, int64_t n_rows,
                                                         int64_t n, int pairs)
{
    float copy[TILE_ROWS][LANES] = {{0}}, add[TILE_ROWS][LANES] = {{0}}, bias[LANES] = {0};
    float *out = strip.out;
    size_t bytes = (size_t)n * sizeof(float);

    for (int64_t r = 0; r < n_rows; r++) {
        if (strip.accumulate)
            memcpy(copy[r], out + r * strip.out_row, bytes);
        if (strip.add)
            memcpy(add[r], strip.add + r * strip.out_row, bytes);
    }
    if (strip.bias)
        memcpy(bias, strip.bias, bytes);
    struct strip whole = strip;
    whole.out = copy[0];
    whole.out_row = LANES;
    whole.bias = strip.bias ? bias : NULL;
    whole.add = strip.add ? add[0] : NULL;
    strip_functions[pairs][0][n_rows - 1](&whole);
    for (int64_t r = 0; r < n_rows; r++)
        memcpy(out + r * strip.out_row, copy[r], bytes);
}

#endif
