/* Passes that are recorded once and launched whole (CUDA graphs): the bits of plain ones. */
#include "test_model_support.h"

#include "common/log.h"

enum { N_PROMPTS = 2, N_SEQUENCES = 11, PROMPT = 24, STEPS = 12 };

/* What the device was asked for. */
static struct ops_table counting;
static const struct ops_table *real;
static int n_begun, n_launched, is_broken;

static void count_begin(void *context)
{
    n_begun++;
    real->record_begin(context);
}

static int count_end(void *context, void **recording)
{
    int status = real->record_end(context, recording);

    if (status < 0 || !is_broken)
        return status;
    real->record_free(context, *recording);
    *recording = NULL;
    return status_fail(STATUS_DEVICE, "no graph today");
}

static void count_launch(void *context, void *recording)
{
    n_launched++;
    real->record_launch(context, recording);
}

struct fixture {
    struct ops *ops;
    struct model *model;
    struct model_cache *recorded, *plain;
    struct random_stream stream;
};

static void open_caches(struct fixture *f, int max_prompt)
{
    REQUIRE_OK(open_cache(&f->recorded, f->model, N_PROMPTS, max_prompt, N_SEQUENCES, 2 * STEPS));
    REQUIRE_OK(open_cache(&f->plain, f->model, N_PROMPTS, max_prompt, N_SEQUENCES, 2 * STEPS));
    model_cache_record(f->plain, 0);
}

static int setup(void **state)
{
    struct fixture *f = mem_alloc(1, sizeof(*f));
    struct model_shape shape = small_shape(MODEL_QWEN2);

    log_set_level(LOG_ERROR);
    n_begun = n_launched = is_broken = 0;
    f->stream.seed = 5;
    f->ops = open_device(gpu_device());
    real = f->ops->table;
    counting = *real;
    counting.record_begin = count_begin;
    counting.record_end = count_end;
    counting.record_launch = count_launch;
    f->ops->table = &counting;
    REQUIRE_OK(model_create(&f->model, f->ops, &shape, &model_trainable, 1));
    widen_weights(f->model, 2);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    model_cache_destroy(&f->recorded);
    model_cache_destroy(&f->plain);
    model_destroy(&f->model);
    ops_destroy(&f->ops);
    mem_free(f);
    return 0;
}

/* Both caches run the same rows; what they draw must be the same. */
static void decode_both(struct fixture *f, int n, const struct model_decode_row *rows, int n_draws,
                        const struct draw *draws)
{
    int32_t tokens[2][N_SEQUENCES];
    float logprobs[2][N_SEQUENCES];

    REQUIRE_OK(model_decode(f->model, f->recorded, n, rows, n_draws, draws, tokens[0],
                            logprobs[0]));
    REQUIRE_OK(model_decode(f->model, f->plain, n, rows, n_draws, draws, tokens[1], logprobs[1]));
    assert_memory_equal(tokens[0], tokens[1], (size_t)n_draws * sizeof(int32_t));
    assert_memory_equal(logprobs[0], logprobs[1], (size_t)n_draws * sizeof(float));
}

static void decode_prompts(struct fixture *f, int length)
{
    struct model_decode_row rows[256];

    for (int p = 0; p < N_PROMPTS; p++) {
        for (int i = 0; i < length; i++)
            rows[i] = (struct model_decode_row){p, MODEL_PROMPT, i,
                                                (int32_t)random_below(&f->stream, 50)};
        decode_both(f, length, rows, 0, NULL);
    }
}

/* The next token of n sequences, at this position. */
static void decode_step(struct fixture *f, int n, int position)
{
    struct model_decode_row rows[N_SEQUENCES];
    struct draw draws[N_SEQUENCES];

    for (int i = 0; i < n; i++) {
        rows[i] = (struct model_decode_row){i % N_PROMPTS, i, position,
                                            (int32_t)random_below(&f->stream, 50)};
        draws[i] = (struct draw){random_real(&f->stream), 1, i % 3 ? 1 : 0.8f, i % 2 ? 5 : 0, i};
    }
    decode_both(f, n, rows, n, draws);
}

static void recorded_passes_give_the_bits_of_plain_ones(void **state)
{
    static const int n[STEPS] = {11, 11, 11, 9, 9, 5, 5, 3, 3, 2, 1, 1};
    struct fixture *f = *state;

    open_caches(f, PROMPT);
    decode_prompts(f, PROMPT);
    for (int i = 0; i < STEPS; i++)
        decode_step(f, n[i], i);
    /* 11 and 9 fill up to 16, 5 to 8, 3 to 4; the first of each is run, one 2 and two of 1. */
    assert_int_equal(n_begun, 4);
    assert_int_equal(n_launched, 4 + 1 + 1 + 1);
}

static void new_weights_reach_what_was_recorded(void **state)
{
    struct fixture *f = *state;

    open_caches(f, PROMPT);
    decode_prompts(f, PROMPT);
    for (int i = 0; i < 3; i++)
        decode_step(f, 4, i);
    widen_weights(f->model, 9);
    decode_step(f, 4, 3);
    assert_int_equal(n_begun, 1);
    assert_int_equal(n_launched, 3);
}

/* The table of angles moves when it grows, at 256 positions. */
static void memory_that_moves_is_recorded_anew(void **state)
{
    struct fixture *f = *state;

    open_caches(f, 250);
    decode_prompts(f, 250);
    for (int i = 0; i < STEPS; i++)
        decode_step(f, 2, i);
    assert_int_equal(n_begun, 2);
    assert_int_equal(n_launched, STEPS - 2);
}

static void a_device_that_cannot_record_after_all_decodes_on(void **state)
{
    struct fixture *f = *state;

    open_caches(f, PROMPT);
    decode_prompts(f, PROMPT);
    is_broken = 1;
    for (int i = 0; i < 5; i++)
        decode_step(f, 4, i);
    assert_int_equal(n_begun, 1);   /* said once */
    assert_int_equal(n_launched, 0);
}

static void passes_with_prompts_in_them_are_not_recorded(void **state)
{
    struct fixture *f = *state;
    const struct model_decode_row rows[2] = {{0, 0, 0, 3}, {1, MODEL_PROMPT, 0, 4}};
    const struct draw draws[2] = {{0.5, 1, 1, 0, 0}, {0.5, 1, 1, 0, 1}};

    open_caches(f, PROMPT);
    decode_prompts(f, 1);
    for (int i = 0; i < 3; i++)
        decode_both(f, 2, rows, 2, draws);
    assert_int_equal(n_begun, 0);
}

static void host_copies_allocations_and_syncs_cannot_be_recorded(void **state)
{
    struct fixture *f = *state;
    void *recording, *memory = NULL, *more = NULL;
    char host[64] = {0};

    REQUIRE_OK(ops_alloc(f->ops, sizeof(host), &memory));
    for (int i = 0; i < 4; i++) {
        ops_record_begin(f->ops);
        if (i == 0)
            ops_upload(f->ops, memory, host, sizeof(host));
        if (i == 1)
            ops_download(f->ops, host, memory, sizeof(host));
        if (i == 2)
            assert_true(ops_alloc(f->ops, 64, &more) < 0);
        if (i == 3)
            assert_true(ops_sync(f->ops) < 0);
        assert_true(ops_record_end(f->ops, &recording) < 0);
        assert_null(recording);
        REQUIRE_OK(ops_sync(f->ops));   /* and the device goes on */
    }
    ops_record_begin(f->ops);
    ops_zero(f->ops, memory, sizeof(host));
    REQUIRE_OK(ops_record_end(f->ops, &recording));
    memset(host, 7, sizeof(host));
    ops_upload(f->ops, memory, host, sizeof(host));
    ops_record_launch(f->ops, recording);
    ops_download(f->ops, host, memory, sizeof(host));
    REQUIRE_OK(ops_sync(f->ops));
    for (size_t i = 0; i < sizeof(host); i++)
        assert_int_equal(host[i], 0);
    ops_record_free(f->ops, recording);
    ops_free(f->ops, memory);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(recorded_passes_give_the_bits_of_plain_ones),
        TEST(new_weights_reach_what_was_recorded),
        TEST(memory_that_moves_is_recorded_anew),
        TEST(a_device_that_cannot_record_after_all_decodes_on),
        TEST(passes_with_prompts_in_them_are_not_recorded),
        TEST(host_copies_allocations_and_syncs_cannot_be_recorded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
