/* Products that share an operand: in one go the same bits as one after another, on each CPU device,
 * however the work is cut. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "ops/ops.h"

#define MOST 3
static const char *const devices[] = {"reference", "cpu:baseline", "cpu:avx2", "cpu:avx512",
                                      "cpu:avx512bf16"};

enum { ROWS, ROUNDED, ADAPTER, PANELS, PANELS_BF16, N_FORMS };

/* What one trial works on; [N,C] in, outputs of M[i]. */
struct trial {
    struct ops *ops;
    int64_t N, C, M[MOST];
    int n;
    float *in, *weight[MOST], *bias[MOST], *x[MOST], *adapter[2];
    struct matrix matrix[MOST];
};

static float *normal(struct random_stream *stream, int64_t n)
{
    float *x = malloc((size_t)(n + 1) * sizeof(*x));

    for (int64_t i = 0; i < n; i++)
        x[i] = (float)random_normal(stream);
    return x;
}

static void make_matrix(struct trial *t, int i, int form)
{
    t->matrix[i] = matrix_rows(t->weight[i], t->M[i], t->C);
    if (form == ROUNDED || form == PANELS_BF16)
        t->matrix[i].dtype = DTYPE_BF16;
    if (form == ADAPTER)
        t->matrix[i].adapter = (struct adapter){2, 0.5f, t->adapter[0], t->adapter[1]};
    if (form == PANELS || form == PANELS_BF16) {
        struct tensor rows = tensor_2d(t->weight[i], t->M[i], t->C);
        t->matrix[i].form = MATRIX_PANELS;
        assert_int_equal(ops_alloc(t->ops, ops_matrix_bytes(&t->matrix[i]), &t->matrix[i].data), 0);
        ops_matrix_write(t->ops, &t->matrix[i], &rows, 0);
    }
}

static void open_trial(struct trial *t, struct ops *ops, int64_t N, int64_t C, int form,
                       uint64_t seed)
{
    struct random_stream stream = {.seed = seed};

    *t = (struct trial){.ops = ops, .N = N, .C = C, .n = MOST};
    t->in = normal(&stream, N * C);
    t->adapter[0] = normal(&stream, 2 * C);
    t->adapter[1] = normal(&stream, 2 * 1200);
    for (int i = 0; i < MOST; i++) {
        t->M[i] = 1 + (int64_t)random_below(&stream, i == 0 ? 1200 : 150);
        t->weight[i] = normal(&stream, t->M[i] * C);
        t->bias[i] = normal(&stream, t->M[i]);
        t->x[i] = normal(&stream, N * t->M[i]);
        make_matrix(t, i, form);
    }
}

static void close_trial(struct trial *t)
{
    for (int i = 0; i < MOST; i++) {
        if (t->matrix[i].form == MATRIX_PANELS)
            ops_free(t->ops, t->matrix[i].data);
        free(t->weight[i]);
        free(t->bias[i]);
        free(t->x[i]);
    }
    free(t->in);
    free(t->adapter[0]);
    free(t->adapter[1]);
}

static void forward(struct trial *t, float *out[MOST], int at_once)
{
    struct tensor in = tensor_2d(t->in, t->N, t->C), outs[MOST], biases[MOST], residuals[MOST];
    struct ops_product products[MOST];

    for (int i = 0; i < MOST; i++) {
        outs[i] = tensor_2d(out[i], t->N, t->M[i]);
        biases[i] = tensor_1d(t->bias[i], t->M[i]);
        residuals[i] = tensor_2d(t->x[i], t->N, t->M[i]);
        products[i] = (struct ops_product){&outs[i], &t->matrix[i], i != 1 ? &biases[i] : NULL,
                                           i != 2 ? &residuals[i] : NULL};
        if (at_once)
            continue;
        ops_matmul(t->ops, &outs[i], &in, &t->matrix[i], products[i].bias);
        if (products[i].residual)
            ops_add(t->ops, &outs[i], &residuals[i]);
    }
    if (at_once)
        ops_matmul_several(t->ops, products, MOST, &in);
}

/* d_in, then d_weight and d_bias of each; what is added to starts as ones. */
static void backward(struct trial *t, float *out[1 + 2 * MOST], int at_once)
{
    struct tensor in = tensor_2d(t->in, t->N, t->C), d_in = tensor_2d(out[0], t->N, t->C);
    struct tensor d_outs[MOST], d_weights[MOST], d_biases[MOST];
    struct ops_product_gradient gradients[MOST];

    if (!at_once)
        ops_zero(t->ops, out[0], (size_t)(t->N * t->C) * sizeof(float));
    for (int i = 0; i < MOST; i++) {
        d_outs[i] = tensor_2d(t->x[i], t->N, t->M[i]);
        d_weights[i] = tensor_2d(out[1 + 2 * i], t->M[i], t->C);
        d_biases[i] = tensor_1d(out[2 + 2 * i], t->M[i]);
        gradients[i] = (struct ops_product_gradient){&d_outs[i], &t->matrix[i], &d_weights[i],
                                                     i != 1 ? &d_biases[i] : NULL};
        if (at_once)
            continue;
        ops_matmul_backward_input(t->ops, &d_in, &d_outs[i], &t->matrix[i]);
        ops_matmul_backward_weights(t->ops, &gradients[i], 1, &in);
    }
    if (at_once) {
        ops_matmul_backward_inputs(t->ops, &d_in, gradients, MOST);
        ops_matmul_backward_weights(t->ops, gradients, MOST, &in);
    }
}

static void compare_once(struct ops *ops, int64_t N, int64_t C, int form, uint64_t seed)
{
    struct trial t;
    float *out[2][MOST], *gradient[2][1 + 2 * MOST];

    open_trial(&t, ops, N, C, form, seed);
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < MOST; i++)
            out[k][i] = calloc((size_t)(N * t.M[i]), sizeof(float));
        for (int i = 0; i < 1 + 2 * MOST; i++) {
            int64_t n = i == 0 ? N * C : i % 2 ? t.M[i / 2] * C : t.M[i / 2 - 1];
            gradient[k][i] = malloc((size_t)n * sizeof(float));
            for (int64_t j = 0; j < n; j++)
                gradient[k][i][j] = 1.0f;
        }
        forward(&t, out[k], k);
        backward(&t, gradient[k], k);
    }
    assert_int_equal(ops_sync(ops), 0);
    for (int i = 0; i < MOST; i++)
        assert_memory_equal(out[0][i], out[1][i], (size_t)(N * t.M[i]) * sizeof(float));
    for (int i = 0; i < 1 + 2 * MOST; i++) {
        int64_t n = i == 0 ? N * C : i % 2 ? t.M[i / 2] * C : t.M[i / 2 - 1];
        assert_memory_equal(gradient[0][i], gradient[1][i], (size_t)n * sizeof(float));
    }
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < MOST; i++)
            free(out[k][i]);
        for (int i = 0; i < 1 + 2 * MOST; i++)
            free(gradient[k][i]);
    }
    close_trial(&t);
}

static void products_in_one_go_are_those_one_after_another(void **state)
{
    static const int64_t shapes[][2] = {{1, 1}, {7, 33}, {40, 257}, {300, 60}, {9, 1500}};

    (void)state;
    for (size_t d = 0; d < sizeof(devices) / sizeof(devices[0]); d++) {
        struct ops *ops = NULL;
        if (ops_create(&ops, devices[d], 3) < 0)
            continue;
        for (int form = 0; form < N_FORMS; form++)
            for (size_t s = 0; s < (d == 0 ? 2 : sizeof(shapes) / sizeof(shapes[0])); s++)
                compare_once(ops, shapes[s][0], shapes[s][1], form, 10 * s + (uint64_t)form);
        ops_destroy(&ops);
    }
}

/* A long sum is cut into passes, a wide one into pieces: with one thread and with three, and row by
 * row, the same bits. */
static void neither_cuts_nor_threads_change_a_product(void **state)
{
    const int64_t N = 37, C = 2100;
    struct random_stream stream = {.seed = 5};

    (void)state;
    for (int form = 0; form < N_FORMS; form++) {
        float *first = NULL;
        for (int threads = 1; threads <= 3; threads += 2) {
            struct ops *ops = NULL;
            struct trial t;
            assert_int_equal(ops_create(&ops, "cpu", threads), 0);
            open_trial(&t, ops, N, C, form, 77);
            float *all = malloc((size_t)(N * t.M[0]) * sizeof(float));
            float *one = malloc((size_t)t.M[0] * sizeof(float));
            struct tensor in = tensor_2d(t.in, N, C), out = tensor_2d(all, N, t.M[0]);
            ops_matmul(ops, &out, &in, &t.matrix[0], NULL);
            for (int trial = 0; trial < 5; trial++) {
                int64_t r = (int64_t)random_below(&stream, (uint64_t)N);
                struct tensor row = tensor_2d(t.in + r * C, 1, C), y = tensor_2d(one, 1, t.M[0]);
                ops_matmul(ops, &y, &row, &t.matrix[0], NULL);
                assert_memory_equal(one, all + r * t.M[0], (size_t)t.M[0] * sizeof(float));
            }
            if (first)
                assert_memory_equal(first, all, (size_t)(N * t.M[0]) * sizeof(float));
            free(one);
            if (first)
                free(all);
            else
                first = all;
            close_trial(&t);
            ops_destroy(&ops);
        }
        free(first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_in_one_go_are_those_one_after_another),
        cmocka_unit_test(neither_cuts_nor_threads_change_a_product),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
