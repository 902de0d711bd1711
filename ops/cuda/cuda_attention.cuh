/* ops/cuda/cuda_attention.cuh - which rows a row sees. Private to ops/cuda/. */
#ifndef HONE_OPS_CUDA_ATTENTION_CUH_H
#define HONE_OPS_CUDA_ATTENTION_CUH_H

#include "ops/cuda/cuda_attend.cuh"

#define BLOCK_ROWS (ATTEND_WARPS * ATTEND_ROWS)

struct attention_job {
    float *out, *lse;               /* forward writes them, backward reads them */
    const float *q, *k, *v;
    const float *d_out;             /* of the backward pass alone, as what follows */
    float *d_q, *d_k, *d_v, *delta;
    const int32_t *segments, *prefixes;
    int64_t N, H, K, S;
    int D;
    float scale;
    bool by_four;
};

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

/* Shows the block's queries of segment s their keys, STATE::LINES at a time; `row` and row + 8 are
 * this thread's. */
template <int D_PAD, int TERMS, class STATE>
static __device__ __forceinline__ void
walk_keys(STATE &state, const struct attention_job &job, int64_t s, int64_t block_row, int64_t row,
          uint16_t *key_terms, uint16_t *value_terms)
{
    using tile = key_tile<D_PAD, TERMS, STATE::LINES>;
    struct visible_rows seen = find_visible(job.segments, job.prefixes, s);
    int64_t end = job.segments[s + 1], last = block_row + BLOCK_ROWS, head = blockIdx.y;
    int64_t at = head / (job.H / job.K) * job.D, step = job.K * job.D;

    last = last < end ? last : end;
    struct key_runs keys = {{job.k + seen.first[0] * step + at, job.k + seen.first[1] * step + at},
                            {job.v + seen.first[0] * step + at, job.v + seen.first[1] * step + at},
                            {seen.n, last - seen.first[1]},
                            step};
    int64_t n_keys = keys.n[0] + keys.n[1], limit[2];
    for (int half = 0; half < 2; half++) {
        int64_t n = row + 8 * half;
        limit[half] = n >= seen.first[1] && n < end ? seen.n + n + 1 - seen.first[1] : 0;
    }
    for (int64_t first = 0; first < n_keys; first += STATE::LINES) {
        __syncthreads();
        tile::load(key_terms, keys.k, keys, first, job.D, job.by_four);
        tile::load(value_terms, keys.v, keys, first, job.D, job.by_four);
        __syncthreads();
        int visible[2] = {(int)(limit[0] - first), (int)(limit[1] - first)};
        if (__any_sync(FULL_WARP, visible[0] > 0 || visible[1] > 0))
            state.add_keys(key_terms, value_terms, visible, job.scale);
    }
}

static inline struct attention_job
attention_job_of(const struct tensor *out, const struct tensor *lse, const struct tensor *q,
                 const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                 const struct tensor *prefixes)
{
    struct attention_job job = {};

    job.out = tensor_f32(out);
    job.lse = lse ? tensor_f32(lse) : nullptr;
    job.q = tensor_f32(q);
    job.k = tensor_f32(k);
    job.v = tensor_f32(v);
    job.segments = (const int32_t *)segments->data;
    job.prefixes = prefixes ? (const int32_t *)prefixes->data : nullptr;
    job.N = q->shape[0];
    job.H = q->shape[1];
    job.K = k->shape[1];
    job.S = segments->shape[0] - 1;
    job.D = (int)q->shape[2];
    job.scale = 1 / sqrtf((float)job.D);
    job.by_four = lies_by_four(k->data, v->data, job.D);
    return job;
}

#endif
