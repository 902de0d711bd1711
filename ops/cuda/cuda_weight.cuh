/* ops/cuda/cuda_weight.cuh - a weight as a product takes it. Private to ops/cuda/. */
#ifndef HONE_OPS_CUDA_WEIGHT_CUH_H
#define HONE_OPS_CUDA_WEIGHT_CUH_H

#include "ops/cuda/cuda.cuh"

struct seen_weight {
    const void *data;   /* [M,C], bfloat16 or float32 */
    bool is_bf16;
    bool is_rounded;    /* float32 of which the product takes the rounded value */
};

/* Where it lies; with an adapter the sum is made in scratch memory first. */
static inline struct seen_weight cuda_see_weight(struct cuda *cuda, const struct matrix *weight)
{
    bool is_bf16 = matrix_is_bf16(weight);
    struct seen_weight seen = {weight->data, is_bf16, weight->dtype == DTYPE_BF16 && !is_bf16};

    if (!weight->adapter.rank)
        return seen;
    float *sum = (float *)cuda_scratch(cuda, CUDA_SCRATCH_OPERAND,
                                       (size_t)(weight->M * weight->C) * sizeof(float));
    if (sum) {
        struct tensor rows = tensor_2d(sum, weight->M, weight->C);
        cuda_matrix_read(cuda, &rows, weight, 0);
    }
    seen.data = sum;
    return seen;
}

#endif
