/*
 * Gradients of attention. With p = exp(s - lse), s = scale q k^T and delta = sum of d_out out:
 *   ds = p (d_out v^T - delta) scale;  d_q = ds k;  d_k = ds^T q;  d_v = p^T d_out
 * One pass keeps queries and walks their keys, the other keeps keys and walks the queries that see
 * them, in order: nothing is added by two blocks.
 */
#include "ops/cuda/cuda_attention.cuh"

/* delta[n,h]: a warp has a row. */
static __global__ void __launch_bounds__(ATTEND_THREADS) row_delta(const struct attention_job job)
{
    int64_t row = (int64_t)blockIdx.x * ATTEND_WARPS + threadIdx.x / WARP_SIZE;
    float sum = 0;

    if (row >= job.N * job.H)
        return;
    for (int d = (int)threadIdx.x % WARP_SIZE; d < job.D; d += WARP_SIZE)
        sum = fmaf(job.d_out[row * job.D + d], job.out[row * job.D + d], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP_SIZE == 0)
        job.delta[row] = sum;
}

/* LINES of a tile, and which rows are kept in registers, are what ptxas fits without spills. */

/* A warp's queries, shown their keys by walk_keys(). */
template <int D_PAD, int TERMS> struct query_slopes {
    static constexpr int LINES = D_PAD > 64 ? 16 : 32;
    struct warp_rows<D_PAD, TERMS, (D_PAD * TERMS < 192), LINES> q, d_out;
    struct warp_sums<D_PAD, TERMS, LINES> d_q;
    float lse[2], delta[2];

    __device__ __forceinline__ void add_keys(const uint16_t *keys, const uint16_t *values,
                                             const int (&visible)[2], float scale)
    {
        float score[LINES / 8][4], slope[LINES / 8][4];

        q.multiply(score, keys);
        d_out.multiply(slope, values);
        UNROLL
        for (int n = 0; n < LINES / 8; n++)
            UNROLL
            for (int r = 0; r < 4; r++) {
                bool seen = 8 * n + (int)threadIdx.x % 4 * 2 + r % 2 < visible[r / 2];
                float p = seen ? exp_f32(score[n][r] * scale - lse[r / 2]) : 0.0f;
                slope[n][r] = p * (slope[n][r] - delta[r / 2]) * scale;
            }
        d_q.add(slope, keys);
    }
};

template <int D_PAD, int TERMS>
static __global__ void ATTEND_BOUNDS backward_queries(const struct attention_job job)
{
    using slopes = query_slopes<D_PAD, TERMS>;
    SHARED(uint16_t, key_terms, [TERMS * slopes::LINES * D_PAD]);
    SHARED(uint16_t, value_terms, [TERMS * slopes::LINES * D_PAD]);
    int64_t block_row = (int64_t)blockIdx.x * BLOCK_ROWS, head = blockIdx.y;
    int64_t row = block_row + threadIdx.x / WARP_SIZE * ATTEND_ROWS + threadIdx.x % WARP_SIZE / 4;
    slopes state;
    const float *q[2], *d_out[2], factor[2] = {1, 1};
    float *d_q[2];

    for (int half = 0; half < 2; half++) {
        int64_t n = row + 8 * half, place = n * job.H + head;
        bool exists = n < job.N;
        q[half] = exists ? job.q + place * job.D : nullptr;
        d_out[half] = exists ? job.d_out + place * job.D : nullptr;
        d_q[half] = exists ? job.d_q + place * job.D : nullptr;
        state.lse[half] = exists ? job.lse[place] : 0.0f;
        state.delta[half] = exists ? job.delta[place] : 0.0f;
    }
    state.q.start(q, job.D);
    state.d_out.start(d_out, job.D);
    state.d_q.start((int)blockIdx.z);
    for (int64_t s = find_segment(job.segments, job.S, block_row);
         s < job.S && job.segments[s] < block_row + BLOCK_ROWS; s++)
        if (job.segments[s] < job.segments[s + 1])
            walk_keys<D_PAD, TERMS>(state, job, s, block_row, row, key_terms, value_terms);
    state.d_q.store(d_q, factor, job.D);
}

enum { SUM_K = 1, SUM_V = 2 };

/* A warp's keys, rows `row` and row + 8, that lie in [first, last) of their segment. Of wide heads
 * d_k and d_v are SUMS of a pass each. */
template <int D_PAD, int TERMS, int SUMS> struct key_slopes {
    static constexpr int LINES = D_PAD > 32 ? 16 : 32;
    struct warp_rows<D_PAD, TERMS, (D_PAD < 128 && D_PAD * TERMS < 192), LINES> k, v;
    struct warp_sums<D_PAD, TERMS, LINES> d_k, d_v;
    int64_t row, first, last;

    /* LINES queries of one head from row n on, below `end`; all see the keys when they are
     * their prefix. */
    __device__ __forceinline__ void add_queries(const struct attention_job &job,
                                                const uint16_t *queries, const uint16_t *d_outs,
                                                int64_t n, int64_t end, int64_t head,
                                                bool is_prefix)
    {
        float p[LINES / 8][4], slope[LINES / 8][4];
        const float *lse = job.lse + n * job.H + head, *delta = job.delta + n * job.H + head;
        int left = end - n < LINES ? (int)(end - n) : LINES, from[2];

        for (int half = 0; half < 2; half++) {
            int64_t key = row + 8 * half, later = is_prefix || key < n ? 0 : key - n;
            from[half] = key >= first && key < last && later < left ? (int)later : left;
        }
        k.multiply(p, queries);
        if constexpr (SUMS & SUM_K)
            v.multiply(slope, d_outs);
        UNROLL
        for (int i = 0; i < LINES / 8; i++)
            UNROLL
            for (int r = 0; r < 4; r++) {
                int query = 8 * i + (int)threadIdx.x % 4 * 2 + r % 2;
                bool seen = query >= from[r / 2] && query < left;
                int64_t at = query * job.H;
                p[i][r] = seen ? exp_f32(p[i][r] * job.scale - lse[at]) : 0.0f;
                if constexpr (SUMS & SUM_K)
                    slope[i][r] = seen ? p[i][r] * (slope[i][r] - delta[at]) * job.scale : 0.0f;
            }
        if constexpr (SUMS & SUM_V)
            d_v.add(p, d_outs);
        if constexpr (SUMS & SUM_K)
            d_k.add(slope, queries);
    }
};

/* Shows the block's keys the queries of segment s from row `start` on, head by head. */
template <int D_PAD, int TERMS, int SUMS>
static __device__ __forceinline__ void
walk_queries(struct key_slopes<D_PAD, TERMS, SUMS> &state, const struct attention_job &job,
             int64_t s, int64_t start, bool is_prefix, uint16_t *query_terms,
             uint16_t *d_out_terms)
{
    constexpr int LINES = key_slopes<D_PAD, TERMS, SUMS>::LINES;
    using tile = key_tile<D_PAD, TERMS, LINES>;
    int64_t group = job.H / job.K, end = job.segments[s + 1], step = job.H * job.D;
    int64_t blocks = (end - start + LINES - 1) / LINES;

    for (int64_t i = 0; i < blocks * group; i++) {
        int64_t n = start + i / group * LINES, head = blockIdx.y * group + i % group;
        const float *q = job.q + n * step + head * job.D, *g = job.d_out + n * step + head * job.D;
        struct key_runs rows = {{q, q}, {g, g}, {end - n, 0}, step};
        __syncthreads();
        tile::load(query_terms, rows.k, rows, 0, job.D, job.by_four);
        tile::load(d_out_terms, rows.v, rows, 0, job.D, job.by_four);
        __syncthreads();
        state.add_queries(job, query_terms, d_out_terms, n, end, head, is_prefix);
    }
}

template <int D_PAD, int TERMS, int SUMS>
static __global__ void ATTEND_BOUNDS backward_keys(const struct attention_job job)
{
    using slopes = key_slopes<D_PAD, TERMS, SUMS>;
    SHARED(uint16_t, query_terms, [TERMS * slopes::LINES * D_PAD]);
    SHARED(uint16_t, d_out_terms, [TERMS * slopes::LINES * D_PAD]);
    int64_t block_row = (int64_t)blockIdx.x * BLOCK_ROWS, block_end = block_row + BLOCK_ROWS;
    slopes state;
    const float *k[2], *v[2], factor[2] = {1, 1};
    float *d_k[2], *d_v[2];

    state.row = block_row + threadIdx.x / WARP_SIZE * ATTEND_ROWS + threadIdx.x % WARP_SIZE / 4;
    for (int half = 0; half < 2; half++) {
        int64_t n = state.row + 8 * half, at = (n * job.K + blockIdx.y) * job.D;
        k[half] = n < job.N ? job.k + at : nullptr;
        v[half] = n < job.N ? job.v + at : nullptr;
        d_k[half] = n < job.N ? job.d_k + at : nullptr;
        d_v[half] = n < job.N ? job.d_v + at : nullptr;
    }
    state.k.start(k, job.D);
    state.v.start(v, job.D);
    if constexpr (SUMS & SUM_K)
        state.d_k.start((int)blockIdx.z);
    if constexpr (SUMS & SUM_V)
        state.d_v.start((int)blockIdx.z);
    for (int64_t mine = find_segment(job.segments, job.S, block_row);
         mine < job.S && job.segments[mine] < block_end; mine++) {
        state.first = block_row > job.segments[mine] ? block_row : job.segments[mine];
        state.last = block_end < job.segments[mine + 1] ? block_end : job.segments[mine + 1];
        if (state.first >= state.last)
            continue;
        walk_queries(state, job, mine, state.first, false, query_terms, d_out_terms);
        for (int64_t s = mine + 1; job.prefixes && s < job.S; s++)
            if (job.prefixes[s] == mine)
                walk_queries(state, job, s, job.segments[s], true, query_terms, d_out_terms);
    }
    if constexpr (SUMS & SUM_K)
        state.d_k.store(d_k, factor, job.D);
    if constexpr (SUMS & SUM_V)
        state.d_v.store(d_v, factor, job.D);
}

template <int D_PAD, int TERMS>
static void run_backward(struct cuda *cuda, const struct attention_job *job)
{
    constexpr unsigned PARTS = columns<D_PAD, TERMS>::PARTS;
    unsigned blocks = (unsigned)divide_up(job->N, BLOCK_ROWS);
    dim3 by_key(blocks, (unsigned)job->K, PARTS);

    RUN(cuda, (backward_queries<D_PAD, TERMS>), dim3(blocks, (unsigned)job->H, PARTS),
        ATTEND_THREADS, *job);
    if constexpr (D_PAD <= 128) {
        RUN(cuda, (backward_keys<D_PAD, TERMS, SUM_K | SUM_V>), by_key, ATTEND_THREADS, *job);
    } else {
        RUN(cuda, (backward_keys<D_PAD, TERMS, SUM_K>), by_key, ATTEND_THREADS, *job);
        RUN(cuda, (backward_keys<D_PAD, TERMS, SUM_V>), by_key, ATTEND_THREADS, *job);
    }
}

template <int D_PAD> static void run_width(struct cuda *cuda, const struct attention_job *job)
{
    if (cuda->terms == 1)
        run_backward<D_PAD, 1>(cuda, job);
    else
        run_backward<D_PAD, 3>(cuda, job);
}

void cuda_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                             struct tensor *d_v, const struct tensor *d_out,
                             const struct tensor *q, const struct tensor *k,
                             const struct tensor *v, const struct tensor *out,
                             const struct tensor *lse, const struct tensor *segments,
                             const struct tensor *prefixes)
{
    struct cuda *cuda = (struct cuda *)context;
    struct attention_job job = attention_job_of(out, lse, q, k, v, segments, prefixes);
    size_t bytes = (size_t)(job.N * job.H) * sizeof(float);

    job.delta = (float *)cuda_scratch(cuda, CUDA_SCRATCH_SUMS, bytes);
    if (!job.delta || !cuda_head_fits(cuda, job.D))
        return;
    job.d_out = tensor_f32(d_out);
    job.d_q = tensor_f32(d_q);
    job.d_k = tensor_f32(d_k);
    job.d_v = tensor_f32(d_v);
    job.by_four = job.by_four && lies_by_four(q->data, d_out->data, job.D);
    RUN(cuda, row_delta, (unsigned)divide_up(job.N * job.H, ATTEND_WARPS), ATTEND_THREADS, job);
    if (job.D <= 32)
        run_width<32>(cuda, &job);
    else if (job.D <= 64)
        run_width<64>(cuda, &job);
    else if (job.D <= 128)
        run_width<128>(cuda, &job);
    else
        run_width<256>(cuda, &job);
}
