/* The ops of attention, its cache and sampling: checked, then dispatched. */
#include "ops/checks.h"

static void check_segments(const struct ops *ops, const char *op, const struct tensor *segments,
                           int64_t N)
{
    if (segments->dtype != DTYPE_I32 || segments->n_dims != 1 || segments->shape[0] < 1)
        BUG("%s: segments must be int32 [S+1]", op);
    if (!ops->table->host_memory)
        return;
    const int32_t *bound = (const int32_t *)segments->data;
    int64_t S = segments->shape[0] - 1;
    if (bound[0] != 0 || bound[S] != N)
        BUG("%s: segments run from %d to %d, not 0 to %lld", op, (int)bound[0], (int)bound[S],
            (long long)N);
    for (int64_t s = 0; s < S; s++)
        if (bound[s + 1] < bound[s])
            BUG("%s: segment %lld ends before it starts", op, (long long)s);
}

/* A prefix is an earlier segment that has none itself. */
static void check_prefixes(const struct ops *ops, const char *op, const struct tensor *prefixes,
                           int64_t S)
{
    if (!prefixes)
        return;
    if (prefixes->dtype != DTYPE_I32 || prefixes->n_dims != 1 || prefixes->shape[0] != S)
        BUG("%s: prefixes must be int32 [%lld]", op, (long long)S);
    if (!ops->table->host_memory)
        return;
    const int32_t *prefix = (const int32_t *)prefixes->data;
    for (int64_t s = 0; s < S; s++)
        if (prefix[s] < -1 || prefix[s] >= s || (prefix[s] >= 0 && prefix[prefix[s]] != -1))
            BUG("%s: segment %lld cannot have segment %d before it", op, (long long)s,
                (int)prefix[s]);
}

void ops_attention(struct ops *ops, struct tensor *out, struct tensor *lse, const struct tensor *q,
                   const struct tensor *k, const struct tensor *v, const struct tensor *segments,
                   const struct tensor *prefixes)
{
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2], K = k->shape[1];

    CHECK_3D(q, N, H, D);
    CHECK_3D(out, N, H, D);
    CHECK_3D(k, N, K, D);
    CHECK_3D(v, N, K, D);
    REQUIRE(K > 0 && H % K == 0 && D > 0);
    if (lse)
        CHECK_2D(lse, N, H);
    check_segments(ops, __func__, segments, N);
    check_prefixes(ops, __func__, prefixes, segments->shape[0] - 1);
    if (N > 0)
        ops->table->attention(ops->context, out, lse, q, k, v, segments, prefixes);
}

void ops_attention_backward(struct ops *ops, struct tensor *d_q, struct tensor *d_k,
                            struct tensor *d_v, const struct tensor *d_out, const struct tensor *q,
                            const struct tensor *k, const struct tensor *v,
                            const struct tensor *out, const struct tensor *lse,
                            const struct tensor *segments, const struct tensor *prefixes)
{
    int64_t N = q->shape[0], H = q->shape[1], D = q->shape[2], K = k->shape[1];

    CHECK_3D(q, N, H, D);
    CHECK_3D(out, N, H, D);
    CHECK_3D(d_out, N, H, D);
    CHECK_3D(d_q, N, H, D);
    CHECK_3D(k, N, K, D);
    CHECK_3D(v, N, K, D);
    CHECK_3D(d_k, N, K, D);
    CHECK_3D(d_v, N, K, D);
    CHECK_2D(lse, N, H);
    REQUIRE(K > 0 && H % K == 0 && D > 0);
    check_segments(ops, __func__, segments, N);
    check_prefixes(ops, __func__, prefixes, segments->shape[0] - 1);
    if (N > 0)
        ops->table->attention_backward(ops->context, d_q, d_k, d_v, d_out, q, k, v, out, lse,
                                       segments, prefixes);
}

size_t ops_cache_bytes(const struct kv_cache *cache)
{
    return (size_t)(2 * cache->n_rows * cache->K * cache->D) * sizeof(float);
}

static void check_cache(const char *op, const struct kv_cache *cache)
{
    int64_t page = cache->page_rows;

    if (page < OPS_PANEL || (page & (page - 1)) || cache->n_rows < 0 || cache->n_rows % page ||
        cache->K < 1 || cache->D < 1)
        BUG("%s: a cache of %lld rows of [%lld,%lld] in pages of %lld", op,
            (long long)cache->n_rows, (long long)cache->K, (long long)cache->D, (long long)page);
    if (!cache->data && cache->n_rows > 0)
        BUG("%s: the cache has no memory", op);
}

void ops_cache_store(struct ops *ops, struct kv_cache *cache, const struct tensor *k,
                     const struct tensor *v, const struct tensor *rows)
{
    int64_t N = k->shape[0];

    check_cache(__func__, cache);
    CHECK_3D(k, N, cache->K, cache->D);
    CHECK_3D(v, N, cache->K, cache->D);
    CHECK_I32(rows, N);
    ops_check_indices(ops, __func__, rows, cache->n_rows);
    if (N > 0)
        ops->table->cache_store(ops->context, cache, k, v, rows);
}

static void check_runs(const struct ops *ops, const char *op, const struct tensor *runs,
                       const struct tensor *pages, int64_t page_rows)
{
    if (!ops->table->host_memory)
        return;
    const int32_t *run = (const int32_t *)runs->data;
    for (int64_t i = 0; i < runs->shape[0]; i += 2) {
        int64_t room = (pages->shape[0] - run[i]) * page_rows;
        if (run[i] < 0 || run[i + 1] < 0 || (run[i + 1] > 0 && run[i + 1] > room))
            BUG("%s: %d rows from entry %d of %lld pages on", op, (int)run[i + 1], (int)run[i],
                (long long)pages->shape[0]);
    }
    for (int64_t i = 0; i < runs->shape[0]; i += 4)
        if ((int64_t)run[i + 1] + run[i + 3] < 1)
            BUG("%s: row %lld has no keys", op, (long long)(i / 4));
}

void ops_attention_decode(struct ops *ops, struct tensor *out, const struct tensor *q,
                          const struct kv_cache *cache, const struct tensor *pages,
                          const struct tensor *runs)
{
    int64_t N = q->shape[0], H = q->shape[1];

    check_cache(__func__, cache);
    CHECK_3D(q, N, H, cache->D);
    CHECK_3D(out, N, H, cache->D);
    CHECK_I32(runs, 4 * N);
    CHECK_I32(pages, pages->shape[0]);
    REQUIRE(H % cache->K == 0);
    ops_check_indices(ops, __func__, pages, cache->n_rows / cache->page_rows);
    check_runs(ops, __func__, runs, pages, cache->page_rows);
    if (N > 0)
        ops->table->attention_decode(ops->context, out, q, cache, pages, runs);
}

void ops_sample(struct ops *ops, struct tensor *tokens, struct tensor *logprobs,
                const struct tensor *logits, const struct draw *draws)
{
    int64_t N = logprobs->shape[0];

    CHECK_2D(logits, logits->shape[0], logits->shape[1]);
    CHECK_1D(logprobs, N);
    CHECK_I32(tokens, N);
    if (N < 1)
        return;
    REQUIRE(draws && logits->shape[1] > 0);
    for (int64_t n = 0; ops->table->host_memory && n < N; n++) {
        const struct draw *draw = &draws[n];
        REQUIRE(draw->row >= 0 && draw->row < logits->shape[0] && draw->top_k >= 0);
        REQUIRE(draw->temperature >= 0 && draw->top_p > 0 && draw->top_p <= 1);
        REQUIRE(draw->uniform >= 0 && draw->uniform < 1);
    }
    ops->table->sample(ops->context, tokens, logprobs, logits, draws);
}
