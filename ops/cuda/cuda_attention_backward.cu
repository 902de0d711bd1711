/*
 * Gradients of attention. With p = exp(s - lse), s = scale q k^T and delta = sum of d_out out:
 *   ds = p (d_out v^T - delta) scale;  d_q = ds k;  d_k = ds^T q;  d_v = p^T d_out
 * One pass has sixteen queries and walks their keys, the other sixteen keys and walks the queries
 * that see them, in order: nothing is added by two blocks.
 */
#include "ops/cuda/cuda_attend.cuh"
#include "ops/cuda/cuda_attention.cuh"

#define SIDE 16       /* queries and keys of a tile */
#define THREADS 128
#define PER_THREAD (SIDE * SIDE / THREADS)

struct backward_job {
    float *d_q, *d_k, *d_v, *delta;
    const float *d_out, *q, *k, *v, *out, *lse;
    const int32_t *segments, *prefixes;
    int64_t N, H, K, S;
    int D;
    float scale;
};

/* delta[n,h]: a warp has a row. */
static __global__ void __launch_bounds__(THREADS) row_delta(const struct backward_job job)
{
    int64_t row = (int64_t)blockIdx.x * (THREADS / WARP_SIZE) + threadIdx.x / WARP_SIZE;
    float sum = 0;

    if (row >= job.N * job.H)
        return;
    for (int d = (int)threadIdx.x % WARP_SIZE; d < job.D; d += WARP_SIZE)
        sum = fmaf(job.d_out[row * job.D + d], job.out[row * job.D + d], sum);
    sum = warp_sum(sum);
    if (threadIdx.x % WARP_SIZE == 0)
        job.delta[row] = sum;
}

/* Rows first .. first + SIDE - 1 below `end`, each `step` from the next, of D numbers; else 0. */
template <int D_PAD>
static __device__ __forceinline__ void load_rows(float (&tile)[SIDE][D_PAD + 1], const float *from,
                                                 int64_t first, int64_t end, int64_t step, int D)
{
    for (int i = (int)threadIdx.x; i < SIDE * D_PAD; i += THREADS) {
        int r = i / D_PAD, d = i % D_PAD;
        tile[r][d] = first + r < end && d < D ? from[(first + r) * step + d] : 0.0f;
    }
}

template <int D_PAD> struct tiles {
    float (&q)[SIDE][D_PAD + 1], (&d_out)[SIDE][D_PAD + 1];
    float (&k)[SIDE][D_PAD + 1], (&v)[SIDE][D_PAD + 1];
    float (&p)[SIDE][SIDE + 1], (&ds)[SIDE][SIDE + 1];

    __device__ __forceinline__ void load_queries(const struct backward_job &job, int64_t first,
                                                 int64_t end, int64_t head)
    {
        load_rows<D_PAD>(q, job.q + head * job.D, first, end, job.H * job.D, job.D);
        load_rows<D_PAD>(d_out, job.d_out + head * job.D, first, end, job.H * job.D, job.D);
    }

    __device__ __forceinline__ void load_keys(const struct backward_job &job, int64_t first,
                                              int64_t end, int64_t kv_head)
    {
        load_rows<D_PAD>(k, job.k + kv_head * job.D, first, end, job.K * job.D, job.D);
        load_rows<D_PAD>(v, job.v + kv_head * job.D, first, end, job.K * job.D, job.D);
    }

    /* p and ds of queries from `row` on, below `row_end`, and keys from `key` on, below `key_end`;
     * a key behind its query counts when the keys are a prefix. */
    __device__ __forceinline__ void weigh(const struct backward_job &job, int64_t row,
                                          int64_t row_end, int64_t key, int64_t key_end,
                                          int64_t head, bool is_prefix)
    {
        UNROLL
        for (int i = 0; i < PER_THREAD; i++) {
            int pair = i * THREADS + (int)threadIdx.x, r = pair / SIDE, j = pair % SIDE;
            int64_t n = row + r, m = key + j;
            float s = 0, dot = 0, weight = 0, slope = 0;
            if (n < row_end && m < key_end && (is_prefix || m <= n)) {
                for (int d = 0; d < job.D; d++) {
                    s = fmaf(q[r][d], k[j][d], s);
                    dot = fmaf(d_out[r][d], v[j][d], dot);
                }
                weight = exp_f32(s * job.scale - job.lse[n * job.H + head]);
                slope = weight * (dot - job.delta[n * job.H + head]) * job.scale;
            }
            p[r][j] = weight;
            ds[r][j] = slope;
        }
    }
};

#define DECLARE_TILES(D_PAD)                                                                       \
    SHARED(float, tile_q, [SIDE][D_PAD + 1]);                                                      \
    SHARED(float, tile_d_out, [SIDE][D_PAD + 1]);                                                  \
    SHARED(float, tile_k, [SIDE][D_PAD + 1]);                                                      \
    SHARED(float, tile_v, [SIDE][D_PAD + 1]);                                                      \
    SHARED(float, tile_p, [SIDE][SIDE + 1]);                                                       \
    SHARED(float, tile_ds, [SIDE][SIDE + 1]);                                                      \
    struct tiles<D_PAD> tile = {tile_q, tile_d_out, tile_k, tile_v, tile_p, tile_ds}

/* Numbers of a [SIDE][D_PAD] result that a thread keeps: rows `r0 + i ROW_STEP`, one column. */
template <int D_PAD> struct kept {
    static constexpr int COUNT = SIDE * D_PAD / THREADS, ROW_STEP = THREADS / D_PAD;
    static __device__ __forceinline__ int row(int i)
    {
        return (int)threadIdx.x / D_PAD + i * ROW_STEP;
    }
    static __device__ __forceinline__ int column() { return (int)threadIdx.x % D_PAD; }
};

template <int D_PAD>
static __global__ void __launch_bounds__(THREADS) backward_queries(const struct backward_job job)
{
    DECLARE_TILES(D_PAD);
    using own = kept<D_PAD>;
    int64_t first = (int64_t)blockIdx.x * SIDE, head = blockIdx.y, kv_head = head / (job.H / job.K);
    float sum[own::COUNT] = {0};

    for (int64_t s = find_segment(job.segments, job.S, first);
         s < job.S && job.segments[s] < first + SIDE; s++) {
        struct visible_rows seen = find_visible(job.segments, job.prefixes, s);
        int64_t row = first > job.segments[s] ? first : job.segments[s];
        int64_t end = first + SIDE < job.segments[s + 1] ? first + SIDE : job.segments[s + 1];
        for (int run = 0; run < 2; run++) {
            int64_t key_end = run ? end : seen.first[0] + seen.n;
            for (int64_t key = seen.first[run]; key < key_end && row < end; key += SIDE) {
                __syncthreads();
                tile.load_queries(job, row, end, head);
                tile.load_keys(job, key, key_end, kv_head);
                __syncthreads();
                tile.weigh(job, row, end, key, key_end, head, run == 0);
                __syncthreads();
                UNROLL
                for (int i = 0; i < own::COUNT; i++) {
                    int r = own::row(i) - (int)(row - first);
                    for (int j = 0; j < SIDE && r >= 0; j++)
                        sum[i] = fmaf(tile.ds[r][j], tile.k[j][own::column()], sum[i]);
                }
            }
        }
    }
    UNROLL
    for (int i = 0; i < own::COUNT; i++)
        if (first + own::row(i) < job.N && own::column() < job.D)
            job.d_q[((first + own::row(i)) * job.H + head) * job.D + own::column()] = sum[i];
}

template <int D_PAD>
static __global__ void __launch_bounds__(THREADS) backward_keys(const struct backward_job job)
{
    DECLARE_TILES(D_PAD);
    using own = kept<D_PAD>;
    int64_t first = (int64_t)blockIdx.x * SIDE, kv_head = blockIdx.y, group = job.H / job.K;
    float sum_k[own::COUNT] = {0}, sum_v[own::COUNT] = {0};

    for (int64_t mine = find_segment(job.segments, job.S, first);
         mine < job.S && job.segments[mine] < first + SIDE; mine++) {
        int64_t key = first > job.segments[mine] ? first : job.segments[mine];
        int64_t bound = job.segments[mine + 1];
        int64_t key_end = first + SIDE < bound ? first + SIDE : bound;
        for (int64_t s = mine; s < job.S && key < key_end; s++) {
            if (s != mine && (!job.prefixes || job.prefixes[s] != mine))
                continue;
            int64_t start = s == mine ? key : job.segments[s], end = job.segments[s + 1];
            for (int64_t i = 0; i < ((end - start + SIDE - 1) / SIDE) * group; i++) {
                int64_t row = start + i / group * SIDE, head = kv_head * group + i % group;
                __syncthreads();
                tile.load_queries(job, row, end, head);
                tile.load_keys(job, key, key_end, kv_head);
                __syncthreads();
                tile.weigh(job, row, end, key, key_end, head, s != mine);
                __syncthreads();
                UNROLL
                for (int x = 0; x < own::COUNT; x++) {
                    int j = own::row(x) - (int)(key - first);
                    for (int r = 0; r < SIDE && j >= 0; r++) {
                        sum_v[x] = fmaf(tile.p[r][j], tile.d_out[r][own::column()], sum_v[x]);
                        sum_k[x] = fmaf(tile.ds[r][j], tile.q[r][own::column()], sum_k[x]);
                    }
                }
            }
        }
    }
    UNROLL
    for (int i = 0; i < own::COUNT; i++)
        if (first + own::row(i) < job.N && own::column() < job.D) {
            int64_t at = ((first + own::row(i)) * job.K + kv_head) * job.D + own::column();
            job.d_k[at] = sum_k[i];
            job.d_v[at] = sum_v[i];
        }
}

template <int D_PAD> static void run_backward(struct cuda *cuda, const struct backward_job *job)
{
    unsigned tiles = (unsigned)divide_up(job->N, SIDE);

    RUN(cuda, row_delta, (unsigned)divide_up(job->N * job->H, THREADS / WARP_SIZE), THREADS, *job);
    RUN(cuda, (backward_queries<D_PAD>), dim3(tiles, (unsigned)job->H), THREADS, *job);
    RUN(cuda, (backward_keys<D_PAD>), dim3(tiles, (unsigned)job->K), THREADS, *job);
}

void cuda_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                             struct tensor *d_v, const struct tensor *d_out,
                             const struct tensor *q, const struct tensor *k,
                             const struct tensor *v, const struct tensor *out,
                             const struct tensor *lse, const struct tensor *segments,
                             const struct tensor *prefixes)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2];
    void *delta = cuda_scratch(cuda, CUDA_SCRATCH_SUMS, (size_t)(N * H) * sizeof(float));

    if (!delta || !cuda_head_fits(cuda, D))
        return;
    const struct backward_job job = {
        .d_q = tensor_f32(d_q),
        .d_k = tensor_f32(d_k),
        .d_v = tensor_f32(d_v),
        .delta = (float *)delta,
        .d_out = tensor_f32(d_out),
        .q = tensor_f32(q),
        .k = tensor_f32(k),
        .v = tensor_f32(v),
        .out = tensor_f32(out),
        .lse = tensor_f32(lse),
        .segments = (const int32_t *)segments->data,
        .prefixes = prefixes ? (const int32_t *)prefixes->data : nullptr,
        .N = N,
        .H = H,
        .K = k->shape[1],
        .S = segments->shape[0] - 1,
        .D = (int)D,
        .scale = 1 / sqrtf((float)D),
    };
    if (D <= 32)
        run_backward<32>(cuda, &job);
    else if (D <= 64)
        run_backward<64>(cuda, &job);
    else
        run_backward<128>(cuda, &job);
}
