/* Drawing tokens: whole draws side by side, or, where there are few, the chunks of their rows. */
#include "ops/cpu/cpu.h"

#define CHUNK (8 * SUM_BLOCK)   /* logits of one task; whole blocks */

struct sample_tasks {
    const struct kernels *kernels;
    int32_t *tokens;
    float *logprobs;
    const float *logits;
    const struct draw *draws;
    int64_t V, n_chunks, n_blocks;
    float *maxima;                    /* [N,n_chunks] */
    double *sums;                     /* [N,n_blocks] */
    struct candidate *candidates;     /* [threads,V] */
};

static const float *logits_of(const struct sample_tasks *tasks, int64_t n)
{
    return tasks->logits + tasks->draws[n].row * tasks->V;
}

static float factor_of(const struct draw *draw)
{
    return draw->temperature > 0 ? 1 / draw->temperature : 1;
}

static int64_t end_of(const struct sample_tasks *tasks, int64_t chunk)
{
    return (chunk + 1) * CHUNK < tasks->V ? (chunk + 1) * CHUNK : tasks->V;
}

static void find_maximum(void *argument, int64_t i, int thread)
{
    const struct sample_tasks *tasks = argument;
    int64_t n = i / tasks->n_chunks, chunk = i % tasks->n_chunks;

    (void)thread;
    tasks->maxima[i] = tasks->kernels->largest_logit(
        logits_of(tasks, n), factor_of(&tasks->draws[n]), chunk * CHUNK, end_of(tasks, chunk));
}

static float maximum_of(const struct sample_tasks *tasks, int64_t n)
{
    const float *maxima = tasks->maxima + n * tasks->n_chunks;
    float maximum = maxima[0];

    for (int64_t chunk = 1; chunk < tasks->n_chunks; chunk++)
        maximum = maxima[chunk] > maximum ? maxima[chunk] : maximum;
    return maximum;
}

static void sum_blocks(void *argument, int64_t i, int thread)
{
    const struct sample_tasks *tasks = argument;
    int64_t n = i / tasks->n_chunks, chunk = i % tasks->n_chunks;
    float maximum = maximum_of(tasks, n), factor = factor_of(&tasks->draws[n]);

    (void)thread;
    for (int64_t at = chunk * CHUNK; at < end_of(tasks, chunk); at += SUM_BLOCK)
        tasks->sums[n * tasks->n_blocks + at / SUM_BLOCK] = (double)tasks->kernels->softmax_block(
            logits_of(tasks, n), tasks->V, factor, maximum, at);
}

static void draw_one(void *argument, int64_t n, int thread)
{
    const struct sample_tasks *tasks = argument;
    struct softmax_sums sums = {.factor = factor_of(&tasks->draws[n]),
                                .maximum = maximum_of(tasks, n),
                                .blocks = tasks->sums + n * tasks->n_blocks};

    for (int64_t block = 0; block < tasks->n_blocks; block++)
        sums.total += sums.blocks[block];
    tasks->tokens[n] =
        tasks->kernels->draw_token(logits_of(tasks, n), tasks->V, &tasks->draws[n], &sums,
                                   tasks->candidates + thread * tasks->V);
    tasks->logprobs[n] =
        tasks->kernels->drawn_logprob(logits_of(tasks, n), tasks->tokens[n], &sums);
}

static void draw_whole(void *argument, int64_t n, int thread)
{
    const struct sample_tasks *tasks = argument;

    for (int64_t chunk = 0; chunk < tasks->n_chunks; chunk++)
        find_maximum(argument, n * tasks->n_chunks + chunk, thread);
    for (int64_t chunk = 0; chunk < tasks->n_chunks; chunk++)
        sum_blocks(argument, n * tasks->n_chunks + chunk, thread);
    draw_one(argument, n, thread);
}

void cpu_sample(void *context, struct tensor *tokens, struct tensor *logprobs,
                const struct tensor *logits, const struct draw *draws)
{
    struct cpu *cpu = context;
    int64_t N = logprobs->shape[0], V = logits->shape[1], n_threads = pool_n_threads(cpu->pool);
    struct sample_tasks tasks = {.kernels = cpu->kernels,
                                 .tokens = tokens->data,
                                 .logprobs = tensor_f32(logprobs),
                                 .logits = tensor_f32(logits),
                                 .draws = draws,
                                 .V = V,
                                 .n_chunks = divide_up(V, CHUNK),
                                 .n_blocks = divide_up(V, SUM_BLOCK)};
    size_t sums = (size_t)(N * tasks.n_blocks) * sizeof(double);

    tasks.sums = cpu_scratch(cpu, CPU_SCRATCH_TASKS,
                             sums + (size_t)(N * tasks.n_chunks) * sizeof(float));
    tasks.candidates = cpu_scratch(cpu, CPU_SCRATCH_THREADS,
                                   (size_t)(n_threads * V) * sizeof(struct candidate));
    if (!tasks.sums || !tasks.candidates)
        return;
    tasks.maxima = (float *)((char *)tasks.sums + sums);
    if (tasks.n_chunks == 1 || N >= 2 * n_threads) {
        pool_run(cpu->pool, N, draw_whole, &tasks);
        return;
    }
    pool_run(cpu->pool, N * tasks.n_chunks, find_maximum, &tasks);
    pool_run(cpu->pool, N * tasks.n_chunks, sum_blocks, &tasks);
    pool_run(cpu->pool, N, draw_one, &tasks);
}
