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
    int32_t prompts[N_PROMPTS][MAX_PROMPT], n_prompt[N_PROMPTS], computed[N_PROMPTS];
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

/* One batch: the next token of a random part of the sequences whose prompts are computed, in random
 * order, and random pieces of the prompts that are not. Draws are what a sequence gets next. */
struct round {
    struct model_decode_row rows[N_SEQUENCES + N_PROMPTS * MAX_PROMPT];
    struct draw draws[N_SEQUENCES];
    int32_t drawer[N_SEQUENCES];   /* the sequence of a draw */
    int n_rows, n_draws;
};

static void add_draw(struct game *game, struct round *round, int s)
{
    if (game->done[s] >= game->length[s])
        return;
    round->draws[round->n_draws] = (struct draw){.uniform = random_real(&game->stream),
                                                 .temperature = game->temperature,
                                                 .top_p = 1,
                                                 .row = round->n_rows - 1};
    round->drawer[round->n_draws++] = s;
}

static void add_sequence(struct game *game, struct round *round, int s)
{
    int p = game->prompt_of[s];

    if (game->computed[p] < game->n_prompt[p] || game->done[s] == game->length[s] ||
        random_below(&game->stream, 3) == 0)
        return;
    round->rows[round->n_rows++] =
        (struct model_decode_row){game->prompt_slot[p], game->sequence_slot[s], game->done[s] - 1,
                                  game->completions[s][game->done[s] - 1]};
    add_draw(game, round, s);
}

static void add_prompt(struct game *game, struct round *round, int p)
{
    int left = game->n_prompt[p] - game->computed[p];
    int n = left ? (int)random_below(&game->stream, (uint64_t)left + 1) : 0;

    for (int i = 0; i < n; i++, game->computed[p]++)
        round->rows[round->n_rows++] =
            (struct model_decode_row){game->prompt_slot[p], MODEL_PROMPT, game->computed[p],
                                      game->prompts[p][game->computed[p]]};
    for (int s = 0; n && n == left && s < N_SEQUENCES; s++)
        if (game->prompt_of[s] == p)
            add_draw(game, round, s);
}

static void play_round(struct game *game)
{
    struct round round = {.n_rows = 0};
    int32_t order[N_SEQUENCES], tokens[N_SEQUENCES];
    float logprobs[N_SEQUENCES];

    shuffle(game, order, N_SEQUENCES);
    for (int i = 0; i < N_SEQUENCES; i++)
        add_sequence(game, &round, order[i]);
    shuffle(game, order, N_PROMPTS);
    for (int i = 0; i < N_PROMPTS; i++)
        add_prompt(game, &round, order[i]);
    REQUIRE_OK(model_decode(game->model, game->cache, round.n_rows, round.rows, round.n_draws,
                            round.draws, tokens, logprobs));
    for (int i = 0; i < round.n_draws; i++) {
        int s = round.drawer[i];
        game->completions[s][game->done[s]] = tokens[i];
        game->logprobs[s][game->done[s]++] = logprobs[i];
    }
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
    REQUIRE_OK(model_cache_create(&cache, model, 1, N, 0, 0));
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
    REQUIRE_OK(model_cache_create(&cache, model, 1, 8, 1, 8));
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_cpu),
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_reference),
        cmocka_unit_test(decoded_logprobs_equal_packed_ones_to_the_bit_on_the_gpu),
        cmocka_unit_test(draws_of_more_than_one_chunk_are_those_of_each_alone),
        cmocka_unit_test(tokens_and_positions_out_of_range_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
