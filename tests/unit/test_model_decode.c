/* Decoding with a cache against whole sequences: equal to the bit. */
#include "test_model_support.h"

enum { N_PROMPTS = 3, N_SEQUENCES = 7, MAX_PROMPT = 40, MAX_COMPLETION = 30 };

/* Completions of random length behind shared prompts, and where each one stands. */
struct game {
    struct ops *ops;
    struct model *model;
    struct model_tape *tape;
    struct model_cache *cache;
    struct random_stream stream;
    int32_t prompts[N_PROMPTS][MAX_PROMPT], n_prompt[N_PROMPTS];
    int32_t completions[N_SEQUENCES][MAX_COMPLETION], length[N_SEQUENCES], done[N_SEQUENCES];
    int32_t prompt_slot[N_PROMPTS], sequence_slot[N_SEQUENCES], prompt_of[N_SEQUENCES];
    float logprobs[N_SEQUENCES][MAX_COMPLETION];   /* as decoding sees them */
    float temperature;
};

static int32_t random_token(struct game *game)
{
    return (int32_t)random_below(&game->stream,
                                 (uint64_t)model_shape(game->model)->vocab_size);
}

static void shuffle(struct game *game, int32_t *list, int n)
{
    for (int i = 0; i < n; i++)
        list[i] = i;
    for (int i = n - 1; i > 0; i--) {
        int k = (int)random_below(&game->stream, (uint64_t)i + 1);
        int32_t kept = list[i];
        list[i] = list[k];
        list[k] = kept;
    }
}

static void open_game(struct game *game, const char *device, enum model_family family,
                      uint64_t seed)
{
    memset(game, 0, sizeof(*game));
    game->stream.seed = seed;
    game->temperature = seed % 2 ? 1.0f : 0.7f;
    game->ops = open_device(device);
    game->model = make_model(game->ops, family);
    REQUIRE_OK(model_tape_create(&game->tape, game->model));
    REQUIRE_OK(model_cache_create(&game->cache, game->model, N_PROMPTS, MAX_PROMPT, N_SEQUENCES,
                                  MAX_COMPLETION));
    for (int p = 0; p < N_PROMPTS; p++) {
        game->n_prompt[p] = 1 + (int32_t)random_below(&game->stream, MAX_PROMPT);
        for (int t = 0; t < game->n_prompt[p]; t++)
            game->prompts[p][t] = random_token(game);
    }
    for (int s = 0; s < N_SEQUENCES; s++) {
        game->length[s] = 1 + (int32_t)random_below(&game->stream, MAX_COMPLETION);
        game->prompt_of[s] = (int32_t)random_below(&game->stream, N_PROMPTS);
        for (int t = 0; t < game->length[s]; t++)
            game->completions[s][t] = random_token(game);
    }
    shuffle(game, game->prompt_slot, N_PROMPTS);
    shuffle(game, game->sequence_slot, N_SEQUENCES);
}

static void close_game(struct game *game)
{
    model_cache_destroy(&game->cache);
    model_tape_destroy(&game->tape);
    model_destroy(&game->model);
    ops_destroy(&game->ops);
}

/* Logits after the first `done` tokens of sequence s give the next one's log-probability. */
static void note_logprob(struct game *game, int s, const float *logits)
{
    if (game->done[s] < game->length[s])
        game->logprobs[s][game->done[s]] = model_logprob(
            game->model, logits, game->completions[s][game->done[s]], game->temperature);
}

static void play_prompts(struct game *game)
{
    int V = model_shape(game->model)->vocab_size;
    float *logits = mem_alloc((size_t)(N_PROMPTS * V), sizeof(float));
    int32_t tokens[N_PROMPTS * MAX_PROMPT], segments[N_PROMPTS + 1] = {0};

    for (int p = 0; p < N_PROMPTS; p++) {
        memcpy(tokens + segments[p], game->prompts[p],
               (size_t)game->n_prompt[p] * sizeof(int32_t));
        segments[p + 1] = segments[p] + game->n_prompt[p];
    }
    REQUIRE_OK(model_prefill(game->model, game->cache, N_PROMPTS, tokens, segments,
                             game->prompt_slot, logits));
    for (int s = 0; s < N_SEQUENCES; s++)
        note_logprob(game, s, logits + game->prompt_of[s] * V);
    mem_free(logits);
}

/* A random part of the unfinished sequences, in random order, one token each. */
static void play_round(struct game *game)
{
    int V = model_shape(game->model)->vocab_size, n = 0;
    float *logits = mem_alloc((size_t)(N_SEQUENCES * V), sizeof(float));
    struct model_decode_row rows[N_SEQUENCES];
    int32_t order[N_SEQUENCES], chosen[N_SEQUENCES];

    shuffle(game, order, N_SEQUENCES);
    for (int i = 0; i < N_SEQUENCES; i++) {
        int s = order[i];
        if (game->done[s] == game->length[s] || random_below(&game->stream, 3) == 0)
            continue;
        rows[n] = (struct model_decode_row){game->prompt_slot[game->prompt_of[s]],
                                            game->sequence_slot[s], game->done[s],
                                            game->completions[s][game->done[s]]};
        chosen[n++] = s;
    }
    REQUIRE_OK(model_decode(game->model, game->cache, n, rows, logits));
    for (int i = 0; i < n; i++) {
        game->done[chosen[i]]++;
        note_logprob(game, chosen[i], logits + i * V);
    }
    mem_free(logits);
}

static int is_unfinished(const struct game *game)
{
    for (int s = 0; s < N_SEQUENCES; s++)
        if (game->done[s] < game->length[s])
            return 1;
    return 0;
}

/* All sequences as one packed batch: log-probabilities must be the same bits. */
static void assert_forward_agrees(struct game *game, int keep)
{
    enum { MOST = N_SEQUENCES * (MAX_PROMPT + MAX_COMPLETION) };
    int32_t tokens[MOST], positions[MOST], rows[MOST], targets[MOST], segments[N_SEQUENCES + 1];
    float logprobs[MOST], expected[MOST];
    int n = 0, r = 0;

    for (int s = 0; s < N_SEQUENCES; s++) {
        int p = game->prompt_of[s];
        segments[s] = n;
        for (int t = 0; t < game->n_prompt[p] + game->length[s]; t++, n++) {
            int c = t - game->n_prompt[p];
            positions[n] = t;
            tokens[n] = c < 0 ? game->prompts[p][t] : game->completions[s][c];
            if (c < 0)
                continue;
            rows[r] = n - 1;
            targets[r] = tokens[n];
            expected[r++] = game->logprobs[s][c];
        }
    }
    segments[N_SEQUENCES] = n;
    struct model_batch batch = {n,    N_SEQUENCES, r,    tokens, positions, segments,
                                rows, targets,     NULL};
    REQUIRE_OK(model_forward(game->model, game->tape, &batch, game->temperature, keep, logprobs,
                             NULL));
    for (int i = 0; i < r; i++)
        if (memcmp(&logprobs[i], &expected[i], sizeof(float)) != 0)
            fail_msg("target %d on %s: %.9g packed, %.9g decoded", i, ops_name(game->ops),
                     (double)logprobs[i], (double)expected[i]);
}

static void play(const char *device, enum model_family family, uint64_t seed)
{
    struct game game;

    open_game(&game, device, family, seed);
    play_prompts(&game);
    while (is_unfinished(&game))
        play_round(&game);
    assert_forward_agrees(&game, 0);
    assert_forward_agrees(&game, 1);
    close_game(&game);
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

static void prompts_of_more_than_one_batch_are_all_computed(void **state)
{
    (void)state;
    enum { N = 14, LENGTH = 600 };   /* over two batches of 4096 tokens */
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    int V = model_shape(model)->vocab_size;
    struct model_cache *cache = NULL;
    int32_t *tokens = mem_alloc(N * LENGTH, sizeof(int32_t)), segments[N + 1], slots[N];
    float *together = mem_alloc((size_t)(N * V), sizeof(float));
    float *alone = mem_alloc((size_t)V, sizeof(float));
    struct random_stream stream = {.seed = 4};

    for (int i = 0; i < N * LENGTH; i++)
        tokens[i] = (int32_t)random_below(&stream, (uint64_t)V);
    for (int i = 0; i <= N; i++)
        segments[i] = i * LENGTH;
    for (int i = 0; i < N; i++)
        slots[i] = N - 1 - i;
    REQUIRE_OK(model_cache_create(&cache, model, N, LENGTH, 0, 0));
    REQUIRE_OK(model_prefill(model, cache, N, tokens, segments, slots, together));
    for (int i = 0; i < N; i += 6) {
        int32_t one[2] = {0, LENGTH};
        REQUIRE_OK(model_prefill(model, cache, 1, tokens + segments[i], one, slots, alone));
        assert_memory_equal(alone, together + i * V, (size_t)V * sizeof(float));
    }
    mem_free(tokens);
    mem_free(together);
    mem_free(alone);
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
    int32_t tokens[4] = {1, 2, 50, 3}, segments[2] = {0, 4}, slot = 0;
    float logits[50];

    shape.max_positions = 5;
    REQUIRE_OK(model_create(&model, ops, &shape, &model_frozen, 1));
    REQUIRE_OK(model_cache_create(&cache, model, 1, 8, 1, 8));
    assert_int_equal(model_prefill(model, cache, 1, tokens, segments, &slot, logits),
                     STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "token id 50"));
    tokens[2] = -1;
    assert_int_equal(model_prefill(model, cache, 1, tokens, segments, &slot, logits),
                     STATUS_FORMAT);
    tokens[2] = 3;
    REQUIRE_OK(model_prefill(model, cache, 1, tokens, segments, &slot, logits));
    struct model_decode_row row = {0, 0, 0, 7};
    REQUIRE_OK(model_decode(model, cache, 1, &row, logits));
    row.position = 1;
    assert_int_equal(model_decode(model, cache, 1, &row, logits), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "max_position_embeddings"));
    row = (struct model_decode_row){0, 0, 0, 1 << 20};
    assert_int_equal(model_decode(model, cache, 1, &row, logits), STATUS_FORMAT);
    model_cache_destroy(&cache);
    model_destroy(&model);
    ops_destroy(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_cpu),
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_reference),
        cmocka_unit_test(prompts_of_more_than_one_batch_are_all_computed),
        cmocka_unit_test(tokens_and_positions_out_of_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
