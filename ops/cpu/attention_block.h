/*
 * ops/cpu/attention_block.h - up to 32 rows of q that share a key/value head, in two panels of
 * sixteen lanes: row r of a block is query row r / G with the r % G th of the G heads of its group.
 * Private to the kernels_attention*.c files.
 */
#ifndef HONE_OPS_CPU_ATTENTION_BLOCK_H
#define HONE_OPS_CPU_ATTENTION_BLOCK_H

#include "ops/cpu/tile.h"

enum { BLOCK_PANELS = 2, BLOCK_ROWS = BLOCK_PANELS * LANES };

struct block {
    int64_t D, group, key_stride;       /* key_stride: floats from a key to the next */
    float scale;
    int64_t H, kv_head, own, n_before, next, end;   /* rows of the span, counted with heads */
    int64_t n_rows, n_panels;
    int64_t at[BLOCK_ROWS];             /* n H + h: where the row lies in q, out, lse */
    int64_t n_visible[BLOCK_ROWS];      /* keys that it sees */
    int64_t least[BLOCK_PANELS], most[BLOCK_PANELS];   /* ... of the rows of a panel */
    struct lanes visible[BLOCK_PANELS]; /* the same as floats */
    float *out[BLOCK_ROWS];
};

INLINE void block_begin(struct block *block, const struct attention_span *span, int64_t H,
                        int64_t K, int64_t D, int64_t kv_head)
{
    block->D = D;
    block->group = H / K;
    block->key_stride = K * D;
    block->scale = 1 / sqrtf((float)D);
    block->H = H;
    block->kv_head = kv_head;
    block->own = span->segment;
    block->n_before = span->n_prefix;
    block->next = span->first * block->group;
    block->end = span->last * block->group;
}

/* The next rows of the span; 0 when there are none. */
INLINE int block_next(struct block *block)
{
    int64_t group = block->group;
    float visible[BLOCK_ROWS] = {0};

    block->n_rows = min_i64(BLOCK_ROWS, block->end - block->next);
    if (block->n_rows <= 0)
        return 0;
    for (int64_t r = 0, n = block->next / group, h = block->next % group; r < block->n_rows; r++) {
        block->at[r] = n * block->H + block->kv_head * group + h;
        block->n_visible[r] = block->n_before + n - block->own + 1;
        visible[r] = (float)block->n_visible[r];
        if (++h == group) {
            h = 0;
            n++;
        }
    }
    block->next += block->n_rows;
    block->n_panels = (block->n_rows + LANES - 1) / LANES;
    for (int64_t p = 0; p < block->n_panels; p++) {
        block->visible[p] = lanes_load(visible + p * LANES);
        block->least[p] = block->n_visible[p * LANES];
        block->most[p] = block->n_visible[min_i64((p + 1) * LANES, block->n_rows) - 1];
    }
    return 1;
}

/* The first panel with a row that sees this key. */
INLINE int64_t block_first_panel(const struct block *block, int64_t key)
{
    return block->n_panels == BLOCK_PANELS && key >= block->most[0];
}

/* where bound > value: x, else `other` */
INLINE struct lanes lanes_choose_above(struct lanes bound, float value, struct lanes x, float other)
{
    vector_f32 v = value - (vector_f32){0}, o = other - (vector_f32){0};

    UNROLL for (int i = 0; i < PARTS; i++) x.part[i] =
        vector_choose(bound.part[i] > v, x.part[i], o);
    return x;
}

/* out[j][row] = rows of `keys` . columns of `panels`, for n_keys <= TILE_ROWS keys from number
 * `first` on and the panels that see one of them. */
INLINE void block_multiply(const struct block *block, float *out, const float *panels,
                           const float *keys, int64_t n_keys, int64_t first)
{
    int64_t panel = block_first_panel(block, first);
    struct tile tile = {.a_step = 1,
                        .b = panels + panel * block->D * LANES,
                        .b_panel = block->D * LANES,
                        .b_step = LANES,
                        .n_steps = block->D,
                        .n_columns = (block->n_panels - panel) * LANES};

    for (int64_t j = 0; j < n_keys; j++) {
        tile.a[j] = keys + j * block->key_stride;
        tile.out[j] = out + j * BLOCK_ROWS + panel * LANES;
    }
    tile_multiply(&tile, n_keys);
}

INLINE void transpose_rows(float *panel, const float *const *rows)
{
    quad_f32 a = quad_load(rows[0]), b = quad_load(rows[1]);
    quad_f32 c = quad_load(rows[2]), d = quad_load(rows[3]);
    quad_f32 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad_f32 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad_f32 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    quad_f32 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);

    quad_store(panel, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    quad_store(panel + LANES, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    quad_store(panel + 2 * LANES, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    quad_store(panel + 3 * LANES, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/* The rows of x [N,H,D] as panels [n_panels][D][16]; the last one again where there is none. */
INLINE void block_transpose(const struct block *block, float *panels, const float *x)
{
    int64_t D = block->D, whole = D / 4 * 4;

    for (int64_t r = 0; r < block->n_panels * LANES; r += 4) {
        float *panel = panels + r / LANES * D * LANES + r % LANES;
        const float *rows[4];
        for (int64_t i = 0; i < 4; i++)
            rows[i] = x + block->at[min_i64(r + i, block->n_rows - 1)] * D;
        for (int64_t d = 0; d < whole; d += 4) {
            const float *from[4] = {rows[0] + d, rows[1] + d, rows[2] + d, rows[3] + d};
            transpose_rows(panel + d * LANES, from);
        }
        for (int64_t d = whole; d < D; d++)
            for (int64_t i = 0; i < 4; i++)
                panel[d * LANES + i] = rows[i][d];
    }
}

#endif
