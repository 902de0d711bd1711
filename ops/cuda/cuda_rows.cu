/* Norms, rotations, activations, rows that move. A row's arithmetic does not depend on how many
 * rows there are: one block has it, and element i goes to thread i % NORM_THREADS. */
#include "ops/cuda/cuda.cuh"

#define THREADS 256
#define NORM_THREADS 128
#define COLUMN_ROWS 64   /* rows that one block of a sum over rows adds up */

static __global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm(float *out, float *rstd, const float *in, const float *weight, int64_t C, float eps)
{
    SHARED(float, room, [NORM_THREADS / WARP_SIZE]);
    int64_t at = (int64_t)blockIdx.x * C;
    float sum = 0;

    for (int64_t c = threadIdx.x; c < C; c += NORM_THREADS)
        sum = fmaf(in[at + c], in[at + c], sum);
    sum = block_sum<NORM_THREADS>(sum, room);
    float r = 1 / sqrtf(sum / (float)C + eps);
    for (int64_t c = threadIdx.x; c < C; c += NORM_THREADS)
        out[at + c] = in[at + c] * r * weight[c];
    if (rstd && threadIdx.x == 0)
        rstd[blockIdx.x] = r;
}

/* With y = x r w and r = (mean(x^2) + eps)^-1/2: dx = r (w dy - x r^2 mean(x w dy)) */
static __global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm_backward(float *d_in, const float *d_out, const float *in, const float *weight,
                     const float *rstd, int64_t C)
{
    SHARED(float, room, [NORM_THREADS / WARP_SIZE]);
    int64_t at = (int64_t)blockIdx.x * C;
    float r = rstd[blockIdx.x], dot = 0;

    for (int64_t c = threadIdx.x; c < C; c += NORM_THREADS)
        dot = fmaf(in[at + c] * weight[c], d_out[at + c], dot);
    dot = block_sum<NORM_THREADS>(dot, room) * r * r / (float)C;
    for (int64_t c = threadIdx.x; c < C; c += NORM_THREADS)
        d_in[at + c] += r * fmaf(-in[at + c], dot, weight[c] * d_out[at + c]);
}

/* part[b][c] = sum over COLUMN_ROWS rows of d_out, times in and rstd where they are given. */
static __global__ void sum_columns(float *part, const float *d_out, const float *in,
                                   const float *rstd, int64_t N, int64_t C)
{
    int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    int64_t first = (int64_t)blockIdx.y * COLUMN_ROWS, sums = 0;
    float sum = 0;

    if (c >= C)
        return;
    for (; sums < COLUMN_ROWS && first + sums < N; sums++) {
        int64_t n = first + sums;
        sum = fmaf(d_out[n * C + c], in ? in[n * C + c] * rstd[n] : 1.0f, sum);
    }
    part[(int64_t)blockIdx.y * C + c] = sum;
}

static __global__ void add_parts(float *out, const float *part, int64_t n_parts, int64_t C)
{
    FOR_EACH(c, C)
    {
        double sum = out[c];
        for (int64_t i = 0; i < n_parts; i++)
            sum += part[i * C + c];
        out[c] = (float)sum;
    }
}

/* out[C] += sum over rows of d_out, or of d_out in rstd, in a fixed order. */
void cuda_sum_columns(struct cuda *cuda, float *out, const float *d_out, const float *in,
                      const float *rstd, int64_t N, int64_t C)
{
    /* A grid has 65535 blocks upwards. */
    const int64_t most = 65535 * (int64_t)COLUMN_ROWS;

    for (int64_t n = 0; n < N; n += most) {
        int64_t rows = N - n < most ? N - n : most, n_parts = divide_up(rows, COLUMN_ROWS);
        float *part = (float *)cuda_scratch(cuda, CUDA_SCRATCH_SUMS,
                                            (size_t)(n_parts * C) * sizeof(float));
        if (!part)
            return;
        RUN(cuda, sum_columns, dim3((unsigned)divide_up(C, 64), (unsigned)n_parts), 64, part,
            d_out + n * C, in ? in + n * C : nullptr, rstd ? rstd + n : nullptr, rows, C);
        RUN(cuda, add_parts, loop_blocks(C, 64), 64, out, part, n_parts, C);
    }
}

static __global__ void rope(float *x, const float *table, const int32_t *positions, int64_t H,
                            int64_t half, float sign, int64_t count)
{
    FOR_EACH(i, count)
    {
        int64_t pair = i % half, head = i / half;
        const float *angle = table + positions[head / H] * 2 * half;
        float *row = x + head * 2 * half, cosine = angle[pair], sine = sign * angle[half + pair];
        float a = row[pair], b = row[pair + half];
        row[pair] = fmaf(a, cosine, -(b * sine));
        row[pair + half] = fmaf(b, cosine, a * sine);
    }
}

static __device__ float sigmoid(float x)
{
    return 1 / (1 + exp_f32(-x));
}

static __global__ void swiglu(float *out, const float *gate, const float *up, int64_t count)
{
    FOR_EACH(i, count)
        out[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

static __global__ void swiglu_backward(float *d_gate, float *d_up, const float *d_out,
                                       const float *gate, const float *up, int64_t count)
{
    FOR_EACH(i, count)
    {
        float g = gate[i], u = up[i], d = d_out[i], s = sigmoid(g);
        d_gate[i] = d * u * s * fmaf(g, 1 - s, 1.0f);
        d_up[i] = d * g * s;
    }
}

static __global__ void add(float *out, const float *in, int64_t count)
{
    FOR_EACH(i, count)
        out[i] += in[i];
}

static __global__ void scale(float *x, float factor, int64_t count)
{
    FOR_EACH(i, count)
        x[i] *= factor;
}

static __global__ void gather(float *out, const float *in, const int32_t *rows, int64_t C,
                              int64_t count)
{
    FOR_EACH(i, count)
        out[i] = in[rows[i / C] * C + i % C];
}

static __global__ void scatter_add(float *d_in, const float *d_out, const int32_t *rows, int64_t C,
                                   int64_t count)
{
    FOR_EACH(i, count)
        d_in[rows[i / C] * C + i % C] += d_out[i];
}

/* The block of a token's first row adds all rows of that token, in order. */
static __global__ void __launch_bounds__(NORM_THREADS)
    embedding_backward(float *d_table, const float *d_out, const int32_t *tokens, int64_t N,
                       int64_t C)
{
    SHARED(unsigned, votes, [NORM_THREADS / WARP_SIZE]);
    int64_t row = blockIdx.x;
    int32_t token = tokens[row];
    int is_later = 0;

    for (int64_t n = threadIdx.x; n < row; n += NORM_THREADS)
        is_later |= tokens[n] == token;
    if (block_sum<NORM_THREADS>(is_later, (int *)votes))
        return;
    for (int64_t first = row; first < N; first += NORM_THREADS) {
        int64_t n = first + threadIdx.x;
        unsigned vote = __ballot_sync(FULL_WARP, n < N && tokens[n] == token);
        __syncthreads();
        if (threadIdx.x % WARP_SIZE == 0)
            votes[threadIdx.x / WARP_SIZE] = vote;
        __syncthreads();
        for (int i = 0; i < NORM_THREADS; i++)
            if (votes[i / WARP_SIZE] >> (i % WARP_SIZE) & 1)
                for (int64_t c = threadIdx.x; c < C; c += NORM_THREADS)
                    d_table[token * C + c] += d_out[(first + i) * C + c];
    }
}

void cuda_rmsnorm(void *context, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                  const struct tensor *weight, float eps)
{
    RUN((struct cuda *)context, rmsnorm, (unsigned)in->shape[0], NORM_THREADS, tensor_f32(out),
        rstd ? tensor_f32(rstd) : nullptr, tensor_f32(in), tensor_f32(weight), in->shape[1], eps);
}

void cuda_rmsnorm_backward(void *context, struct tensor *d_in, struct tensor *d_weight,
                           const struct tensor *d_out, const struct tensor *in,
                           const struct tensor *weight, const struct tensor *rstd)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t N = in->shape[0], C = in->shape[1];

    RUN(cuda, rmsnorm_backward, (unsigned)N, NORM_THREADS, tensor_f32(d_in), tensor_f32(d_out),
        tensor_f32(in), tensor_f32(weight), tensor_f32(rstd), C);
    cuda_sum_columns(cuda, tensor_f32(d_weight), tensor_f32(d_out), tensor_f32(in),
                     tensor_f32(rstd), N, C);
}

void cuda_rope(void *context, struct tensor *x, const struct tensor *table,
               const struct tensor *positions, int inverse)
{
    int64_t half = x->shape[2] / 2, count = tensor_count(x) / 2;

    if (count)
        RUN((struct cuda *)context, rope, loop_blocks(count, THREADS), THREADS, tensor_f32(x),
            tensor_f32(table), (const int32_t *)positions->data, x->shape[1], half,
            inverse ? -1.0f : 1.0f, count);
}

void cuda_swiglu(void *context, struct tensor *out, const struct tensor *gate,
                 const struct tensor *up)
{
    int64_t count = tensor_count(out);

    if (count)
        RUN((struct cuda *)context, swiglu, loop_blocks(count, THREADS), THREADS, tensor_f32(out),
            tensor_f32(gate), tensor_f32(up), count);
}

void cuda_swiglu_backward(void *context, struct tensor *d_gate, struct tensor *d_up,
                          const struct tensor *d_out, const struct tensor *gate,
                          const struct tensor *up)
{
    int64_t count = tensor_count(d_out);

    if (count)
        RUN((struct cuda *)context, swiglu_backward, loop_blocks(count, THREADS), THREADS,
            tensor_f32(d_gate), tensor_f32(d_up), tensor_f32(d_out), tensor_f32(gate),
            tensor_f32(up), count);
}

void cuda_add(void *context, struct tensor *out, const struct tensor *in)
{
    int64_t count = tensor_count(out);

    if (count)
        RUN((struct cuda *)context, add, loop_blocks(count, THREADS), THREADS, tensor_f32(out),
            tensor_f32(in), count);
}

void cuda_scale(void *context, struct tensor *x, float factor)
{
    int64_t count = tensor_count(x);

    if (count)
        RUN((struct cuda *)context, scale, loop_blocks(count, THREADS), THREADS, tensor_f32(x),
            factor, count);
}

void cuda_gather_rows(void *context, struct tensor *out, const struct tensor *in,
                      const struct tensor *rows)
{
    int64_t count = tensor_count(out);

    if (count)
        RUN((struct cuda *)context, gather, loop_blocks(count, THREADS), THREADS, tensor_f32(out),
            tensor_f32(in), (const int32_t *)rows->data, out->shape[1], count);
}

void cuda_scatter_add_rows(void *context, struct tensor *d_in, const struct tensor *d_out,
                           const struct tensor *rows)
{
    int64_t count = tensor_count(d_out);

    if (count)
        RUN((struct cuda *)context, scatter_add, loop_blocks(count, THREADS), THREADS,
            tensor_f32(d_in), tensor_f32(d_out), (const int32_t *)rows->data, d_out->shape[1],
            count);
}

void cuda_embedding_backward(void *context, struct tensor *d_table, const struct tensor *d_out,
                             const struct tensor *tokens)
{
    int64_t N = d_out->shape[0], C = d_out->shape[1];

    if (N && C)
        RUN((struct cuda *)context, embedding_backward, (unsigned)N, NORM_THREADS,
            tensor_f32(d_table), tensor_f32(d_out), (const int32_t *)tokens->data, N, C);
}
