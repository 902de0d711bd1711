#include "ops/cpu/cpu.h"

#define ROWS_PER_TASK 64
#define INLINE_FLOPS 200000.0

/* One piece of work; all key/value heads of it are separate tasks. */
struct span {
    int64_t segment, first, last;
};

struct attention_tasks {
    const struct kernels *kernels;
    const void *job;
    const struct span *spans;
    float *scratch;
    int64_t thread_floats, K;
};

static void run_tasks(struct cpu *cpu, struct attention_tasks *tasks, int64_t n_tasks, double flops,
                      void (*task)(void *argument, int64_t i, int thread))
{
    if (flops > INLINE_FLOPS) {
        pool_run(cpu->pool, n_tasks, task, tasks);
        return;
    }
    for (int64_t i = 0; i < n_tasks; i++)
        task(tasks, i, 0);
}

/* Rounds each thread's part up to a cache line. */
static float *thread_scratch(struct cpu *cpu, int64_t *floats)
{
    *floats = (*floats + 15) / 16 * 16;
    return cpu_scratch(cpu, CPU_SCRATCH_THREADS,
                       (size_t)(*floats * pool_n_threads(cpu->pool)) * sizeof(float));
}

/* Segments in pieces of at most `rows` rows (0: whole); returns how many, or measures with NULL. */
static int64_t cut_segments(struct span *spans, const struct tensor *segments, int64_t rows,
                            int64_t *longest, double *pairs)
{
    const int32_t *bound = segments->data;
    int64_t n_spans = 0;

    *longest = 0;
    *pairs = 0;
    for (int64_t s = 0; s + 1 < segments->shape[0]; s++) {
        int64_t start = bound[s], end = bound[s + 1], n = end - start;
        *longest = n > *longest ? n : *longest;
        *pairs += 0.5 * (double)n * (double)n;
        int64_t step = rows ? rows : n;
        for (int64_t first = start; first < end; first += step) {
            int64_t last = first + step < end ? first + step : end;
            if (spans)
                spans[n_spans] = (struct span){start, first, last};
            n_spans++;
        }
    }
    return n_spans;
}

static void run_forward(void *argument, int64_t i, int thread)
{
    const struct attention_tasks *tasks = argument;
    const struct span *span = &tasks->spans[i / tasks->K];

    tasks->kernels->attention(tasks->job, span->segment, span->first, span->last, i % tasks->K,
                              tasks->scratch + thread * tasks->thread_floats);
}

void cpu_attention(void *context, struct tensor *out, struct tensor *lse, const struct tensor *q,
                   const struct tensor *k, const struct tensor *v, const struct tensor *segments)
{
    struct cpu *cpu = context;
    struct attention_forward job = {.out = tensor_f32(out),
                                    .lse = lse ? tensor_f32(lse) : NULL,
                                    .q = tensor_f32(q),
                                    .k = tensor_f32(k),
                                    .v = tensor_f32(v),
                                    .H = q->shape[1],
                                    .K = k->shape[1],
                                    .D = q->shape[2]};
    struct attention_tasks tasks = {.kernels = cpu->kernels, .job = &job, .K = job.K};
    int64_t longest;
    double pairs;

    int64_t n_spans = cut_segments(NULL, segments, ROWS_PER_TASK, &longest, &pairs);
    struct span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)n_spans * sizeof(struct span));
    tasks.thread_floats = cpu->kernels->attention_scratch(longest, job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    cut_segments(spans, segments, ROWS_PER_TASK, &longest, &pairs);
    tasks.spans = spans;
    run_tasks(cpu, &tasks, n_spans * job.K, 4 * pairs * (double)(job.H * job.D), run_forward);
}

static void run_backward(void *argument, int64_t i, int thread)
{
    const struct attention_tasks *tasks = argument;
    const struct span *span = &tasks->spans[i / tasks->K];

    tasks->kernels->attention_backward(tasks->job, span->segment, span->last, i % tasks->K,
                                       tasks->scratch + thread * tasks->thread_floats);
}

void cpu_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                            struct tensor *d_v, const struct tensor *d_out, const struct tensor *q,
                            const struct tensor *k, const struct tensor *v,
                            const struct tensor *out, const struct tensor *lse,
                            const struct tensor *segments)
{
    struct cpu *cpu = context;
    struct attention_gradient job = {.d_q = tensor_f32(d_q),
                                     .d_k = tensor_f32(d_k),
                                     .d_v = tensor_f32(d_v),
                                     .d_out = tensor_f32(d_out),
                                     .q = tensor_f32(q),
                                     .k = tensor_f32(k),
                                     .v = tensor_f32(v),
                                     .out = tensor_f32(out),
                                     .lse = tensor_f32(lse),
                                     .H = q->shape[1],
                                     .K = k->shape[1],
                                     .D = q->shape[2]};
    struct attention_tasks tasks = {.kernels = cpu->kernels, .job = &job, .K = job.K};
    int64_t longest;
    double pairs;

    int64_t n_spans = cut_segments(NULL, segments, 0, &longest, &pairs);
    struct span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)n_spans * sizeof(struct span));
    tasks.thread_floats = cpu->kernels->attention_backward_scratch(longest, job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    cut_segments(spans, segments, 0, &longest, &pairs);
    tasks.spans = spans;
    run_tasks(cpu, &tasks, n_spans * job.K, 10 * pairs * (double)(job.H * job.D), run_backward);
}
