/*
 * Each backward op of each device against central differences of the reference forward.
 *
 * The loss is sum(out * d_out) in double. Five points make the error of the quotient fall with h^4,
 * so that steps can be wide enough for float outputs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "ops/ops.h"

#define MOST 4096     /* floats of one operand */
#define STEP 0.02
#define TOLERANCE 2e-4   /* of the largest gradient of an operand, or of 1 */

/* Up to three inputs, one output, and the gradients of the inputs: memory of the device. */
struct gradient_case {
    const char *name;
    int64_t s[5];
    int n_inputs;
    int64_t (*input_count)(const int64_t *s, int i);
    int64_t (*output_count)(const int64_t *s);
    void (*forward)(struct ops *ops, const int64_t *s, float *const *in, float *out);
    void (*backward)(struct ops *ops, const int64_t *s, float *const *in, const float *d_out,
                     float *const *d_in);
};

static const int32_t some_indices[] = {2, 0, 4, 2, 1, 3, 2};
static const int32_t some_segments[] = {0, 1, 1, 4, 11};
static const int32_t group_segments[] = {0, 2, 4, 7, 11}, group_prefixes[] = {-1, 0, -1, 0};

#define MOST_PLACES 24
static void *places[MOST_PLACES];
static int n_places;

/* The same numbers where the device can reach them, until forget_places(). */
static void *place(struct ops *ops, const void *host, size_t bytes)
{
    if (ops_is_host(ops))
        return (void *)host;
    assert_true(n_places < MOST_PLACES);
    assert_int_equal(ops_alloc(ops, bytes, &places[n_places]), 0);
    ops_upload(ops, places[n_places], host, bytes);
    return places[n_places++];
}

static void forget_places(struct ops *ops)
{
    while (n_places)
        ops_free(ops, places[--n_places]);
}

static struct tensor place_indices(struct ops *ops, const int32_t *host, int64_t n)
{
    return tensor_i32(place(ops, host, (size_t)n * sizeof(*host)), n);
}

/* Room that an op writes: NaN before. */
static float *place_room(struct ops *ops, int64_t n, float *host)
{
    for (int64_t i = 0; i < n; i++)
        host[i] = NAN;
    return place(ops, host, (size_t)n * sizeof(*host));
}

/* ---- matmul: in [N,C], weight [M,C], bias [M] */
static int64_t matmul_inputs(const int64_t *s, int i)
{
    return i == 0 ? s[0] * s[1] : i == 1 ? s[2] * s[1] : s[2];
}

static int64_t matmul_outputs(const int64_t *s)
{
    return s[0] * s[2];
}

static void matmul_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct matrix weight = matrix_rows(in[1], s[2], s[1]);
    struct tensor x = tensor_2d(in[0], s[0], s[1]);
    struct tensor y = tensor_2d(out, s[0], s[2]), bias = tensor_1d(in[2], s[2]);

    ops_matmul(ops, &y, &x, &weight, &bias);
}

static void matmul_backward(struct ops *ops, const int64_t *s, float *const *in,
                            const float *d_out, float *const *d_in)
{
    struct matrix weight = matrix_rows(in[1], s[2], s[1]);
    struct tensor x = tensor_2d(in[0], s[0], s[1]);
    struct tensor dy = tensor_2d((void *)d_out, s[0], s[2]), dx = tensor_2d(d_in[0], s[0], s[1]);
    struct tensor dw = tensor_2d(d_in[1], s[2], s[1]), db = tensor_1d(d_in[2], s[2]);

    ops_matmul_backward_input(ops, &dx, &dy, &weight);
    ops_matmul_backward_weight(ops, &dw, &db, &dy, &x);
}

/* ---- matmul_several: in [N,C] into [N,M] and [N,M/2], side by side, weights [M,C], [M/2,C] */
static int64_t several_inputs(const int64_t *s, int i)
{
    return i == 0 ? s[0] * s[1] : i == 1 ? s[2] * s[1] : s[2] / 2 * s[1];
}

static int64_t several_outputs(const int64_t *s)
{
    return s[0] * (s[2] + s[2] / 2);
}

static void several_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct matrix weights[] = {matrix_rows(in[1], s[2], s[1]), matrix_rows(in[2], s[2] / 2, s[1])};
    struct tensor x = tensor_2d(in[0], s[0], s[1]);
    struct tensor y[] = {tensor_2d(out, s[0], s[2]),
                         tensor_2d(out + s[0] * s[2], s[0], s[2] / 2)};
    const struct ops_product products[] = {{&y[0], &weights[0], NULL, NULL},
                                           {&y[1], &weights[1], NULL, NULL}};

    ops_matmul_several(ops, products, 2, &x);
}

static void several_backward(struct ops *ops, const int64_t *s, float *const *in,
                             const float *d_out, float *const *d_in)
{
    struct matrix weights[] = {matrix_rows(in[1], s[2], s[1]), matrix_rows(in[2], s[2] / 2, s[1])};
    struct tensor x = tensor_2d(in[0], s[0], s[1]), dx = tensor_2d(d_in[0], s[0], s[1]);
    struct tensor dy[] = {tensor_2d((void *)d_out, s[0], s[2]),
                          tensor_2d((void *)(d_out + s[0] * s[2]), s[0], s[2] / 2)};
    struct tensor dw[] = {tensor_2d(d_in[1], s[2], s[1]), tensor_2d(d_in[2], s[2] / 2, s[1])};
    const struct ops_product_gradient gradients[] = {{&dy[0], &weights[0], &dw[0], NULL},
                                                     {&dy[1], &weights[1], &dw[1], NULL}};

    ops_matmul_backward_inputs(ops, &dx, gradients, 2);
    ops_matmul_backward_weights(ops, gradients, 2, &x);
}

/* ---- rmsnorm: in [N,C], weight [C] */
static int64_t rmsnorm_inputs(const int64_t *s, int i)
{
    return i == 0 ? s[0] * s[1] : s[1];
}

static int64_t rows_outputs(const int64_t *s)
{
    return s[0] * s[1];
}

static void rmsnorm_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct tensor x = tensor_2d(in[0], s[0], s[1]), weight = tensor_1d(in[1], s[1]);
    struct tensor y = tensor_2d(out, s[0], s[1]);

    ops_rmsnorm(ops, &y, NULL, &x, &weight, 1e-3f);
}

static void rmsnorm_backward(struct ops *ops, const int64_t *s, float *const *in,
                             const float *d_out, float *const *d_in)
{
    static float y_data[MOST], rstd_data[MOST];
    struct tensor x = tensor_2d(in[0], s[0], s[1]), weight = tensor_1d(in[1], s[1]);
    struct tensor y = tensor_2d(place_room(ops, s[0] * s[1], y_data), s[0], s[1]);
    struct tensor rstd = tensor_1d(place_room(ops, s[0], rstd_data), s[0]);
    struct tensor dy = tensor_2d((void *)d_out, s[0], s[1]), dx = tensor_2d(d_in[0], s[0], s[1]);
    struct tensor dw = tensor_1d(d_in[1], s[1]);

    ops_rmsnorm(ops, &y, &rstd, &x, &weight, 1e-3f);
    ops_rmsnorm_backward(ops, &dx, &dw, &dy, &x, &weight, &rstd);
}

/* ---- rope: x [N,H,D] with a real table of angles, so that the inverse is the transpose */
static int64_t rope_inputs(const int64_t *s, int i)
{
    (void)i;
    return s[0] * s[1] * s[2];
}

static int64_t heads_outputs(const int64_t *s)
{
    return s[0] * s[1] * s[2];
}

static void turn(struct ops *ops, const int64_t *s, float *x, int inverse)
{
    static float table_data[MOST];
    int64_t half = s[2] / 2;
    struct tensor heads = tensor_3d(x, s[0], s[1], s[2]);
    struct tensor positions = place_indices(ops, some_indices, s[0]);

    for (int64_t t = 0; t < 5; t++)
        for (int64_t i = 0; i < half; i++) {
            table_data[t * 2 * half + i] = (float)cos((double)t / (double)(i + 1));
            table_data[t * 2 * half + half + i] = (float)sin((double)t / (double)(i + 1));
        }
    struct tensor table = tensor_3d(place(ops, table_data, sizeof(table_data)), 5, 2, half);
    ops_rope(ops, &heads, &table, &positions, inverse);
}

static void rope_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    ops_copy(ops, out, in[0], (size_t)rope_inputs(s, 0) * sizeof(*out));
    turn(ops, s, out, 0);
}

static void rope_backward(struct ops *ops, const int64_t *s, float *const *in, const float *d_out,
                          float *const *d_in)
{
    (void)in;
    ops_copy(ops, d_in[0], d_out, (size_t)rope_inputs(s, 0) * sizeof(*d_out));
    turn(ops, s, d_in[0], 1);
}

/* ---- swiglu: gate [N,F], up [N,F] */
static int64_t swiglu_inputs(const int64_t *s, int i)
{
    (void)i;
    return s[0] * s[1];
}

static void swiglu_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct tensor gate = tensor_2d(in[0], s[0], s[1]), up = tensor_2d(in[1], s[0], s[1]);
    struct tensor y = tensor_2d(out, s[0], s[1]);

    ops_swiglu(ops, &y, &gate, &up);
}

static void swiglu_backward(struct ops *ops, const int64_t *s, float *const *in,
                            const float *d_out, float *const *d_in)
{
    struct tensor gate = tensor_2d(in[0], s[0], s[1]), up = tensor_2d(in[1], s[0], s[1]);
    struct tensor dy = tensor_2d((void *)d_out, s[0], s[1]);
    struct tensor d_gate = tensor_2d(d_in[0], s[0], s[1]), d_up = tensor_2d(d_in[1], s[0], s[1]);

    ops_swiglu_backward(ops, &d_gate, &d_up, &dy, &gate, &up);
}

/* ---- embedding: table [5,C] read by 7 tokens, some of them twice */
static int64_t embedding_inputs(const int64_t *s, int i)
{
    (void)i;
    return 5 * s[1];
}

static void embedding_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct matrix table = matrix_rows(in[0], 5, s[1]);
    struct tensor y = tensor_2d(out, s[0], s[1]);
    struct tensor tokens = place_indices(ops, some_indices, s[0]);

    ops_embedding(ops, &y, &table, &tokens);
}

static void embedding_backward(struct ops *ops, const int64_t *s, float *const *in,
                               const float *d_out, float *const *d_in)
{
    struct tensor d_table = tensor_2d(d_in[0], 5, s[1]);
    struct tensor dy = tensor_2d((void *)d_out, s[0], s[1]);
    struct tensor tokens = place_indices(ops, some_indices, s[0]);

    (void)in;
    ops_embedding_backward(ops, &d_table, &dy, &tokens);
}

/* ---- gather_rows: s[0] <= 3 distinct rows of 5 */
static void gather_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct tensor x = tensor_2d(in[0], 5, s[1]), y = tensor_2d(out, s[0], s[1]);
    struct tensor rows = place_indices(ops, some_indices, s[0]);

    ops_gather_rows(ops, &y, &x, &rows);
}

static void gather_backward(struct ops *ops, const int64_t *s, float *const *in,
                            const float *d_out, float *const *d_in)
{
    struct tensor dx = tensor_2d(d_in[0], 5, s[1]), dy = tensor_2d((void *)d_out, s[0], s[1]);
    struct tensor rows = place_indices(ops, some_indices, s[0]);

    (void)in;
    ops_scatter_add_rows(ops, &dx, &dy, &rows);
}

/* ---- attention: q [N,H,D], k and v [N,K,D], with s = {N, H, D, K, group} and N = 11 */
static int64_t attention_inputs(const int64_t *s, int i)
{
    return i == 0 ? s[0] * s[1] * s[2] : s[0] * s[3] * s[2];
}

static void attention_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct tensor q = tensor_3d(in[0], s[0], s[1], s[2]), k = tensor_3d(in[1], s[0], s[3], s[2]);
    struct tensor v = tensor_3d(in[2], s[0], s[3], s[2]), y = tensor_3d(out, s[0], s[1], s[2]);
    struct tensor segments = place_indices(ops, s[4] ? group_segments : some_segments, 5);
    struct tensor prefixes = place_indices(ops, group_prefixes, 4);

    ops_attention(ops, &y, NULL, &q, &k, &v, &segments, s[4] ? &prefixes : NULL);
}

static void attention_backward(struct ops *ops, const int64_t *s, float *const *in,
                               const float *d_out, float *const *d_in)
{
    static float y_data[MOST], lse_data[MOST];
    struct tensor q = tensor_3d(in[0], s[0], s[1], s[2]), k = tensor_3d(in[1], s[0], s[3], s[2]);
    struct tensor v = tensor_3d(in[2], s[0], s[3], s[2]);
    struct tensor y = tensor_3d(place_room(ops, s[0] * s[1] * s[2], y_data), s[0], s[1], s[2]);
    struct tensor lse = tensor_2d(place_room(ops, s[0] * s[1], lse_data), s[0], s[1]);
    struct tensor dy = tensor_3d((void *)d_out, s[0], s[1], s[2]);
    struct tensor d_q = tensor_3d(d_in[0], s[0], s[1], s[2]);
    struct tensor d_k = tensor_3d(d_in[1], s[0], s[3], s[2]);
    struct tensor d_v = tensor_3d(d_in[2], s[0], s[3], s[2]);
    struct tensor segments = place_indices(ops, s[4] ? group_segments : some_segments, 5);
    struct tensor group = place_indices(ops, group_prefixes, 4), *prefixes = s[4] ? &group : NULL;

    ops_attention(ops, &y, &lse, &q, &k, &v, &segments, prefixes);
    ops_attention_backward(ops, &d_q, &d_k, &d_v, &dy, &q, &k, &v, &y, &lse, &segments, prefixes);
}

/* ---- token_logprob: logits [N,V] at temperature 0.8 */
static int64_t logprob_outputs(const int64_t *s)
{
    return s[0];
}

static void logprob_forward(struct ops *ops, const int64_t *s, float *const *in, float *out)
{
    struct tensor logits = tensor_2d(in[0], s[0], s[1]), y = tensor_1d(out, s[0]);
    struct tensor targets = place_indices(ops, some_indices, s[0]);

    ops_token_logprob(ops, &y, NULL, &logits, &targets, 0.8f);
}

static void logprob_backward(struct ops *ops, const int64_t *s, float *const *in,
                             const float *d_out, float *const *d_in)
{
    struct tensor logits = tensor_2d(d_in[0], s[0], s[1]);
    struct tensor dy = tensor_1d((void *)d_out, s[0]);
    struct tensor targets = place_indices(ops, some_indices, s[0]);

    ops_copy(ops, d_in[0], in[0], (size_t)(s[0] * s[1]) * sizeof(float));
    ops_token_logprob_backward(ops, &logits, &dy, &targets, 0.8f);
}

#define ROW(op, n_inputs, inputs, outputs, ...)                                                    \
    {#op, {__VA_ARGS__}, n_inputs, inputs, outputs, op##_forward, op##_backward}
static const struct gradient_case cases[] = {
    ROW(matmul, 3, matmul_inputs, matmul_outputs, 1, 1, 1),
    ROW(matmul, 3, matmul_inputs, matmul_outputs, 7, 9, 18),
    ROW(matmul, 3, matmul_inputs, matmul_outputs, 70, 33, 20),
    ROW(several, 3, several_inputs, several_outputs, 7, 9, 18),
    ROW(rmsnorm, 2, rmsnorm_inputs, rows_outputs, 3, 2),
    ROW(rmsnorm, 2, rmsnorm_inputs, rows_outputs, 70, 19),
    ROW(rope, 1, rope_inputs, heads_outputs, 7, 2, 10),
    ROW(swiglu, 2, swiglu_inputs, rows_outputs, 5, 13),
    ROW(embedding, 1, embedding_inputs, rows_outputs, 7, 6),
    ROW(gather, 1, embedding_inputs, rows_outputs, 3, 6),
    ROW(attention, 3, attention_inputs, heads_outputs, 11, 2, 5, 1),
    ROW(attention, 3, attention_inputs, heads_outputs, 11, 2, 16, 2),
    ROW(attention, 3, attention_inputs, heads_outputs, 11, 4, 5, 2, 1),
    ROW(attention, 3, attention_inputs, heads_outputs, 11, 2, 160, 1, 1),
    ROW(attention, 3, attention_inputs, heads_outputs, 11, 1, 255, 1),
    ROW(logprob, 1, swiglu_inputs, logprob_outputs, 7, 37),
};

/* What one case works on; inputs and gradients lie in rows of their own. */
struct numbers {
    float inputs[3][MOST], gradients[3][MOST], out[MOST], d_out[MOST];
    float *in[3];
};

static double loss_at(struct ops *reference, const struct gradient_case *c, struct numbers *n,
                      float *x, float value)
{
    double loss = 0;
    float before = *x;

    *x = value;
    c->forward(reference, c->s, n->in, n->out);
    for (int64_t i = 0; i < c->output_count(c->s); i++)
        loss += (double)n->out[i] * n->d_out[i];
    *x = before;
    return loss;
}

/* The quotient uses the steps that float really made. */
static double slope(struct ops *reference, const struct gradient_case *c, struct numbers *n,
                    float *x)
{
    double by_step[2];

    for (int i = 1; i <= 2; i++) {
        float above = (float)(*x + i * STEP), below = (float)(*x - i * STEP);
        double difference = loss_at(reference, c, n, x, above) - loss_at(reference, c, n, x, below);
        by_step[i - 1] = difference / ((double)above - below);
    }
    return (4 * by_step[0] - by_step[1]) / 3;
}

static void run_backward(struct ops *ops, const struct gradient_case *c, struct numbers *n)
{
    float *in[3], *d_in[3];

    for (int i = 0; i < 3; i++) {
        in[i] = place(ops, n->inputs[i], sizeof(n->inputs[i]));
        d_in[i] = place(ops, n->gradients[i], sizeof(n->gradients[i]));
    }
    c->backward(ops, c->s, in, place(ops, n->d_out, sizeof(n->d_out)), d_in);
    for (int i = 0; i < 3; i++)
        ops_download(ops, n->gradients[i], d_in[i], sizeof(n->gradients[i]));
    assert_int_equal(ops_sync(ops), 0);
    forget_places(ops);
}

static void check_case(struct ops *ops, struct ops *reference, const struct gradient_case *c)
{
    static struct numbers n;
    struct random_stream stream = {.seed = 7};

    memset(&n, 0, sizeof(n));
    for (int i = 0; i < 3; i++)
        n.in[i] = n.inputs[i];
    for (int i = 0; i < c->n_inputs; i++)
        for (int64_t j = 0; j < c->input_count(c->s, i); j++)
            n.inputs[i][j] = (float)random_normal(&stream);
    for (int64_t j = 0; j < c->output_count(c->s); j++)
        n.d_out[j] = (float)random_normal(&stream);
    run_backward(ops, c, &n);
    for (int i = 0; i < c->n_inputs; i++) {
        int64_t count = c->input_count(c->s, i);
        double size = 1;
        for (int64_t j = 0; j < count; j++)
            size = fabs((double)n.gradients[i][j]) > size ? fabs((double)n.gradients[i][j]) : size;
        /* A sample of a large operand is enough. */
        for (int64_t j = 0; j < count; j += 1 + count / 600) {
            double want = slope(reference, c, &n, &n.inputs[i][j]), got = n.gradients[i][j];
            if (!(fabs(got - want) <= TOLERANCE * size))
                fail_msg("%s on %s: gradient %d[%lld] is %g, differences say %g", c->name,
                         ops_name(ops), i, (long long)j, got, want);
        }
    }
}

static void gradients_are_slopes(void **state)
{
    struct ops *ops = NULL, *reference = NULL;

    if (ops_create(&ops, *state, 2) < 0) {
        print_message("SKIP %s: not in this build or on this machine\n", (const char *)*state);
        skip();
    }
    assert_int_equal(ops_create(&reference, "reference", 1), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_case(ops, reference, &cases[i]);
    assert_int_equal(ops_sync(ops), 0);
    ops_destroy(&ops);
    ops_destroy(&reference);
}

int main(void)
{
    static char reference[] = "reference", baseline[] = "cpu:baseline", avx2[] = "cpu:avx2",
                cpu[] = "cpu", card[] = "cuda:0", emulated[] = "cuda-emulated:0";
    const struct CMUnitTest tests[] = {
        {"gradients of reference are slopes", gradients_are_slopes, NULL, NULL, reference},
        {"gradients of cpu:baseline are slopes", gradients_are_slopes, NULL, NULL, baseline},
        {"gradients of cpu:avx2 are slopes", gradients_are_slopes, NULL, NULL, avx2},
        {"gradients of cpu are slopes", gradients_are_slopes, NULL, NULL, cpu},
        {"gradients of cuda are slopes", gradients_are_slopes, NULL, NULL, card},
        {"gradients of cuda-emulated are slopes", gradients_are_slopes, NULL, NULL, emulated},
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
