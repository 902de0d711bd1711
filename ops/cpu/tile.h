/*
 * ops/cpu/tile.h - the inner loop of products: a few rows times panels of 16 columns.
 * Private to the kernels_*.c files.
 *
 * One accumulator per output walks the steps in order: how many rows or panels share a tile, and
 * where a long sum is cut and continued from `out`, never changes the bits of an output.
 */
#ifndef HONE_OPS_CPU_TILE_H
#define HONE_OPS_CPU_TILE_H

#include "ops/cpu/lanes.h"

/* As many accumulators as the registers hold. */
enum {
    TILE_ROWS = VECTOR_BYTES == 64 ? 8 : VECTOR_BYTES == 32 ? 6 : 2,
    TILE_PANELS = VECTOR_BYTES == 64 ? 2 : 1,
    /* Few rows take more panels: a multiply-add waits four cycles for the one before it. */
    FEW_ROWS = 2,
    FEW_PANELS = VECTOR_BYTES == 64 ? 4 : VECTOR_BYTES == 32 ? 2 : 1
};

struct tile {
    const float *a[8];           /* step k of row r is a[r][k * a_step] */
    int64_t a_step;
    const float *b;              /* panel p, step k: 16 floats at b + p * b_panel + k * b_step */
    int64_t b_panel, b_step;
    int64_t n_steps;
    float *out[8];               /* panel p at out[r] + 16 p */
    int64_t n_columns;           /* of all panels together */
    int accumulate;              /* start from out instead of 0 */
    const float *bias;           /* [n_columns], or NULL */
    const float *add;            /* or NULL: row r at add + r * add_row */
    int64_t add_row;
};

/* STEP(row, part) for each vector of a tile, written out so that any compiler keeps it in a
 * register of its own; those beyond the tile's size fall away. */
#define TILE_ROW(STEP, r) STEP(r, 0) STEP(r, 1) STEP(r, 2) STEP(r, 3)
#define TILE_EACH(STEP)                                                                            \
    TILE_ROW(STEP, 0) TILE_ROW(STEP, 1) TILE_ROW(STEP, 2) TILE_ROW(STEP, 3)                        \
    TILE_ROW(STEP, 4) TILE_ROW(STEP, 5) TILE_ROW(STEP, 6) TILE_ROW(STEP, 7)
enum { MOST_ROWS = 8, MOST_PARTS = 4 };

#define ZERO(r, p) sum[r][p] = (vector_f32){0};
#define LOAD(r, p)                                                                                 \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = vector_load(tile->out[r] + p * WIDTH);
#define POINT(r, p) a[r] = tile->a[r < n_rows ? r : 0];
#define COLUMN(r, p)                                                                               \
    if (p < n_parts)                                                                               \
        column[p] = vector_load(b + p / PARTS * b_panel + p % PARTS * WIDTH);
#define MULTIPLY(r, p)                                                                             \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = a[r][at] * column[p] + sum[r][p];
#define BIAS(r, p)                                                                                 \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = sum[r][p] + vector_load(tile->bias + p * WIDTH);
#define ADD(r, p)                                                                                  \
    if (r < n_rows && p < n_parts)                                                                 \
        sum[r][p] = sum[r][p] + vector_load(tile->add + r * tile->add_row + p * WIDTH);
#define STORE(r, p)                                                                                \
    if (r < n_rows && p < n_parts)                                                                 \
        vector_store(tile->out[r] + p * WIDTH, sum[r][p]);

/* Whole panels only: tile_part() sees to the rest. */
INLINE void tile_run(const struct tile *tile, const int n_rows, const int n_panels)
{
    const int n_parts = n_panels * PARTS;
    vector_f32 sum[MOST_ROWS][MOST_PARTS], column[MOST_PARTS];
    const float *a[MOST_ROWS], *b = tile->b;
    int64_t b_panel = tile->b_panel, b_step = tile->b_step, a_step = tile->a_step;

    TILE_EACH(ZERO)
    TILE_EACH(POINT)
    if (tile->accumulate) {
        TILE_EACH(LOAD)
    }
    int64_t end = tile->n_steps * a_step;
    for (int64_t at = 0; at < end; at += a_step) {
        TILE_ROW(COLUMN, 0)
        b += b_step;
        TILE_EACH(MULTIPLY)
    }
    if (tile->bias) {
        TILE_EACH(BIAS)
    }
    if (tile->add) {
        TILE_EACH(ADD)
    }
    TILE_EACH(STORE)
}

/* One function per size: the compiler keeps the sums of each in registers. */
#define TILE_FUNCTION(rows, panels, name)                                                          \
    static __attribute__((noinline)) void tile_##rows##name(const struct tile *tile)               \
    {                                                                                              \
        tile_run(tile, rows < TILE_ROWS ? rows : TILE_ROWS, panels);                               \
    }
#define TILE_FUNCTIONS(rows)                                                                       \
    TILE_FUNCTION(rows, 1, _single)                                                                \
    TILE_FUNCTION(rows, TILE_PANELS, _whole)
TILE_FUNCTIONS(1)
TILE_FUNCTIONS(2)
TILE_FUNCTIONS(3)
TILE_FUNCTIONS(4)
TILE_FUNCTIONS(5)
TILE_FUNCTIONS(6)
TILE_FUNCTIONS(7)
TILE_FUNCTIONS(8)
TILE_FUNCTION(1, FEW_PANELS, _few)
TILE_FUNCTION(2, FEW_PANELS, _few)

/* [as wide as a tile][rows - 1] */
#define TILE_TABLE(suffix)                                                                         \
    {tile_1##suffix, tile_2##suffix, tile_3##suffix, tile_4##suffix,                               \
     tile_5##suffix, tile_6##suffix, tile_7##suffix, tile_8##suffix}
static void (*const tile_functions[2][8])(const struct tile *tile) = {
    TILE_TABLE(_single), TILE_TABLE(_whole)};
/* [rows - 1] */
static void (*const few_functions[FEW_ROWS])(const struct tile *tile) = {tile_1_few, tile_2_few};

/* The last panel, of which n < 16 columns exist: through a copy. */
static __attribute__((unused, noinline)) void tile_part(struct tile *tile, int64_t n_rows,
                                                        int64_t n)
{
    float copy[TILE_ROWS][LANES] = {{0}}, add[TILE_ROWS][LANES] = {{0}}, bias[LANES] = {0};
    float *out[TILE_ROWS];

    for (int64_t r = 0; r < n_rows; r++) {
        if (tile->accumulate)
            memcpy(copy[r], tile->out[r], (size_t)n * sizeof(float));
        if (tile->add)
            memcpy(add[r], tile->add + r * tile->add_row, (size_t)n * sizeof(float));
        out[r] = tile->out[r];
        tile->out[r] = copy[r];
    }
    if (tile->bias) {
        memcpy(bias, tile->bias, (size_t)n * sizeof(float));
        tile->bias = bias;
    }
    if (tile->add) {
        tile->add = add[0];
        tile->add_row = LANES;
    }
    tile_functions[0][n_rows - 1](tile);
    for (int64_t r = 0; r < n_rows; r++)
        memcpy(out[r], copy[r], (size_t)n * sizeof(float));
    tile->bias = tile->add = NULL;
}

/* n_rows of 1 .. TILE_ROWS and any n_columns. Leaves the tile changed. */
static __attribute__((unused, noinline)) void tile_multiply(struct tile *tile, int64_t n_rows)
{
    int64_t left = tile->n_columns;

    while (left >= LANES) {
        int64_t n_panels = min_i64(TILE_PANELS, left / LANES);
        if (n_rows <= FEW_ROWS && left >= FEW_PANELS * LANES) {
            n_panels = FEW_PANELS;
            few_functions[n_rows - 1](tile);
        } else {
            tile_functions[n_panels == TILE_PANELS][n_rows - 1](tile);
        }
        left -= n_panels * LANES;
        tile->b += n_panels * tile->b_panel;
        for (int64_t r = 0; r < n_rows; r++)
            tile->out[r] += n_panels * LANES;
        if (tile->bias)
            tile->bias += n_panels * LANES;
        if (tile->add)
            tile->add += n_panels * LANES;
    }
    if (left > 0)
        tile_part(tile, n_rows, left);
}

#endif
