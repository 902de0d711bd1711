#include <string.h>

#include "ops/cpu/cpu.h"

#define ROWS_PER_TASK 64
#define INLINE_FLOPS 200000.0

struct attention_tasks {
    const struct kernels *kernels;
    const void *job;
    const struct attention_span *spans;
    float *scratch;
    int64_t thread_floats, K;
};

static void run_tasks(struct cpu *cpu, void *tasks, int64_t n_tasks, double flops,
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

/* Segment s, whole. */
static struct attention_span find_segment(const struct tensor *segments,
                                          const struct tensor *prefixes, int64_t s)
{
    const int32_t *bound = segments->data;
    int64_t prefix = prefixes ? ((const int32_t *)prefixes->data)[s] : -1;
    struct attention_span span = {.segment = bound[s], .first = bound[s], .last = bound[s + 1]};

    if (prefix >= 0) {
        span.prefix = bound[prefix];
        span.n_prefix = bound[prefix + 1] - bound[prefix];
    }
    return span;
}

/* Segments in pieces of ROWS_PER_TASK rows; returns how many, or measures with NULL. */
static int64_t cut_segments(struct attention_span *spans, const struct tensor *segments,
                            const struct tensor *prefixes, int64_t *longest, double *pairs)
{
    int64_t n_spans = 0;

    *longest = 0;
    *pairs = 0;
    for (int64_t s = 0; s + 1 < segments->shape[0]; s++) {
        struct attention_span span = find_segment(segments, prefixes, s);
        int64_t end = span.last, n = end - span.first;
        *longest = n + span.n_prefix > *longest ? n + span.n_prefix : *longest;
        *pairs += (0.5 * (double)n + (double)span.n_prefix) * (double)n;
        for (; span.first < end; span.first = span.last) {
            span.last = span.first + ROWS_PER_TASK < end ? span.first + ROWS_PER_TASK : end;
            if (spans)
                spans[n_spans] = span;
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

    int64_t n_spans = cut_segments(NULL, segments, prefixes, &longest, &pairs);
    struct attention_span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)n_spans * sizeof(*spans));
    tasks.thread_floats = cpu->kernels->attention_scratch(longest, job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    cut_segments(spans, segments, prefixes, &longest, &pairs);
    tasks.spans = spans;
    run_tasks(cpu, &tasks, n_spans * job.K, 4 * pairs * (double)(job.H * job.D), run_forward);
}

/* ---- Backward. A chain is a segment without a prefix and those that have it as theirs: whoever
 * adds to the gradients of its keys. Tasks are chains, or, when one is more than a thread's share,
 * rows (d_q) and keys (d_k, d_v), which compute p twice. Each sum is in the order of rows or keys
 * either way: the bits are the same. */
struct backward_tasks {
    const struct kernels *kernels;
    const struct attention_gradient *job;
    const struct attention_span *segments;   /* [n_segments], whole */
    const int32_t *prefix;                   /* [n_segments], or NULL */
    const struct attention_span *pieces;     /* of segments, a few rows each */
    int64_t n_segments, n_pieces, thread_floats;
    float *scratch;
};

static void backward_of(const struct backward_tasks *tasks, const struct attention_span *span,
                        int64_t kv_head, int64_t first_key, int64_t last_key, int wanted,
                        int thread)
{
    tasks->kernels->attention_backward(tasks->job, span, kv_head, first_key, last_key, wanted,
                                       tasks->scratch + thread * tasks->thread_floats);
}

static void zero_keys(const struct attention_gradient *job, int64_t kv_head, int64_t first,
                      int64_t last)
{
    for (int64_t row = first; row < last; row++) {
        size_t bytes = (size_t)job->D * sizeof(float);
        memset(job->d_k + (row * job->K + kv_head) * job->D, 0, bytes);
        memset(job->d_v + (row * job->K + kv_head) * job->D, 0, bytes);
    }
}

static void run_chain(void *argument, int64_t i, int thread)
{
    const struct backward_tasks *tasks = argument;
    int64_t kv_head = i % tasks->job->K, root = i / tasks->job->K;

    if (tasks->prefix && tasks->prefix[root] >= 0)
        return;
    for (int64_t s = root; s < (tasks->prefix ? tasks->n_segments : root + 1); s++) {
        const struct attention_span *span = &tasks->segments[s];
        if (s != root && tasks->prefix[s] != root)
            continue;
        zero_keys(tasks->job, kv_head, span->first, span->last);
        backward_of(tasks, span, kv_head, 0, span->n_prefix + span->last - span->first,
                    ATTENTION_D_QUERIES | ATTENTION_D_KEYS, thread);
    }
}

static void run_queries(void *argument, int64_t i, int thread)
{
    const struct backward_tasks *tasks = argument;
    const struct attention_span *span = &tasks->pieces[i / tasks->job->K];

    backward_of(tasks, span, i % tasks->job->K, 0, span->n_prefix + span->last - span->segment,
                ATTENTION_D_QUERIES, thread);
}

static void run_keys(void *argument, int64_t i, int thread)
{
    const struct backward_tasks *tasks = argument;
    struct attention_span piece = tasks->pieces[i / tasks->job->K];
    int64_t kv_head = i % tasks->job->K, first = piece.first - piece.segment;
    int64_t last = piece.last - piece.segment;

    zero_keys(tasks->job, kv_head, piece.first, piece.last);
    for (int64_t s = 0; s < tasks->n_segments; s++) {
        struct attention_span span = tasks->segments[s];
        if (span.segment == piece.segment && span.last >= piece.last) {
            span.first = piece.first;
            backward_of(tasks, &span, kv_head, span.n_prefix + first, span.n_prefix + last,
                        ATTENTION_D_KEYS, thread);
        } else if (span.n_prefix && span.prefix == piece.segment) {
            backward_of(tasks, &span, kv_head, first, last, ATTENTION_D_KEYS, thread);
        }
    }
}

/* Pairs of query rows and keys of the largest chain. */
static double largest_chain(const struct backward_tasks *tasks)
{
    double largest = 0;

    for (int64_t root = 0; root < tasks->n_segments; root++) {
        double pairs = 0;
        for (int64_t s = root; s < (tasks->prefix ? tasks->n_segments : root + 1); s++) {
            const struct attention_span *span = &tasks->segments[s];
            double n = (double)(span->last - span->first);
            if (s == root || tasks->prefix[s] == root)
                pairs += n * (0.5 * n + (double)span->n_prefix);
        }
        largest = pairs > largest ? pairs : largest;
    }
    return largest;
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
    struct backward_tasks tasks = {.kernels = cpu->kernels,
                                   .job = &job,
                                   .prefix = prefixes ? prefixes->data : NULL,
                                   .n_segments = segments->shape[0] - 1};
    int64_t longest;
    double pairs;

    tasks.n_pieces = cut_segments(NULL, segments, prefixes, &longest, &pairs);
    struct attention_span *spans =
        cpu_scratch(cpu, CPU_SCRATCH_TASKS,
                    (size_t)(tasks.n_segments + tasks.n_pieces) * sizeof(*spans));
    tasks.thread_floats = cpu->kernels->attention_backward_scratch(job.D);
    tasks.scratch = thread_scratch(cpu, &tasks.thread_floats);
    if (!spans || !tasks.scratch)
        return;
    for (int64_t s = 0; s < tasks.n_segments; s++)
        spans[s] = find_segment(segments, prefixes, s);
    cut_segments(spans + tasks.n_segments, segments, prefixes, &longest, &pairs);
    tasks.segments = spans;
    tasks.pieces = spans + tasks.n_segments;
    double flops = 10 * pairs * (double)(job.H * job.D);
    if (largest_chain(&tasks) * pool_n_threads(cpu->pool) <= pairs * (double)job.K) {
        run_tasks(cpu, &tasks, tasks.n_segments * job.K, flops, run_chain);
    } else {
        run_tasks(cpu, &tasks, tasks.n_pieces * job.K, flops, run_queries);
        run_tasks(cpu, &tasks, tasks.n_pieces * job.K, flops, run_keys);
    }
}
