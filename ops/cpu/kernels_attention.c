/*
 * Attention of whole segments: the rows of a block lie in the lanes, so that maxima, sums and exp
 * take sixteen rows at a time, and keys and values are read where they are.
 */
#include "ops/cpu/attention.h"
#include "ops/cpu/attention_block.h"

struct forward_scratch {
    float *q, *scores, *spare;   /* [panels][D][16], [keys][BLOCK_ROWS], [keys][16] */
};

int64_t KERNEL(attention_scratch)(int64_t n_keys, int64_t D)
{
    return BLOCK_ROWS * D + (BLOCK_ROWS + LANES) * n_keys;
}

/* Scores times 1/sqrt(D) of n keys from k on, the first of which is number `first`; -inf where a
 * row does not see the key. */
INLINE void score_keys(const struct block *block, const struct forward_scratch *s, const float *k,
                       int64_t first, int64_t n, struct lanes *largest)
{
    struct lanes factor = lanes_all(block->scale);

    for (int64_t j = 0; j < n; j += TILE_ROWS) {
        int64_t n_rows = min_i64(TILE_ROWS, n - j), key = first + j;
        float *scores = s->scores + key * BLOCK_ROWS;
        block_multiply(block, scores, s->q, k + j * block->key_stride, n_rows, key);
        for (int64_t p = block_first_panel(block, key); p < block->n_panels; p++)
            for (int64_t r = 0; r < n_rows; r++) {
                float *at = scores + r * BLOCK_ROWS + p * LANES;
                struct lanes x = lanes_multiply(lanes_load(at), factor);
                if (key + r >= block->least[p])
                    x = lanes_choose_above(block->visible[p], (float)(key + r), x, -INFINITY);
                lanes_store(at, x);
                largest[p] = lanes_max(x, largest[p]);
            }
    }
}

/* Scores of a panel become exp(s - top); returns their sums, in 16 lanes by key. */
INLINE struct lanes soften_panel(float *scores, int64_t n_keys, struct lanes top)
{
    struct lanes sum[LANES];

    for (int64_t c = 0; c < LANES; c++)
        sum[c] = lanes_all(0);
    for (int64_t j = 0; j < n_keys; j += LANES)
        for (int64_t c = 0; c < min_i64(LANES, n_keys - j); c++) {
            float *at = scores + (j + c) * BLOCK_ROWS;
            struct lanes p = lanes_exp(lanes_subtract(lanes_load(at), top));
            lanes_store(at, p);
            sum[c] = lanes_add(sum[c], p);
        }
    for (int64_t half = LANES / 2; half > 0; half /= 2)
        for (int64_t c = 0; c < half; c++)
            sum[c] = lanes_add(sum[c], sum[c + half]);
    return sum[0];
}

/* out[row] = sum of p v in the order of the keys, for rows of one panel. */
INLINE void weigh_values(const struct block *block, const struct forward_scratch *s,
                         const float *const v[2], int64_t row, int64_t n_rows)
{
    int64_t n = block->n_visible[row + n_rows - 1], before = min_i64(n, block->n_before);
    const float *p[TILE_ROWS];
    float *out[TILE_ROWS];

    for (int64_t r = 0; r < n_rows; r++) {
        p[r] = s->scores + row + r;
        out[r] = block->out[row + r];
    }
    if (before)
        weigh_rows(out, p, BLOCK_ROWS, n_rows, v[0], block->key_stride, before, block->D, 0,
                   s->spare);
    for (int64_t r = 0; r < n_rows; r++)
        p[r] += before * BLOCK_ROWS;
    if (n > before)
        weigh_rows(out, p, BLOCK_ROWS, n_rows, v[1], block->key_stride, n - before, block->D,
                   before > 0, s->spare);
}

INLINE void attend_block(const struct attention_forward *job, const struct block *block,
                         const struct forward_scratch *s, const float *const k[2],
                         const float *const v[2])
{
    int64_t D = block->D, n_keys = block->n_visible[block->n_rows - 1];
    struct lanes largest[BLOCK_PANELS];

    for (int64_t p = 0; p < block->n_panels; p++)
        largest[p] = lanes_all(-INFINITY);
    if (block->n_before)
        score_keys(block, s, k[0], 0, block->n_before, largest);
    score_keys(block, s, k[1], block->n_before, n_keys - block->n_before, largest);
    for (int64_t p = 0; p < block->n_panels; p++) {
        int64_t first = p * LANES, last = min_i64(first + LANES, block->n_rows);
        float top[LANES], sum[LANES];
        lanes_store(top, largest[p]);
        lanes_store(sum, soften_panel(s->scores + first, block->n_visible[last - 1], largest[p]));
        for (int64_t row = first; row < last; row += TILE_ROWS)
            weigh_values(block, s, v, row, min_i64(TILE_ROWS, last - row));
        for (int64_t row = first; row < last; row++) {
            scale_row(block->out[row], 1 / sum[row - first], D);
            if (job->lse)
                job->lse[block->at[row]] = top[row - first] + logf(sum[row - first]);
        }
    }
}

void KERNEL(attention)(const struct attention_forward *job, const struct attention_span *span,
                       int64_t kv_head, float *scratch)
{
    int64_t K = job->K, D = job->D, n_keys = span->n_prefix + span->last - span->segment;
    int64_t before = (span->prefix * K + kv_head) * D, own = (span->segment * K + kv_head) * D;
    const float *k[2] = {job->k + before, job->k + own}, *v[2] = {job->v + before, job->v + own};
    struct forward_scratch s = {.q = scratch};
    struct block block;

    s.scores = s.q + BLOCK_ROWS * D;
    s.spare = s.scores + BLOCK_ROWS * n_keys;
    block_begin(&block, span, job->H, K, D, kv_head);
    while (block_next(&block)) {
        for (int64_t row = 0; row < block.n_rows; row++)
            block.out[row] = job->out + block.at[row] * D;
        block_transpose(&block, s.q, job->q);
        attend_block(job, &block, &s, k, v);
    }
}
