#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/status.h"
#include "ops/backend.h"
#include "ops/cpu/cpu.h"
#include "ops/ops.h"

static struct ops *open_ops(const char *device, int n_threads)
{
    struct ops *ops = NULL;

    assert_int_equal(ops_create(&ops, device, n_threads), STATUS_OK);
    return ops;
}

/* ---- Devices and memory. */
static void a_device_is_opened_by_name(void **state)
{
    struct ops *ops = open_ops("cpu", 2);

    (void)state;
    assert_non_null(strstr(ops_name(ops), "cpu ("));
    assert_non_null(strstr(ops_name(ops), "2 threads)"));
    ops_destroy(&ops);
    assert_null(ops);
    ops_destroy(&ops);
    ops = open_ops("reference", 0);
    assert_string_equal(ops_name(ops), "reference (1 thread)");
    ops_destroy(&ops);
    ops = open_ops("cpu:baseline", 1);
    assert_string_equal(ops_name(ops), "cpu (baseline, 1 thread)");
    ops_destroy(&ops);
}

static void a_device_that_is_not_there_is_refused_with_the_reason(void **state)
{
    static const char *const names[] = {"tpu", "cpux", "cpu:mmx", "reference:fast", ""};
    struct ops *ops = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        assert_int_equal(ops_create(&ops, names[i], 1), STATUS_UNSUPPORTED);
        assert_null(ops);
        assert_non_null(strstr(status_reason(), "use \""));
    }
    assert_int_equal(ops_create(&ops, "cpu", -1), STATUS_CONFIG);
}

static void an_absent_gpu_is_refused(void **state)
{
    struct ops *ops = NULL;

    (void)state;
    if (ops_table_cuda)
        skip();
    assert_int_equal(ops_create(&ops, "cuda:0", 0), STATUS_UNSUPPORTED);
    assert_non_null(strstr(status_reason(), "no CUDA"));
}

static void memory_is_aligned_and_zeroed(void **state)
{
    struct ops *ops = open_ops("cpu", 1);
    const size_t sizes[] = {0, 1, 63, 65, 3 << 20};

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *memory = NULL;
        assert_int_equal(ops_alloc(ops, sizes[i], &memory), STATUS_OK);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            assert_int_equal(((unsigned char *)memory)[j], 0);
        ops_free(ops, memory);
    }
    ops_free(ops, NULL);
    ops_destroy(&ops);
}

static void too_much_memory_is_a_status(void **state)
{
    struct ops *ops = open_ops("cpu", 1);
    void *memory = &ops;

    (void)state;
    assert_int_equal(ops_alloc(ops, SIZE_MAX / 2, &memory), STATUS_NOMEM);
    assert_null(memory);
    assert_int_equal(ops_alloc(ops, SIZE_MAX, &memory), STATUS_NOMEM);
    ops_destroy(&ops);
}

static void copies_arrive(void **state)
{
    struct ops *ops = open_ops("cpu", 1);
    float host[3] = {1, 2, 3}, back[3] = {0};
    void *a = NULL, *b = NULL;

    (void)state;
    assert_int_equal(ops_alloc(ops, sizeof(host), &a), STATUS_OK);
    assert_int_equal(ops_alloc(ops, sizeof(host), &b), STATUS_OK);
    ops_upload(ops, a, host, sizeof(host));
    ops_copy(ops, b, a, sizeof(host));
    ops_zero(ops, a, sizeof(host));
    ops_download(ops, back, b, sizeof(host));
    assert_int_equal(ops_sync(ops), STATUS_OK);
    assert_memory_equal(host, back, sizeof(host));
    ops_download(ops, back, a, sizeof(host));
    assert_true(back[0] == 0 && back[2] == 0);
    ops_free(ops, a);
    ops_free(ops, b);
    ops_destroy(&ops);
}

static void an_arena_measures_then_carves(void **state)
{
    struct ops_arena arena = {0};
    _Alignas(64) unsigned char memory[256];
    const int64_t shape[] = {3, 5};

    (void)state;
    assert_null(ops_arena_carve(&arena, DTYPE_F32, 2, shape).data);
    ops_arena_carve(&arena, DTYPE_BF16, 1, shape);
    assert_int_equal(arena.high_water, 128);
    arena = (struct ops_arena){.base = memory, .capacity = arena.high_water};
    struct tensor a = ops_arena_carve(&arena, DTYPE_F32, 2, shape);
    struct tensor b = ops_arena_carve(&arena, DTYPE_I32, 1, shape);
    assert_ptr_equal(a.data, memory);
    assert_ptr_equal(b.data, memory + 64);
    assert_int_equal(tensor_count(&a), 15);
    assert_int_equal(b.dtype, DTYPE_I32);
    arena.used = 0;
    a = ops_arena_carve(&arena, DTYPE_F32, 1, shape);
    assert_ptr_equal(a.data, memory);
    assert_int_equal(arena.high_water, 128);
}

static void a_failed_op_is_remembered_until_sync(void **state)
{
    struct ops *ops = open_ops("cpu", 1);
    struct cpu *cpu = ops->context;
    float x[4] = {1, 2, 3, 4};
    struct tensor t = tensor_1d(x, 4);

    (void)state;
    assert_null(cpu_scratch(cpu, CPU_SCRATCH_SHARED, SIZE_MAX / 2));
    assert_true(isnan(ops_sum_squares(ops, &t)));
    assert_int_equal(ops_sync(ops), STATUS_NOMEM);
    assert_int_equal(ops_sync(ops), STATUS_OK);
    assert_true(ops_sum_squares(ops, &t) == 30);
    ops_destroy(&ops);
}

/* ---- Wrong calls. */
static float pool_of_floats[64];
static int32_t pool_of_indices[] = {0, 7, -1};

static void call_matmul_of_wrong_width(struct ops *ops)
{
    struct tensor in = tensor_2d(pool_of_floats, 2, 3), out = tensor_2d(pool_of_floats, 2, 2);
    struct matrix weight = matrix_rows(pool_of_floats, 2, 4);

    ops_matmul(ops, &out, &in, &weight, NULL);
}

static void call_norm_of_wrong_rows(struct ops *ops)
{
    struct tensor in = tensor_2d(pool_of_floats, 2, 3), out = tensor_2d(pool_of_floats, 3, 3);
    struct tensor weight = tensor_1d(pool_of_floats, 3);

    ops_rmsnorm(ops, &out, NULL, &in, &weight, 1e-6f);
}

static void call_embedding_of_unknown_token(struct ops *ops)
{
    struct matrix table = matrix_rows(pool_of_floats, 5, 2);
    struct tensor out = tensor_2d(pool_of_floats, 2, 2);
    struct tensor tokens = tensor_i32(pool_of_indices, 2);

    ops_embedding(ops, &out, &table, &tokens);
}

static void call_logprob_of_negative_target(struct ops *ops)
{
    struct tensor logits = tensor_2d(pool_of_floats, 1, 9), out = tensor_1d(pool_of_floats, 1);
    struct tensor targets = tensor_i32(pool_of_indices + 2, 1);

    ops_token_logprob(ops, &out, NULL, &logits, &targets, 1);
}

static void call_with_indices_for_floats(struct ops *ops)
{
    struct tensor x = tensor_i32(pool_of_indices, 2), y = tensor_1d(pool_of_floats, 2);

    ops_add(ops, &x, &y);
}

static void call_attention_of_short_segments(struct ops *ops)
{
    static const int32_t bounds[] = {0, 1};
    struct tensor q = tensor_3d(pool_of_floats, 2, 1, 2), out = tensor_3d(pool_of_floats, 2, 1, 2);
    struct tensor segments = tensor_i32(bounds, 2);

    ops_attention(ops, &out, NULL, &q, &q, &q, &segments, NULL);
}

static void call_attention_behind_a_later_segment(struct ops *ops)
{
    static const int32_t bounds[] = {0, 1, 2}, before[] = {1, -1};
    struct tensor q = tensor_3d(pool_of_floats, 2, 1, 2), out = tensor_3d(pool_of_floats, 2, 1, 2);
    struct tensor segments = tensor_i32(bounds, 3), prefixes = tensor_i32(before, 2);

    ops_attention(ops, &out, NULL, &q, &q, &q, &segments, &prefixes);
}

static void call_attention_behind_two_segments(struct ops *ops)
{
    static const int32_t bounds[] = {0, 1, 2, 3}, before[] = {-1, 0, 1};
    struct tensor q = tensor_3d(pool_of_floats, 3, 1, 2), out = tensor_3d(pool_of_floats, 3, 1, 2);
    struct tensor segments = tensor_i32(bounds, 4), prefixes = tensor_i32(before, 3);

    ops_attention(ops, &out, NULL, &q, &q, &q, &segments, &prefixes);
}

static void call_decode_without_keys(struct ops *ops)
{
    static const int32_t none[4] = {0};
    struct tensor q = tensor_3d(pool_of_floats, 1, 1, 2), runs = tensor_i32(none, 4);
    struct tensor pages = tensor_i32(none, 1);
    struct kv_cache cache = {
        .n_rows = 16, .K = 1, .D = 2, .page_rows = 16, .data = pool_of_floats};

    ops_attention_decode(ops, &q, &q, &cache, &pages, &runs);
}

/* A page that the cache does not have, and rows beyond the pages that are named. */
static void call_decode_of_page(struct ops *ops, int32_t page, int32_t n_rows)
{
    const int32_t run[4] = {0, n_rows, 0, 0};
    struct tensor q = tensor_3d(pool_of_floats, 1, 1, 2), runs = tensor_i32(run, 4);
    struct tensor pages = tensor_i32(&page, 1);
    struct kv_cache cache = {
        .n_rows = 32, .K = 1, .D = 2, .page_rows = 16, .data = pool_of_floats};

    ops_attention_decode(ops, &q, &q, &cache, &pages, &runs);
}

static void call_decode_of_unknown_page(struct ops *ops)
{
    call_decode_of_page(ops, 2, 16);
}

static void call_decode_behind_the_pages(struct ops *ops)
{
    call_decode_of_page(ops, 1, 17);
}

static void call_decode_of_odd_pages(struct ops *ops)
{
    static const int32_t run[4] = {0, 1, 0, 0};
    struct tensor q = tensor_3d(pool_of_floats, 1, 1, 2), runs = tensor_i32(run, 4);
    struct tensor pages = tensor_i32(run, 1);
    struct kv_cache cache = {
        .n_rows = 48, .K = 1, .D = 2, .page_rows = 48, .data = pool_of_floats};

    ops_attention_decode(ops, &q, &q, &cache, &pages, &runs);
}

static void call_carve_of_full_arena(struct ops *ops)
{
    struct ops_arena arena = {.base = (unsigned char *)pool_of_floats, .capacity = 64};

    (void)ops;
    ops_arena_carve(&arena, DTYPE_F32, 1, (const int64_t[]){17});
}

static void wrong_calls_are_bugs(void **state)
{
    void (*const calls[])(struct ops *ops) = {
        call_matmul_of_wrong_width,       call_norm_of_wrong_rows,
        call_embedding_of_unknown_token,  call_logprob_of_negative_target,
        call_with_indices_for_floats,     call_attention_of_short_segments,
        call_decode_without_keys,         call_carve_of_full_arena,
        call_decode_of_unknown_page,      call_decode_behind_the_pages,
        call_decode_of_odd_pages,
        call_attention_behind_a_later_segment, call_attention_behind_two_segments,
    };

    (void)state;
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        int status = 0;
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGABRT, SIG_DFL);
            fclose(stderr);
            struct ops *ops = NULL;
            if (ops_create(&ops, "cpu", 1) == STATUS_OK)
                calls[i](ops);
            _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

static void ops_of_no_rows_do_nothing(void **state)
{
    struct ops *ops = open_ops("cpu", 2);
    struct tensor none = tensor_2d(NULL, 0, 4), vector = tensor_1d(NULL, 0);
    struct tensor targets = tensor_i32(NULL, 0);
    static const int32_t bounds[] = {0};
    struct tensor heads = tensor_3d(NULL, 0, 2, 2), segments = tensor_i32(bounds, 1);
    struct matrix weight = matrix_rows(pool_of_floats, 4, 4);

    (void)state;
    ops_matmul(ops, &none, &none, &weight, NULL);
    ops_swiglu(ops, &none, &none, &none);
    ops_token_logprob(ops, &vector, NULL, &none, &targets, 1);
    ops_token_logprob_backward(ops, &none, &vector, &targets, 1);
    ops_attention(ops, &heads, NULL, &heads, &heads, &heads, &segments, NULL);
    struct kv_cache cache = {.n_rows = 0, .K = 2, .D = 2, .page_rows = 16};
    ops_cache_store(ops, &cache, &heads, &heads, &targets);
    ops_attention_decode(ops, &heads, &heads, &cache, &targets, &targets);
    struct tensor tokens = tensor_i32(NULL, 0);
    ops_sample(ops, &tokens, &vector, &none, NULL);
    ops_add(ops, &none, &none);
    assert_true(ops_all_finite(ops, &none));
    assert_true(ops_sum_squares(ops, &none) == 0);
    assert_int_equal(ops_sync(ops), STATUS_OK);
    ops_destroy(&ops);
}

/* ---- Numbers. */
/* Worked by hand from the formula in ops.h. */
static void adamw_takes_the_steps_of_the_formula(void **state)
{
    struct ops *ops = open_ops(*state, 1);
    float w = 1, m = 0, v = 0, g = 1;
    struct tensor tw = tensor_1d(&w, 1), tm = tensor_1d(&m, 1), tv = tensor_1d(&v, 1);
    struct tensor tg = tensor_1d(&g, 1);
    struct adamw_step step = {.learning_rate = 0.1,
                              .beta1 = 0.9,
                              .beta2 = 0.999,
                              .epsilon = 1e-8,
                              .weight_decay = 0.01,
                              .gradient_scale = 0.5,
                              .step = 1};

    ops_adamw(ops, &tw, &tm, &tv, &tg, &step);
    assert_float_equal(w, 0.899, 2e-7);
    assert_float_equal(m, 0.05, 1e-8);
    assert_float_equal(v, 0.00025, 1e-10);
    g = -0.5f;
    step.step = 2;
    ops_adamw(ops, &tw, &tm, &tv, &tg, &step);
    assert_float_equal(w, 0.8714673, 3e-7);
    assert_float_equal(m, 0.02, 1e-8);
    assert_float_equal(v, 0.00031225, 1e-10);
    ops_destroy(&ops);
}

static void one_bad_number_is_found_wherever_it_is(void **state)
{
    enum { COUNT = 10007 };
    struct ops *ops = open_ops(*state, 2);
    float *x = calloc(COUNT, sizeof(*x));
    struct tensor t = tensor_1d(x, COUNT);
    const float bad[] = {NAN, INFINITY, -INFINITY};

    x[5] = 3e38f;
    x[6] = -3e38f;
    assert_true(ops_all_finite(ops, &t));
    for (int i = 0; i < COUNT; i += i < 20 || i > COUNT - 20 ? 1 : 501) {
        float before = x[i];
        x[i] = bad[i % 3];
        assert_false(ops_all_finite(ops, &t));
        x[i] = before;
    }
    free(x);
    ops_destroy(&ops);
}

static void squares_of_large_numbers_do_not_overflow(void **state)
{
    struct ops *ops = open_ops(*state, 1);
    float x[] = {1e30f, 1e30f};
    struct tensor t = tensor_1d(x, 2);

    assert_true(fabs(ops_sum_squares(ops, &t) / 2e60 - 1) < 1e-6);
    ops_destroy(&ops);
}

static void logprob_holds_at_the_extremes(void **state)
{
    struct ops *ops = open_ops(*state, 1);
    float logits[] = {1000, 0, -1000, -INFINITY}, logprob, entropy;
    int32_t target = 0;
    struct tensor l = tensor_2d(logits, 1, 4), t = tensor_i32(&target, 1);
    struct tensor p = tensor_1d(&logprob, 1), e = tensor_1d(&entropy, 1);

    ops_token_logprob(ops, &p, &e, &l, &t, 1);
    assert_true(logprob == 0 && entropy == 0);
    target = 1;
    ops_token_logprob(ops, &p, &e, &l, &t, 1);
    assert_true(logprob == -1000);
    ops_destroy(&ops);
}

static void exp_is_within_two_units_in_the_last_place(void **state)
{
    const struct kernels *const *all = processor_kernels();
    enum { COUNT = 4096 };
    static float x[COUNT], y[COUNT];

    (void)state;
    for (; *all; all++) {
        for (int block = 0; block < 100; block++) {
            for (int i = 0; i < COUNT; i++)
                x[i] = -87.3f + 175.6f * (float)(block * COUNT + i) / (100 * COUNT);
            (*all)->exp(y, x, COUNT);
            for (int i = 0; i < COUNT; i++) {
                double want = exp((double)x[i]);
                double unit = ldexp(1, ilogb(want) - 23);
                if (!(fabs(y[i] - want) <= 2 * unit))
                    fail_msg("exp(%.9g) is %.9g on %s", (double)x[i], (double)y[i], (*all)->name);
            }
        }
        const float edges[] = {0, -INFINITY, -88, -1e30f, INFINITY, 1e30f};
        (*all)->exp(y, edges, 6);
        assert_true(y[0] == 1 && y[1] == 0 && y[2] == 0 && y[3] == 0);
        assert_true(isinf(y[4]) && isinf(y[5]));
        x[0] = NAN;
        (*all)->exp(y, x, 1);
        assert_true(isnan(y[0]));
    }
}

/* ---- The pool. */
struct counts {
    _Atomic int tasks[1000];
    _Atomic int thread_seen[8];
};

static void count_task(void *argument, int64_t i, int thread)
{
    struct counts *counts = argument;

    atomic_fetch_add(&counts->tasks[i], 1);
    atomic_fetch_add(&counts->thread_seen[thread], 1);
}

static void every_task_of_every_loop_runs_once(void **state)
{
    (void)state;
    for (int n_threads = 1; n_threads <= 4; n_threads++) {
        struct pool *pool = NULL;
        static struct counts counts;
        memset(&counts, 0, sizeof(counts));
        assert_int_equal(pool_create(&pool, n_threads), STATUS_OK);
        assert_int_equal(pool_n_threads(pool), n_threads);
        for (int loop = 1; loop <= 300; loop++) {
            int n_tasks = loop % 3 == 0 ? 1000 : loop % 3 == 1 ? 2 : 17;
            pool_run(pool, n_tasks, count_task, &counts);
        }
        assert_int_equal(counts.tasks[0], 300);
        assert_int_equal(counts.tasks[1], 300);
        assert_int_equal(counts.tasks[16], 200);
        assert_int_equal(counts.tasks[17], 100);
        assert_int_equal(counts.tasks[999], 100);
        for (int i = n_threads; i < 8; i++)
            assert_int_equal(counts.thread_seen[i], 0);
        pool_run(pool, 0, count_task, &counts);
        pool_destroy(&pool);
        assert_null(pool);
        pool_destroy(&pool);
    }
}

#define ON(test, device) {#test " on " device, test, NULL, NULL, (void *)(uintptr_t)(device)}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_is_opened_by_name),
        cmocka_unit_test(a_device_that_is_not_there_is_refused_with_the_reason),
        cmocka_unit_test(an_absent_gpu_is_refused),
        cmocka_unit_test(memory_is_aligned_and_zeroed),
        cmocka_unit_test(too_much_memory_is_a_status),
        cmocka_unit_test(copies_arrive),
        cmocka_unit_test(an_arena_measures_then_carves),
        cmocka_unit_test(a_failed_op_is_remembered_until_sync),
        cmocka_unit_test(wrong_calls_are_bugs),
        cmocka_unit_test(ops_of_no_rows_do_nothing),
        ON(adamw_takes_the_steps_of_the_formula, "reference"),
        ON(adamw_takes_the_steps_of_the_formula, "cpu"),
        ON(adamw_takes_the_steps_of_the_formula, "cpu:baseline"),
        ON(one_bad_number_is_found_wherever_it_is, "reference"),
        ON(one_bad_number_is_found_wherever_it_is, "cpu"),
        ON(one_bad_number_is_found_wherever_it_is, "cpu:baseline"),
        ON(squares_of_large_numbers_do_not_overflow, "cpu"),
        ON(logprob_holds_at_the_extremes, "cpu"),
        ON(logprob_holds_at_the_extremes, "cpu:baseline"),
        cmocka_unit_test(exp_is_within_two_units_in_the_last_place),
        cmocka_unit_test(every_task_of_every_loop_runs_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
