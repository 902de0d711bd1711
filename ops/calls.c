/* The ops of ops.h: shapes and types are checked here, once for all backends, then dispatched. */
#include "ops/ops.h"

#include "common/status.h"
#include "ops/backend.h"

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            BUG("%s: does not hold: %s", __func__, #condition);                                    \
    } while (0)

/* [a,b,c]; pass 1 for the dimensions that it lacks. */
static void check(const char *op, const char *name, const struct tensor *tensor, enum dtype dtype,
                  int n_dims, int64_t a, int64_t b, int64_t c)
{
    const int64_t want[3] = {a, b, c};

    if (tensor->dtype != dtype)
        BUG("%s: %s has dtype %d, not %d", op, name, (int)tensor->dtype, (int)dtype);
    if (tensor->n_dims != n_dims)
        BUG("%s: %s has %d dimensions, not %d", op, name, tensor->n_dims, n_dims);
    for (int i = 0; i < n_dims; i++)
        if (tensor->shape[i] != want[i])
            BUG("%s: dimension %d of %s is %lld, not %lld", op, i, name,
                (long long)tensor->shape[i], (long long)want[i]);
    if (!tensor->data && tensor_count(tensor) > 0)
        BUG("%s: %s has no memory", op, name);
}

#define CHECK_1D(t, a) check(__func__, #t, t, DTYPE_F32, 1, a, 1, 1)
#define CHECK_2D(t, a, b) check(__func__, #t, t, DTYPE_F32, 2, a, b, 1)
#define CHECK_3D(t, a, b, c) check(__func__, #t, t, DTYPE_F32, 3, a, b, c)
#define CHECK_I32(t, a) check(__func__, #t, t, DTYPE_I32, 1, a, 1, 1)

/* Any shape, the same for both. */
static void check_same(const char *op, const struct tensor *a, const struct tensor *b)
{
    if (a->dtype != DTYPE_F32 || b->dtype != DTYPE_F32 || tensor_count(a) != tensor_count(b))
        BUG("%s: tensors of %lld and %lld elements, dtypes %d and %d", op,
            (long long)tensor_count(a), (long long)tensor_count(b), (int)a->dtype, (int)b->dtype);
}

static void check_indices(const struct ops *ops, const char *op, const struct tensor *indices,
                          int64_t limit)
{
    if (!ops->table->host_memory)
        return;
    const int32_t *index = (const int32_t *)indices->data;
    for (int64_t i = 0; i < indices->shape[0]; i++)
        if (index[i] < 0 || index[i] >= limit)
            BUG("%s: index %d at %lld is not below %lld", op, (int)index[i], (long long)i,
                (long long)limit);
}

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

static void check_matrix(const char *op, const struct matrix *matrix, int64_t M, int64_t C)
{
    if (matrix->M != M || matrix->C != C)
        BUG("%s: the weight is [%lld,%lld], not [%lld,%lld]", op, (long long)matrix->M,
            (long long)matrix->C, (long long)M, (long long)C);
    if (matrix->dtype != DTYPE_F32 && matrix->dtype != DTYPE_BF16)
        BUG("%s: the weight has dtype %d", op, (int)matrix->dtype);
    if (!matrix->data && M > 0 && C > 0)
        BUG("%s: the weight has no memory", op);
    if (matrix->adapter.rank && (matrix->form != MATRIX_ROWS || !matrix->adapter.a))
        BUG("%s: an adapter needs rows, and memory", op);
}

void ops_matrix_read(struct ops *ops, struct tensor *rows, const struct matrix *matrix,
                     int64_t first)
{
    CHECK_2D(rows, rows->shape[0], matrix->C);
    check_matrix(__func__, matrix, matrix->M, matrix->C);
    REQUIRE(first >= 0 && first + rows->shape[0] <= matrix->M);
    ops->table->matrix_read(ops->context, rows, matrix, first);
}

void ops_matrix_write(struct ops *ops, struct matrix *matrix, const struct tensor *rows,
                      int64_t first)
{
    int64_t end = first + rows->shape[0];

    CHECK_2D(rows, rows->shape[0], matrix->C);
    check_matrix(__func__, matrix, matrix->M, matrix->C);
    REQUIRE(matrix->form == MATRIX_PANELS);
    REQUIRE(first >= 0 && first % OPS_PANEL == 0 && end <= matrix->M);
    REQUIRE(end % OPS_PANEL == 0 || end == matrix->M);
    ops->table->matrix_write(ops->context, matrix, rows, first);
}

void ops_round_bf16(struct ops *ops, struct tensor *out, const struct tensor *in)
{
    check_same(__func__, out, in);
    ops->table->round_bf16(ops->context, out, in);
}

void ops_matmul(struct ops *ops, struct tensor *out, const struct tensor *in,
                const struct matrix *weight, const struct tensor *bias)
{
    int64_t N = in->shape[0], C = in->shape[1], M = out->shape[1];

    CHECK_2D(in, N, C);
    CHECK_2D(out, N, M);
    check_matrix(__func__, weight, M, C);
    if (bias)
        CHECK_1D(bias, M);
    if (N > 0 && M > 0)
        ops->table->matmul(ops->context, out, in, weight, bias);
}

void ops_matmul_backward_input(struct ops *ops, struct tensor *d_in, const struct tensor *d_out,
                               const struct matrix *weight)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = d_in->shape[1];

    CHECK_2D(d_out, N, M);
    CHECK_2D(d_in, N, C);
    check_matrix(__func__, weight, M, C);
    if (N > 0 && M > 0 && C > 0)
        ops->table->matmul_backward_input(ops->context, d_in, d_out, weight);
}

void ops_matmul_backward_weight(struct ops *ops, struct tensor *d_weight, struct tensor *d_bias,
                                const struct tensor *d_out, const struct tensor *in)
{
    int64_t N = d_out->shape[0], M = d_out->shape[1], C = in->shape[1];

    CHECK_2D(d_out, N, M);
    CHECK_2D(in, N, C);
    CHECK_2D(d_weight, M, C);
    if (d_bias)
        CHECK_1D(d_bias, M);
    if (N > 0 && M > 0)
        ops->table->matmul_backward_weight(ops->context, d_weight, d_bias, d_out, in);
}

void ops_rmsnorm(struct ops *ops, struct tensor *out, struct tensor *rstd, const struct tensor *in,
                 const struct tensor *weight, float eps)
{
    int64_t N = in->shape[0], C = in->shape[1];

    CHECK_2D(in, N, C);
    CHECK_2D(out, N, C);
    CHECK_1D(weight, C);
    if (rstd)
        CHECK_1D(rstd, N);
    if (N > 0 && C > 0)
        ops->table->rmsnorm(ops->context, out, rstd, in, weight, eps);
}

void ops_rmsnorm_backward(struct ops *ops, struct tensor *d_in, struct tensor *d_weight,
                          const struct tensor *d_out, const struct tensor *in,
                          const struct tensor *weight, const struct tensor *rstd)
{
    int64_t N = in->shape[0], C = in->shape[1];

    CHECK_2D(in, N, C);
    CHECK_2D(d_in, N, C);
    CHECK_2D(d_out, N, C);
    CHECK_1D(d_weight, C);
    CHECK_1D(weight, C);
    CHECK_1D(rstd, N);
    REQUIRE(d_in->data != d_out->data || N == 0);
    if (N > 0 && C > 0)
        ops->table->rmsnorm_backward(ops->context, d_in, d_weight, d_out, in, weight, rstd);
}

void ops_rope(struct ops *ops, struct tensor *x, const struct tensor *table,
              const struct tensor *positions, int inverse)
{
    int64_t N = x->shape[0], H = x->shape[1], D = x->shape[2];

    CHECK_3D(x, N, H, D);
    REQUIRE(D % 2 == 0);
    CHECK_3D(table, table->shape[0], 2, D / 2);
    CHECK_I32(positions, N);
    check_indices(ops, __func__, positions, table->shape[0]);
    if (N > 0)
        ops->table->rope(ops->context, x, table, positions, inverse);
}

void ops_swiglu(struct ops *ops, struct tensor *out, const struct tensor *gate,
                const struct tensor *up)
{
    CHECK_2D(gate, gate->shape[0], gate->shape[1]);
    CHECK_2D(out, gate->shape[0], gate->shape[1]);
    CHECK_2D(up, gate->shape[0], gate->shape[1]);
    ops->table->swiglu(ops->context, out, gate, up);
}

void ops_swiglu_backward(struct ops *ops, struct tensor *d_gate, struct tensor *d_up,
                         const struct tensor *d_out, const struct tensor *gate,
                         const struct tensor *up)
{
    int64_t N = gate->shape[0], F = gate->shape[1];

    CHECK_2D(gate, N, F);
    CHECK_2D(up, N, F);
    CHECK_2D(d_out, N, F);
    CHECK_2D(d_gate, N, F);
    CHECK_2D(d_up, N, F);
    ops->table->swiglu_backward(ops->context, d_gate, d_up, d_out, gate, up);
}

void ops_add(struct ops *ops, struct tensor *out, const struct tensor *in)
{
    check_same(__func__, out, in);
    ops->table->add(ops->context, out, in);
}

void ops_scale(struct ops *ops, struct tensor *x, float factor)
{
    check_same(__func__, x, x);
    ops->table->scale(ops->context, x, factor);
}

void ops_embedding(struct ops *ops, struct tensor *out, const struct matrix *table,
                   const struct tensor *tokens)
{
    CHECK_2D(out, out->shape[0], out->shape[1]);
    check_matrix(__func__, table, table->M, out->shape[1]);
    CHECK_I32(tokens, out->shape[0]);
    check_indices(ops, __func__, tokens, table->M);
    ops->table->embedding(ops->context, out, table, tokens);
}

void ops_embedding_backward(struct ops *ops, struct tensor *d_table, const struct tensor *d_out,
                            const struct tensor *tokens)
{
    CHECK_2D(d_out, d_out->shape[0], d_out->shape[1]);
    CHECK_2D(d_table, d_table->shape[0], d_out->shape[1]);
    CHECK_I32(tokens, d_out->shape[0]);
    check_indices(ops, __func__, tokens, d_table->shape[0]);
    ops->table->embedding_backward(ops->context, d_table, d_out, tokens);
}

void ops_gather_rows(struct ops *ops, struct tensor *out, const struct tensor *in,
                     const struct tensor *rows)
{
    CHECK_2D(out, out->shape[0], out->shape[1]);
    CHECK_2D(in, in->shape[0], out->shape[1]);
    CHECK_I32(rows, out->shape[0]);
    check_indices(ops, __func__, rows, in->shape[0]);
    ops->table->gather_rows(ops->context, out, in, rows);
}

void ops_scatter_add_rows(struct ops *ops, struct tensor *d_in, const struct tensor *d_out,
                          const struct tensor *rows)
{
    CHECK_2D(d_out, d_out->shape[0], d_out->shape[1]);
    CHECK_2D(d_in, d_in->shape[0], d_out->shape[1]);
    CHECK_I32(rows, d_out->shape[0]);
    check_indices(ops, __func__, rows, d_in->shape[0]);
    ops->table->scatter_add_rows(ops->context, d_in, d_out, rows);
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
    if (cache->n_rows < 0 || cache->n_rows % OPS_PANEL || cache->K < 1 || cache->D < 1)
        BUG("%s: a cache of %lld rows of [%lld,%lld]", op, (long long)cache->n_rows,
            (long long)cache->K, (long long)cache->D);
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
    check_indices(ops, __func__, rows, cache->n_rows);
    if (N > 0)
        ops->table->cache_store(ops->context, cache, k, v, rows);
}

static void check_runs(const struct ops *ops, const char *op, const struct tensor *runs,
                       const struct kv_cache *cache)
{
    if (!ops->table->host_memory)
        return;
    const int32_t *run = (const int32_t *)runs->data;
    for (int64_t i = 0; i < runs->shape[0]; i += 2)
        if (run[i] < 0 || run[i + 1] < 0 || (run[i + 1] > 0 && run[i] % OPS_PANEL) ||
            (int64_t)run[i] + run[i + 1] > cache->n_rows)
            BUG("%s: %d rows from row %d of %lld on", op, (int)run[i + 1], (int)run[i],
                (long long)cache->n_rows);
    for (int64_t i = 0; i < runs->shape[0]; i += 4)
        if ((int64_t)run[i + 1] + run[i + 3] < 1)
            BUG("%s: row %lld has no keys", op, (long long)(i / 4));
}

void ops_attention_decode(struct ops *ops, struct tensor *out, const struct tensor *q,
                          const struct kv_cache *cache, const struct tensor *runs)
{
    int64_t N = q->shape[0], H = q->shape[1];

    check_cache(__func__, cache);
    CHECK_3D(q, N, H, cache->D);
    CHECK_3D(out, N, H, cache->D);
    CHECK_I32(runs, 4 * N);
    REQUIRE(H % cache->K == 0);
    check_runs(ops, __func__, runs, cache);
    if (N > 0)
        ops->table->attention_decode(ops->context, out, q, cache, runs);
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

void ops_token_logprob(struct ops *ops, struct tensor *logprob, struct tensor *entropy,
                       const struct tensor *logits, const struct tensor *targets,
                       float temperature)
{
    int64_t N = logits->shape[0], V = logits->shape[1];

    CHECK_2D(logits, N, V);
    CHECK_1D(logprob, N);
    CHECK_I32(targets, N);
    if (entropy)
        CHECK_1D(entropy, N);
    REQUIRE(temperature > 0);
    check_indices(ops, __func__, targets, V);
    ops->table->token_logprob(ops->context, logprob, entropy, logits, targets, temperature);
}

void ops_token_logprob_backward(struct ops *ops, struct tensor *logits,
                                const struct tensor *d_logprob, const struct tensor *targets,
                                float temperature)
{
    int64_t N = logits->shape[0], V = logits->shape[1];

    CHECK_2D(logits, N, V);
    CHECK_1D(d_logprob, N);
    CHECK_I32(targets, N);
    REQUIRE(temperature > 0);
    check_indices(ops, __func__, targets, V);
    ops->table->token_logprob_backward(ops->context, logits, d_logprob, targets, temperature);
}

double ops_sum_squares(struct ops *ops, const struct tensor *x)
{
    check_same(__func__, x, x);
    return ops->table->sum_squares(ops->context, x);
}

int ops_all_finite(struct ops *ops, const struct tensor *x)
{
    check_same(__func__, x, x);
    return ops->table->all_finite(ops->context, x);
}

void ops_adamw(struct ops *ops, struct tensor *weight, struct tensor *m, struct tensor *v,
               const struct tensor *gradient, const struct adamw_step *adamw)
{
    check_same(__func__, weight, m);
    check_same(__func__, weight, v);
    check_same(__func__, weight, gradient);
    REQUIRE(adamw->step >= 1);
    ops->table->adamw(ops->context, weight, m, v, gradient, adamw);
}
