/*
 * A game: completions behind shared prompts, decoded in batches of random tokens and random pieces
 * of prompts, then computed again as whole sequences. Its log-probabilities must be equal to the
 * bit.
 */
#ifndef TEST_MODEL_GAME_H
#define TEST_MODEL_GAME_H

#include "test_model_support.h"

enum { N_PROMPTS = 3, N_SEQUENCES = 7, MAX_PROMPT = 90, MAX_COMPLETION = 80 };
enum { SHORT_PROMPT = 40, SHORT_COMPLETION = 30 };   /* less than a page; every fourth is long */

/* Completions of random length behind shared prompts, and where each one stands. */
struct game {
    struct model *model;
    struct model_cache *cache;
    struct random_stream stream;
    int32_t prompts[N_PROMPTS][MAX_PROMPT], n_prompt[N_PROMPTS], computed[N_PROMPTS];
    int32_t completions[N_SEQUENCES][MAX_COMPLETION], length[N_SEQUENCES], done[N_SEQUENCES];
    int32_t prompt_slot[N_PROMPTS], sequence_slot[N_SEQUENCES], prompt_of[N_SEQUENCES];
    float logprobs[N_SEQUENCES][MAX_COMPLETION];   /* as decoding sees them */
    float temperature;
};

static inline int32_t random_token(struct game *game)
{
    return (int32_t)random_below(&game->stream,
                                 (uint64_t)model_shape(game->model)->vocab_size);
}

static inline void shuffle(struct game *game, int32_t *list, int n)
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

/* Random prompts and lengths; borrows the model. */
static inline void open_game(struct game *game, struct model *model, uint64_t seed)
{
    uint64_t most_prompt = seed % 4 < 3 ? SHORT_PROMPT : MAX_PROMPT;
    uint64_t most_completion = seed % 4 < 3 ? SHORT_COMPLETION : MAX_COMPLETION;

    memset(game, 0, sizeof(*game));
    game->stream.seed = seed;
    game->temperature = seed % 2 ? 1.0f : 0.7f;
    game->model = model;
    REQUIRE_OK(open_cache(&game->cache, model, N_PROMPTS, MAX_PROMPT, N_SEQUENCES,
                          MAX_COMPLETION));
    for (int p = 0; p < N_PROMPTS; p++) {
        game->n_prompt[p] = 1 + (int32_t)random_below(&game->stream, most_prompt);
        for (int t = 0; t < game->n_prompt[p]; t++)
            game->prompts[p][t] = random_token(game);
    }
    for (int s = 0; s < N_SEQUENCES; s++) {
        game->length[s] = 1 + (int32_t)random_below(&game->stream, most_completion);
        game->prompt_of[s] = (int32_t)random_below(&game->stream, N_PROMPTS);
    }
    shuffle(game, game->prompt_slot, N_PROMPTS);
    shuffle(game, game->sequence_slot, N_SEQUENCES);
}

/* One batch: the next token of a random part of the sequences whose prompts are computed, in random
 * order, and random pieces of the prompts that are not. Draws are what a sequence gets next. */
struct round {
    struct model_decode_row rows[N_SEQUENCES + N_PROMPTS * MAX_PROMPT];
    struct draw draws[N_SEQUENCES];
    int32_t drawer[N_SEQUENCES];   /* the sequence of a draw */
    int n_rows, n_draws;
};

static inline void add_draw(struct game *game, struct round *round, int s)
{
    if (game->done[s] >= game->length[s])
        return;
    round->draws[round->n_draws] = (struct draw){.uniform = random_real(&game->stream),
                                                 .temperature = game->temperature,
                                                 .top_p = 1,
                                                 .row = round->n_rows - 1};
    round->drawer[round->n_draws++] = s;
}

static inline void add_sequence(struct game *game, struct round *round, int s)
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

static inline void add_prompt(struct game *game, struct round *round, int p)
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

static inline void play_round(struct game *game)
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

static inline int is_unfinished(const struct game *game)
{
    for (int s = 0; s < N_SEQUENCES; s++)
        if (game->done[s] < game->length[s])
            return 1;
    return 0;
}

static inline void play_game(struct game *game)
{
    while (is_unfinished(game))
        play_round(game);
    model_cache_destroy(&game->cache);
}

/* ---- The same as learning sees it. */
enum { MOST = N_SEQUENCES * (MAX_PROMPT + MAX_COMPLETION) };
struct packed {
    int32_t tokens[MOST], positions[MOST], rows[MOST], targets[MOST];
    int32_t segments[N_PROMPTS + N_SEQUENCES + 1], prefixes[N_PROMPTS + N_SEQUENCES];
    float expected[MOST];
    int n, n_segments, n_targets;
};

/* Tokens first .. last - 1 of sequence s, or of its prompt when last is no further. */
static inline void pack_segment(const struct game *game, struct packed *packed, int s, int p,
                                int first, int last, int prefix)
{
    packed->segments[packed->n_segments] = packed->n;
    packed->prefixes[packed->n_segments++] = prefix;
    for (int t = first; t < last; t++, packed->n++) {
        int c = t - game->n_prompt[p];
        packed->positions[packed->n] = t;
        packed->tokens[packed->n] = c < 0 ? game->prompts[p][t] : game->completions[s][c];
        if (c < 0)
            continue;
        packed->rows[packed->n_targets] = packed->n - 1;
        packed->targets[packed->n_targets] = game->completions[s][c];
        packed->expected[packed->n_targets++] = game->logprobs[s][c];
    }
    packed->segments[packed->n_segments] = packed->n;
}

/* Sequences one by one, or prompts without their last token and then what follows them. */
static inline void pack_game(const struct game *game, struct packed *packed, int share)
{
    memset(packed, 0, sizeof(*packed));
    for (int p = 0; share && p < N_PROMPTS; p++)
        pack_segment(game, packed, 0, p, 0, game->n_prompt[p] - 1, -1);
    for (int s = 0; s < N_SEQUENCES; s++) {
        int p = game->prompt_of[s];
        pack_segment(game, packed, s, p, share ? game->n_prompt[p] - 1 : 0,
                     game->n_prompt[p] + game->length[s], share ? p : -1);
    }
}

/* Log-probabilities by model_forward() are the same bits. */
static inline void assert_forward_agrees(const struct game *game, struct model *model, int keep,
                                         int share)
{
    static struct packed packed;
    static float logprobs[MOST];
    struct model_tape *tape = NULL;

    pack_game(game, &packed, share);
    struct model_batch batch = {packed.n,      packed.n_segments, packed.n_targets,
                                packed.tokens, packed.positions,  packed.segments,
                                packed.rows,   packed.targets,    share ? packed.prefixes : NULL};
    REQUIRE_OK(model_tape_create(&tape, model));
    REQUIRE_OK(model_forward(model, tape, &batch, game->temperature, keep, logprobs, NULL));
    for (int i = 0; i < packed.n_targets; i++)
        if (memcmp(&logprobs[i], &packed.expected[i], sizeof(float)) != 0)
            fail_msg("target %d of seed %llu: %.9g packed on %s, %.9g decoded on %s", i,
                     (unsigned long long)game->stream.seed, (double)logprobs[i],
                     ops_name(model_ops(model)), (double)packed.expected[i],
                     ops_name(model_ops(game->model)));
    model_tape_destroy(&tape);
}

#endif
