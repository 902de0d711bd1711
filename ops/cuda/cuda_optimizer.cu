/* AdamW, and the sums that come back to the host: fixed blocks, then their results in one order. */
#include "ops/cuda/cuda.cuh"

#include <math.h>

#define THREADS 256
#define SUM_BLOCK 32768   /* numbers that one block adds up */

struct adamw_factors {
    float gradient_scale, beta1, one_minus_beta1, beta2, one_minus_beta2, v_factor, epsilon, keep,
        step_size;
};

static __global__ void adamw_update(float *weight, float *m, float *v, const float *gradient,
                                    const struct adamw_factors f, int64_t count)
{
    FOR_EACH(i, count)
    {
        float g = gradient[i] * f.gradient_scale;
        float mi = fmaf(g, f.one_minus_beta1, m[i] * f.beta1);
        float vi = fmaf(g * g, f.one_minus_beta2, v[i] * f.beta2);
        m[i] = mi;
        v[i] = vi;
        weight[i] = fmaf(mi / fmaf(sqrtf(vi), f.v_factor, f.epsilon), -f.step_size,
                         weight[i] * f.keep);
    }
}

void cuda_adamw(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
                const struct tensor *gradient, const struct adamw_step *adamw)
{
    int64_t count = tensor_count(weight);
    const struct adamw_factors factors = {
        .gradient_scale = (float)adamw->gradient_scale,
        .beta1 = (float)adamw->beta1,
        .one_minus_beta1 = (float)(1 - adamw->beta1),
        .beta2 = (float)adamw->beta2,
        .one_minus_beta2 = (float)(1 - adamw->beta2),
        .v_factor = (float)(1 / sqrt(1 - pow(adamw->beta2, (double)adamw->step))),
        .epsilon = (float)adamw->epsilon,
        .keep = (float)(1 - adamw->learning_rate * adamw->weight_decay),
        .step_size =
            (float)(adamw->learning_rate / (1 - pow(adamw->beta1, (double)adamw->step))),
    };

    if (count)
        RUN((struct cuda *)context, adamw_update, loop_blocks(count, THREADS), THREADS,
            tensor_f32(weight), tensor_f32(m), tensor_f32(v), tensor_f32(gradient), factors, count);
}

/* part[b] = sum of squares, or the count of what is not finite, of SUM_BLOCK numbers. */
static __global__ void __launch_bounds__(ROW_THREADS)
    sum_block(double *part, const float *x, int64_t count, bool of_not_finite)
{
    SHARED(double, room, [ROW_THREADS / WARP_SIZE]);
    int64_t first = (int64_t)blockIdx.x * SUM_BLOCK;
    int64_t last = first + SUM_BLOCK < count ? first + SUM_BLOCK : count;
    double sum = 0;

    for (int64_t i = first + threadIdx.x; i < last; i += ROW_THREADS)
        sum += of_not_finite ? (isfinite(x[i]) ? 0.0 : 1.0) : (double)x[i] * (double)x[i];
    sum = block_sum<ROW_THREADS>(sum, room);
    if (threadIdx.x == 0)
        part[blockIdx.x] = sum;
}

static __global__ void __launch_bounds__(ROW_THREADS) sum_parts(double *part, int64_t n)
{
    SHARED(double, room, [ROW_THREADS / WARP_SIZE]);
    double sum = 0;

    for (int64_t i = threadIdx.x; i < n; i += ROW_THREADS)
        sum += part[i];
    sum = block_sum<ROW_THREADS>(sum, room);
    if (threadIdx.x == 0)
        part[n] = sum;
}

static double sum_up(struct cuda *cuda, const struct tensor *x, bool of_not_finite)
{
    int64_t count = tensor_count(x), n = divide_up(count, SUM_BLOCK);
    double *part, sum = 0;

    if (!count)
        return 0;
    part = (double *)cuda_scratch(cuda, CUDA_SCRATCH_SUMS, (size_t)(n + 1) * sizeof(*part));
    if (!part)
        return 0;
    RUN(cuda, sum_block, (unsigned)n, ROW_THREADS, part, tensor_f32(x), count, of_not_finite);
    RUN(cuda, sum_parts, 1, ROW_THREADS, part, n);
    cuda_download(cuda, &sum, part + n, sizeof(sum));
    cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a sum");
    return sum;
}

double cuda_sum_squares(void *context, const struct tensor *x)
{
    return sum_up((struct cuda *)context, x, false);
}

int cuda_all_finite(void *context, const struct tensor *x)
{
    return sum_up((struct cuda *)context, x, true) == 0;
}
