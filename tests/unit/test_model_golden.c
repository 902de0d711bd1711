/* Tiny models whose numbers PyTorch and transformers have computed: tools/make_golden.py. */
#include "test_model_golden.h"

#define TOLERANCE 1e-5

static double mean_loss(const float *logprobs)
{
    double sum = 0.0;

    for (int i = 0; i < N_TARGETS; i++)
        sum -= logprobs[i];
    return sum / N_TARGETS;
}

static void check_forward(struct golden *golden)
{
    float logprobs[N_TARGETS], entropy[N_TARGETS], loss;
    struct tensor targets = tensor_1d(NULL, N_TARGETS), one = tensor_1d(NULL, 1);

    REQUIRE_OK(model_forward(golden->model, golden->tape, &golden->batch, 1.0f, 0, logprobs,
                             entropy));
    assert_near(golden, "logprobs", &targets, logprobs, TOLERANCE, 1);
    assert_near(golden, "entropy", &targets, entropy, TOLERANCE, 1);
    loss = (float)mean_loss(logprobs);
    assert_near(golden, "loss", &one, &loss, TOLERANCE, 1);
    REQUIRE_OK(model_forward(golden->model, golden->tape, &golden->batch, 0.7f, 0, logprobs,
                             entropy));
    assert_near(golden, "logprobs_0.7", &targets, logprobs, TOLERANCE, 1);
    assert_near(golden, "entropy_0.7", &targets, entropy, TOLERANCE, 1);
}

static void check_logits(struct golden *golden)
{
    struct tensor like = tensor_2d(NULL, N_TARGETS, model_shape(golden->model)->vocab_size);
    float *logits = golden_logits(golden);

    assert_near(golden, "logits", &like, logits, TOLERANCE, 1);
    mem_free(logits);
}

static double forward_backward(struct golden *golden)
{
    float logprobs[N_TARGETS], d_logprobs[N_TARGETS];

    for (int i = 0; i < N_TARGETS; i++)
        d_logprobs[i] = -1.0f / N_TARGETS;
    model_zero_gradients(golden->model);
    REQUIRE_OK(model_forward(golden->model, golden->tape, &golden->batch, 1.0f, 1, logprobs,
                             NULL));
    REQUIRE_OK(model_backward(golden->model, golden->tape, &golden->batch, 1.0f, d_logprobs));
    return mean_loss(logprobs);
}

static void check_gradients(struct golden *golden)
{
    forward_backward(golden);
    for (size_t i = 0; i < model_n_weights(golden->model); i++) {
        struct tensor weight, gradient;
        char name[128];
        snprintf(name, sizeof(name), "grad.%s",
                 model_weight(golden->model, i, &weight, &gradient));
        float *values = values_of(golden->ops, &gradient);
        assert_near(golden, name, &gradient, values, TOLERANCE, 0);
        mem_free(values);
    }
}

static void step_weights(struct golden *golden, struct tensor *moments, int64_t step)
{
    struct adamw_step adamw = {.learning_rate = 1e-3, .beta1 = 0.9, .beta2 = 0.999,
                               .epsilon = 1e-8, .weight_decay = 0.01, .gradient_scale = 1.0,
                               .step = step};

    for (size_t i = 0; i < model_n_weights(golden->model); i++) {
        struct tensor weight, gradient;
        model_weight(golden->model, i, &weight, &gradient);
        ops_adamw(golden->ops, &weight, &moments[2 * i], &moments[2 * i + 1], &gradient, &adamw);
    }
    model_weights_changed(golden->model);
}

static void check_ten_steps(struct golden *golden)
{
    size_t n = model_n_weights(golden->model);
    struct tensor *moments = mem_alloc(2 * n, sizeof(*moments)), like = tensor_1d(NULL, 10);
    float losses[10];

    for (size_t i = 0; i < 2 * n; i++) {
        struct tensor gradient;
        void *memory = NULL;
        model_weight(golden->model, i / 2, &moments[i], &gradient);
        REQUIRE_OK(ops_alloc(golden->ops, (size_t)tensor_count(&gradient) * 4, &memory));
        moments[i].data = memory;
    }
    for (int step = 1; step <= 10; step++) {
        losses[step - 1] = (float)forward_backward(golden);
        step_weights(golden, moments, step);
    }
    assert_near(golden, "adamw.losses", &like, losses, TOLERANCE, 1);
    for (size_t i = 0; i < n; i++) {
        struct tensor weight, gradient;
        char name[128];
        snprintf(name, sizeof(name), "adamw.%s",
                 model_weight(golden->model, i, &weight, &gradient));
        float *values = values_of(golden->ops, &weight);
        assert_near(golden, name, &weight, values, 2e-5, 1);
        mem_free(values);
    }
    for (size_t i = 0; i < 2 * n; i++)
        ops_free(golden->ops, moments[i].data);
    mem_free(moments);
}

static int32_t largest_of(const float *logits, int n)
{
    int32_t best = 0;

    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static void check_greedy(struct golden *golden)
{
    enum { N_PROMPT = 5, N_NEW = 16 };
    int V = model_shape(golden->model)->vocab_size;
    float *logits = mem_alloc((size_t)V, sizeof(float));
    struct model_cache *cache = NULL;
    int32_t *prompt = NULL, *expected = NULL;

    assert_true(golden_numbers(golden, "greedy.prompt", &prompt, N_PROMPT));
    assert_true(golden_numbers(golden, "greedy.tokens", &expected, N_NEW));
    REQUIRE_OK(open_cache(&cache, golden->model, 1, N_PROMPT, 1, N_NEW));
    prompt_logits(golden->model, cache, prompt, N_PROMPT, logits);
    for (int i = 0; i < N_NEW; i++) {
        struct model_decode_row row = {0, 0, i, largest_of(logits, V)};
        assert_int_equal(row.token, expected[i]);
        decode_logits(golden->model, cache, 1, &row, logits);
    }
    model_cache_destroy(&cache);
    mem_free(prompt);
    mem_free(expected);
    mem_free(logits);
}

static void for_each_model(void (*check)(struct golden *))
{
    const char *const devices[] = {"cpu", "reference", gpu_device()};
    static const char *const directories[] = {"tests/golden/llama", "tests/golden/qwen2",
                                              "tests/golden/qwen3", "tests/golden/mistral"};

    for (size_t i = 0; i < 12; i++) {
        struct golden golden;
        open_golden(&golden, devices[i / 4], directories[i % 4], &model_trainable);
        check(&golden);
        close_golden(&golden);
    }
}

static void logprobs_entropy_and_loss_are_those_of_transformers(void **state)
{
    (void)state;
    for_each_model(check_forward);
}

static void logits_are_those_of_transformers(void **state)
{
    (void)state;
    for_each_model(check_logits);
}

static void gradients_are_those_of_pytorch(void **state)
{
    (void)state;
    for_each_model(check_gradients);
}

static void ten_adamw_steps_are_those_of_pytorch(void **state)
{
    (void)state;
    for_each_model(check_ten_steps);
}

static void the_greedy_continuation_is_that_of_transformers(void **state)
{
    (void)state;
    for_each_model(check_greedy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logprobs_entropy_and_loss_are_those_of_transformers),
        cmocka_unit_test(logits_are_those_of_transformers),
        cmocka_unit_test(gradients_are_those_of_pytorch),
        cmocka_unit_test(ten_adamw_steps_are_those_of_pytorch),
        cmocka_unit_test(the_greedy_continuation_is_that_of_transformers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
