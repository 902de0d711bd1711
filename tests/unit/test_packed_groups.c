/* The completions of a group on one copy of their prompt: the same bits as each alone behind a
 * prompt of its own, over random shapes; gradients; and what a micro-batch costs. */
#include "learner/batch.h"
#include "test_model_support.h"

#include <stdlib.h>

enum { MOST = 8, MOST_TOKENS = 64, N_SHAPES = 2000 };

/* Random sequences: groups behind one prompt, now and then one of another kind between them. */
struct story {
    struct sequence sequences[MOST];
    int32_t prompts[MOST][MOST_TOKENS], completions[MOST][MOST_TOKENS];
    size_t n, n_targets;
};

static void fill_tokens(struct random_stream *stream, int32_t *tokens, uint32_t n, int vocab)
{
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)random_below(stream, (uint64_t)vocab);
}

static void make_story(struct story *story, struct random_stream *stream, int vocab, size_t n)
{
    memset(story, 0, sizeof(*story));
    for (size_t i = 0; i < n; i++) {
        struct sequence *sequence = &story->sequences[i];
        if (i > 0 && random_below(stream, 4)) {
            *sequence = story->sequences[i - 1];   /* one more completion of the group */
        } else {
            sequence->n_prompt = (uint32_t)random_below(stream, random_below(stream, 2) ? 4 : 40);
            sequence->prompt = story->prompts[i];
            fill_tokens(stream, story->prompts[i], sequence->n_prompt, vocab);
        }
        sequence->n_completion = (uint32_t)random_below(stream, 40);
        sequence->completion = story->completions[i];
        fill_tokens(stream, story->completions[i], sequence->n_completion, vocab);
        story->n_targets += sequence_targets(sequence);
    }
    story->n = n;
}

/* The same with a copy of the prompt for each: nothing is shared. */
static void take_apart(struct story *story, const struct story *from)
{
    *story = *from;
    for (size_t i = 0; i < story->n; i++) {
        struct sequence *sequence = &story->sequences[i];
        memcpy(story->prompts[i], from->sequences[i].prompt,
               sequence->n_prompt * sizeof(int32_t));
        sequence->prompt = story->prompts[i];
        sequence->completion = story->completions[i];
    }
}

static struct model_shape random_shape(struct random_stream *stream)
{
    int kv_heads = 1 + (int)random_below(stream, 3);
    enum model_family family =
        (enum model_family)(MODEL_LLAMA + (int)random_below(stream, MODEL_QWEN3 - MODEL_LLAMA + 1));

    return (struct model_shape){
        .family = family, .n_layers = 1 + (int)random_below(stream, 2),
        .n_heads = kv_heads * (1 + (int)random_below(stream, 4)), .n_kv_heads = kv_heads,
        .head_dim = 2 + 2 * (int)random_below(stream, 12),
        .channels = 4 + (int)random_below(stream, 40),
        .hidden_channels = 4 + (int)random_below(stream, 40),
        .vocab_size = 2 + (int)random_below(stream, 70), .max_positions = 100,
        .qkv_bias = family == MODEL_QWEN2, .qk_norm = family == MODEL_QWEN3,
        .tied_head = random_below(stream, 2) == 0, .rope_base = 10000.0, .norm_eps = 1e-6,
    };
}

static struct model *random_model(struct ops *ops, const struct model_shape *shape, uint64_t seed)
{
    struct model *model = NULL;

    REQUIRE_OK(model_create(&model, ops, shape, &model_trainable, seed));
    widen_weights(model, seed + 1);
    return model;
}

/* All log-probabilities, in the order of the sequences; gradients too when d_logprobs is given. */
static void run_story(struct model *model, const struct story *story, size_t max_tokens,
                      const float *d_logprobs, float *logprobs)
{
    struct model_tape *tape = NULL;
    struct micro_batch *micros;
    struct arena arena;
    size_t n_micros, at = 0;

    arena_init(&arena, (size_t)4 << 20);
    REQUIRE_OK(model_tape_create(&tape, model));
    REQUIRE_OK(batch_pack(story->sequences, story->n, max_tokens, &arena, &micros, &n_micros));
    for (size_t i = 0; i < n_micros; i++) {
        const struct model_batch *batch = &micros[i].batch;
        REQUIRE_OK(model_forward(model, tape, batch, 0.9f,
                                 d_logprobs ? TAPE_KEEP_ALL : TAPE_KEEP_NOTHING, logprobs + at,
                                 NULL));
        if (d_logprobs)
            REQUIRE_OK(model_backward(model, tape, batch, 0.9f, d_logprobs + at));
        at += (size_t)batch->n_targets;
    }
    assert_int_equal(at, story->n_targets);
    model_tape_destroy(&tape);
    arena_release(&arena);
}

static void assert_same_bits(const float *got, const float *want, size_t n, const char *what,
                             int shape)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof(float)) != 0)
            fail_msg("shape %d, %s: log-probability %zu is %.9g, not %.9g", shape, what, i,
                     (double)got[i], (double)want[i]);
}

/* avx2 and avx512 share their bits; baseline has no fused multiply-add and its own. */
static void logprobs_are_the_same_bits_packed_or_alone(void **state)
{
    static const struct {
        const char *device;
        int n_threads;
    } devices[] = {{"cpu", 1}, {"cpu:avx2", 2}, {"cpu:avx512", 3}, {"cpu:baseline", 2}};
    enum { N_DEVICES = sizeof(devices) / sizeof(devices[0]) };
    struct ops *all[N_DEVICES] = {0};
    struct random_stream stream = {.seed = 77};
    static float want[MOST * MOST_TOKENS], got[MOST * MOST_TOKENS];

    (void)state;
    for (int d = 0; d < N_DEVICES; d++)
        if (ops_create(&all[d], devices[d].device, devices[d].n_threads) < 0)
            all[d] = NULL;   /* not on this machine */
    for (int shape = 0; shape < N_SHAPES; shape++) {
        struct model_shape random = random_shape(&stream);
        struct story story, apart;
        size_t budgets[] = {30, 1 + random_below(&stream, 300), 1000000};
        make_story(&story, &stream, random.vocab_size, 1 + random_below(&stream, MOST));
        take_apart(&apart, &story);
        int other = 1 + shape % (N_DEVICES - 1);
        for (int k = 0; k < 2; k++) {
            int d = k ? other : 0, is_alone = k == 0 || d == N_DEVICES - 1;
            if (!all[d])
                continue;
            struct model *model = random_model(all[d], &random, (uint64_t)shape);
            if (is_alone)
                run_story(model, &apart, 1, NULL, want);
            for (int b = k; b < 3 - k; b++) {
                run_story(model, &story, budgets[b], NULL, got);
                assert_same_bits(got, want, story.n_targets, devices[d].device, shape);
            }
            model_destroy(&model);
        }
    }
    for (int d = 0; d < N_DEVICES; d++)
        ops_destroy(&all[d]);
}

/* Two groups of three with the tokens of a small model, and weights of the loss. */
static void make_groups(struct story *story, float *d_logprobs)
{
    struct random_stream stream = {.seed = 12};

    memset(story, 0, sizeof(*story));
    for (size_t i = 0; i < 6; i++) {
        struct sequence *sequence = &story->sequences[i];
        size_t owner = i / 3 * 3;
        if (i == owner)
            fill_tokens(&stream, story->prompts[i], 9, 50);
        *sequence = (struct sequence){story->prompts[owner], story->completions[i],
                                      owner ? 2 : 9, (uint32_t)(3 + 5 * i)};
        fill_tokens(&stream, story->completions[i], sequence->n_completion, 50);
        story->n_targets += sequence_targets(sequence);
    }
    story->n = 6;
    for (size_t i = 0; i < story->n_targets; i++)
        d_logprobs[i] = (float)random_normal(&stream);
}

static double loss_of(struct model *model, const struct story *story, const float *d_logprobs)
{
    float logprobs[MOST * MOST_TOKENS];
    double loss = 0;

    run_story(model, story, 1000, NULL, logprobs);
    for (size_t i = 0; i < story->n_targets; i++)
        loss += (double)logprobs[i] * d_logprobs[i];
    return loss;
}

static void gradients_of_packed_groups_are_finite_differences(void **state)
{
    struct ops *ops = open_device("reference");
    struct random_stream stream = {.seed = 9};
    static struct story story;
    float d_logprobs[MOST * MOST_TOKENS], logprobs[MOST * MOST_TOKENS];

    (void)state;
    make_groups(&story, d_logprobs);
    for (int family = MODEL_LLAMA; family <= MODEL_QWEN3; family++) {
        struct model *model = make_model(ops, (enum model_family)family);
        model_zero_gradients(model);
        run_story(model, &story, 1000, d_logprobs, logprobs);
        for (size_t i = 0; i < model_n_weights(model); i++) {
            struct tensor weight, gradient;
            const char *name = model_weight(model, i, &weight, &gradient);
            uint64_t n = (uint64_t)tensor_count(&weight);
            uint64_t k = i ? random_below(&stream, n) : (uint64_t)story.prompts[0][3] * 20 + 4;
            float *x = tensor_f32(&weight) + k, kept = *x, above = kept + 4e-3f;
            float below = kept - 4e-3f;
            *x = above;
            model_weights_changed(model);
            double slope = loss_of(model, &story, d_logprobs);
            *x = below;
            model_weights_changed(model);
            slope = (slope - loss_of(model, &story, d_logprobs)) / ((double)above - below);
            *x = kept;
            double actual = tensor_f32(&gradient)[k];
            if (fabs(actual - slope) > 4e-3 * fmax(1.0, fabs(slope)))
                fail_msg("%s[%d]: %g, by differences %g", name, (int)k, actual, slope);
        }
        model_destroy(&model);
    }
    ops_destroy(&ops);
}

/* Gradients of weight i after one pass over the story; the caller frees each. */
static void gradients_of(struct ops *ops, const struct story *story, size_t max_tokens,
                         const float *d_logprobs, float **out)
{
    struct model *model = make_model(ops, MODEL_QWEN3);
    float logprobs[MOST * MOST_TOKENS];

    model_zero_gradients(model);
    run_story(model, story, max_tokens, d_logprobs, logprobs);
    for (size_t i = 0; i < model_n_weights(model); i++) {
        struct tensor gradient;
        model_weight(model, i, NULL, &gradient);
        out[i] = values_of(ops, &gradient);
    }
    model_destroy(&model);
}

static void gradients_are_those_of_each_alone_and_do_not_depend_on_threads(void **state)
{
    struct ops *one = NULL, *many = NULL;
    static struct story story, apart;
    float d_logprobs[MOST * MOST_TOKENS];
    float *packed[64], *alone[64], *threads[64];

    (void)state;
    REQUIRE_OK(ops_create(&one, "cpu", 1));
    REQUIRE_OK(ops_create(&many, "cpu", 16));
    make_groups(&story, d_logprobs);
    take_apart(&apart, &story);
    gradients_of(one, &story, 1000, d_logprobs, packed);
    gradients_of(many, &story, 1000, d_logprobs, threads);
    gradients_of(one, &apart, 1, d_logprobs, alone);
    struct model *model = make_model(one, MODEL_QWEN3);
    for (size_t i = 0; i < model_n_weights(model); i++) {
        struct tensor gradient;
        const char *name = model_weight(model, i, NULL, &gradient);
        size_t n = (size_t)tensor_count(&gradient);
        float most = 1e-3f;
        assert_memory_equal(packed[i], threads[i], n * sizeof(float));
        for (size_t k = 0; k < n; k++)
            most = fmaxf(most, fabsf(alone[i][k]));
        for (size_t k = 0; k < n; k++)
            if (fabsf(packed[i][k] - alone[i][k]) > 1e-5f * most)
                fail_msg("%s[%zu]: %g packed, %g alone", name, k, (double)packed[i][k],
                         (double)alone[i][k]);
        mem_free(packed[i]);
        mem_free(alone[i]);
        mem_free(threads[i]);
    }
    model_destroy(&model);
    ops_destroy(&one);
    ops_destroy(&many);
}

static void a_group_costs_its_prompt_once_in_each_micro_batch(void **state)
{
    static struct story story;
    float d_logprobs[MOST * MOST_TOKENS];
    struct micro_batch *micros;
    struct arena arena;
    size_t n_micros;

    (void)state;
    arena_init(&arena, 1 << 20);
    make_groups(&story, d_logprobs);   /* prompts of 9 and 2; completions of 3, 8, .. 28 */
    REQUIRE_OK(batch_pack(story.sequences, 6, 1000, &arena, &micros, &n_micros));
    assert_int_equal(n_micros, 1);
    assert_int_equal(micros[0].batch.n_tokens, 8 + 3 + 8 + 13 + 1 + 18 + 23 + 28);
    assert_int_equal(micros[0].batch.n_segments, 8);
    for (int s = 0; s < 8; s++)
        assert_int_equal(micros[0].batch.prefixes[s], s % 4 == 0 ? -1 : s / 4 * 4);
    for (int t = 0; t < micros[0].batch.n_targets; t++)
        assert_true(t == 0 || micros[0].batch.target_rows[t] > micros[0].batch.target_rows[t - 1]);
    /* 8 + 3 + 8 + 13 fill a budget of 32; the rest does not fit in one of 43 with 18 + 23 + 1. */
    REQUIRE_OK(batch_pack(story.sequences, 6, 32, &arena, &micros, &n_micros));
    assert_int_equal(n_micros, 4);
    assert_int_equal(micros[0].batch.n_tokens, 32);
    assert_null(micros[1].batch.prefixes);
    /* Of the second group 1 + 18 + 23 would fit beside the first, but all of it fits by itself. */
    REQUIRE_OK(batch_pack(story.sequences, 6, 80, &arena, &micros, &n_micros));
    assert_int_equal(n_micros, 2);
    assert_int_equal(micros[0].batch.n_tokens, 32);
    assert_int_equal(micros[1].batch.n_tokens, 1 + 18 + 23 + 28);
    REQUIRE_OK(batch_pack(story.sequences, 6, 22, &arena, &micros, &n_micros));
    assert_int_equal(micros[0].batch.n_tokens, 8 + 3 + 8);
    assert_int_equal(micros[1].batch.n_tokens, 8 + 13);
    assert_int_equal(micros[1].batch.positions[20], 20);
    arena_release(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logprobs_are_the_same_bits_packed_or_alone),
        cmocka_unit_test(gradients_of_packed_groups_are_finite_differences),
        cmocka_unit_test(gradients_are_those_of_each_alone_and_do_not_depend_on_threads),
        cmocka_unit_test(a_group_costs_its_prompt_once_in_each_micro_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
