/* One query row a sequence before cached keys: a block has a sequence and one key head, its warps
 * the query heads that share it. */
#include "ops/cuda/cuda_attend.cuh"
#include "common/status.h"
#include "ops/cuda/cuda_attention.cuh"

struct decode_job {
    float *out;
    const float *q;
    const struct attention_keys *keys;
    int64_t H, K;
    int D;
    float scale;
};

template <int D_PAD, int TERMS>
static __global__ void __launch_bounds__(ATTEND_THREADS) decode(const struct decode_job job)
{
    SHARED(uint16_t, key_terms, [TERMS * KEY_BLOCK * D_PAD]);
    SHARED(uint16_t, value_terms, [TERMS * KEY_BLOCK * D_PAD]);
    const struct attention_keys &from = job.keys[blockIdx.x];
    int64_t group = job.H / job.K, at = (int64_t)blockIdx.y * job.D, step = job.K * job.D;
    int64_t head = (int64_t)blockIdx.z * ATTEND_WARPS * ATTEND_ROWS +
                   threadIdx.x / WARP_SIZE * ATTEND_ROWS + threadIdx.x % WARP_SIZE / 4;
    struct key_runs keys = {{from.k[0] + at, from.k[1] + at}, {from.v[0] + at, from.v[1] + at},
                            {from.n[0], from.n[1]}, step};
    bool by_four = job.D % 4 == 0;
    struct attend<D_PAD, TERMS> state;
    const float *q[2];
    float *out[2], *const lse[2] = {nullptr, nullptr};

    for (int run = 0; run < 2; run++)
        by_four = by_four && ((uintptr_t)keys.k[run] | (uintptr_t)keys.v[run]) % 16 == 0;
    for (int half = 0; half < 2; half++) {
        int64_t h = head + 8 * half;
        int64_t row = ((int64_t)blockIdx.x * job.H + blockIdx.y * group + h) * job.D;
        q[half] = h < group ? job.q + row : nullptr;
        out[half] = h < group ? job.out + row : nullptr;
    }
    state.start(q, job.D);
    int64_t n_keys = keys.n[0] + keys.n[1];
    for (int64_t first = 0; first < n_keys; first += KEY_BLOCK) {
        __syncthreads();
        key_tile<D_PAD, TERMS>::load(key_terms, keys.k, keys, first, job.D, by_four);
        key_tile<D_PAD, TERMS>::load(value_terms, keys.v, keys, first, job.D, by_four);
        __syncthreads();
        int visible[2] = {(int)(n_keys - first), (int)(n_keys - first)};
        if (__any_sync(FULL_WARP, q[0] != nullptr))
            state.add_keys(key_terms, value_terms, visible, job.scale);
    }
    state.finish(out, lse, job.D);
}

bool cuda_head_fits(struct cuda *cuda, int64_t D)
{
    if (D > ATTEND_WIDEST && cuda->status == 0)
        cuda->status = status_fail(STATUS_UNSUPPORTED, "%s: heads of %lld, at most %d; use \"cpu\"",
                                   cuda_backend_name, (long long)D, ATTEND_WIDEST);
    return cuda->status == 0;
}

template <int D_PAD>
static void run_decode(struct cuda *cuda, const struct decode_job *job, int64_t N)
{
    dim3 grid((unsigned)N, (unsigned)job->K,
              (unsigned)divide_up(job->H / job->K, ATTEND_WARPS * ATTEND_ROWS));

    if (cuda->terms == 1)
        RUN(cuda, (decode<D_PAD, 1>), grid, ATTEND_THREADS, *job);
    else
        RUN(cuda, (decode<D_PAD, 3>), grid, ATTEND_THREADS, *job);
}

void cuda_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                           const struct attention_keys *keys, int n_kv_heads)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t N = q->shape[0], D = q->shape[2];
    void *on_device = cuda_scratch(cuda, CUDA_SCRATCH_INDEX, (size_t)N * sizeof(*keys));

    if (!on_device || !cuda_head_fits(cuda, D))
        return;
    cuda_upload(cuda, on_device, keys, (size_t)N * sizeof(*keys));
    const struct decode_job job = {
        .out = tensor_f32(out),
        .q = tensor_f32(q),
        .keys = (const struct attention_keys *)on_device,
        .H = q->shape[1],
        .K = n_kv_heads,
        .D = (int)D,
        .scale = 1 / sqrtf((float)D),
    };
    if (D <= 32)
        run_decode<32>(cuda, &job, N);
    else if (D <= 64)
        run_decode<64>(cuda, &job, N);
    else
        run_decode<128>(cuda, &job, N);
}
