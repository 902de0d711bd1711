/*
 * The backward pass of attention, with
 *   p = exp(q k^T scale - lse),  dp = d_out v^T,  delta = d_out . out,  ds = p (dp - delta) scale:
 *   d_q = ds k,  d_k = ds^T q,  d_v = p^T d_out
 * Each sum is one chain: d_q in the order of the keys, d_k and d_v in that of the rows and, within
 * a row, of the heads. So rows and keys may be cut anywhere.
 */
#include "ops/cpu/attention.h"
#include "ops/cpu/attention_block.h"

#define KEY_BLOCK 64   /* keys whose p and ds are held at a time, in the L1 cache */

int64_t KERNEL(attention_backward_scratch)(int64_t D)
{
    int64_t wide = round_up(D, LANES);

    return 2 * BLOCK_ROWS * (D + wide) + (2 * BLOCK_ROWS + LANES) * KEY_BLOCK;
}

struct backward_scratch {
    float *q, *d_out;             /* [panels][D][16] */
    float *q_wide, *d_out_wide;   /* [BLOCK_ROWS][wide] */
    float *p, *ds, *spare;        /* [KEY_BLOCK][BLOCK_ROWS], and 16 */
    struct lanes minus_lse[BLOCK_PANELS], delta[BLOCK_PANELS];
    int64_t wide;
};

/* Some keys next to each other, the first of which is number `first` of those that rows see. */
struct key_block {
    const float *k, *v;
    float *d_k, *d_v;
    int64_t first, n;
};

INLINE float dot_row(const float *a, const float *b, int64_t D)
{
    struct lanes sum = lanes_all(0);
    for (int64_t d = 0; d < D; d += LANES)
        sum = lanes_fma(lanes_get(a + d, D - d, 0), lanes_get(b + d, D - d, 0), sum);
    return lanes_sum(sum);
}

/* The block's rows with whole lanes, so that vectors may be loaded from them. */
INLINE void copy_wide(float *to, const struct block *block, const float *from, int64_t wide)
{
    int64_t D = block->D;

    for (int64_t r = 0; r < block->n_rows; r++)
        for (int64_t d = 0; d < D; d += LANES)
            lanes_store(to + r * wide + d, lanes_get(from + block->at[r] * D + d, D - d, 0));
}

INLINE void prepare_rows(const struct attention_gradient *job, const struct block *block,
                         struct backward_scratch *s)
{
    float minus_lse[BLOCK_ROWS] = {0}, delta[BLOCK_ROWS] = {0};
    int64_t D = block->D;

    block_transpose(block, s->q, job->q);
    block_transpose(block, s->d_out, job->d_out);
    copy_wide(s->q_wide, block, job->q, s->wide);
    copy_wide(s->d_out_wide, block, job->d_out, s->wide);
    for (int64_t r = 0; r < block->n_rows; r++) {
        minus_lse[r] = -job->lse[block->at[r]];
        delta[r] = dot_row(job->d_out + block->at[r] * D, job->out + block->at[r] * D, D);
    }
    for (int64_t p = 0; p < BLOCK_PANELS; p++) {
        s->minus_lse[p] = lanes_load(minus_lse + p * LANES);
        s->delta[p] = lanes_load(delta + p * LANES);
    }
}

/* Scores become p and dp becomes ds; both 0 where a row does not see the key. */
INLINE void differentiate(const struct block *block, const struct backward_scratch *s, int64_t j,
                          int64_t n, int64_t key)
{
    struct lanes factor = lanes_all(block->scale);

    for (int64_t panel = block_first_panel(block, key); panel < block->n_panels; panel++)
        for (int64_t r = 0; r < n; r++) {
            int64_t at = (j + r) * BLOCK_ROWS + panel * LANES;
            struct lanes p =
                lanes_exp(lanes_fma(lanes_load(s->p + at), factor, s->minus_lse[panel]));
            struct lanes d = lanes_subtract(lanes_load(s->ds + at), s->delta[panel]);
            if (key + r >= block->least[panel])
                p = lanes_choose_above(block->visible[panel], (float)(key + r), p, 0);
            lanes_store(s->p + at, p);
            lanes_store(s->ds + at, lanes_multiply(lanes_multiply(d, p), factor));
        }
}

/* out[key] += sum over the block's rows of a[key][row] rows[row], for a few keys. */
INLINE void add_rows(const struct block *block, float *out, const float *a, const float *rows,
                     int64_t wide, int64_t n_keys, int64_t key)
{
    int64_t from = block_first_panel(block, key) * LANES;
    struct tile tile = {.a_step = 1,
                        .b = rows + from * wide,
                        .b_panel = LANES,
                        .b_step = wide,
                        .n_steps = block->n_rows - from,
                        .n_columns = block->D,
                        .accumulate = 1};

    for (int64_t j = 0; j < n_keys; j++) {
        tile.a[j] = a + j * BLOCK_ROWS + from;
        tile.out[j] = out + j * block->key_stride;
    }
    tile_multiply(&tile, n_keys);
}

/* d_q of the rows of a panel from the keys of a block; those of the first block are written. */
INLINE void add_keys(const struct attention_gradient *job, const struct block *block,
                     const struct backward_scratch *s, const struct key_block *keys, int64_t panel)
{
    int64_t last = min_i64((panel + 1) * LANES, block->n_rows);

    for (int64_t row = panel * LANES; row < last; row += TILE_ROWS) {
        int64_t n_rows = min_i64(TILE_ROWS, last - row);
        int64_t n = min_i64(block->n_visible[row + n_rows - 1] - keys->first, keys->n);
        const float *ds[TILE_ROWS];
        float *d_q[TILE_ROWS];
        for (int64_t r = 0; r < n_rows; r++) {
            ds[r] = s->ds + row + r;
            d_q[r] = job->d_q + block->at[row + r] * block->D;
        }
        if (n > 0)
            weigh_rows(d_q, ds, BLOCK_ROWS, n_rows, keys->k, block->key_stride, n, block->D,
                       keys->first > 0, s->spare);
    }
}

INLINE void backward_keys(const struct attention_gradient *job, const struct block *block,
                          const struct backward_scratch *s, const struct key_block *keys,
                          int wanted)
{
    int64_t stride = block->key_stride;

    for (int64_t j = 0; j < keys->n; j += TILE_ROWS) {
        int64_t n = min_i64(TILE_ROWS, keys->n - j), key = keys->first + j;
        block_multiply(block, s->p + j * BLOCK_ROWS, s->q, keys->k + j * stride, n, key);
        block_multiply(block, s->ds + j * BLOCK_ROWS, s->d_out, keys->v + j * stride, n, key);
        differentiate(block, s, j, n, key);
        if (wanted & ATTENTION_D_KEYS) {
            add_rows(block, keys->d_k + j * stride, s->ds + j * BLOCK_ROWS, s->q_wide, s->wide, n,
                     key);
            add_rows(block, keys->d_v + j * stride, s->p + j * BLOCK_ROWS, s->d_out_wide, s->wide,
                     n, key);
        }
    }
    if (wanted & ATTENTION_D_QUERIES)
        for (int64_t panel = 0; panel < block->n_panels; panel++)
            add_keys(job, block, s, keys, panel);
}

/* Keys first .. last-1 of those that rows of the span see; number `base` is row `row`. */
INLINE void backward_run(const struct attention_gradient *job, const struct block *block,
                         const struct backward_scratch *s, int64_t row, int64_t base,
                         int64_t first, int64_t last, int wanted)
{
    for (int64_t key = first; key < last; key += KEY_BLOCK) {
        int64_t at = (row + key - base) * block->key_stride + block->kv_head * block->D;
        struct key_block keys = {job->k + at,   job->v + at, job->d_k + at,
                                 job->d_v + at, key,         min_i64(KEY_BLOCK, last - key)};
        backward_keys(job, block, s, &keys, wanted);
    }
}

/* The span's own keys among first .. last-1 of those that its rows see. */
INLINE void zero_keys(const struct attention_gradient *job, const struct block *block,
                      int64_t first, int64_t last)
{
    for (int64_t key = first > block->n_before ? first : block->n_before; key < last; key++) {
        int64_t at = (block->own + key - block->n_before) * block->key_stride +
                     block->kv_head * block->D;
        for (int64_t d = 0; d < block->D; d += LANES) {
            lanes_put(job->d_k + at + d, lanes_all(0), block->D - d);
            lanes_put(job->d_v + at + d, lanes_all(0), block->D - d);
        }
    }
}

INLINE void fetch_next(const struct attention_gradient *job, const struct block *block)
{
    int64_t group = block->group, head = block->kv_head * group;

    block_fetch_next(block, job->q, job->H, head, group);
    block_fetch_next(block, job->d_out, job->H, head, group);
    block_fetch_next(block, job->out, job->H, head, group);
    block_fetch_next(block, job->k, job->K, block->kv_head, 1);
    block_fetch_next(block, job->v, job->K, block->kv_head, 1);
}

void KERNEL(attention_backward)(const struct attention_gradient *job,
                                const struct attention_span *span, int64_t kv_head,
                                int64_t first_key, int64_t last_key, int wanted, float *scratch)
{
    int64_t D = job->D, before = span->n_prefix;
    struct backward_scratch s = {.wide = round_up(D, LANES)};
    struct block block;

    s.q = scratch;
    s.d_out = s.q + BLOCK_ROWS * D;
    s.q_wide = s.d_out + BLOCK_ROWS * D;
    s.d_out_wide = s.q_wide + BLOCK_ROWS * s.wide;
    s.p = s.d_out_wide + BLOCK_ROWS * s.wide;
    s.ds = s.p + BLOCK_ROWS * KEY_BLOCK;
    s.spare = s.ds + BLOCK_ROWS * KEY_BLOCK;
    block_begin(&block, span, job->H, job->K, D, kv_head);
    if (wanted & ATTENTION_NEW_KEYS)
        zero_keys(job, &block, first_key, last_key);
    fetch_next(job, &block);
    while (block_next(&block)) {
        fetch_next(job, &block);
        int64_t n_keys = block.n_visible[block.n_rows - 1], last = min_i64(last_key, n_keys);
        if (first_key >= last)
            continue;
        prepare_rows(job, &block, &s);
        backward_run(job, &block, &s, span->prefix, 0, first_key, min_i64(last, before), wanted);
        backward_run(job, &block, &s, span->segment, before,
                     first_key > before ? first_key : before, last, wanted);
    }
}
