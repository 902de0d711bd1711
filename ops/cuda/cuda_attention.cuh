/* ops/cuda/cuda_attention.cuh - which rows a row sees. Private to ops/cuda/. */
#ifndef HONE_OPS_CUDA_ATTENTION_CUH_H
#define HONE_OPS_CUDA_ATTENTION_CUH_H

#include "ops/cuda/cuda.cuh"

/* False, and the sticky status, for heads wider than the kernels' tiles. */
bool cuda_head_fits(struct cuda *cuda, int64_t D);

/* The segment that row n lies in; S when there is none. */
static __device__ __forceinline__ int64_t find_segment(const int32_t *segments, int64_t S,
                                                       int64_t n)
{
    int64_t low = 0, high = S;

    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (segments[middle + 1] > n)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Rows of a segment see n rows from first[0] on, then those from first[1] on up to themselves. */
struct visible_rows {
    int64_t first[2], n;
};

static __device__ __forceinline__ struct visible_rows
find_visible(const int32_t *segments, const int32_t *prefixes, int64_t s)
{
    int32_t prefix = prefixes ? prefixes[s] : -1;

    if (prefix < 0)
        return {{segments[s], segments[s]}, 0};
    return {{segments[prefix], segments[s]}, segments[prefix + 1] - segments[prefix]};
}

#endif
