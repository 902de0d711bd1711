/*
 * The log-probability that decoding records is the one that learning computes, to the bit: models
 * of random shapes, held in panels by the one and in rows by the other, on other threads and other
 * instruction sets, in random batches, prompts whole or in pieces, shared or not.
 *
 * HONE_EXACTNESS_SHAPES says how many shapes are tried (1000).
 */
#include "tests/unit/test_model_game.h"

#include <stdlib.h>

#define N_SHAPES 1000

static int below(struct random_stream *stream, int n)
{
    return (int)random_below(stream, (uint64_t)n);
}

static struct model_shape random_shape(struct random_stream *stream)
{
    int n_kv_heads = 1 + below(stream, 3);
    struct model_shape shape = {
        .family = (enum model_family)below(stream, 4),
        .n_layers = 1 + below(stream, 2),
        .n_heads = n_kv_heads * (1 + below(stream, 4)),
        .n_kv_heads = n_kv_heads,
        .head_dim = 2 * (1 + below(stream, 18)),
        .channels = 1 + below(stream, 50),
        .hidden_channels = 1 + below(stream, 60),
        .vocab_size = 2 + below(stream, below(stream, 8) ? 120 : 5000),
        .max_positions = 256,
        .tied_head = below(stream, 2),
        .rope_base = 10000,
        .norm_eps = 1e-6,
    };

    shape.qkv_bias = shape.family == MODEL_QWEN2;
    shape.qk_norm = shape.family == MODEL_QWEN3;
    return shape;
}

/* The same weights as a rollout worker gets them. */
static struct model *published(const struct model *model, struct ops *ops,
                               const struct model_shape *shape)
{
    struct file_map image;
    struct text config = {0};
    struct model *frozen = NULL;

    model_shape_print(shape, 0, 0, &config);
    REQUIRE_OK(model_map_weights(model, &image));
    REQUIRE_OK(model_load_map(&frozen, ops, config.data, config.length, &image, &model_frozen));
    text_release(&config);
    file_map_close(&image);
    return frozen;
}

static struct ops *random_device(struct random_stream *stream)
{
    static const char *const devices[] = {"cpu", "cpu:avx512", "cpu:avx2"};
    struct ops *ops = NULL;

    if (ops_create(&ops, devices[below(stream, 3)], 1 + below(stream, 3)) < 0)
        REQUIRE_OK(ops_create(&ops, "cpu", 1));
    return ops;
}

static void try_shape(uint64_t seed)
{
    struct random_stream stream = {.seed = random_mix(seed, 1)};
    struct ops *decoding = random_device(&stream), *learning = random_device(&stream);
    struct model_shape shape = random_shape(&stream);
    struct model_options options = {.trainable = 1, .bf16 = below(&stream, 2)};
    struct model *learned = NULL;
    struct game game;

    REQUIRE_OK(model_create(&learned, learning, &shape, &options, seed));
    widen_weights(learned, seed);
    struct model *sampled = published(learned, decoding, &shape);
    open_game(&game, sampled, seed);
    play_game(&game);
    assert_forward_agrees(&game, learned, below(&stream, 3), 0);
    assert_forward_agrees(&game, learned, below(&stream, 3), 1);
    model_destroy(&sampled);
    model_destroy(&learned);
    ops_destroy(&decoding);
    ops_destroy(&learning);
}

static void what_decoding_records_is_what_learning_computes(void **state)
{
    const char *wanted = getenv("HONE_EXACTNESS_SHAPES");
    uint64_t n = wanted ? strtoull(wanted, NULL, 10) : N_SHAPES;

    (void)state;
    for (uint64_t seed = 1; seed <= n; seed++)
        try_shape(seed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_decoding_records_is_what_learning_computes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
