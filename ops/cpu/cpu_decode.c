/* Decoding: the cache, attention against it, and drawing tokens from logits. */
#include "ops/cpu/cpu.h"

#define INLINE_FLOPS 200000.0
#define COST_PLACE 8.0   /* a number of a key is alone in its cache line */
#define SCORE_BYTES (512 << 10)   /* of the scores of one task, so that they stay near */

struct store_job {
    const struct kernels *kernels;
    const struct kv_cache *cache;
    const float *k, *v;
    const int32_t *rows;
};

static void store_rows(void *argument, int64_t first, int64_t last)
{
    const struct store_job *job = argument;

    job->kernels->cache_store(job->cache, job->k, job->v, job->rows, first, last);
}

void cpu_cache_store(void *context, struct kv_cache *cache, const struct tensor *k,
                     const struct tensor *v, const struct tensor *rows)
{
    struct cpu *cpu = context;
    struct store_job job = {cpu->kernels, cache, tensor_f32(k), tensor_f32(v), rows->data};

    cpu_loop(cpu, k->shape[0], 1, COST_PLACE * (double)(cache->K * cache->D), store_rows, &job);
}

/* ---- Attention. A task is some rows that read their first run together, for one key/value
 * head. */
struct span {
    int64_t first, last;
};

struct decode_tasks {
    const struct kernels *kernels;
    struct attention_decode job;
    const struct span *spans;
    float *scratch;
    int64_t thread_floats;
};

static void run_decode(void *argument, int64_t i, int thread)
{
    const struct decode_tasks *tasks = argument;
    int64_t K = tasks->job.cache.K;
    const struct span *span = &tasks->spans[i / K];

    tasks->kernels->attention_decode(&tasks->job, span->first, span->last, i % K,
                                     tasks->scratch + thread * tasks->thread_floats);
}

/* Neighbours whose first runs start at one place: as long as these are equally long, or as nobody
 * has a second run. Returns how many spans there are. */
static int64_t cut_rows(struct span *spans, const int32_t *runs, int64_t N, int64_t most_rows)
{
    int64_t n_spans = 0;
    int equal = 0, bare = 0;

    for (int64_t n = 0; n < N; n++) {
        struct span *span = n_spans ? &spans[n_spans - 1] : NULL;
        const int32_t *run = runs + 4 * n, *first = span ? runs + 4 * span->first : run;
        int same = run[1] == first[1];
        if (span && n - span->first < most_rows && run[1] && first[1] && run[0] == first[0] &&
            ((equal && same) || (bare && !run[3]))) {
            span->last = n + 1;
            equal = equal && same;
            bare = bare && !run[3];
        } else {
            spans[n_spans++] = (struct span){n, n + 1};
            equal = 1;
            bare = !run[3];
        }
    }
    return n_spans;
}

void cpu_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                          const struct kv_cache *cache, const struct tensor *pages,
                          const struct tensor *runs)
{
    struct cpu *cpu = context;
    int64_t N = q->shape[0], H = q->shape[1], group = H / cache->K, most = 0;
    struct decode_tasks tasks = {.kernels = cpu->kernels,
                                 .job = {.out = tensor_f32(out),
                                         .q = tensor_f32(q),
                                         .cache = *cache,
                                         .pages = pages->data,
                                         .runs = runs->data,
                                         .H = H}};
    struct span *spans = cpu_scratch(cpu, CPU_SCRATCH_TASKS, (size_t)N * sizeof(struct span));
    double flops = 0;

    for (int64_t n = 0; n < N; n++) {
        const int32_t *run = tasks.job.runs + 4 * n;
        int64_t n_keys = (int64_t)run[1] + run[3];
        most = n_keys > most ? n_keys : most;
        flops += 4.0 * (double)(n_keys * H * cache->D);
    }
    int64_t most_rows = SCORE_BYTES / (4 * (most + 16) * group);
    most_rows = most_rows < 1 ? 1 : most_rows > DECODE_ROWS ? DECODE_ROWS : most_rows;
    tasks.thread_floats =
        divide_up(cpu->kernels->attention_decode_scratch(most, most_rows * group), 16) * 16;
    tasks.scratch = cpu_scratch(cpu, CPU_SCRATCH_THREADS,
                                (size_t)(tasks.thread_floats * pool_n_threads(cpu->pool)) *
                                    sizeof(float));
    if (!spans || !tasks.scratch)
        return;
    tasks.spans = spans;
    int64_t n_tasks = cut_rows(spans, tasks.job.runs, N, most_rows) * cache->K;
    if (flops > INLINE_FLOPS)
        pool_run(cpu->pool, n_tasks, run_decode, &tasks);
    else
        for (int64_t i = 0; i < n_tasks; i++)
            run_decode(&tasks, i, 0);
}
