/* Products with a matrix of bfloat16, as ops.h defines them: the same bits on every instruction set
 * as one chain of multiply-adds in C, for numbers of any size, infinities and NaN. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "ops/cpu/kernels.h"
#include "ops/ops.h"

static const char *const devices[] = {"cpu:avx512bf16", "cpu:avx512", "cpu:avx2", "cpu:baseline"};
#define N_DEVICES (sizeof(devices) / sizeof(devices[0]))

/* One trial: in[N,C], weight[M,C], d_out[N,M], bias[M], residual[N,M]. */
struct trial {
    int64_t N, C, M;
    float *in, *weight, *d_out, *bias, *residual;
    float start;   /* of what is added to */
};

/* Numbers near 1; whose products are near 2^-126; some of any bits, infinite, not a number. */
enum kind { NEAR, SMALL, ANY };

static float *numbers(struct random_stream *stream, int64_t n, enum kind kind)
{
    float *x = malloc((size_t)n * sizeof(*x));

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)random_next(stream);
        x[i] = (float)random_normal(stream);
        if (kind == SMALL)
            x[i] = ldexpf(x[i], bits % 11 ? -64 + (int)(bits % 4) : -128);
        if (kind == ANY && i % 97 == 0)
            memcpy(&x[i], &bits, sizeof(bits));
        if (kind == ANY && i % 2003 == 0)
            x[i] = bits % 2 ? INFINITY : NAN;
    }
    return x;
}

static void open_trial(struct trial *t, int64_t N, int64_t C, int64_t M, enum kind kind)
{
    struct random_stream stream = {.seed = (uint64_t)(N * 7 + C * 3 + M) + kind};

    *t = (struct trial){.N = N, .C = C, .M = M, .start = kind == SMALL ? 0x1p-126f : 1};
    t->in = numbers(&stream, N * C, kind);
    t->weight = numbers(&stream, M * C, kind);
    t->d_out = numbers(&stream, N * M, kind);
    t->bias = numbers(&stream, M, kind);
    t->residual = numbers(&stream, N * M, kind);
}

static void close_trial(struct trial *t)
{
    free(t->in);
    free(t->weight);
    free(t->d_out);
    free(t->bias);
    free(t->residual);
}

/* ---- The law. */
static float rounded(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if (isnan(x))
        return x;
    bits = (bits + 0x7fffu + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static float flushed(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0, x) : x;
}

static float multiply_add(float a, float b, float c)
{
    return flushed(fmaf(flushed(rounded(a)), flushed(rounded(b)), flushed(c)));
}

/* sum + a[0] b[0] + ... of n, pair by pair. */
static float chain(float sum, const float *a, int64_t a_step, const float *b, int64_t b_step,
                   int64_t n)
{
    for (int64_t k = 0; k < n; k += 2) {
        int is_pair = k + 1 < n;
        sum = multiply_add(is_pair ? a[(k + 1) * a_step] : 0, is_pair ? b[(k + 1) * b_step] : 0,
                           sum);
        sum = multiply_add(a[k * a_step], b[k * b_step], sum);
    }
    return sum;
}

static float add(float a, float b)
{
    return flushed(flushed(a) + flushed(b));
}

/* out[N,M], d_in[N,C], d_weight[M,C]. */
struct products {
    float *out, *d_in, *d_weight;
};

static struct products make_products(const struct trial *t)
{
    struct products p = {malloc((size_t)(t->N * t->M) * sizeof(float)),
                         malloc((size_t)(t->N * t->C) * sizeof(float)),
                         malloc((size_t)(t->M * t->C) * sizeof(float))};

    for (int64_t i = 0; i < t->N * t->C; i++)
        p.d_in[i] = t->start;
    for (int64_t i = 0; i < t->M * t->C; i++)
        p.d_weight[i] = t->start;
    return p;
}

static void free_products(struct products *p)
{
    free(p->out);
    free(p->d_in);
    free(p->d_weight);
}

static void obey(const struct trial *t, const struct products *p)
{
    int64_t N = t->N, C = t->C, M = t->M;

    for (int64_t n = 0; n < N; n++)
        for (int64_t m = 0; m < M; m++) {
            float sum = chain(0, t->in + n * C, 1, t->weight + m * C, 1, C);
            p->out[n * M + m] = add(add(sum, t->bias[m]), t->residual[n * M + m]);
        }
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++)
            p->d_in[n * C + c] = chain(t->start, t->d_out + n * M, 1, t->weight + c, C, M);
    for (int64_t m = 0; m < M; m++)
        for (int64_t c = 0; c < C; c++)
            p->d_weight[m * C + c] = chain(t->start, t->d_out + m, M, t->in + c, C, N);
}

/* ---- What a device makes of it. */
static void compute(const char *device, const struct trial *t, enum matrix_form form,
                    const struct products *p)
{
    struct ops *ops = NULL;
    struct matrix weight = matrix_rows(t->weight, t->M, t->C);
    struct tensor rows = tensor_2d(t->weight, t->M, t->C), in = tensor_2d(t->in, t->N, t->C);
    struct tensor out = tensor_2d(p->out, t->N, t->M), d_in = tensor_2d(p->d_in, t->N, t->C);
    struct tensor d_out = tensor_2d(t->d_out, t->N, t->M);
    struct tensor d_weight = tensor_2d(p->d_weight, t->M, t->C), bias = tensor_1d(t->bias, t->M);
    struct tensor residual = tensor_2d(t->residual, t->N, t->M);
    struct ops_product product = {&out, &weight, &bias, &residual};
    struct ops_product_gradient gradient = {&d_out, &weight, &d_weight, NULL};

    assert_int_equal(ops_create(&ops, device, 3), 0);
    weight.dtype = DTYPE_BF16;
    if (form == MATRIX_PANELS) {
        weight.form = form;
        assert_int_equal(ops_alloc(ops, ops_matrix_bytes(&weight), &weight.data), 0);
        ops_matrix_write(ops, &weight, &rows, 0);
    }
    ops_matmul_several(ops, &product, 1, &in);
    ops_matmul_backward_input(ops, &d_in, &d_out, &weight);
    ops_matmul_backward_weights(ops, &gradient, 1, &in);
    assert_int_equal(ops_sync(ops), 0);
    if (form == MATRIX_PANELS)
        ops_free(ops, weight.data);
    ops_destroy(&ops);
}

static void assert_same(const char *what, const char *device, const float *got, const float *want,
                        int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i, want + i, sizeof(float)) && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s on %s: number %lld is %.9g, not %.9g", what, device, (long long)i,
                     (double)got[i], (double)want[i]);
}

static int is_here(const char *device)
{
    struct ops *ops = NULL;
    int status = ops_create(&ops, device, 1);

    ops_destroy(&ops);
    return status == 0;
}

static void try_shape(int64_t N, int64_t C, int64_t M, enum kind kind)
{
    struct trial t;

    open_trial(&t, N, C, M, kind);
    struct products want = make_products(&t);
    obey(&t, &want);
    for (size_t i = 0; i < N_DEVICES; i++)
        for (int form = 0; form < 2; form++) {
            /* Without a fused multiply-add a product of its own may leave float32's range. */
            if (!is_here(devices[i]) || (kind != NEAR && strcmp(devices[i], "cpu:baseline") == 0))
                continue;
            struct products got = make_products(&t);
            compute(devices[i], &t, form ? MATRIX_PANELS : MATRIX_ROWS, &got);
            assert_same("out", devices[i], got.out, want.out, N * M);
            assert_same("d_in", devices[i], got.d_in, want.d_in, N * C);
            assert_same("d_weight", devices[i], got.d_weight, want.d_weight, M * C);
            free_products(&got);
        }
    free_products(&want);
    close_trial(&t);
}

static void products_are_the_chain_of_the_law(void **state)
{
    static const int64_t shapes[][3] = {{1, 1, 1},    {2, 2, 16},    {3, 31, 17},  {8, 64, 64},
                                        {9, 97, 130}, {70, 33, 100}, {5, 2051, 40}, {401, 20, 37},
                                        {2, 40, 2051}};

    (void)state;
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
        for (int kind = NEAR; kind <= ANY; kind++)
            try_shape(shapes[i][0], shapes[i][1], shapes[i][2], (enum kind)kind);
}

/* A row alone, and the gradient of rows that come in two batches, the first of them even. */
static void rows_do_not_depend_on_their_number(void **state)
{
    enum { N = 60, C = 45, M = 70, FIRST = 22 };
    struct trial t;

    (void)state;
    open_trial(&t, N, C, M, NEAR);
    for (size_t i = 0; i < N_DEVICES; i++) {
        if (!is_here(devices[i]))
            continue;
        struct products all = make_products(&t), one = make_products(&t);
        compute(devices[i], &t, MATRIX_ROWS, &all);
        for (int64_t n = 0; n < N; n += 7) {
            struct trial alone = {1, C, M, t.in + n * C, t.weight, t.d_out + n * M, t.bias,
                                  t.residual + n * M, t.start};
            for (int64_t c = 0; c < C; c++)
                one.d_in[c] = t.start;
            compute(devices[i], &alone, MATRIX_PANELS, &one);
            assert_same("out", devices[i], one.out, all.out + n * M, M);
            assert_same("d_in", devices[i], one.d_in, all.d_in + n * C, C);
        }
        free_products(&one);
        one = make_products(&t);
        struct trial first = {FIRST, C, M, t.in, t.weight, t.d_out, t.bias, t.residual, t.start};
        struct trial second = {N - FIRST, C, M, t.in + FIRST * C, t.weight, t.d_out + FIRST * M,
                               t.bias, t.residual, t.start};
        compute(devices[i], &first, MATRIX_ROWS, &one);
        compute(devices[i], &second, MATRIX_ROWS, &one);
        assert_same("d_weight", devices[i], one.d_weight, all.d_weight, M * C);
        free_products(&one);
        free_products(&all);
    }
    close_trial(&t);
}

/* The nearest bfloat16 is 2^-126, which is no zero. */
static void a_number_just_below_the_least_normal_one_is_rounded_up(void **state)
{
    (void)state;
    enum { N = 32 };
    float x[N * N], words[N * N];
    uint32_t below = 0x007fffffu, word;

    for (int i = 0; i < N * N; i++)
        memcpy(&x[i], &below, sizeof(below));
    for (const struct kernels *const *all = processor_kernels(); *all; all++) {
        (*all)->pair_columns(words, x, N, N, N, 0, N / 16);
        for (int i = 0; i < N * N / 2; i++) {
            memcpy(&word, &words[i], sizeof(word));
            assert_int_equal(word, 0x00800080u);
        }
        (*all)->pair_panel(words, x, N, 16, N);
        for (int i = 0; i < N * N / 4; i++) {
            memcpy(&word, &words[i], sizeof(word));
            assert_int_equal(word, 0x00800080u);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_number_just_below_the_least_normal_one_is_rounded_up),
        cmocka_unit_test(products_are_the_chain_of_the_law),
        cmocka_unit_test(rows_do_not_depend_on_their_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
