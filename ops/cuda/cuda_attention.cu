/* Attention of packed rows: a block has 64 of them and one head. */
#include "ops/cuda/cuda_attention.cuh"

template <int D_PAD, int TERMS>
static __global__ void ATTEND_BOUNDS attention(const struct attention_job job)
{
    SHARED(uint16_t, key_terms, [TERMS * KEY_BLOCK<D_PAD> * D_PAD]);
    SHARED(uint16_t, value_terms, [TERMS * KEY_BLOCK<D_PAD> * D_PAD]);
    int64_t block_row = (int64_t)blockIdx.x * BLOCK_ROWS, head = blockIdx.y;
    int64_t row = block_row + threadIdx.x / WARP_SIZE * ATTEND_ROWS + threadIdx.x % WARP_SIZE / 4;
    struct attend<D_PAD, TERMS> state;
    const float *q[2];
    float *out[2], *lse[2];

    for (int half = 0; half < 2; half++) {
        int64_t n = row + 8 * half;
        q[half] = n < job.N ? job.q + (n * job.H + head) * job.D : nullptr;
    }
    state.start(q, job.D, (int)blockIdx.z);
    for (int64_t s = find_segment(job.segments, job.S, block_row);
         s < job.S && job.segments[s] < block_row + BLOCK_ROWS; s++)
        if (job.segments[s] < job.segments[s + 1])
            walk_keys<D_PAD, TERMS>(state, job, s, block_row, row, key_terms, value_terms);
    for (int half = 0; half < 2; half++) {
        int64_t n = row + 8 * half, place = n * job.H + head;
        out[half] = n < job.N ? job.out + place * job.D : nullptr;
        lse[half] = n < job.N && job.lse ? job.lse + place : nullptr;
    }
    state.finish(out, lse, job.D);
}

template <int D_PAD> static void run_attention(struct cuda *cuda, const struct attention_job *job)
{
    unsigned blocks = (unsigned)divide_up(job->N, BLOCK_ROWS), H = (unsigned)job->H;

    if (cuda->terms == 1)
        RUN(cuda, (attention<D_PAD, 1>), dim3(blocks, H, columns<D_PAD, 1>::PARTS), ATTEND_THREADS,
            *job);
    else
        RUN(cuda, (attention<D_PAD, 3>), dim3(blocks, H, columns<D_PAD, 3>::PARTS), ATTEND_THREADS,
            *job);
}

void cuda_attention(void *context, struct tensor *out, struct tensor *lse, const struct tensor *q,
                    const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                    const struct tensor *prefixes)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t D = q->shape[2];
    struct attention_job job = attention_job_of(out, lse, q, k, v, segments, prefixes);

    if (!cuda_head_fits(cuda, D))
        return;
    if (D <= 32)
        run_attention<32>(cuda, &job);
    else if (D <= 64)
        run_attention<64>(cuda, &job);
    else if (D <= 128)
        run_attention<128>(cuda, &job);
    else
        run_attention<256>(cuda, &job);
}
