/* ops/cuda/cuda_head.cuh - the sums of a row of logits, by one block. Private to ops/cuda/. */
#ifndef HONE_OPS_CUDA_HEAD_CUH_H
#define HONE_OPS_CUDA_HEAD_CUH_H

#include "ops/cuda/cuda.cuh"

struct row_sums {
    float maximum;
    double sum;        /* of exp(z - max) */
    double weighted;   /* of exp(z - max) (z - max) */
};

/* z = row * factor: the one code path of log-probabilities, their entropy and their gradient. */
static __device__ struct row_sums sum_row(const float *row, int64_t V, float factor,
                                          double *room)
{
    float maximum = -INFINITY, sum = 0, weighted = 0;
    struct row_sums sums;

    for (int64_t i = threadIdx.x; i < V; i += ROW_THREADS)
        maximum = fmaxf(maximum, row[i] * factor);
    sums.maximum = block_max<ROW_THREADS>(maximum, (float *)room);
    for (int64_t i = threadIdx.x; i < V; i += ROW_THREADS) {
        float z = row[i] * factor - sums.maximum, e = exp_f32(z);
        sum += e;
        /* exp(z) is 0 below -87.3; the bound keeps 0 * -inf out. */
        weighted = fmaf(e, fmaxf(z, -100.0f), weighted);
    }
    sums.sum = block_sum<ROW_THREADS>((double)sum, room);
    sums.weighted = block_sum<ROW_THREADS>((double)weighted, room);
    return sums;
}

static __device__ __forceinline__ float logprob_of(float logit, float factor,
                                                   const struct row_sums &sums)
{
    double target = logit * factor;
    return (float)(target - (double)sums.maximum - log(sums.sum));
}

#endif
