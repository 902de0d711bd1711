/* Tiny models whose numbers PyTorch and transformers have computed: tools/make_golden.py. */
#include "test_model_support.h"

#define TOLERANCE 1e-5

struct golden {
    struct ops *ops;
    struct model *model;
    struct model_tape *tape;
    struct file_map map;
    struct safetensors *file;
    struct model_batch batch;
    int32_t *indices[5];
};

static int golden_numbers(struct golden *golden, const char *name, int32_t **out, int n)
{
    struct tensor like = tensor_i32(NULL, n);
    const unsigned char *bytes = NULL;

    if (safetensors_get(golden->file, name, &like, &bytes) < 0)
        return 0;
    *out = mem_alloc((size_t)n, sizeof(int32_t));
    memcpy(*out, bytes, (size_t)n * sizeof(int32_t));
    return 1;
}

/* The shapes are those of SEGMENTS in the tool: 7 + 1 + 12 tokens, every row but 2 of 5. */
#define N_TOKENS 20
#define N_SEGMENTS 3
#define N_TARGETS 16

static void open_golden(struct golden *golden, const char *device, const char *directory)
{
    char path[FILE_PATH_MAX];

    memset(golden, 0, sizeof(*golden));
    golden->ops = open_device(device);
    REQUIRE_OK(model_load(&golden->model, golden->ops, directory, &model_trainable));
    REQUIRE_OK(model_tape_create(&golden->tape, golden->model));
    REQUIRE_OK(file_join(path, directory, "golden.safetensors"));
    REQUIRE_OK(file_map_open(&golden->map, path));
    REQUIRE_OK(safetensors_open(&golden->file, golden->map.bytes, golden->map.n, path));
    assert_true(golden_numbers(golden, "tokens", &golden->indices[0], N_TOKENS));
    assert_true(golden_numbers(golden, "positions", &golden->indices[1], N_TOKENS));
    assert_true(golden_numbers(golden, "segments", &golden->indices[2], N_SEGMENTS + 1));
    assert_true(golden_numbers(golden, "target_rows", &golden->indices[3], N_TARGETS));
    assert_true(golden_numbers(golden, "targets", &golden->indices[4], N_TARGETS));
    golden->batch = (struct model_batch){
        .n_tokens = N_TOKENS, .n_segments = N_SEGMENTS, .n_targets = N_TARGETS,
        .tokens = golden->indices[0], .positions = golden->indices[1],
        .segments = golden->indices[2], .target_rows = golden->indices[3],
        .targets = golden->indices[4],
    };
}

static void close_golden(struct golden *golden)
{
    for (int i = 0; i < 5; i++)
        mem_free(golden->indices[i]);
    safetensors_close(&golden->file);
    file_map_close(&golden->map);
    model_tape_destroy(&golden->tape);
    model_destroy(&golden->model);
    ops_destroy(&golden->ops);
}

/* Within the tolerance of the tensor's largest element, or of 1 when `absolute` is set. */
static void assert_near(struct golden *golden, const char *name, const struct tensor *like,
                        const float *values, double tolerance, int absolute)
{
    const unsigned char *bytes = NULL;
    double largest = absolute ? 1.0 : 1e-30, worst = 0.0;

    REQUIRE_OK(safetensors_get(golden->file, name, like, &bytes));
    for (int64_t i = 0; i < tensor_count(like); i++) {
        float expected;
        memcpy(&expected, bytes + 4 * i, sizeof(expected));
        largest = fmax(largest, fabs(expected));
        double error = fabs((double)values[i] - expected);
        worst = error <= worst ? worst : error;   /* a NaN is the worst */
    }
    if (!(worst <= tolerance * largest))
        fail_msg("%s on %s: off by %g, largest %g", name, ops_name(golden->ops), worst, largest);
}

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

/* Logits of every target row, each by a prefill of the tokens up to it. */
static void check_logits(struct golden *golden)
{
    const struct model_batch *batch = &golden->batch;
    int V = model_shape(golden->model)->vocab_size;
    float *logits = mem_alloc((size_t)N_TARGETS * (size_t)V, sizeof(float));
    struct tensor like = tensor_2d(NULL, N_TARGETS, V);
    struct model_cache *cache = NULL;

    REQUIRE_OK(model_cache_create(&cache, golden->model, 1, N_TOKENS, 0, 0));
    for (int i = 0; i < N_TARGETS; i++) {
        int32_t row = batch->target_rows[i], slot = 0;
        int32_t start = row - batch->positions[row];
        int32_t segments[2] = {0, batch->positions[row] + 1};
        REQUIRE_OK(model_prefill(golden->model, cache, 1, batch->tokens + start, segments, &slot,
                                 logits + (size_t)i * (size_t)V));
    }
    assert_near(golden, "logits", &like, logits, TOLERANCE, 1);
    model_cache_destroy(&cache);
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
    int32_t *prompt = NULL, *expected = NULL, segments[2] = {0, N_PROMPT}, slot = 0;

    assert_true(golden_numbers(golden, "greedy.prompt", &prompt, N_PROMPT));
    assert_true(golden_numbers(golden, "greedy.tokens", &expected, N_NEW));
    REQUIRE_OK(model_cache_create(&cache, golden->model, 1, N_PROMPT, 1, N_NEW));
    REQUIRE_OK(model_prefill(golden->model, cache, 1, prompt, segments, &slot, logits));
    for (int i = 0; i < N_NEW; i++) {
        struct model_decode_row row = {0, 0, i, largest_of(logits, V)};
        assert_int_equal(row.token, expected[i]);
        REQUIRE_OK(model_decode(golden->model, cache, 1, &row, logits));
    }
    model_cache_destroy(&cache);
    mem_free(prompt);
    mem_free(expected);
    mem_free(logits);
}

static void for_each_model(void (*check)(struct golden *))
{
    static const char *const devices[] = {"cpu", "reference"};
    static const char *const directories[] = {"tests/golden/llama", "tests/golden/qwen2",
                                              "tests/golden/qwen3", "tests/golden/mistral"};

    for (size_t i = 0; i < 8; i++) {
        struct golden golden;
        open_golden(&golden, devices[i / 4], directories[i % 4]);
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
