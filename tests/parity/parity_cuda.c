/* What the GPU's backend promises beside its parity rows: a row's bits do not depend on what is
 * computed beside it, products of bfloat16 as a choice of the device string, a sticky status. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "ops/ops.h"

/* Two slices of the inner sum and a part; more rows than the narrow tiling has, and not a whole
 * number of either. */
enum { N = 150, C = 300, M = 70, H = 6, K = 2, V = 333 };

static struct ops *open_ops(const char *device)
{
    struct ops *ops = NULL;

    if (ops_create(&ops, device, 1) < 0)
        skip();
    return ops;
}

static float *random_floats(int64_t n, uint64_t seed, int is_bf16)
{
    struct random_stream stream = {.seed = seed};
    float *x = calloc((size_t)n, sizeof(*x));

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        x[i] = (float)random_normal(&stream);
        memcpy(&bits, &x[i], sizeof(bits));
        bits &= is_bf16 ? 0xffff0000u : 0xffffffffu;
        memcpy(&x[i], &bits, sizeof(bits));
    }
    return x;
}

static void *place(struct ops *ops, const void *host, size_t bytes)
{
    void *memory = NULL;

    assert_int_equal(ops_alloc(ops, bytes, &memory), 0);
    if (host)
        ops_upload(ops, memory, host, bytes);
    return memory;
}

static float *place_random(struct ops *ops, int64_t n, uint64_t seed, int is_bf16)
{
    float *host = random_floats(n, seed, is_bf16), *memory;

    memory = place(ops, host, (size_t)n * sizeof(*host));
    assert_int_equal(ops_sync(ops), 0);
    free(host);
    return memory;
}

static float *fetch(struct ops *ops, const void *device, int64_t n)
{
    float *host = calloc((size_t)n, sizeof(*host));

    ops_download(ops, host, device, (size_t)n * sizeof(*host));
    assert_int_equal(ops_sync(ops), 0);
    return host;
}

/* Rows, float32 panels, bfloat16 panels, rounded rows, an adapter. */
enum { N_FORMS = 5 };

static struct matrix weight_of_form(struct ops *ops, int form, int is_bf16)
{
    struct matrix weight = matrix_rows(place_random(ops, M * C, 1, is_bf16), M, C);
    struct tensor rows = tensor_2d(weight.data, M, C);

    if (form == 2 || form == 3)
        weight.dtype = DTYPE_BF16;
    if (form == 4)
        weight.adapter = (struct adapter){3, 0.5f, place_random(ops, 3 * C, 2, 0),
                                          place_random(ops, M * 3, 3, 0)};
    if (form != 1 && form != 2)
        return weight;
    weight.form = MATRIX_PANELS;
    weight.data = place(ops, NULL, ops_matrix_bytes(&weight));
    ops_matrix_write(ops, &weight, &rows, 0);
    ops_free(ops, rows.data);
    return weight;
}

static void free_weight(struct ops *ops, struct matrix *weight)
{
    ops_free(ops, weight->data);
    ops_free(ops, (void *)weight->adapter.a);
    ops_free(ops, (void *)weight->adapter.b);
}

/* Rows first .. first + n - 1 of every row-wise op, one result behind the other. */
static float *run_rows(struct ops *ops, const struct matrix *weight, const float *x,
                       const float *logits, const float *norm, int64_t first, int64_t n)
{
    float *out = place(ops, NULL, (size_t)(n * (M + C + 2)) * sizeof(*out));
    int32_t *targets = calloc((size_t)n, sizeof(*targets)), *on_device;
    struct tensor in = tensor_2d((void *)(x + first * C), n, C), y = tensor_2d(out, n, M);
    struct tensor bias = tensor_1d((void *)norm, M), scale = tensor_1d((void *)norm, C);
    struct tensor normed = tensor_2d(out + n * M, n, C), rstd = tensor_1d(out + n * (M + C), n);
    struct tensor row = tensor_2d((void *)(logits + first * V), n, V);
    struct tensor logprob = tensor_1d(out + n * (M + C + 1), n);

    for (int64_t i = 0; i < n; i++)
        targets[i] = (int32_t)((first + i) * 7 % V);
    on_device = place(ops, targets, (size_t)n * sizeof(*targets));
    struct tensor target = tensor_i32(on_device, n);
    ops_matmul(ops, &y, &in, weight, &bias);
    ops_rmsnorm(ops, &normed, &rstd, &in, &scale, 1e-6f);
    ops_token_logprob(ops, &logprob, NULL, &row, &target, 0.9f);
    float *host = fetch(ops, out, n * (M + C + 2));
    ops_free(ops, out);
    ops_free(ops, on_device);
    free(targets);
    return host;
}

static void assert_same_rows(const float *all, const float *some, int64_t first, int64_t n)
{
    static const int64_t widths[] = {M, C, 1, 1};

    for (int i = 0; i < 4; i++) {
        assert_memory_equal(all + first * widths[i], some,
                            (size_t)(n * widths[i]) * sizeof(float));
        all += N * widths[i];
        some += n * widths[i];
    }
}

static void rows_do_not_depend_on_their_number(void **state)
{
    static const int64_t counts[] = {1, 7, 8, 63, 64, 65, 128};
    struct ops *ops = open_ops(*state);
    float *x = place_random(ops, N * C, 4, 0), *logits = place_random(ops, N * V, 5, 0);
    float *norm = place_random(ops, C, 6, 0);

    for (int form = 0; form < N_FORMS; form++) {
        struct matrix weight = weight_of_form(ops, form, 0);
        float *all = run_rows(ops, &weight, x, logits, norm, 0, N);
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            int64_t first = (int64_t)i * 3;
            float *some = run_rows(ops, &weight, x, logits, norm, first, counts[i]);
            assert_same_rows(all, some, first, counts[i]);
            free(some);
        }
        free(all);
        free_weight(ops, &weight);
    }
    ops_free(ops, x);
    ops_free(ops, logits);
    ops_free(ops, norm);
    ops_destroy(&ops);
}

static float *multiply(struct ops *ops, int form, int is_bf16)
{
    struct matrix weight = weight_of_form(ops, form, is_bf16);
    float *x = place_random(ops, N * C, 4, is_bf16), *y = place_random(ops, N * M, 7, 0);
    struct tensor in = tensor_2d(x, N, C), out = tensor_2d(y, N, M);

    ops_matmul(ops, &out, &in, &weight, NULL);
    float *host = fetch(ops, y, N * M);
    ops_free(ops, x);
    ops_free(ops, y);
    free_weight(ops, &weight);
    return host;
}

static void forms_of_a_weight_give_the_same_bits(void **state)
{
    struct ops *ops = open_ops(*state);

    for (int form = 0; form < 4; form += 2) {
        float *first = multiply(ops, form, 0), *second = multiply(ops, form + 1, 0);
        assert_memory_equal(first, second, N * M * sizeof(float));
        free(first);
        free(second);
    }
    ops_destroy(&ops);
}

static double worst_of_largest(const float *got, const float *want, int64_t n)
{
    double worst = 0, size = 0;

    for (int64_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)got[i] - want[i]));
        size = fmax(size, fabs((double)want[i]));
        assert_true(isfinite(got[i]));
    }
    return worst / size;
}

/* Operands that are bfloat16 lose nothing, and those of forms 2 and 3 are made so everywhere; the
 * others lose what rounding costs. */
static void products_of_bfloat16_are_near(void **state)
{
    struct ops *ops = open_ops(*state), *reference = open_ops("reference");

    for (int is_bf16 = 0; is_bf16 < 2; is_bf16++)
        for (int form = 0; form < 4; form++) {
            float *got = multiply(ops, form, is_bf16), *want = multiply(reference, form, is_bf16);
            double error = worst_of_largest(got, want, N * M);
            int is_same = is_bf16 || form >= 2;
            if (!(error < (is_same ? 4e-6 : 1e-2)) || (!is_same && error < 1e-5))
                fail_msg("form %d: off by %.3g", form, error);
            free(got);
            free(want);
        }
    ops_destroy(&ops);
    ops_destroy(&reference);
}

/* out and the three gradients of packed segments, the second and third behind the first. */
static float *attend(struct ops *ops, int64_t D)
{
    static const int32_t bounds[] = {0, 37, 90, N}, before[] = {-1, 0, 0};
    int64_t n_q = N * H * D, n_k = N * K * D;
    float *q = place_random(ops, n_q, 10, 0), *k = place_random(ops, n_k, 11, 0);
    float *v = place_random(ops, n_k, 12, 0), *g = place_random(ops, n_q, 13, 0);
    float *out = place(ops, NULL, (size_t)(2 * n_q + 2 * n_k) * sizeof(*out));
    float *lse = place(ops, NULL, N * H * sizeof(*lse));
    int32_t *places[] = {place(ops, bounds, sizeof(bounds)), place(ops, before, sizeof(before))};
    struct tensor tq = tensor_3d(q, N, H, D), tk = tensor_3d(k, N, K, D);
    struct tensor tv = tensor_3d(v, N, K, D), tg = tensor_3d(g, N, H, D);
    struct tensor to = tensor_3d(out, N, H, D), tl = tensor_2d(lse, N, H);
    struct tensor dq = tensor_3d(out + n_q, N, H, D), dk = tensor_3d(out + 2 * n_q, N, K, D);
    struct tensor dv = tensor_3d(out + 2 * n_q + n_k, N, K, D);
    struct tensor segments = tensor_i32(places[0], 4), prefixes = tensor_i32(places[1], 3);
    void *all[] = {q, k, v, g, out, lse, places[0], places[1]};

    ops_attention(ops, &to, &tl, &tq, &tk, &tv, &segments, &prefixes);
    ops_attention_backward(ops, &dq, &dk, &dv, &tg, &tq, &tk, &tv, &to, &tl, &segments, &prefixes);
    float *host = fetch(ops, out, 2 * n_q + 2 * n_k);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        ops_free(ops, all[i]);
    return host;
}

static void attention_of_bfloat16_is_near(void **state)
{
    static const int64_t widths[] = {20, 200};
    struct ops *ops = open_ops(*state), *reference = open_ops("reference");

    for (int i = 0; i < 2; i++) {
        int64_t D = widths[i], n = N * H * D;
        float *got = attend(ops, D), *want = attend(reference, D);
        assert_true(worst_of_largest(got, want, n) < 2e-2);
        assert_true(worst_of_largest(got + n, want + n, N * (H + 2 * K) * D) < 3e-2);
        free(got);
        free(want);
    }
    ops_destroy(&ops);
    ops_destroy(&reference);
}

static void a_failure_stays_until_the_sync(void **state)
{
    struct ops *ops = open_ops(*state);
    float *x = place_random(ops, 300, 20, 0), *y = place(ops, NULL, 300 * sizeof(*y)), *host;
    int32_t bounds[] = {0, 1}, *on_device = place(ops, bounds, sizeof(bounds));
    struct tensor q = tensor_3d(x, 1, 1, 300), out = tensor_3d(y, 1, 1, 300);
    struct tensor flat = tensor_1d(x, 300), segments = tensor_i32(on_device, 2);

    ops_attention(ops, &out, NULL, &q, &q, &q, &segments, NULL);
    ops_scale(ops, &flat, 0);
    assert_int_equal(ops_sync(ops), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "300"));
    host = fetch(ops, x, 300);
    assert_true(host[0] != 0);
    free(host);
    ops_free(ops, x);
    ops_free(ops, y);
    ops_free(ops, on_device);
    ops_destroy(&ops);
}

static void a_card_that_is_not_there_is_named(void **state)
{
    static const char *const names[] = {"cuda-emulated:1", "cuda-emulated:bf17", "cuda-emulated:-1",
                                        "cuda-emulated:0,", "cuda-emulated:0,bf16,bf16"};
    struct ops *ops = open_ops("cuda-emulated");

    (void)state;
    ops_destroy(&ops);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_int_equal(ops_create(&ops, names[i], 1), STATUS_UNSUPPORTED);
}

#define ON(test, device) {#test " on " device, test, NULL, NULL, (void *)(uintptr_t)(device)}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON(rows_do_not_depend_on_their_number, "cuda-emulated:0"),
        ON(rows_do_not_depend_on_their_number, "cuda-emulated:bf16"),
        ON(rows_do_not_depend_on_their_number, "cuda:0"),
        ON(rows_do_not_depend_on_their_number, "cuda:0,bf16"),
        ON(forms_of_a_weight_give_the_same_bits, "cuda-emulated"),
        ON(forms_of_a_weight_give_the_same_bits, "cuda-emulated:0,bf16"),
        ON(forms_of_a_weight_give_the_same_bits, "cuda:0"),
        ON(products_of_bfloat16_are_near, "cuda-emulated:0,bf16"),
        ON(products_of_bfloat16_are_near, "cuda:0,bf16"),
        ON(attention_of_bfloat16_is_near, "cuda-emulated:bf16"),
        ON(attention_of_bfloat16_is_near, "cuda:bf16"),
        ON(a_failure_stays_until_the_sync, "cuda-emulated"),
        ON(a_failure_stays_until_the_sync, "cuda:0"),
        cmocka_unit_test(a_card_that_is_not_there_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
