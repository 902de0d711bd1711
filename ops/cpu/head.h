/*
 * ops/cpu/head.h - sums of exp over a row of logits: the one code path of log-probabilities, their
 * entropy, their gradient and of drawing tokens. Private to the kernels_*.c files.
 */
#ifndef HONE_OPS_CPU_HEAD_H
#define HONE_OPS_CPU_HEAD_H

#include "ops/cpu/lanes.h"

struct row_sums {
    float maximum;
    double sum;       /* of exp(z - max) */
    double weighted;  /* of exp(z - max) (z - max) */
};

/* z = logit * factor */
INLINE struct lanes scaled(const float *row, int64_t i, int64_t V, struct lanes factor)
{
    return lanes_multiply(lanes_get(row + i, V - i, -INFINITY), factor);
}

INLINE float largest_scaled(const float *row, int64_t first, int64_t last, float factor)
{
    struct lanes f = lanes_all(factor), maximum = lanes_all(-INFINITY);

    for (int64_t i = first; i < last; i += LANES)
        maximum = lanes_max(scaled(row, i, last, f), maximum);
    return lanes_largest(maximum);
}

/* Of the SUM_BLOCK logits from `block` on. */
INLINE float sum_block(const float *row, int64_t V, int64_t block, float factor, float maximum,
                       float *weighted)
{
    struct lanes f = lanes_all(factor), top = lanes_all(maximum);
    struct lanes sum = lanes_all(0), product = lanes_all(0);

    for (int64_t i = block; i < min_i64(block + SUM_BLOCK, V); i += LANES) {
        struct lanes z = lanes_subtract(scaled(row, i, V, f), top);
        struct lanes e = lanes_exp(z);
        sum = lanes_add(sum, e);
        /* exp(z) is 0 below -87.3; the bound keeps 0 * -inf out. */
        if (weighted)
            product = lanes_fma(e, lanes_max(z, lanes_all(-100.0f)), product);
    }
    if (weighted)
        *weighted = lanes_sum(product);
    return lanes_sum(sum);
}

INLINE struct row_sums sum_row(const float *row, int64_t V, float factor, const int with_weighted)
{
    struct row_sums sums = {.maximum = largest_scaled(row, 0, V, factor)};
    float weighted = 0;

    for (int64_t block = 0; block < V; block += SUM_BLOCK) {
        sums.sum += (double)sum_block(row, V, block, factor, sums.maximum,
                                      with_weighted ? &weighted : NULL);
        sums.weighted += (double)weighted;
    }
    return sums;
}

INLINE float logprob_of(float logit, float factor, float maximum, double sum)
{
    return (float)((double)(logit * factor) - (double)maximum - log(sum));
}

#endif
