/* Attention of packed rows: a block has 64 of them and one head. */
#include "ops/cuda/cuda_attention.cuh"
#include "ops/cuda/cuda_attend.cuh"

#define BLOCK_ROWS (ATTEND_WARPS * ATTEND_ROWS)

struct attention_job {
    float *out, *lse;
    const float *q, *k, *v;
    const int32_t *segments, *prefixes;
    int64_t N, H, K, S;
    int D;
    float scale;
    bool by_four;
};

/* One segment's keys before the queries that the block has of it. */
template <int D_PAD, int TERMS>
static __device__ __forceinline__ void
attend_segment(struct attend<D_PAD, TERMS> &state, const struct attention_job &job, int64_t s,
               int64_t block_row, int64_t row, uint16_t *key_terms, uint16_t *value_terms)
{
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
    for (int64_t first = 0; first < n_keys; first += KEY_BLOCK) {
        __syncthreads();
        key_tile<D_PAD, TERMS>::load(key_terms, keys.k, keys, first, job.D, job.by_four);
        key_tile<D_PAD, TERMS>::load(value_terms, keys.v, keys, first, job.D, job.by_four);
        __syncthreads();
        int visible[2] = {(int)(limit[0] - first), (int)(limit[1] - first)};
        if (__any_sync(FULL_WARP, visible[0] > 0 || visible[1] > 0))
            state.add_keys(key_terms, value_terms, visible, job.scale);
    }
}

template <int D_PAD, int TERMS>
static __global__ void __launch_bounds__(ATTEND_THREADS) attention(const struct attention_job job)
{
    SHARED(uint16_t, key_terms, [TERMS * KEY_BLOCK * D_PAD]);
    SHARED(uint16_t, value_terms, [TERMS * KEY_BLOCK * D_PAD]);
    int64_t block_row = (int64_t)blockIdx.x * BLOCK_ROWS, head = blockIdx.y;
    int64_t row = block_row + threadIdx.x / WARP_SIZE * ATTEND_ROWS + threadIdx.x % WARP_SIZE / 4;
    struct attend<D_PAD, TERMS> state;
    const float *q[2];
    float *out[2], *lse[2];

    for (int half = 0; half < 2; half++) {
        int64_t n = row + 8 * half, place = n * job.H + head;
        q[half] = n < job.N ? job.q + place * job.D : nullptr;
        out[half] = n < job.N ? job.out + place * job.D : nullptr;
        lse[half] = n < job.N && job.lse ? job.lse + place : nullptr;
    }
    state.start(q, job.D);
    for (int64_t s = find_segment(job.segments, job.S, block_row);
         s < job.S && job.segments[s] < block_row + BLOCK_ROWS; s++)
        if (job.segments[s] < job.segments[s + 1])
            attend_segment(state, job, s, block_row, row, key_terms, value_terms);
    state.finish(out, lse, job.D);
}

template <int D_PAD> static void run_attention(struct cuda *cuda, const struct attention_job *job)
{
    dim3 grid((unsigned)divide_up(job->N, BLOCK_ROWS), (unsigned)job->H);

    if (cuda->terms == 1)
        RUN(cuda, (attention<D_PAD, 1>), grid, ATTEND_THREADS, *job);
    else
        RUN(cuda, (attention<D_PAD, 3>), grid, ATTEND_THREADS, *job);
}

void cuda_attention(void *context, struct tensor *out, struct tensor *lse, const struct tensor *q,
                    const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                    const struct tensor *prefixes)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t D = q->shape[2];
    const struct attention_job job = {
        .out = tensor_f32(out),
        .lse = lse ? tensor_f32(lse) : nullptr,
        .q = tensor_f32(q),
        .k = tensor_f32(k),
        .v = tensor_f32(v),
        .segments = (const int32_t *)segments->data,
        .prefixes = prefixes ? (const int32_t *)prefixes->data : nullptr,
        .N = q->shape[0],
        .H = q->shape[1],
        .K = k->shape[1],
        .S = segments->shape[0] - 1,
        .D = (int)D,
        .scale = 1 / sqrtf((float)D),
        .by_four = lies_by_four(k->data, v->data, D),
    };

    if (!cuda_head_fits(cuda, D))
        return;
    if (D <= 32)
        run_attention<32>(cuda, &job);
    else if (D <= 64)
        run_attention<64>(cuda, &job);
    else
        run_attention<128>(cuda, &job);
}
