/* A cache of keys and values, and attention of decoded rows against it. */
#include "ops/cpu/attention.h"

#define KEY_BLOCK 128   /* keys that all rows of a task read while they are near */
#define FETCH_BYTES (32 << 10)

/* The lines that a row will be written to, one for each number of its key. */
INLINE void fetch_place(const float *keys, const float *values, int64_t row, int64_t D)
{
    const float *panel = keys + row / LANES * LANES * D;

    for (int64_t d = 0; d < D; d++)
        __builtin_prefetch(panel + d * LANES, 1);
    for (int64_t d = 0; d < D; d += LANES)
        __builtin_prefetch(values + row * D + d, 1);
}

void KERNEL(cache_store)(const struct kv_cache *cache, const float *k, const float *v,
                         const int32_t *rows, int64_t first, int64_t last)
{
    int64_t K = cache->K, D = cache->D, n_rows = cache->n_rows;
    float *keys = cache->data, *values = keys + n_rows * K * D;

    for (int64_t n = first; n < last; n++)
        for (int64_t h = 0; h < K; h++) {
            int64_t row = h * n_rows + rows[n];
            const float *from = k + (n * K + h) * D;
            float *to = keys + row / LANES * LANES * D + row % LANES;
            if (n + 1 < last)
                fetch_place(keys, values, h * n_rows + rows[n + 1], D);
            for (int64_t d = 0; d < D; d++)
                to[d * LANES] = from[d];
            memcpy(values + row * D, v + (n * K + h) * D, (size_t)D * sizeof(float));
        }
}

/* Floats of a row of scores: the run after the first one starts anywhere, so that its last panel
 * may reach 15 floats further. */
INLINE int64_t padded_keys(int64_t n_keys)
{
    return round_up(n_keys, LANES) + LANES;
}

int64_t KERNEL(attention_decode_scratch)(int64_t n_keys, int64_t n_rows)
{
    return (n_rows + LANES) * padded_keys(n_keys) + round_up(n_rows, LANES);
}

/* A task: the rows of one key/value head's queries, counted through all its tokens. */
struct decode_task {
    const struct attention_decode *job;
    const int32_t *runs;        /* of the first token */
    const float *keys, *values; /* of the head */
    const float *q;             /* of the first token and head */
    float *out, *scores, *spare, *sums;
    int64_t group, n_rows, shared, padded, D;
    int64_t page_rows, page_bits;
};

INLINE const int32_t *run_of(const struct decode_task *task, int64_t row)
{
    return task->runs + row / task->group * 4;
}

INLINE int64_t place_of(const struct decode_task *task, int64_t row)
{
    return (row / task->group * task->job->H + row % task->group) * task->D;
}

/* The row of the cache that is row `at` of the run which starts at this place of the pages. */
INLINE int64_t find_row(const struct decode_task *task, int64_t place, int64_t at)
{
    int64_t page = task->job->pages[place + (at >> task->page_bits)];

    return (page << task->page_bits) + (at & (task->page_rows - 1));
}

/* Most keys of the first run that one of the rows sees. */
INLINE int64_t most_shared(const struct decode_task *task, int64_t row, int64_t n_rows)
{
    int32_t most = 0;

    for (int64_t r = row; r < row + n_rows; r++)
        most = run_of(task, r)[1] > most ? run_of(task, r)[1] : most;
    return most;
}

/* Scores of n_rows <= TILE_ROWS rows against n keys from row `first` of the cache on, to column
 * `at` of their scores. */
INLINE void score_keys(const struct decode_task *task, int64_t row, int64_t n_rows, int64_t first,
                       int64_t n, int64_t at)
{
    const float *q[TILE_ROWS];
    float *score[TILE_ROWS];

    for (int64_t r = 0; r < n_rows; r++) {
        q[r] = task->q + place_of(task, row + r);
        score[r] = task->scores + (row + r) * task->padded + at;
    }
    score_rows(score, q, n_rows, task->keys + first * task->D, n, task->D);
}

INLINE void weigh_values(const struct decode_task *task, int64_t row, int64_t n_rows,
                         int64_t first, int64_t n, int64_t at)
{
    const float *p[TILE_ROWS];
    float *out[TILE_ROWS];

    for (int64_t r = 0; r < n_rows; r++) {
        p[r] = task->scores + (row + r) * task->padded + at;
        out[r] = task->out + place_of(task, row + r);
    }
    weigh_rows(out, p, 1, n_rows, task->values + first * task->D, task->D, n, task->D, at > 0,
               task->spare);
}

/* The page that has row `at` of a run of n rows, on its way into the L2 cache: where the next page
 * lies is a step that the processor does not foresee; along one it does. */
INLINE void fetch_page(const struct decode_task *task, const int values, int64_t place, int64_t at,
                       int64_t n)
{
    if (at >= n)
        return;
    const float *rows = (values ? task->values : task->keys) + find_row(task, place, at) * task->D;
    int64_t bytes = round_up(min_i64(n - at, task->page_rows), LANES) * task->D *
                    (int64_t)sizeof(float);

    bytes = min_i64(bytes, FETCH_BYTES);
    for (int64_t byte = 0; byte < bytes; byte += 64)
        __builtin_prefetch((const char *)rows + byte, 0, 2);
}

/* The first run, in blocks of keys that all rows read in turn. */
INLINE void walk_shared(const struct decode_task *task, const int weigh)
{
    int64_t block = min_i64(KEY_BLOCK, task->page_rows), place = task->runs[0];

    for (int64_t at = 0; at < task->shared; at += block) {
        int64_t first = find_row(task, place, at), next = at + block;
        if (next < task->shared && find_row(task, place, next) != first + block)
            fetch_page(task, weigh, place, next, task->shared);
        for (int64_t row = 0; row < task->n_rows; row += TILE_ROWS) {
            int64_t n_rows = min_i64(TILE_ROWS, task->n_rows - row);
            int64_t n = min_i64(most_shared(task, row, n_rows) - at, block);
            if (n <= 0)
                continue;
            if (weigh)
                weigh_values(task, row, n_rows, first, n, at);
            else
                score_keys(task, row, n_rows, first, n, at);
        }
    }
}

/* The second runs, each of one token. */
INLINE void walk_own(const struct decode_task *task, const int weigh)
{
    for (int64_t token = 0; token < task->n_rows; token += task->group) {
        const int32_t *run = run_of(task, token);
        int64_t end = token + task->group;
        for (int64_t at = 0; at < run[3]; at += task->page_rows) {
            int64_t n = min_i64(run[3] - at, task->page_rows), first = find_row(task, run[2], at);
            if (at + n < run[3])
                fetch_page(task, weigh, run[2], at + n, run[3]);
            else if (end < task->n_rows)
                fetch_page(task, weigh, run[6], 0, run[7]);
            for (int64_t row = token; row < end; row += TILE_ROWS) {
                int64_t n_rows = min_i64(TILE_ROWS, end - row);
                if (weigh)
                    weigh_values(task, row, n_rows, first, n, run[1] + at);
                else
                    score_keys(task, row, n_rows, first, n, run[1] + at);
            }
        }
    }
}

INLINE void soften_rows(const struct decode_task *task)
{
    float scale = score_scale(task->D), maximum;

    for (int64_t row = 0; row < task->n_rows; row++) {
        const int32_t *run = run_of(task, row);
        int64_t tile = row / TILE_ROWS * TILE_ROWS;
        int64_t n = run[1] + run[3], end = n;
        /* Rows of a tile that see less of the first run than others add p = 0 times the rest. */
        if (!run[3])
            end = most_shared(task, tile, min_i64(TILE_ROWS, task->n_rows - tile));
        task->sums[row] = soften_row(task->scores + row * task->padded, n, round_up(end, LANES),
                                     scale, &maximum);
    }
}

void KERNEL(attention_decode)(const struct attention_decode *job, int64_t first, int64_t last,
                              int64_t kv_head, float *scratch)
{
    int64_t K = job->cache.K, D = job->cache.D, n_cached = job->cache.n_rows;
    int64_t group = job->H / K, most = 0, start = (first * job->H + kv_head * group) * D;
    const float *keys = job->cache.data;
    struct decode_task task = {.job = job,
                               .runs = job->runs + 4 * first,
                               .keys = keys + kv_head * n_cached * D,
                               .values = keys + (K + kv_head) * n_cached * D,
                               .q = job->q + start,
                               .out = job->out + start,
                               .group = group,
                               .n_rows = (last - first) * group,
                               .D = D,
                               .page_rows = job->cache.page_rows,
                               .page_bits = __builtin_ctzll((uint64_t)job->cache.page_rows)};

    for (int64_t n = first; n < last; n++) {
        const int32_t *run = job->runs + 4 * n;
        most = run[1] + run[3] > most ? run[1] + run[3] : most;
        task.shared = run[1] > task.shared ? run[1] : task.shared;
    }
    task.padded = padded_keys(most);
    task.sums = scratch;
    task.scores = task.sums + round_up(task.n_rows, LANES);
    task.spare = task.scores + task.n_rows * task.padded;
    fetch_page(&task, 0, task.runs[2], 0, task.runs[3]);
    walk_shared(&task, 0);
    walk_own(&task, 0);
    fetch_page(&task, 1, task.runs[0], 0, task.shared);
    fetch_page(&task, 1, task.runs[2], 0, task.runs[3]);
    soften_rows(&task);
    walk_shared(&task, 1);
    walk_own(&task, 1);
    for (int64_t row = 0; row < task.n_rows; row++)
        scale_row(task.out + place_of(&task, row), 1 / task.sums[row], D);
}
