#include <string.h>

#include "ops/cpu/cpu.h"

#define ROWS_PER_TASK 64
#define INLINE_FLOPS 200000.0

struct attention_tasks {
    const struct kernels *kernels;
    const void *job;
    const struct attention_span *spans;
    float *scratch;
    int64_t n_spans, n_rows, thread_floats, K;
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
static int64_t cut_segments(struct attention_span *spans, const struct tensor *segments,
                            const struct tensor *prefixes, int64_t rows, int64_t *longest,
                            double *pairs)
{
    const int32_t *bound = segments->data, *prefix = prefixes ? prefixes->data : NULL;
    int64_t n_spans = 0;

    *longest = 0;
    *pairs = 0;
    for (int64_t s = 0; s + 1 < segments->shape[0]; s++) {
        int64_t start = bound[s], end = bound[s + 1], n = end - start;
        int64_t before = prefix && prefix[s] >= 0 ? bound[prefix[s]] : 0;
        int64_t n_before = prefix && prefix[s] >= 0 ? bound[prefix[s] + 1] - before : 0;
        *longest = n + n_before > *longest ? n + n_before : *longest;
        *pairs += (0.5 * (double)n + (double)n_before) * (double)n;
        int64_t step = rows ? rows : n;
        for (int64_t first = start; first < end; first += step) {
            int64_t last = first + step < end ? first + step : end;
            if (spans)
                spans[n_spans] =
                    (struct attention_span){before, n_before, start, first, last};
            n_spans++;
        }
    }
    return n_spans;
}

static void run_forward(void *argument, int64_t i, int thread)
{
    const struct attention_tasks *tasks = argument;

    tasks->kernels->attention(tasks->job, &tasks->spans[i / tasks->K], i % tasks->K,
                              tasks->scratch + thread * tasks->thread_floats);
}

void cpu_attention(void *context, struct tensor *out, struct tensor *lse, const struct tensor *q,
                   const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                   const struct tensor *prefixes)
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

    int64_t n_spans = cut_segments(NULL, segments, prefixes, ROWS_PER_TASK, &longest, &pairs);
    struct attention_span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)n_spans * sizeof(*spans));
    tasks.thread_floats = cpu->kernels->attention_scratch(longest, job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    cut_segments(spans, segments, prefixes, ROWS_PER_TASK, &longest, &pairs);
    tasks.spans = spans;
    run_tasks(cpu, &tasks, n_spans * job.K, 4 * pairs * (double)(job.H * job.D), run_forward);
}

static void run_backward(void *argument, int64_t i, int thread)
{
    const struct attention_tasks *tasks = argument;
    const struct attention_gradient *job = tasks->job;

    for (int64_t row = 0; row < tasks->n_rows; row++) {
        size_t bytes = (size_t)job->D * sizeof(float);
        memset(job->d_k + (row * job->K + i) * job->D, 0, bytes);
        memset(job->d_v + (row * job->K + i) * job->D, 0, bytes);
    }
    for (int64_t s = 0; s < tasks->n_spans; s++)
        tasks->kernels->attention_backward(job, &tasks->spans[s], i,
                                           tasks->scratch + thread * tasks->thread_floats);
}

void cpu_attention_backward(void *context, struct tensor *d_q, struct tensor *d_k,
                            struct tensor *d_v, const struct tensor *d_out, const struct tensor *q,
                            const struct tensor *k, const struct tensor *v,
                            const struct tensor *out, const struct tensor *lse,
                            const struct tensor *segments, const struct tensor *prefixes)
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

    int64_t n_spans = cut_segments(NULL, segments, prefixes, 0, &longest, &pairs);
    struct attention_span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)n_spans * sizeof(*spans));
    tasks.thread_floats = cpu->kernels->attention_backward_scratch(longest, job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    cut_segments(spans, segments, prefixes, 0, &longest, &pairs);
    tasks.spans = spans;
    tasks.n_spans = n_spans;
    tasks.n_rows = q->shape[0];
    run_tasks(cpu, &tasks, job.K, 10 * pairs * (double)(job.H * job.D), run_backward);
}

static void run_decode(void *argument, int64_t i, int thread)
{
    const struct attention_tasks *tasks = argument;
    const struct attention_span *span = &tasks->spans[i / tasks->K];

    tasks->kernels->attention_decode(tasks->job, span->first, span->last, i % tasks->K,
                                     tasks->scratch + thread * tasks->thread_floats);
}

static int share_first_run(const struct attention_keys *a, const struct attention_keys *b)
{
    return a->n[0] == b->n[0] && (a->n[0] == 0 || (a->k[0] == b->k[0] && a->v[0] == b->v[0]));
}

void cpu_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                          const struct attention_keys *keys, int n_kv_heads)
{
    struct cpu *cpu = context;
    int64_t N = q->shape[0], n_spans = 0, most = 0;
    struct attention_step job = {.out = tensor_f32(out),
                                 .q = tensor_f32(q),
                                 .keys = keys,
                                 .H = q->shape[1],
                                 .K = n_kv_heads,
                                 .D = q->shape[2]};
    struct attention_tasks tasks = {.kernels = cpu->kernels, .job = &job, .K = job.K};
    struct attention_span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)N * sizeof(*spans));
    double flops = 0;

    for (int64_t n = 0; spans && n < N; n++) {
        int64_t n_keys = (int64_t)keys[n].n[0] + keys[n].n[1];
        most = n_keys > most ? n_keys : most;
        flops += 4.0 * (double)(n_keys * job.H * job.D);
        if (n_spans && n - spans[n_spans - 1].first < DECODE_ROWS && keys[n].n[0]
            && share_first_run(&keys[n - 1], &keys[n]))
            spans[n_spans - 1].last = n + 1;
        else
            spans[n_spans++] = (struct attention_span){.first = n, .last = n + 1};
    }
    tasks.thread_floats =
        cpu->kernels->attention_decode_scratch(most, DECODE_ROWS * (job.H / job.K), job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    tasks.spans = spans;
    run_tasks(cpu, &tasks, n_spans * job.K, flops, run_decode);
}
