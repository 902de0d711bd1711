/*
 * The backward pass of attention for one segment and one key/value head, with
 *   p = exp(q k^T scale - lse),  dp = d_out v^T,  delta = d_out . out,  ds = p (dp - delta) scale:
 *   d_q = ds k,  d_k = ds^T q,  d_v = p^T d_out
 * Sums over query rows and heads run in order.
 */
#include "ops/cpu/tile.h"

#define QUERY_ROWS 16   /* query rows whose p and ds are held at a time */

int64_t KERNEL(attention_backward_scratch)(int64_t n_keys, int64_t D)
{
    int64_t padded = round_up(n_keys, LANES), wide = round_up(D, LANES);

    /* k and v as panels; k padded to whole lanes; q, d_out of the rows; p and ds. */
    return 2 * padded * D + padded * wide + 2 * QUERY_ROWS * wide + 2 * QUERY_ROWS * padded +
           4 * n_keys * D;
}

struct backward_scratch {
    float *k_panels, *v_panels, *k_wide, *q_wide, *d_out_wide, *p, *ds, *k, *v, *d_k, *d_v;
    int64_t padded, wide;
};

/* out[r] (+)= sum over steps of a[r][step * a_step] * b[step], D columns. */
INLINE void add_products(float *const *out, const float *const *a, int64_t a_step, int64_t n_rows,
                         const float *b, int64_t b_step, int64_t n_steps, int64_t D, int accumulate)
{
    struct tile tile = {.a_step = a_step,
                        .b = b,
                        .b_panel = LANES,
                        .b_step = b_step,
                        .n_steps = n_steps,
                        .n_columns = D,
                        .accumulate = accumulate};

    for (int64_t r = 0; r < n_rows; r++) {
        tile.a[r] = a[r];
        tile.out[r] = out[r];
    }
    tile_multiply(&tile, n_rows);
}

/* out[r][j] = row[r] . panel column j, for n_keys keys rounded up to whole panels. */
INLINE void multiply_panels(float *out, int64_t out_row, const float *rows, int64_t row_stride,
                            int64_t n_rows, const float *panels, int64_t n_keys, int64_t D)
{
    for (int64_t r = 0; r < n_rows; r += TILE_ROWS) {
        int64_t n = min_i64(TILE_ROWS, n_rows - r);
        struct tile tile = {.a_step = 1,
                            .b = panels,
                            .b_panel = D * LANES,
                            .b_step = LANES,
                            .n_steps = D,
                            .n_columns = round_up(n_keys, LANES)};
        for (int64_t i = 0; i < n; i++) {
            tile.a[i] = rows + (r + i) * row_stride;
            tile.out[i] = out + (r + i) * out_row;
        }
        tile_multiply(&tile, n);
    }
}

/* n rows of D floats with whole lanes, so that vectors may be loaded from them. */
INLINE void copy_wide(float *to, int64_t wide, const float *from, int64_t stride, int64_t n,
                      int64_t D)
{
    for (int64_t j = 0; j < n; j++)
        for (int64_t d = 0; d < D; d += LANES)
            lanes_store(to + j * wide + d, lanes_get(from + j * stride + d, D - d, 0));
}

INLINE float dot_row(const float *a, const float *b, int64_t D)
{
    struct lanes sum = lanes_all(0);
    for (int64_t d = 0; d < D; d += LANES)
        sum = lanes_fma(lanes_get(a + d, D - d, 0), lanes_get(b + d, D - d, 0), sum);
    return lanes_sum(sum);
}

/* Scores become p and dp becomes ds, for a row that sees n of `padded` keys; 0 behind them. */
INLINE void differentiate_row(float *p, float *ds, int64_t n, int64_t padded, float scale,
                              float lse, float delta)
{
    struct lanes factor = lanes_all(scale), l = lanes_all(lse), shift = lanes_all(delta);
    int64_t used = round_up(n, LANES);

    for (int64_t j = 0; j < used; j += LANES) {
        struct lanes s = lanes_multiply(lanes_load(p + j), factor);
        struct lanes pj = lanes_exp(lanes_subtract(s, l));
        struct lanes d = lanes_multiply(lanes_subtract(lanes_load(ds + j), shift), pj);
        lanes_store(p + j, pj);
        lanes_store(ds + j, lanes_multiply(d, factor));
    }
    for (int64_t j = n; j < padded; j++)
        p[j] = ds[j] = 0;
}

/* Query rows first .. first + n_rows - 1 of head h. */
INLINE void backward_rows(const struct attention_gradient *job, const struct backward_scratch *s,
                          int64_t segment, int64_t first, int64_t n_rows, int64_t h)
{
    int64_t H = job->H, D = job->D, n_keys = first + n_rows - segment;
    int64_t stride = H * D, padded = round_up(n_keys, LANES);
    const float *q = job->q + (first * H + h) * D, *d_out = job->d_out + (first * H + h) * D;
    const float *out = job->out + (first * H + h) * D;
    float scale = 1 / sqrtf((float)D);

    copy_wide(s->q_wide, s->wide, q, stride, n_rows, D);
    copy_wide(s->d_out_wide, s->wide, d_out, stride, n_rows, D);
    multiply_panels(s->p, s->padded, s->q_wide, s->wide, n_rows, s->k_panels, n_keys, D);
    multiply_panels(s->ds, s->padded, s->d_out_wide, s->wide, n_rows, s->v_panels, n_keys, D);
    for (int64_t r = 0; r < n_rows; r++)
        differentiate_row(s->p + r * s->padded, s->ds + r * s->padded, first + r - segment + 1,
                          padded, scale, job->lse[(first + r) * H + h],
                          dot_row(d_out + r * stride, out + r * stride, D));
    for (int64_t r = 0; r < n_rows; r += TILE_ROWS) {
        int64_t n = min_i64(TILE_ROWS, n_rows - r);
        const float *a[TILE_ROWS];
        float *d_q[TILE_ROWS];
        for (int64_t i = 0; i < n; i++) {
            a[i] = s->ds + (r + i) * s->padded;
            d_q[i] = job->d_q + ((first + r + i) * H + h) * D;
        }
        add_products(d_q, a, 1, n, s->k_wide, s->wide, n_keys, D, 0);
    }
    for (int64_t j = 0; j < n_keys; j += TILE_ROWS) {
        int64_t n = min_i64(TILE_ROWS, n_keys - j);
        const float *p[TILE_ROWS], *ds[TILE_ROWS];
        float *d_k[TILE_ROWS], *d_v[TILE_ROWS];
        for (int64_t i = 0; i < n; i++) {
            p[i] = s->p + j + i;
            ds[i] = s->ds + j + i;
            d_k[i] = s->d_k + (j + i) * D;
            d_v[i] = s->d_v + (j + i) * D;
        }
        add_products(d_k, ds, s->padded, n, s->q_wide, s->wide, n_rows, D, 1);
        add_products(d_v, p, s->padded, n, s->d_out_wide, s->wide, n_rows, D, 1);
    }
}

INLINE int64_t key_row(const struct attention_span *span, int64_t j)
{
    return j < span->n_prefix ? span->prefix + j : span->segment + j - span->n_prefix;
}

void KERNEL(attention_backward)(const struct attention_gradient *job,
                                const struct attention_span *span, int64_t kv_head, float *scratch)
{
    int64_t H = job->H, K = job->K, D = job->D, segment = span->segment - span->n_prefix;
    int64_t n_keys = span->last - segment;
    struct backward_scratch s = {.padded = round_up(n_keys, LANES), .wide = round_up(D, LANES)};

    s.k_panels = scratch;
    s.v_panels = s.k_panels + s.padded * D;
    s.k_wide = s.v_panels + s.padded * D;
    s.q_wide = s.k_wide + s.padded * s.wide;
    s.d_out_wide = s.q_wide + QUERY_ROWS * s.wide;
    s.p = s.d_out_wide + QUERY_ROWS * s.wide;
    s.ds = s.p + QUERY_ROWS * s.padded;
    s.k = s.ds + QUERY_ROWS * s.padded;
    s.v = s.k + n_keys * D;
    s.d_k = s.v + n_keys * D;
    s.d_v = s.d_k + n_keys * D;
    for (int64_t j = 0; j < n_keys; j++) {
        int64_t at = (key_row(span, j) * K + kv_head) * D;
        memcpy(s.k + j * D, job->k + at, (size_t)D * sizeof(float));
        memcpy(s.v + j * D, job->v + at, (size_t)D * sizeof(float));
    }
    memset(s.d_k, 0, (size_t)(2 * n_keys * D) * sizeof(float));
    for (int64_t j = 0; j < n_keys; j += LANES) {
        int64_t n = min_i64(LANES, n_keys - j);
        KERNEL(transpose_panel)(s.k_panels + j * D, s.k + j * D, D, n, D);
        KERNEL(transpose_panel)(s.v_panels + j * D, s.v + j * D, D, n, D);
    }
    copy_wide(s.k_wide, s.wide, s.k, D, n_keys, D);
    for (int64_t h = kv_head * (H / K); h < (kv_head + 1) * (H / K); h++)
        for (int64_t row = span->first; row < span->last; row += QUERY_ROWS)
            backward_rows(job, &s, segment, row, min_i64(QUERY_ROWS, span->last - row), h);
    for (int64_t j = 0; j < n_keys; j++)
        for (int64_t d = 0, at = (key_row(span, j) * K + kv_head) * D; d < D; d++) {
            job->d_k[at + d] += s.d_k[j * D + d];
            job->d_v[at + d] += s.d_v[j * D + d];
        }
}
