#include <math.h>
#include <stdatomic.h>

#include "ops/cpu/cpu.h"

#define COST_EXP 2.0
#define COST_STREAM 0.5

struct logprob_job {
    const struct kernels *kernels;
    float *logprob, *entropy, *logits;
    const float *d_logprob;
    const int32_t *targets;
    int64_t V;
    float temperature;
};

static void logprob_rows(void *argument, int64_t first, int64_t last)
{
    const struct logprob_job *job = argument;

    job->kernels->token_logprob(job->logprob, job->entropy, job->logits, job->targets, job->V,
                                job->temperature, first, last);
}

void cpu_token_logprob(void *context, struct tensor *logprob, struct tensor *entropy,
                       const struct tensor *logits, const struct tensor *targets,
                       float temperature)
{
    struct cpu *cpu = context;
    struct logprob_job job = {.kernels = cpu->kernels,
                              .logprob = tensor_f32(logprob),
                              .entropy = entropy ? tensor_f32(entropy) : NULL,
                              .logits = tensor_f32(logits),
                              .targets = targets->data,
                              .V = logits->shape[1],
                              .temperature = temperature};

    cpu_loop(cpu, logits->shape[0], 1, COST_EXP * (double)job.V, logprob_rows, &job);
}

static void logprob_backward_rows(void *argument, int64_t first, int64_t last)
{
    const struct logprob_job *job = argument;

    job->kernels->token_logprob_backward(job->logits, job->d_logprob, job->targets, job->V,
                                         job->temperature, first, last);
}

void cpu_token_logprob_backward(void *context, struct tensor *logits,
                                const struct tensor *d_logprob, const struct tensor *targets,
                                float temperature)
{
    struct cpu *cpu = context;
    struct logprob_job job = {.kernels = cpu->kernels,
                              .logits = tensor_f32(logits),
                              .d_logprob = tensor_f32(d_logprob),
                              .targets = targets->data,
                              .V = logits->shape[1],
                              .temperature = temperature};

    cpu_loop(cpu, logits->shape[0], 1, 2 * COST_EXP * (double)job.V, logprob_backward_rows, &job);
}

struct scan_job {
    const struct kernels *kernels;
    const float *x;
    int64_t n;
    double *sums;
    _Atomic int found_bad;
};

static int64_t block_length(const struct scan_job *job, int64_t block)
{
    int64_t left = job->n - block * SQUARES_BLOCK;
    return left < SQUARES_BLOCK ? left : SQUARES_BLOCK;
}

static void square_blocks(void *argument, int64_t first, int64_t last)
{
    struct scan_job *job = argument;

    for (int64_t i = first; i < last; i++)
        job->sums[i] = job->kernels->sum_squares(job->x + i * SQUARES_BLOCK, block_length(job, i));
}

double cpu_sum_squares(void *context, const struct tensor *x)
{
    struct cpu *cpu = context;
    struct scan_job job = {.kernels = cpu->kernels, .x = tensor_f32(x), .n = tensor_count(x)};
    int64_t n_blocks = (job.n + SQUARES_BLOCK - 1) / SQUARES_BLOCK;
    double total = 0;

    job.sums = cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)n_blocks * sizeof(*job.sums));
    if (!job.sums)
        return NAN;
    cpu_loop(cpu, n_blocks, 1, COST_STREAM * SQUARES_BLOCK, square_blocks, &job);
    for (int64_t i = 0; i < n_blocks; i++)
        total += job.sums[i];
    return total;
}

static void check_blocks(void *argument, int64_t first, int64_t last)
{
    struct scan_job *job = argument;

    for (int64_t i = first; i < last && !atomic_load(&job->found_bad); i++)
        if (!job->kernels->all_finite(job->x + i * SQUARES_BLOCK, block_length(job, i)))
            atomic_store(&job->found_bad, 1);
}

int cpu_all_finite(void *context, const struct tensor *x)
{
    struct cpu *cpu = context;
    struct scan_job job = {.kernels = cpu->kernels, .x = tensor_f32(x), .n = tensor_count(x)};

    cpu_loop(cpu, (job.n + SQUARES_BLOCK - 1) / SQUARES_BLOCK, 1, COST_STREAM * SQUARES_BLOCK,
             check_blocks, &job);
    return !atomic_load(&job.found_bad);
}

struct adamw_job {
    const struct kernels *kernels;
    float *w, *m, *v;
    const float *g;
    struct adamw_factors factors;
};

static void adamw_elements(void *argument, int64_t first, int64_t last)
{
    const struct adamw_job *job = argument;

    job->kernels->adamw(job->w + first, job->m + first, job->v + first, job->g + first,
                        &job->factors, last - first);
}

void cpu_adamw(void *context, struct tensor *weight, struct tensor *m, struct tensor *v,
               const struct tensor *gradient, const struct adamw_step *adamw)
{
    struct cpu *cpu = context;
    double lr = adamw->learning_rate, b1 = adamw->beta1, b2 = adamw->beta2;
    double m_correction = 1 - pow(b1, (double)adamw->step);
    double v_correction = 1 - pow(b2, (double)adamw->step);
    struct adamw_job job = {
        .kernels = cpu->kernels,
        .w = tensor_f32(weight),
        .m = tensor_f32(m),
        .v = tensor_f32(v),
        .g = tensor_f32(gradient),
        .factors = {.keep = (float)(1 - lr * adamw->weight_decay),
                    .beta1 = (float)b1,
                    .one_minus_beta1 = (float)(1 - b1),
                    .beta2 = (float)b2,
                    .one_minus_beta2 = (float)(1 - b2),
                    .step_size = (float)(lr / m_correction),
                    .v_factor = (float)(1 / sqrt(v_correction)),
                    .epsilon = (float)adamw->epsilon,
                    .gradient_scale = (float)adamw->gradient_scale},
    };

    cpu_loop(cpu, tensor_count(weight), 64, COST_STREAM, adamw_elements, &job);
}
