/* Training without masters: what weights may be, and that each update draws its own random bits. */
#include "learner/learner.h"
#include "tests/unit/test_model_support.h"

#define MOST 20000

static struct ops *ops;

static int open_cpu(void **state)
{
    (void)state;
    ops = open_device("cpu");
    return 0;
}

static int close_cpu(void **state)
{
    (void)state;
    ops_destroy(&ops);
    return 0;
}

/* The matrices of a small model after n_steps updates; how many numbers. */
static size_t train(float *weights, int is_stochastic, uint64_t noise, int n_steps)
{
    const struct grpo_config no_grpo = {.num_iterations = 1, .steps_per_generation = 1};
    const struct optimizer_config optimizer = {
        .learning_rate = 2e-6, .adam_beta1 = 0.9, .adam_beta2 = 0.999, .adam_epsilon = 1e-8,
        .max_grad_norm = 1, .micro_batch_tokens = 64, .bf16 = 1,
        .stochastic_rounding = is_stochastic, .noise = noise};
    const struct model_options options = {.trainable = 1, .bf16 = 1};
    const struct model_shape shape = small_shape(MODEL_QWEN2);
    int32_t words[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct sequence sequence = {NULL, words, 0, 12};
    struct learner_stats stats;
    struct learner *learner;
    struct model *model;
    size_t n = 0;

    REQUIRE_OK(model_create(&model, ops, &shape, &options, 5));
    REQUIRE_OK(learner_create(&learner, NULL, model, NULL, &no_grpo, &optimizer, 100));
    for (int step = 0; step < n_steps; step++)
        REQUIRE_OK(learner_train(learner, &sequence, 1, &stats));
    for (size_t i = 0; i < model_n_trained(model); i++) {
        struct tensor weight;
        model_trained(model, i, &weight, NULL);
        size_t count = weight.n_dims == 2 ? (size_t)tensor_count(&weight) : 0;
        assert_true(n + count <= MOST);
        memcpy(weights + n, weight.data, count * sizeof(*weights));
        n += count;
    }
    learner_destroy(&learner);
    model_destroy(&model);
    return n;
}

static size_t count_finer(const float *weights, size_t n)
{
    size_t n_finer = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, weights + i, sizeof(bits));
        n_finer += (bits & 0xffffu) != 0;
    }
    return n_finer;
}

static size_t count_different(const float *a, const float *b, size_t n)
{
    size_t n_different = 0;

    for (size_t i = 0; i < n; i++)
        n_different += a[i] != b[i];
    return n_different;
}

static void weights_without_masters_are_bfloat16_before_and_after_updates(void **state)
{
    static float weights[MOST];

    (void)state;
    for (int n_steps = 0; n_steps <= 2; n_steps++)
        assert_int_equal(count_finer(weights, train(weights, 1, 1, n_steps)), 0);
    size_t n = train(weights, 0, 1, 2);
    assert_true(count_finer(weights, n) > n / 2);
}

static void weights_without_masters_start_as_what_masters_are_seen_as(void **state)
{
    static float masters[MOST], weights[MOST];
    size_t n = train(masters, 0, 1, 0);
    struct tensor all = tensor_1d(masters, (int64_t)n);

    (void)state;
    ops_round_bf16(ops, &all, &all);
    assert_int_equal(train(weights, 1, 1, 0), n);
    assert_memory_equal(weights, masters, n * sizeof(float));
}

/* Steps of about a twentieth of the distance between two numbers move as many weights each. */
static void every_update_draws_its_own_random_bits(void **state)
{
    static float start[MOST], one[MOST], eight[MOST];
    size_t n = train(start, 1, 1, 0);

    (void)state;
    train(one, 1, 1, 1);
    train(eight, 1, 1, 8);
    size_t n_one = count_different(start, one, n), n_eight = count_different(start, eight, n);
    assert_in_range(n_one, n / 50, n / 5);
    assert_true(n_eight > 3 * n_one);
}

static void the_noise_decides_and_nothing_else(void **state)
{
    static float one[MOST], again[MOST], other[MOST];
    size_t n = train(one, 1, 1, 3);

    (void)state;
    train(again, 1, 1, 3);
    train(other, 1, 2, 3);
    assert_memory_equal(one, again, n * sizeof(float));
    assert_true(count_different(one, other, n) > n / 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_without_masters_are_bfloat16_before_and_after_updates),
        cmocka_unit_test(weights_without_masters_start_as_what_masters_are_seen_as),
        cmocka_unit_test(every_update_draws_its_own_random_bits),
        cmocka_unit_test(the_noise_decides_and_nothing_else),
    };

    return cmocka_run_group_tests(tests, open_cpu, close_cpu);
}
