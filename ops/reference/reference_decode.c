/* Decoding. Keys lie as [n_rows][K][D], then values. */
#include "ops/reference/reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"

void reference_cache_store(void *context, struct kv_cache *cache, const struct tensor *k,
                           const struct tensor *v, const struct tensor *rows)
{
    int64_t width = cache->K * cache->D;
    float *keys = cache->data, *values = keys + cache->n_rows * width;
    const int32_t *row = (const int32_t *)rows->data;

    (void)context;
    for (int64_t n = 0; n < k->shape[0]; n++) {
        memcpy(keys + row[n] * width, tensor_f32(k) + n * width, (size_t)width * sizeof(float));
        memcpy(values + row[n] * width, tensor_f32(v) + n * width, (size_t)width * sizeof(float));
    }
}

/* Row `at` of a run that starts at pages[first]. */
static int64_t find_row(const int32_t *pages, int32_t first, int64_t at, int64_t page_rows)
{
    return pages[first + at / page_rows] * page_rows + at % page_rows;
}

/* The keys or values of one head that a row sees, out of their pages. */
static void gather_runs(float *out, const float *rows, const struct kv_cache *cache, int64_t head,
                        const int32_t *pages, const int32_t *run)
{
    int64_t D = cache->D, width = cache->K * D;

    for (int i = 0; i < 4; i += 2)
        for (int64_t at = 0; at < run[i + 1]; at++, out += D)
            memcpy(out, rows + find_row(pages, run[i], at, cache->page_rows) * width + head * D,
                   (size_t)D * sizeof(float));
}

void reference_attention_decode(void *context, struct tensor *out, const struct tensor *q,
                                const struct kv_cache *cache, const struct tensor *pages,
                                const struct tensor *runs)
{
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2], K = cache->K, most = 0;
    const float *keys = cache->data, *values = keys + cache->n_rows * K * D;
    const int32_t *run = (const int32_t *)runs->data;

    (void)context;
    for (int64_t n = 0; n < N; n++)
        most = run[4 * n + 1] + run[4 * n + 3] > most ? run[4 * n + 1] + run[4 * n + 3] : most;
    double *p = mem_alloc((size_t)most, sizeof(*p));
    float *seen = mem_alloc((size_t)(2 * most * D), sizeof(*seen));
    for (int64_t n = 0; n < N; n++, run += 4)
        for (int64_t h = 0; h < H; h++) {
            struct key_rows rows = {.k = {seen, seen}, .v = {seen + most * D, seen + most * D},
                                    .n = {run[1] + run[3], 0}, .stride = D};
            int64_t row = (n * H + h) * D;
            gather_runs(seen, keys, cache, h / (H / K), pages->data, run);
            gather_runs(seen + most * D, values, cache, h / (H / K), pages->data, run);
            reference_attend(tensor_f32(out) + row, p, tensor_f32(q) + row, &rows, D);
        }
    mem_free(p);
    mem_free(seen);
}

/* ---- Sampling. */

static int compare_weights(const void *a, const void *b, void *weights)
{
    const double *w = weights;
    int32_t i = *(const int32_t *)a, j = *(const int32_t *)b;

    if (w[i] != w[j])
        return w[i] > w[j] ? -1 : 1;
    return i < j ? -1 : 1;
}

/* Zeroes the weights of the tokens that top_k and top_p leave out. */
static void cut_tail(double *w, int64_t V, const struct draw *draw, int32_t *order)
{
    int64_t n = draw->top_k && draw->top_k < V ? draw->top_k : V, n_kept = 0;
    double total = 0, sum = 0;

    for (int64_t i = 0; i < V; i++)
        order[i] = (int32_t)i;
    qsort_r(order, (size_t)V, sizeof(*order), compare_weights, w);
    for (int64_t i = 0; i < n; i++)
        total += w[order[i]];
    while (n_kept < n && (n_kept == 0 || draw->top_p >= 1 || sum < (double)draw->top_p * total))
        sum += w[order[n_kept++]];
    for (int64_t i = n_kept; i < V; i++)
        w[order[i]] = 0;
}

static int32_t find_largest(const float *logits, int64_t V)
{
    int32_t best = 0;

    for (int64_t i = 1; i < V; i++)
        if (logits[i] > logits[best] || isnan(logits[best]))
            best = (int32_t)i;
    return best;
}

static int32_t draw_token(const float *logits, int64_t V, const struct draw *draw, double *w,
                          int32_t *order)
{
    int32_t best = find_largest(logits, V);
    double total = 0, sum = 0;

    if (draw->temperature <= 0 || !isfinite(logits[best] / (double)draw->temperature))
        return best;
    for (int64_t i = 0; i < V; i++) {
        double z = ((double)logits[i] - logits[best]) / draw->temperature;
        w[i] = isnan(z) ? 0 : exp(z);
    }
    cut_tail(w, V, draw, order);
    for (int64_t i = 0; i < V; i++)
        total += w[i];
    for (int64_t i = 0; i < V; i++) {
        sum += w[i];
        if (sum > draw->uniform * total)
            return (int32_t)i;
        if (w[i] > 0)
            best = (int32_t)i;   /* when rounding makes uniform * total the whole total */
    }
    return best;
}

void reference_sample(void *context, struct tensor *tokens, struct tensor *logprobs,
                      const struct tensor *logits, const struct draw *draws)
{
    int64_t N = logprobs->shape[0], V = logits->shape[1];
    double *w = mem_alloc((size_t)V, sizeof(*w));
    int32_t *order = mem_alloc((size_t)V, sizeof(*order));

    for (int64_t n = 0; n < N; n++) {
        const float *row = tensor_f32(logits) + draws[n].row * V;
        struct tensor one = tensor_2d((void *)row, 1, V);
        struct tensor token = tensor_i32((int32_t *)tokens->data + n, 1);
        struct tensor logprob = tensor_1d(tensor_f32(logprobs) + n, 1);
        *(int32_t *)token.data = draw_token(row, V, &draws[n], w, order);
        reference_token_logprob(context, &logprob, NULL, &one, &token,
                                draws[n].temperature > 0 ? draws[n].temperature : 1);
    }
    mem_free(w);
    mem_free(order);
}
