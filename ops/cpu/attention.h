/*
 * ops/cpu/attention.h - the steps of attention, of whole segments and of decoded rows alike:
 *   score[j] = q . k[j], one chain over D;  s = score / sqrt(D);  p = exp(s - max s);
 *   sum of p in 16 lanes by j;  out = (p[0] v[0] + p[1] v[1] + ... in order) / sum
 * None of them depends on how many rows share a tile or on where a run of keys ends. Private to
 * the kernels_*.c files.
 */
#ifndef HONE_OPS_CPU_ATTENTION_H
#define HONE_OPS_CPU_ATTENTION_H

#include "ops/cpu/tile.h"

/* Scores of n_rows queries against `keys` to score[r][0 ..]; writes up to 15 floats too many. */
INLINE void score_rows(float *const *score, const float *const *q, int64_t n_rows,
                       const float *panels, int64_t n_keys, int64_t D)
{
    struct tile tile = {.a_step = 1,
                        .b = panels,
                        .b_panel = D * LANES,
                        .b_step = LANES,
                        .n_steps = D,
                        .n_columns = round_up(n_keys, LANES)};

    for (int64_t r = 0; r < n_rows; r++) {
        tile.a[r] = q[r];
        tile.out[r] = score[r];
    }
    tile_multiply(&tile, n_rows);
}

/* out[r][0 .. D) (+)= sum over j of p[r][j] v[j]; p at a step of p_step. `spare` holds 16 n floats
 * for the last columns of an odd D, where a whole load would leave the array. */
INLINE void weigh_rows(float *const *out, const float *const *p, int64_t p_step, int64_t n_rows,
                       const float *v, int64_t stride, int64_t n, int64_t D, int accumulate,
                       float *spare)
{
    int64_t whole = D / LANES * LANES;
    struct tile tile = {.a_step = p_step,
                        .b = v,
                        .b_panel = LANES,
                        .b_step = stride,
                        .n_steps = n,
                        .n_columns = whole,
                        .accumulate = accumulate};

    for (int64_t r = 0; r < n_rows; r++) {
        tile.a[r] = p[r];
        tile.out[r] = out[r];
    }
    if (whole)
        tile_multiply(&tile, n_rows);
    if (whole == D)
        return;
    for (int64_t j = 0; j < n; j++)
        lanes_store(spare + j * LANES, lanes_load_part(v + j * stride + whole, D - whole, 0));
    tile.b = spare;
    tile.b_step = LANES;
    tile.n_columns = D - whole;
    for (int64_t r = 0; r < n_rows; r++)
        tile.out[r] = out[r] + whole;
    tile_multiply(&tile, n_rows);
}

/* Keys as panels [ceil(n/16)][D][16]. */
INLINE void make_panels(float *panels, const float *k, int64_t stride, int64_t n, int64_t D)
{
    for (int64_t j = 0; j < n; j += LANES)
        KERNEL(transpose_panel)
    (panels + j * D, k + j * stride, stride, min_i64(LANES, n - j), D);
}

/* Scores become exp(s - max s); zeros follow up to n_padded, a multiple of 16. Returns the sum. */
INLINE float soften_row(float *score, int64_t n, int64_t n_padded, float scale, float *maximum)
{
    struct lanes factor = lanes_all(scale), largest = lanes_all(-INFINITY), sum = lanes_all(0);
    int64_t used = round_up(n, LANES);

    for (int64_t j = n; j < used; j++)
        score[j] = -INFINITY;
    for (int64_t j = 0; j < used; j += LANES) {
        struct lanes s = lanes_multiply(lanes_load(score + j), factor);
        lanes_store(score + j, s);
        largest = lanes_max(s, largest);
    }
    *maximum = lanes_largest(largest);
    struct lanes top = lanes_all(*maximum);
    for (int64_t j = 0; j < used; j += LANES) {
        struct lanes p = lanes_exp(lanes_subtract(lanes_load(score + j), top));
        lanes_store(score + j, p);
        sum = lanes_add(sum, p);
    }
    for (int64_t j = used; j < n_padded; j += LANES)
        lanes_store(score + j, lanes_all(0));
    return lanes_sum(sum);
}

INLINE void scale_row(float *x, float factor, int64_t n)
{
    for (int64_t d = 0; d < n; d += LANES)
        lanes_put(x + d, lanes_multiply(lanes_get(x + d, n - d, 0), lanes_all(factor)), n - d);
}

INLINE float score_scale(int64_t D)
{
    return 1 / sqrtf((float)D);
}

#endif
