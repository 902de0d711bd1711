/* The loss head: log-probability, entropy and gradient of a row of logits, by one block. */
#include "ops/cuda/cuda_head.cuh"

static __global__ void __launch_bounds__(ROW_THREADS)
    token_logprob(float *logprob, float *entropy, const float *logits, const int32_t *targets,
                  int64_t V, float factor)
{
    SHARED(double, room, [ROW_THREADS / WARP_SIZE]);
    const float *row = logits + (int64_t)blockIdx.x * V;
    struct row_sums sums = sum_row(row, V, factor, room);

    if (threadIdx.x)
        return;
    logprob[blockIdx.x] = logprob_of(row[targets[blockIdx.x]], factor, sums);
    if (entropy)
        entropy[blockIdx.x] = (float)(log(sums.sum) - sums.weighted / sums.sum);
}

static __global__ void __launch_bounds__(ROW_THREADS)
    token_logprob_backward(float *logits, const float *d_logprob, const int32_t *targets, int64_t V,
                           float factor)
{
    SHARED(double, room, [ROW_THREADS / WARP_SIZE]);
    float *row = logits + (int64_t)blockIdx.x * V;
    struct row_sums sums = sum_row(row, V, factor, room);
    float d = d_logprob[blockIdx.x] * factor, minus = -d / (float)sums.sum;
    int64_t target = targets[blockIdx.x];

    for (int64_t i = threadIdx.x; i < V; i += ROW_THREADS) {
        float value = exp_f32(row[i] * factor - sums.maximum) * minus;
        row[i] = i == target ? value + d : value;
    }
}

void cuda_token_logprob(void *context, struct tensor *logprob, struct tensor *entropy,
                        const struct tensor *logits, const struct tensor *targets,
                        float temperature)
{
    if (logits->shape[0])
        RUN((struct cuda *)context, token_logprob, (unsigned)logits->shape[0], ROW_THREADS,
            tensor_f32(logprob), entropy ? tensor_f32(entropy) : nullptr, tensor_f32(logits),
            (const int32_t *)targets->data, logits->shape[1], 1 / temperature);
}

void cuda_token_logprob_backward(void *context, struct tensor *logits,
                                 const struct tensor *d_logprob, const struct tensor *targets,
                                 float temperature)
{
    if (logits->shape[0])
        RUN((struct cuda *)context, token_logprob_backward, (unsigned)logits->shape[0], ROW_THREADS,
            tensor_f32(logits), tensor_f32(d_logprob), (const int32_t *)targets->data,
            logits->shape[1], 1 / temperature);
}
