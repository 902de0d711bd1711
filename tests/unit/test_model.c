/* Properties of the forward and backward pass that need no outside numbers. */
#include "test_model_support.h"

enum { N_TOKENS = 17, N_TARGETS = 9 };

static const int32_t positions[N_TOKENS] = {0, 1, 2, 3, 4, 5, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
static const int32_t segments[] = {0, 6, 7, 17};
static const int32_t rows[N_TARGETS] = {5, 0, 2, 6, 9, 16, 12, 14, 8};
static const int32_t targets[N_TARGETS] = {3, 49, 0, 17, 17, 8, 1, 30, 22};

static struct model_batch make_batch(int32_t tokens[N_TOKENS], uint64_t seed)
{
    struct random_stream stream = {.seed = seed};

    for (int i = 0; i < N_TOKENS; i++)
        tokens[i] = (int32_t)random_below(&stream, 50);
    return (struct model_batch){N_TOKENS, 3, N_TARGETS, tokens, positions, segments, rows, targets,
                                NULL};
}

/* A loss with a different weight for each target. */
static double weighted_sum(const float *logprobs)
{
    double sum = 0.0;

    for (int i = 0; i < N_TARGETS; i++)
        sum += (0.5 + 0.1 * i) * logprobs[i];
    return sum;
}

static double forward(struct model *model, struct model_tape *tape,
                      const struct model_batch *batch, float temperature)
{
    float logprobs[N_TARGETS];

    REQUIRE_OK(model_forward(model, tape, batch, temperature, 1, logprobs, NULL));
    return weighted_sum(logprobs);
}

static void backward(struct model *model, struct model_tape *tape,
                     const struct model_batch *batch, float temperature)
{
    float d_logprobs[N_TARGETS];

    for (int i = 0; i < N_TARGETS; i++)
        d_logprobs[i] = 0.5f + 0.1f * (float)i;
    REQUIRE_OK(model_backward(model, tape, batch, temperature, d_logprobs));
}

/* Central difference of one weight: reference device, so weights are host memory. */
static double difference(struct model *model, struct model_tape *tape,
                         const struct model_batch *batch, float *weight, float step)
{
    float kept = *weight;
    double ahead, behind;

    *weight = kept + step;
    double width = *weight;
    model_weights_changed(model);
    ahead = forward(model, tape, batch, 0.8f);
    *weight = kept - step;
    width -= *weight;
    model_weights_changed(model);
    behind = forward(model, tape, batch, 0.8f);
    *weight = kept;
    model_weights_changed(model);
    return (ahead - behind) / width;
}

static void gradients_are_finite_differences(void **state)
{
    (void)state;
    struct ops *ops = open_device("reference");

    for (int family = MODEL_LLAMA; family <= MODEL_QWEN3; family++) {
        struct model *model = make_model(ops, (enum model_family)family);
        struct model_tape *tape = NULL;
        int32_t tokens[N_TOKENS];
        struct model_batch batch = make_batch(tokens, 2);
        struct random_stream stream = {.seed = 9};
        REQUIRE_OK(model_tape_create(&tape, model));
        forward(model, tape, &batch, 0.8f);
        model_zero_gradients(model);
        backward(model, tape, &batch, 0.8f);
        for (size_t i = 0; i < model_n_weights(model); i++) {
            struct tensor weight, gradient;
            const char *name = model_weight(model, i, &weight, &gradient);
            uint64_t n = (uint64_t)tensor_count(&weight);
            uint64_t k = i ? random_below(&stream, n) : (uint64_t)tokens[3] * 20 + 4;
            double expected = difference(model, tape, &batch, tensor_f32(&weight) + k, 4e-3f);
            double actual = tensor_f32(&gradient)[k];
            if (fabs(actual - expected) > 2e-3 * fmax(1.0, fabs(expected)))
                fail_msg("%s[%d]: %g, by differences %g", name, (int)k, actual, expected);
        }
        model_tape_destroy(&tape);
        model_destroy(&model);
    }
    ops_destroy(&ops);
}

static void gradients_are_added_to_what_is_there(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_QWEN3);
    struct model_tape *tape = NULL;
    int32_t tokens[N_TOKENS];
    struct model_batch batch = make_batch(tokens, 3);
    size_t n = model_n_weights(model);
    float **once = mem_alloc(n, sizeof(*once));
    struct tensor weight, gradient;

    REQUIRE_OK(model_tape_create(&tape, model));
    for (int round = 0; round < 2; round++) {
        forward(model, tape, &batch, 1.0f);
        backward(model, tape, &batch, 1.0f);
        for (size_t i = 0; i < n; i++) {
            model_weight(model, i, &weight, &gradient);
            float *values = values_of(ops, &gradient);
            for (int64_t k = 0; round && k < tensor_count(&gradient); k++)
                assert_true(fabsf(values[k] - 2 * once[i][k]) <= 1e-5f + 1e-5f * fabsf(values[k]));
            if (round)
                mem_free(values);
            else
                once[i] = values;
        }
    }
    model_zero_gradients(model);
    model_weight(model, 0, &weight, &gradient);
    assert_true(ops_sum_squares(ops, &gradient) == 0.0);
    for (size_t i = 0; i < n; i++)
        mem_free(once[i]);
    mem_free(once);
    model_tape_destroy(&tape);
    model_destroy(&model);
    ops_destroy(&ops);
}

static void segments_do_not_see_each_other(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_QWEN2);
    struct model_tape *tape = NULL;
    int32_t tokens[N_TOKENS];
    struct model_batch batch = make_batch(tokens, 4);
    float before[N_TARGETS], after[N_TARGETS];

    REQUIRE_OK(model_tape_create(&tape, model));
    REQUIRE_OK(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_NOTHING, before, NULL));
    for (int i = 0; i < 7; i++)   /* the first two segments */
        tokens[i] = (tokens[i] + 13) % 50;
    REQUIRE_OK(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_NOTHING, after, NULL));
    for (int i = 0; i < N_TARGETS; i++) {
        if (rows[i] >= 7)
            assert_true(memcmp(&before[i], &after[i], sizeof(float)) == 0);
        else
            assert_true(before[i] != after[i]);
    }
    model_tape_destroy(&tape);
    model_destroy(&model);
    ops_destroy(&ops);
}

/* Over MODEL_HEAD_ROWS targets: the logits are made in chunks, and again in the backward pass. */
static void many_targets_give_the_same_as_a_few_at_a_time(void **state)
{
    (void)state;
    enum { N = 1300 };
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    struct model_tape *tape = NULL;
    struct tensor weight, gradient;
    static int32_t tokens[N], places[N], next[N], bounds[3] = {0, 650, N};
    static float together[N], apart[N], d_logprobs[N];
    struct random_stream stream = {.seed = 6};

    for (int i = 0; i < N; i++) {
        tokens[i] = (int32_t)random_below(&stream, 50);
        next[i] = (int32_t)random_below(&stream, 50);
        places[i] = i;
        d_logprobs[i] = 1.0f / N;
    }
    static int32_t at[N];
    for (int i = 0; i < N; i++)
        at[i] = i % 650;
    struct model_batch batch = {N, 2, N, tokens, at, bounds, places, next, NULL};
    REQUIRE_OK(model_tape_create(&tape, model));
    REQUIRE_OK(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_ALL, together, NULL));
    REQUIRE_OK(model_backward(model, tape, &batch, 1.0f, d_logprobs));
    model_weight(model, 0, &weight, &gradient);
    float *whole = values_of(ops, &gradient);
    model_zero_gradients(model);
    for (int first = 0; first < N; first += 325) {
        batch.n_targets = 325;
        batch.target_rows = places + first;
        batch.targets = next + first;
        REQUIRE_OK(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_ALL, apart + first, NULL));
        REQUIRE_OK(model_backward(model, tape, &batch, 1.0f, d_logprobs));
    }
    assert_memory_equal(together, apart, sizeof(together));
    float *parts = values_of(ops, &gradient);
    for (int64_t i = 0; i < tensor_count(&gradient); i++)
        assert_true(fabsf(whole[i] - parts[i]) <= 1e-5f);
    mem_free(whole);
    mem_free(parts);
    model_tape_destroy(&tape);
    model_destroy(&model);
    ops_destroy(&ops);
}

static void a_batch_without_targets_is_no_work(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    struct model_tape *tape = NULL;
    int32_t tokens[N_TOKENS];
    struct model_batch batch = make_batch(tokens, 8);
    struct tensor weight, gradient;

    batch.n_targets = 0;
    REQUIRE_OK(model_tape_create(&tape, model));
    REQUIRE_OK(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_ALL, NULL, NULL));
    REQUIRE_OK(model_backward(model, tape, &batch, 1.0f, NULL));
    model_weight(model, 0, &weight, &gradient);
    assert_true(ops_sum_squares(ops, &gradient) == 0.0);
    model_tape_destroy(&tape);
    model_destroy(&model);
    ops_destroy(&ops);
}

static void tokens_outside_of_the_vocabulary_are_refused(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    struct model_tape *tape = NULL;
    int32_t tokens[N_TOKENS], wrong[N_TARGETS], far[N_TOKENS];
    struct model_batch batch = make_batch(tokens, 8);
    float logprobs[N_TARGETS];

    REQUIRE_OK(model_tape_create(&tape, model));
    tokens[5] = 50;
    assert_int_equal(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_NOTHING, logprobs, NULL),
                     STATUS_FORMAT);
    tokens[5] = 5;
    memcpy(wrong, targets, sizeof(wrong));
    wrong[1] = -3;
    batch.targets = wrong;
    assert_int_equal(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_NOTHING, logprobs, NULL),
                     STATUS_FORMAT);
    batch.targets = targets;
    memcpy(far, positions, sizeof(far));
    far[0] = 700;
    batch.positions = far;
    assert_int_equal(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_NOTHING, logprobs, NULL),
                     STATUS_CONFIG);
    batch.positions = positions;
    REQUIRE_OK(model_forward(model, tape, &batch, 1.0f, TAPE_KEEP_NOTHING, logprobs, NULL));
    model_tape_destroy(&tape);
    model_destroy(&model);
    ops_destroy(&ops);
}

/* All gradients of one batch, one behind the other. */
static float *gradients_of(struct model *model, enum tape_keep keep, size_t *n)
{
    struct model_tape *tape = NULL;
    int32_t tokens[N_TOKENS];
    struct model_batch batch = make_batch(tokens, 6);
    float logprobs[N_TARGETS], d_logprobs[N_TARGETS], *all;

    for (int i = 0; i < N_TARGETS; i++)
        d_logprobs[i] = 0.1f * (float)(i - 3);
    REQUIRE_OK(model_tape_create(&tape, model));
    model_zero_gradients(model);
    REQUIRE_OK(model_forward(model, tape, &batch, 0.8f, keep, logprobs, NULL));
    REQUIRE_OK(model_backward(model, tape, &batch, 0.8f, d_logprobs));
    *n = 0;
    for (size_t i = 0; i < model_n_trained(model); i++) {
        struct tensor weight;
        model_trained(model, i, &weight, NULL);
        *n += (size_t)tensor_count(&weight);
    }
    all = mem_alloc(*n, sizeof(*all));
    for (size_t i = 0, at = 0; i < model_n_trained(model); i++) {
        struct tensor gradient;
        model_trained(model, i, NULL, &gradient);
        ops_download(model_ops(model), all + at, gradient.data,
                     (size_t)tensor_count(&gradient) * sizeof(float));
        at += (size_t)tensor_count(&gradient);
    }
    REQUIRE_OK(ops_sync(model_ops(model)));
    model_tape_destroy(&tape);
    return all;
}

static void activations_computed_again_give_the_same_gradients(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");

    for (int family = MODEL_LLAMA; family <= MODEL_MISTRAL; family++) {
        struct model *model = make_model(ops, (enum model_family)family);
        size_t n;
        float *kept = gradients_of(model, TAPE_KEEP_ALL, &n);
        float *again = gradients_of(model, TAPE_KEEP_INPUTS, &n);
        assert_memory_equal(kept, again, n * sizeof(*kept));
        mem_free(kept);
        mem_free(again);
        model_destroy(&model);
    }
    ops_destroy(&ops);
}

static void the_tape_grows_with_the_batch(void **state)
{
    (void)state;
    struct model_shape shape = small_shape(MODEL_QWEN3);
    size_t small = model_tape_bytes(&shape, 0, 10, 5, TAPE_KEEP_ALL);
    size_t large = model_tape_bytes(&shape, 0, 1000, 500, TAPE_KEEP_ALL);
    size_t inputs = model_tape_bytes(&shape, 0, 1000, 500, TAPE_KEEP_INPUTS);
    size_t nothing = model_tape_bytes(&shape, 0, 1000, 500, TAPE_KEEP_NOTHING);

    assert_true(small > 10 * 20 * sizeof(float));
    assert_true(large > 20 * small);
    assert_true(nothing < inputs && inputs < large);
    assert_true(model_tape_bytes(&shape, 0, 1000, 100000, TAPE_KEEP_ALL) <
                large + (size_t)100000 * (4 * 20 + 20) * sizeof(float));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(gradients_are_added_to_what_is_there),
        cmocka_unit_test(segments_do_not_see_each_other),
        cmocka_unit_test(many_targets_give_the_same_as_a_few_at_a_time),
        cmocka_unit_test(a_batch_without_targets_is_no_work),
        cmocka_unit_test(tokens_outside_of_the_vocabulary_are_refused),
        cmocka_unit_test(activations_computed_again_give_the_same_gradients),
        cmocka_unit_test(the_tape_grows_with_the_batch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
