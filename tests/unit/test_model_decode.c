/* Decoding with a cache against whole sequences: equal to the bit. */
#include "test_model_game.h"

static void play(const char *device, enum model_family family, uint64_t seed)
{
    struct ops *ops = open_device(device);
    struct model *model = make_model(ops, family);
    struct game game;

    open_game(&game, model, seed);
    play_game(&game);
    assert_forward_agrees(&game, model, 0, 0);
    assert_forward_agrees(&game, model, 1, 0);
    assert_forward_agrees(&game, model, 0, 1);
    model_destroy(&model);
    ops_destroy(&ops);
}

static void decoded_logprobs_equal_packed_ones_to_the_bit_on_the_cpu(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++)
        play("cpu", (enum model_family)(seed % 3), seed);
}

static void decoded_logprobs_equal_packed_ones_to_the_bit_on_the_reference(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++)
        play("reference", (enum model_family)(seed % 3), seed);
}

/* More rows with logits than one chunk of the head has. */
static void decoded_logprobs_equal_packed_ones_to_the_bit_on_the_gpu(void **state)
{
    char device[64];

    (void)state;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        snprintf(device, sizeof(device), "%s%s", gpu_device(), seed == 3 ? ":bf16" : "");
        play(device, (enum model_family)(seed % 3), seed);
    }
}

static void draws_of_more_than_one_chunk_are_those_of_each_alone(void **state)
{
    enum { N = 530 };
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    struct model_decode_row *rows = mem_alloc(N, sizeof(*rows));
    struct draw *draws = mem_alloc(N, sizeof(*draws));
    int32_t *tokens = mem_alloc(N, sizeof(*tokens)), token;
    float *logprobs = mem_alloc(N, sizeof(*logprobs)), logprob;
    struct random_stream stream = {.seed = 4};
    struct model_cache *cache = NULL;

    (void)state;
    for (int i = 0; i < N; i++) {
        rows[i] = (struct model_decode_row){0, MODEL_PROMPT, i, (int32_t)random_below(&stream, 50)};
        draws[i] = (struct draw){random_real(&stream), 1, i % 2 ? 1 : 0.8f, 0, i};
    }
    REQUIRE_OK(open_cache(&cache, model, 1, N, 0, 0));
    REQUIRE_OK(model_decode(model, cache, N, rows, N, draws, tokens, logprobs));
    for (int i = 0; i < N; i++) {
        draws[i].row = 0;
        REQUIRE_OK(model_decode(model, cache, 1, &rows[i], 1, &draws[i], &token, &logprob));
        assert_int_equal(token, tokens[i]);
        assert_memory_equal(&logprob, &logprobs[i], sizeof(logprob));
    }
    mem_free(rows);
    mem_free(draws);
    mem_free(tokens);
    mem_free(logprobs);
    model_cache_destroy(&cache);
    model_destroy(&model);
    ops_destroy(&ops);
}

static void tokens_and_positions_out_of_range_are_refused(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model_shape shape = small_shape(MODEL_LLAMA);
    struct model *model = NULL;
    struct model_cache *cache = NULL;
    struct model_decode_row rows[4];

    shape.max_positions = 5;
    for (int i = 0; i < 4; i++)
        rows[i] = (struct model_decode_row){0, MODEL_PROMPT, i, i == 2 ? 50 : 1};
    REQUIRE_OK(model_create(&model, ops, &shape, &model_frozen, 1));
    REQUIRE_OK(open_cache(&cache, model, 1, 8, 1, 8));
    assert_int_equal(model_decode(model, cache, 4, rows, 0, NULL, NULL, NULL), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "token id 50"));
    rows[2].token = -1;
    assert_int_equal(model_decode(model, cache, 4, rows, 0, NULL, NULL, NULL), STATUS_FORMAT);
    rows[2].token = 3;
    REQUIRE_OK(model_decode(model, cache, 4, rows, 0, NULL, NULL, NULL));
    rows[0] = (struct model_decode_row){0, 0, 0, 7};
    REQUIRE_OK(model_decode(model, cache, 1, rows, 0, NULL, NULL, NULL));
    rows[0].position = 1;
    assert_int_equal(model_decode(model, cache, 1, rows, 0, NULL, NULL, NULL), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "max_position_embeddings"));
    rows[0] = (struct model_decode_row){0, 0, 0, 1 << 20};
    assert_int_equal(model_decode(model, cache, 1, rows, 0, NULL, NULL, NULL), STATUS_FORMAT);
    model_cache_destroy(&cache);
    model_destroy(&model);
    ops_destroy(&ops);
}

/* Two prompts and two sequences on five pages, of which a prompt takes two. */
static void pages_are_taken_as_tokens_come_and_given_back(void **state)
{
    enum { N = MODEL_PAGE + 1 };
    const struct model_cache_size size = {2, N, 2, 2 * N, 5 * MODEL_PAGE + MODEL_PAGE - 1};
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    struct model_decode_row rows[N], row = {0, 0, 0, 3};
    struct model_cache *cache = NULL;

    (void)state;
    REQUIRE_OK(model_cache_create(&cache, model, &size));
    assert_int_equal(model_cache_free_pages(cache), 5);
    for (int i = 0; i < N; i++)
        rows[i] = (struct model_decode_row){0, MODEL_PROMPT, i, 1};
    REQUIRE_OK(model_decode(model, cache, N - 1, rows, 0, NULL, NULL, NULL));
    assert_int_equal(model_cache_free_pages(cache), 4);
    REQUIRE_OK(model_decode(model, cache, 1, rows + N - 1, 0, NULL, NULL, NULL));
    assert_int_equal(model_cache_free_pages(cache), 3);
    assert_int_equal(model_cache_reserve(cache, 0, 1, 2 * MODEL_PAGE), 1);
    assert_int_equal(model_cache_reserve(cache, 0, 1, 5), 1);   /* it has them */
    assert_int_equal(model_cache_free_pages(cache), 1);
    assert_int_equal(model_cache_reserve(cache, 1, MODEL_PROMPT, N), 0);
    assert_int_equal(model_cache_free_pages(cache), 1);
    for (; row.position < MODEL_PAGE; row.position++)
        REQUIRE_OK(model_decode(model, cache, 1, &row, 0, NULL, NULL, NULL));
    assert_int_equal(model_cache_free_pages(cache), 0);
    assert_int_equal(model_decode(model, cache, 1, &row, 0, NULL, NULL, NULL), STATUS_NOMEM);
    assert_non_null(strstr(status_reason(), "all 5 pages"));
    model_cache_release(cache, 0, 1);
    REQUIRE_OK(model_decode(model, cache, 1, &row, 0, NULL, NULL, NULL));
    assert_int_equal(model_cache_free_pages(cache), 1);
    model_cache_release(cache, 0, 0);
    model_cache_release(cache, 0, MODEL_PROMPT);
    model_cache_release(cache, 0, MODEL_PROMPT);   /* nothing is left of it */
    assert_int_equal(model_cache_free_pages(cache), 5);
    model_cache_destroy(&cache);
    model_destroy(&model);
    ops_destroy(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_cpu),
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_reference),
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_gpu),
        cmocka_unit_test(draws_of_more_than_one_chunk_are_those_of_each_alone),
        cmocka_unit_test(pages_are_taken_as_tokens_come_and_given_back),
        cmocka_unit_test(tokens_and_positions_out_of_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
