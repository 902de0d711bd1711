/*
 * Every device of this build against reference/, one table row per op and shape.
 *
 * A row's function makes its operands in a fixed order from a seeded stream, so that both devices
 * get the same numbers, and calls the op. Outputs that the op writes are NaN before; those that it
 * adds to start as random numbers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "ops/ops.h"

#define MOST_OPERANDS 24

struct trial {
    struct ops *ops;
    struct random_stream stream;
    const int64_t *s;                   /* the row's numbers */
    int n_operands, n_outputs;
    void *memory[MOST_OPERANDS];
    struct tensor outputs[MOST_OPERANDS];
};

static void *place(struct trial *t, const void *host, size_t bytes)
{
    void *memory = NULL;

    assert_true(t->n_operands < MOST_OPERANDS);
    assert_int_equal(ops_alloc(t->ops, bytes, &memory), 0);
    if (host)
        ops_upload(t->ops, memory, host, bytes);
    assert_int_equal(ops_sync(t->ops), 0);
    t->memory[t->n_operands++] = memory;
    return memory;
}

/* Normal numbers of this size, around `middle`. */
static struct tensor input_around(struct trial *t, double middle, double size, int64_t a, int64_t b,
                                  int64_t c)
{
    int64_t n = a * (b ? b : 1) * (c ? c : 1);
    float *host = calloc((size_t)n + 1, sizeof(*host));

    for (int64_t i = 0; i < n; i++)
        host[i] = (float)(middle + size * random_normal(&t->stream));
    void *memory = place(t, host, (size_t)n * sizeof(*host));
    free(host);
    return tensor_view(memory, DTYPE_F32, c ? 3 : b ? 2 : 1, (const int64_t[]){a, b, c, 1});
}

static struct tensor input(struct trial *t, int64_t a, int64_t b, int64_t c)
{
    return input_around(t, 0, 1, a, b, c);
}

/* An operand that the op adds to. */
static struct tensor sum(struct trial *t, int64_t a, int64_t b, int64_t c)
{
    struct tensor x = input(t, a, b, c);
    t->outputs[t->n_outputs++] = x;
    return x;
}

/* An operand that the op writes. */
static struct tensor output(struct trial *t, int64_t a, int64_t b, int64_t c)
{
    struct tensor x = input_around(t, NAN, 0, a, b, c);
    t->outputs[t->n_outputs++] = x;
    return x;
}

static struct tensor indices(struct trial *t, int64_t n, int64_t limit)
{
    int32_t *host = calloc((size_t)n + 1, sizeof(*host));

    for (int64_t i = 0; i < n; i++)
        host[i] = (int32_t)random_below(&t->stream, (uint64_t)limit);
    struct tensor x = tensor_i32(place(t, host, (size_t)n * sizeof(*host)), n);
    free(host);
    return x;
}

/* Distinct rows: n of `limit`, out of order. */
static struct tensor distinct(struct trial *t, int64_t n, int64_t limit)
{
    int32_t host[1024];

    assert_true(n <= limit && n <= 1024);
    for (int64_t i = 0; i < n; i++)
        host[i] = (int32_t)(limit - 1 - i * (limit / n));
    return tensor_i32(place(t, host, (size_t)n * sizeof(*host)), n);
}

/* Segments of 1, 2, 5, 10, 17 ... rows that fill N; an empty one among them. */
static struct tensor segments(struct trial *t, int64_t N)
{
    int32_t host[64] = {0};
    int64_t n = 1, length = 1;

    for (int64_t at = 0; at < N; n++, length = (n - 1) * (n - 1) + 1) {
        at = at + length < N && n < 60 ? at + length : N;
        host[n] = (int32_t)at;
        if (n == 2) {
            n++;
            host[n] = host[n - 1];
        }
    }
    return tensor_i32(place(t, host, (size_t)n * sizeof(*host)), n);
}

/* ---- One function per op. */
/* The forms in which a product may read a weight. */
enum { FORM_ROWS, FORM_PANELS, FORM_PANELS_BF16, FORM_ROUNDED, FORM_ADAPTER, FORM_ADAPTER_ROUNDED };

static struct matrix weight_of_form(struct trial *t, int64_t M, int64_t C, int64_t form)
{
    struct tensor rows = input(t, M, C, 0);
    struct matrix matrix = matrix_rows(rows.data, M, C);

    if (form == FORM_PANELS_BF16 || form == FORM_ROUNDED || form == FORM_ADAPTER_ROUNDED)
        matrix.dtype = DTYPE_BF16;
    if (form == FORM_ADAPTER || form == FORM_ADAPTER_ROUNDED) {
        struct tensor a = input(t, 3, C, 0), b = input(t, M, 3, 0);
        matrix.adapter = (struct adapter){3, 0.25f, tensor_f32(&a), tensor_f32(&b)};
    }
    if (form == FORM_PANELS || form == FORM_PANELS_BF16) {
        /* Two writes: whole panels, then what is left. */
        int64_t first = M / 2 / OPS_PANEL * OPS_PANEL;
        struct tensor head = tensor_2d(rows.data, first, C);
        struct tensor tail = tensor_2d(tensor_f32(&rows) + first * C, M - first, C);
        matrix.form = MATRIX_PANELS;
        matrix.data = place(t, NULL, ops_matrix_bytes(&matrix));
        ops_matrix_write(t->ops, &matrix, &head, 0);
        ops_matrix_write(t->ops, &matrix, &tail, first);
    }
    return matrix;
}

static void run_matmul(struct trial *t)
{
    int64_t N = t->s[0], C = t->s[1], M = t->s[2];
    struct matrix weight = weight_of_form(t, M, C, t->s[3]);
    struct tensor in = input(t, N, C, 0), bias = input(t, M, 0, 0);
    struct tensor with = output(t, N, M, 0), without = output(t, N, M, 0);
    struct tensor rows = output(t, M, C, 0), last = output(t, 1, C, 0);

    ops_matmul(t->ops, &with, &in, &weight, &bias);
    ops_matmul(t->ops, &without, &in, &weight, NULL);
    ops_matrix_read(t->ops, &rows, &weight, 0);
    ops_matrix_read(t->ops, &last, &weight, M - 1);
}

static void run_matmul_backward(struct trial *t)
{
    int64_t N = t->s[0], C = t->s[1], M = t->s[2];
    struct matrix weight = weight_of_form(t, M, C, t->s[3]);
    struct tensor in = input(t, N, C, 0), d_out = input(t, N, M, 0);
    struct tensor d_in = sum(t, N, C, 0), d_weight = sum(t, M, C, 0), d_bias = sum(t, M, 0, 0);

    ops_matmul_backward_input(t->ops, &d_in, &d_out, &weight);
    struct ops_product_gradient gradient = {&d_out, &weight, &d_weight, &d_bias};
    ops_matmul_backward_weights(t->ops, &gradient, 1, &in);
}

/* Three products of one input; the second with a residual. */
static void run_matmul_several(struct trial *t)
{
    int64_t N = t->s[0], C = t->s[1], M[3] = {t->s[2], 17, 40};
    struct tensor in = input(t, N, C, 0), d_in = output(t, N, C, 0);
    struct tensor residual = input(t, N, M[1], 0), out[3], bias[3];
    struct tensor d_out[2], d_weight[2], d_bias[2];
    struct matrix weight[3];
    struct ops_product products[3];
    struct ops_product_gradient gradients[3];

    for (int i = 0; i < 3; i++) {
        weight[i] = weight_of_form(t, M[i], C, FORM_ROWS);
        bias[i] = input(t, M[i], 0, 0);
        out[i] = output(t, N, M[i], 0);
        products[i] = (struct ops_product){&out[i], &weight[i], i ? NULL : &bias[i],
                                           i == 1 ? &residual : NULL};
    }
    ops_matmul_several(t->ops, products, 3, &in);
    for (int i = 0; i < 2; i++) {
        d_out[i] = input(t, N, M[i], 0);
        d_weight[i] = sum(t, M[i], C, 0);
        d_bias[i] = sum(t, M[i], 0, 0);
        gradients[i] = (struct ops_product_gradient){&d_out[i], &weight[i], &d_weight[i],
                                                     i ? NULL : &d_bias[i]};
    }
    ops_matmul_backward_inputs(t->ops, &d_in, gradients, 2);
    ops_matmul_backward_weights(t->ops, gradients, 2, &in);
}

static void run_round_bf16(struct trial *t)
{
    struct tensor in = input(t, t->s[0], 0, 0), out = output(t, t->s[0], 0, 0);
    struct tensor same = sum(t, t->s[0], 0, 0);

    ops_round_bf16(t->ops, &out, &in);
    ops_round_bf16(t->ops, &same, &same);
}

static void run_rmsnorm(struct trial *t)
{
    int64_t N = t->s[0], C = t->s[1];
    struct tensor in = input(t, N, C, 0), weight = input(t, C, 0, 0), d_out = input(t, N, C, 0);
    struct tensor out = output(t, N, C, 0), rstd = output(t, N, 0, 0), alone = output(t, N, C, 0);
    struct tensor d_in = sum(t, N, C, 0), d_weight = sum(t, C, 0, 0);

    ops_rmsnorm(t->ops, &out, &rstd, &in, &weight, 1e-6f);
    ops_rmsnorm(t->ops, &alone, NULL, &in, &weight, 1e-6f);
    ops_rmsnorm_backward(t->ops, &d_in, &d_weight, &d_out, &in, &weight, &rstd);
}

static void run_rope(struct trial *t)
{
    int64_t N = t->s[0], H = t->s[1], D = t->s[2], T = 50;
    struct tensor table = input(t, T, 2, D / 2), positions = indices(t, N, T);
    struct tensor x = sum(t, N, H, D), y = sum(t, N, H, D);

    ops_rope(t->ops, &x, &table, &positions, 0);
    ops_rope(t->ops, &y, &table, &positions, 1);
}

static void run_swiglu(struct trial *t)
{
    int64_t N = t->s[0], F = t->s[1];
    struct tensor gate = input_around(t, 0, 10, N, F, 0), up = input(t, N, F, 0);
    struct tensor d_out = input(t, N, F, 0), out = output(t, N, F, 0);
    struct tensor d_gate = output(t, N, F, 0), d_up = output(t, N, F, 0);
    struct tensor gate2 = sum(t, N, F, 0), up2 = sum(t, N, F, 0);

    ops_swiglu(t->ops, &out, &gate, &up);
    ops_swiglu_backward(t->ops, &d_gate, &d_up, &d_out, &gate, &up);
    ops_swiglu_backward(t->ops, &gate2, &up2, &d_out, &gate2, &up2);
}

static void run_add_and_scale(struct trial *t)
{
    struct tensor out = sum(t, t->s[0], 0, 0), in = input(t, t->s[0], 0, 0);

    ops_add(t->ops, &out, &in);
    ops_scale(t->ops, &out, 0.37f);
}

static void run_embedding(struct trial *t)
{
    int64_t N = t->s[0], C = t->s[1], V = t->s[2];
    struct matrix table = weight_of_form(t, V, C, t->s[3]);
    struct tensor tokens = indices(t, N, V), d_out = input(t, N, C, 0);
    struct tensor out = output(t, N, C, 0), d_table = sum(t, V, C, 0);

    ops_embedding(t->ops, &out, &table, &tokens);
    ops_embedding_backward(t->ops, &d_table, &d_out, &tokens);
}

static void run_rows(struct trial *t)
{
    int64_t R = t->s[0], C = t->s[1], N = t->s[2];
    struct tensor in = input(t, N, C, 0), rows = distinct(t, R, N), d_out = input(t, R, C, 0);
    struct tensor out = output(t, R, C, 0), d_in = sum(t, N, C, 0);

    ops_gather_rows(t->ops, &out, &in, &rows);
    ops_scatter_add_rows(t->ops, &d_in, &d_out, &rows);
}

/* Segment 0 before every second one that follows, segment 3 before the last. */
static struct tensor prefixes_of(struct trial *t, int64_t n)
{
    int32_t host[64];

    for (int64_t s = 0; s < n; s++)
        host[s] = s > 3 && s == n - 1 ? 3 : s % 2 == 0 && s > 0 ? 0 : -1;
    return tensor_i32(place(t, host, (size_t)n * sizeof(*host)), n);
}

/* Two long segments behind one of 37 rows that both see, and one alone between them. */
static void run_attention_group(struct trial *t)
{
    int64_t H = t->s[1], K = t->s[2], D = t->s[3], N = t->s[0];
    int32_t at[] = {0, 37, 40, 40, 40 + (int32_t)(N - 40) / 2, (int32_t)N};
    int32_t before[] = {-1, -1, 0, 0, 0};
    struct tensor q = input(t, N, H, D), k = input(t, N, K, D), v = input(t, N, K, D);
    struct tensor d_out = input(t, N, H, D), out = output(t, N, H, D), lse = output(t, N, H, 0);
    struct tensor bounds = tensor_i32(place(t, at, sizeof(at)), 6);
    struct tensor prefixes = tensor_i32(place(t, before, sizeof(before)), 5);
    struct tensor d_q = output(t, N, H, D), d_k = output(t, N, K, D), d_v = output(t, N, K, D);

    ops_attention(t->ops, &out, &lse, &q, &k, &v, &bounds, &prefixes);
    ops_attention_backward(t->ops, &d_q, &d_k, &d_v, &d_out, &q, &k, &v, &out, &lse, &bounds,
                           &prefixes);
}

static void run_attention(struct trial *t)
{
    int64_t N = t->s[0], H = t->s[1], K = t->s[2], D = t->s[3];
    struct tensor q = input(t, N, H, D), k = input(t, N, K, D), v = input(t, N, K, D);
    struct tensor d_out = input(t, N, H, D), bounds = segments(t, N);
    struct tensor out = output(t, N, H, D), lse = output(t, N, H, 0), alone = output(t, N, H, D);
    struct tensor d_q = output(t, N, H, D), d_k = output(t, N, K, D), d_v = output(t, N, K, D);
    struct tensor prefixes = prefixes_of(t, bounds.shape[0] - 1);
    struct tensor *before = t->s[4] ? &prefixes : NULL;

    ops_attention(t->ops, &out, &lse, &q, &k, &v, &bounds, before);
    ops_attention(t->ops, &alone, NULL, &q, &k, &v, &bounds, before);
    ops_attention_backward(t->ops, &d_q, &d_k, &d_v, &d_out, &q, &k, &v, &out, &lse, &bounds,
                           before);
}

/* A cache of n_rows rows of random keys and values, stored in two parts and in no order. */
static struct kv_cache filled_cache(struct trial *t, int64_t n_rows, int64_t page_rows, int64_t K,
                                    int64_t D)
{
    struct kv_cache cache = {.n_rows = n_rows, .K = K, .D = D, .page_rows = page_rows};
    struct tensor all = distinct(t, n_rows, n_rows);
    int64_t half = n_rows / 3;

    cache.data = place(t, NULL, ops_cache_bytes(&cache));
    for (int part = 0; part < 2; part++) {
        int64_t n = part ? n_rows - half : half;
        struct tensor k = input(t, n, K, D), v = input(t, n, K, D);
        struct tensor rows = tensor_i32((int32_t *)all.data + (part ? half : 0), n);
        ops_cache_store(t->ops, &cache, &k, &v, &rows);
    }
    return cache;
}

/* Sequences with runs of every kind: none before, none behind, shared with the one before, one row
 * longer than that of the one before. */
static void run_attention_decode(struct trial *t)
{
    int64_t N = t->s[0], H = t->s[1], K = t->s[2], D = t->s[3], page_rows = N % 2 ? 16 : 32;
    int64_t n_pages = 4 * 96 / page_rows, T = 96 / page_rows;   /* pages of a run */
    struct kv_cache cache = filled_cache(t, 4 * 96, page_rows, K, D);
    struct tensor q = input(t, N, H, D), out = output(t, N, H, D);
    struct tensor pages = distinct(t, n_pages, n_pages);
    int32_t runs[4 * 64];

    assert_true(N <= 64);
    for (int64_t n = 0; n < N; n++) {
        int is_prompt = n % 21 > 12;
        int32_t own = n % 7 == 3 || is_prompt ? 0 : 1 + 3 * (int32_t)n % 40;
        int32_t shared = is_prompt ? (int32_t)n % 21 * 4 : n % 5 == 4 ? 0 : 20 + (int32_t)n / 5;
        const int32_t run[4] = {(int32_t)(n / 5 % 2 * T), shared || own ? shared : 80,
                                (int32_t)((2 + n % 2) * T), own};
        memcpy(runs + 4 * n, run, sizeof(run));
    }
    struct tensor where = tensor_i32(place(t, runs, (size_t)(4 * N) * sizeof(*runs)), 4 * N);
    ops_attention_decode(t->ops, &out, &q, &cache, &pages, &where);
}

/* Tokens as numbers: the uniform ones are far from the edges of these distributions. */
static void run_sample(struct trial *t)
{
    int64_t N = t->s[0], V = t->s[1];
    static const float temperatures[] = {1, 0.7f, 0, 1.6f}, top_ps[] = {1, 0.9f, 1, 0.4f, 0.99f};
    static const int32_t top_ks[] = {0, 0, 5, 1, 300, 0, 1 << 30};
    struct tensor logits = input(t, N, V, 0), logprobs = output(t, 4 * N, 0, 0);
    struct draw *draws = calloc((size_t)(4 * N), sizeof(*draws));
    int32_t *tokens = calloc((size_t)(4 * N), sizeof(*tokens));
    float *numbers = calloc((size_t)(4 * N), sizeof(*numbers));
    struct tensor drawn = tensor_i32(place(t, tokens, (size_t)(4 * N) * sizeof(*tokens)), 4 * N);

    for (int64_t i = 0; i < 4 * N; i++)
        draws[i] = (struct draw){.uniform = random_real(&t->stream),
                                 .temperature = temperatures[i % 4],
                                 .top_p = top_ps[i % 5],
                                 .top_k = top_ks[i % 7],
                                 .row = (int32_t)(i / 3 % N)};
    const struct draw *where = place(t, draws, (size_t)(4 * N) * sizeof(*draws));
    ops_sample(t->ops, &drawn, &logprobs, &logits, where);
    ops_download(t->ops, tokens, drawn.data, (size_t)(4 * N) * sizeof(*tokens));
    assert_int_equal(ops_sync(t->ops), 0);
    for (int64_t i = 0; i < 4 * N; i++)
        numbers[i] = (float)tokens[i];
    struct tensor as_numbers = output(t, 4 * N, 0, 0);
    ops_upload(t->ops, as_numbers.data, numbers, (size_t)(4 * N) * sizeof(*numbers));
    free(draws);
    free(tokens);
    free(numbers);
}

static void run_token_logprob(struct trial *t)
{
    int64_t N = t->s[0], V = t->s[1];
    float temperature = 0.7f;
    struct tensor logits = sum(t, N, V, 0), targets = indices(t, N, V);
    struct tensor logprob = output(t, N, 0, 0), entropy = output(t, N, 0, 0);
    struct tensor alone = output(t, N, 0, 0), d_logprob = input(t, N, 0, 0);

    ops_token_logprob(t->ops, &logprob, &entropy, &logits, &targets, temperature);
    ops_token_logprob(t->ops, &alone, NULL, &logits, &targets, temperature);
    ops_token_logprob_backward(t->ops, &logits, &d_logprob, &targets, temperature);
}

static void run_adamw(struct trial *t)
{
    int64_t n = t->s[0];
    struct tensor w = sum(t, n, 0, 0), m = sum(t, n, 0, 0), g = input(t, n, 0, 0);
    struct tensor v = input_around(t, 3, 0.5, n, 0, 0);
    struct adamw_step adamw = {1e-2, 0.9, 0.999, 1e-8, 0.1, 0.5, t->s[1]};

    t->outputs[t->n_outputs++] = v;
    ops_adamw(t->ops, &w, &m, &v, &g, &adamw);
}

/* The results that are returned travel as one written tensor. */
static void run_sums(struct trial *t)
{
    struct tensor x = input(t, t->s[0], 0, 0), out = output(t, 1, 0, 0);
    float squares = (float)ops_sum_squares(t->ops, &x);

    assert_true(ops_all_finite(t->ops, &x));
    ops_upload(t->ops, out.data, &squares, sizeof(squares));
}

static const struct row {
    const char *name;
    void (*run)(struct trial *t);
    int64_t s[5];
    double tolerance;   /* of the largest absolute value of an output */
} rows[] = {
    {"matmul 1,1,1", run_matmul, {1, 1, 1}, 1e-6},
    {"matmul 7,33,50", run_matmul, {7, 33, 50}, 2e-6},
    {"matmul 64,96,256", run_matmul, {64, 96, 256}, 2e-6},
    {"matmul 131,257,300", run_matmul, {131, 257, 300}, 4e-6},
    {"matmul of panels 1,1,1", run_matmul, {1, 1, 1, FORM_PANELS}, 1e-6},
    {"matmul of panels 131,257,300", run_matmul, {131, 257, 300, FORM_PANELS}, 4e-6},
    {"matmul of bf16 panels 1,1,1", run_matmul, {1, 1, 1, FORM_PANELS_BF16}, 1e-6},
    {"matmul of bf16 panels 9,33,50", run_matmul, {9, 33, 50, FORM_PANELS_BF16}, 2e-6},
    {"matmul of bf16 panels 131,257,300", run_matmul, {131, 257, 300, FORM_PANELS_BF16}, 4e-6},
    {"matmul of rounded rows 131,257,300", run_matmul, {131, 257, 300, FORM_ROUNDED}, 4e-6},
    {"matmul of a few panels at a time", run_matmul, {5, 9000, 300}, 1e-5},
    {"matmul with adapter 31,57,100", run_matmul, {31, 57, 100, FORM_ADAPTER}, 4e-6},
    {"matmul with adapter, rounded", run_matmul, {31, 57, 100, FORM_ADAPTER_ROUNDED}, 4e-3},
    {"round_bf16 1", run_round_bf16, {1}, 0},
    {"round_bf16 50001", run_round_bf16, {50001}, 0},
    {"matmul_several 3,20,33", run_matmul_several, {3, 20, 33}, 4e-6},
    {"matmul_several 200,96,256", run_matmul_several, {200, 96, 256}, 1e-5},
    {"matmul_backward 1,1,1", run_matmul_backward, {1, 1, 1}, 1e-6},
    {"matmul_backward 5,17,19", run_matmul_backward, {5, 17, 19}, 2e-6},
    {"matmul_backward 100,96,64", run_matmul_backward, {100, 96, 64}, 4e-6},
    {"matmul_backward 1030,40,33", run_matmul_backward, {1030, 40, 33}, 1e-5},
    {"matmul_backward 33,40,1030", run_matmul_backward, {33, 40, 1030}, 1e-5},
    {"matmul_backward, rounded", run_matmul_backward, {33, 40, 1030, FORM_ROUNDED}, 1e-5},
    {"matmul_backward, bf16 panels", run_matmul_backward, {33, 40, 50, FORM_PANELS_BF16}, 1e-5},
    {"matmul_backward, adapter", run_matmul_backward, {33, 40, 1030, FORM_ADAPTER}, 1e-5},
    {"rmsnorm 3,1", run_rmsnorm, {3, 1}, 4e-6},
    {"rmsnorm 200,16", run_rmsnorm, {200, 16}, 4e-6},
    {"rmsnorm 67,100", run_rmsnorm, {67, 100}, 4e-6},
    {"rmsnorm 300,256", run_rmsnorm, {300, 256}, 4e-6},
    {"rope 5,3,2", run_rope, {5, 3, 2}, 1e-6},
    {"rope 5,3,20", run_rope, {5, 3, 20}, 1e-6},
    {"rope 200,8,32", run_rope, {200, 8, 32}, 1e-6},
    {"swiglu 1,1", run_swiglu, {1, 1}, 2e-6},
    {"swiglu 7,33", run_swiglu, {7, 33}, 2e-6},
    {"swiglu 100,768", run_swiglu, {100, 768}, 2e-6},
    {"add_and_scale 1", run_add_and_scale, {1}, 1e-6},
    {"add_and_scale 200003", run_add_and_scale, {200003}, 1e-6},
    {"embedding 9,7,5", run_embedding, {9, 7, 5}, 2e-6},
    {"embedding 2000,256,300", run_embedding, {2000, 256, 300}, 4e-6},
    {"embedding of panels", run_embedding, {20, 17, 50, FORM_PANELS}, 2e-6},
    {"embedding of bf16 panels", run_embedding, {20, 17, 50, FORM_PANELS_BF16}, 2e-6},
    {"embedding, rounded", run_embedding, {20, 17, 50, FORM_ROUNDED}, 2e-6},
    {"rows 3,5,11", run_rows, {3, 5, 11}, 1e-6},
    {"rows 300,96,1000", run_rows, {300, 96, 1000}, 1e-6},
    {"attention 1,1,1,1", run_attention, {1, 1, 1, 1}, 4e-6},
    {"attention 30,4,2,16", run_attention, {30, 4, 2, 16}, 1e-5},
    {"attention 61,3,3,20", run_attention, {61, 3, 3, 20}, 1e-5},
    {"attention 150,8,4,32", run_attention, {150, 8, 4, 32}, 1e-5},
    {"attention 300,6,1,40", run_attention, {300, 6, 1, 40}, 1e-5},
    {"attention with prefixes 30,4,2,16", run_attention, {30, 4, 2, 16, 1}, 1e-5},
    {"attention with prefixes 61,3,3,20", run_attention, {61, 3, 3, 20, 1}, 1e-5},
    {"attention with prefixes 300,8,4,32", run_attention, {300, 8, 4, 32, 1}, 1e-5},
    {"attention of a group 41,2,1,8", run_attention_group, {41, 2, 1, 8}, 1e-5},
    {"attention of a group 400,6,2,40", run_attention_group, {400, 6, 2, 40}, 1e-5},
    {"attention 70,2,1,160", run_attention, {70, 2, 1, 160}, 1e-5},
    {"attention 20,3,3,133", run_attention, {20, 3, 3, 133}, 1e-5},
    {"attention with prefixes 30,2,1,192", run_attention, {30, 2, 1, 192, 1}, 1e-5},
    {"attention of a group 66,2,1,256", run_attention_group, {66, 2, 1, 256}, 1e-5},
    {"attention_decode 1,1,1,1", run_attention_decode, {1, 1, 1, 1}, 4e-6},
    {"attention_decode 20,3,3,20", run_attention_decode, {20, 3, 3, 20}, 4e-6},
    {"attention_decode 64,8,4,32", run_attention_decode, {64, 8, 4, 32}, 4e-6},
    {"attention_decode 9,20,1,64", run_attention_decode, {9, 20, 1, 64}, 4e-6},
    {"attention_decode 5,6,2,160", run_attention_decode, {5, 6, 2, 160}, 4e-6},
    {"attention_decode 15,1,1,253", run_attention_decode, {15, 1, 1, 253}, 4e-6},
    {"attention_decode 2,66,1,256", run_attention_decode, {2, 66, 1, 256}, 4e-6},
    {"sample 1,1", run_sample, {1, 1}, 4e-6},
    {"sample 20,300", run_sample, {20, 300}, 4e-6},
    {"sample 2,20011", run_sample, {2, 20011}, 4e-6},
    {"token_logprob 2,1", run_token_logprob, {2, 1}, 4e-6},
    {"token_logprob 7,37", run_token_logprob, {7, 37}, 4e-6},
    {"token_logprob 100,1024", run_token_logprob, {100, 1024}, 4e-6},
    {"token_logprob 3,20011", run_token_logprob, {3, 20011}, 4e-6},
    {"adamw 1, step 1", run_adamw, {1, 1}, 2e-6},
    {"adamw 50001, step 7", run_adamw, {50001, 7}, 2e-6},
    {"sums 1", run_sums, {1}, 1e-6},
    {"sums 100003", run_sums, {100003}, 1e-6},
};

static const struct {
    const char *name;
    int n_threads;
} devices[] = {{"cpu:baseline", 1}, {"cpu:avx2", 2}, {"cpu:avx512", 2}, {"cpu:avx512bf16", 2},
             {"cpu", 3},          {"cuda:0", 0},   {"cuda-emulated:0", 0}};

/* Runs the row on a device; the outputs, one behind the other, in host memory to be freed. */
static float *run_on(const struct row *row, const char *device, int n_threads, struct trial *t)
{
    int64_t n = 0;

    memset(t, 0, sizeof(*t));
    t->stream.seed = 42;
    t->s = row->s;
    if (ops_create(&t->ops, device, n_threads) < 0)
        return NULL;
    row->run(t);
    for (int i = 0; i < t->n_outputs; i++)
        n += tensor_count(&t->outputs[i]);
    float *all = malloc((size_t)n * sizeof(*all));
    for (int64_t i = 0, at = 0; i < t->n_outputs; i++) {
        int64_t count = tensor_count(&t->outputs[i]);
        ops_download(t->ops, all + at, t->outputs[i].data, (size_t)count * sizeof(*all));
        at += count;
    }
    assert_int_equal(ops_sync(t->ops), 0);
    for (int i = 0; i < t->n_operands; i++)
        ops_free(t->ops, t->memory[i]);
    ops_destroy(&t->ops);
    return all;
}

static void compare(const struct row *row, const char *device, const struct trial *t,
                    const float *got, const float *want)
{
    for (int i = 0; i < t->n_outputs; i++) {
        int64_t n = tensor_count(&t->outputs[i]);
        double size = 0.1, worst = 0;   /* below it errors count absolutely */
        for (int64_t j = 0; j < n; j++) {
            double error = fabs((double)got[j] - want[j]);
            size = fabs((double)want[j]) > size ? fabs((double)want[j]) : size;
            worst = error > worst || isnan(error) ? error : worst;
        }
        if (!(worst <= row->tolerance * size))
            fail_msg("%s on %s: output %d is off by %.3g of %.3g", row->name, device, i, worst,
                     size);
        got += n;
        want += n;
    }
}

static void device_agrees_with_reference(void **state)
{
    const char *device = devices[*(const int *)*state].name;
    struct trial trial;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        float *got = run_on(&rows[i], device, devices[*(const int *)*state].n_threads, &trial);
        if (!got) {
            print_message("SKIP %s: not in this build or on this machine\n", device);
            skip();
        }
        float *want = run_on(&rows[i], "reference", 1, &trial);
        compare(&rows[i], device, &trial, got, want);
        free(got);
        free(want);
    }
}

int main(void)
{
    static int numbers[] = {0, 1, 2, 3, 4, 5, 6};
    struct CMUnitTest tests[sizeof(devices) / sizeof(devices[0])];

    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        tests[i] = (struct CMUnitTest){.name = devices[i].name,
                                       .test_func = device_agrees_with_reference,
                                       .initial_state = &numbers[i]};
    return _cmocka_run_group_tests("parity", tests, sizeof(tests) / sizeof(tests[0]), NULL, NULL);
}
