/* Stretched positions and other kinds of files, against transformers: tools/make_golden.py. */
#include "test_model_support.h"

#include <stdlib.h>

#define TOLERANCE 1e-5
#define N_TOKENS 40
#define FAR_STRIDE 97   /* of the tool */

struct golden {
    struct ops *ops;
    struct model *model;
    struct file_map map;
    struct safetensors *file;
    int32_t tokens[N_TOKENS], targets[N_TOKENS];
};

static void read_numbers(struct golden *golden, const char *name, int32_t *out, int n)
{
    struct tensor like = tensor_i32(NULL, n);
    const unsigned char *bytes;

    REQUIRE_OK(safetensors_get(golden->file, name, &like, &bytes));
    memcpy(out, bytes, (size_t)n * sizeof(*out));
}

static void open_golden(struct golden *golden, const char *device, const char *name)
{
    char directory[FILE_PATH_MAX], path[FILE_PATH_MAX];

    memset(golden, 0, sizeof(*golden));
    golden->ops = open_device(device);
    REQUIRE_OK(file_join(directory, "tests/golden", name));
    REQUIRE_OK(model_load(&golden->model, golden->ops, directory, &model_trainable));
    REQUIRE_OK(file_join(path, directory, "golden.safetensors"));
    REQUIRE_OK(file_map_open(&golden->map, path));
    REQUIRE_OK(safetensors_open(&golden->file, golden->map.bytes, golden->map.n, path));
    read_numbers(golden, "tokens", golden->tokens, N_TOKENS);
    read_numbers(golden, "targets", golden->targets, N_TOKENS);
}

static void close_golden(struct golden *golden)
{
    safetensors_close(&golden->file);
    file_map_close(&golden->map);
    model_destroy(&golden->model);
    ops_destroy(&golden->ops);
}

/* Within the tolerance of the tensor's largest element, or of 1 if that is larger. */
static void assert_near(struct golden *golden, const char *name, const struct tensor *like,
                        const float *values, double least)
{
    const unsigned char *bytes;
    double largest = least, worst = 0.0;

    REQUIRE_OK(safetensors_get(golden->file, name, like, &bytes));
    for (int64_t i = 0; i < tensor_count(like); i++) {
        float expected;
        memcpy(&expected, bytes + 4 * i, sizeof(expected));
        largest = fmax(largest, fabs(expected));
        double error = fabs((double)values[i] - expected);
        worst = error <= worst ? worst : error;   /* a NaN is the worst */
    }
    if (getenv("HONE_TEST_FIGURES"))
        print_message("%s: %.2g of %.2g\n", name, worst, largest);
    if (!(worst <= TOLERANCE * largest))
        fail_msg("%s on %s: off by %g, largest %g", name, ops_name(golden->ops), worst, largest);
}

static void check_logits(struct golden *golden)
{
    int V = model_shape(golden->model)->vocab_size;
    float *logits = mem_alloc((size_t)N_TOKENS * (size_t)V, sizeof(float));
    struct tensor like = tensor_2d(NULL, N_TOKENS, V);
    struct model_cache *cache = NULL;

    REQUIRE_OK(open_cache(&cache, golden->model, 1, N_TOKENS, 0, 0));
    for (int n = 1; n <= N_TOKENS; n++)
        prompt_logits(golden->model, cache, golden->tokens, n,
                      logits + (size_t)(n - 1) * (size_t)V);
    assert_near(golden, "logits", &like, logits, 1.0);
    model_cache_destroy(&cache);
    mem_free(logits);
}

static void check_far_positions(struct golden *golden)
{
    int32_t positions[N_TOKENS], rows[N_TOKENS], segments[2] = {0, N_TOKENS};
    float logprobs[N_TOKENS], d_logprobs[N_TOKENS];
    struct tensor like = tensor_1d(NULL, N_TOKENS), gradient;
    struct model_tape *tape = NULL;
    char name[128];

    for (int i = 0; i < N_TOKENS; i++) {
        positions[i] = i * FAR_STRIDE;
        rows[i] = i;
        d_logprobs[i] = -1.0f / N_TOKENS;
    }
    struct model_batch batch = {
        .n_tokens = N_TOKENS, .n_segments = 1, .n_targets = N_TOKENS, .tokens = golden->tokens,
        .positions = positions, .segments = segments, .target_rows = rows,
        .targets = golden->targets};
    REQUIRE_OK(model_tape_create(&tape, golden->model));
    REQUIRE_OK(model_forward(golden->model, tape, &batch, 1.0f, 1, logprobs, NULL));
    assert_near(golden, "far.logprobs", &like, logprobs, 1.0);
    REQUIRE_OK(model_backward(golden->model, tape, &batch, 1.0f, d_logprobs));
    for (size_t i = 0; i < model_n_weights(golden->model); i++) {
        snprintf(name, sizeof(name), "far.grad.%s",
                 model_weight(golden->model, i, NULL, &gradient));
        float *values = values_of(golden->ops, &gradient);
        assert_near(golden, name, &gradient, values, 1e-2);
        mem_free(values);
    }
    model_tape_destroy(&tape);
}

static void check_greedy(struct golden *golden)
{
    enum { N_PROMPT = 5, N_NEW = 16 };
    int V = model_shape(golden->model)->vocab_size;
    float *logits = mem_alloc((size_t)V, sizeof(float));
    int32_t prompt[N_PROMPT], expected[N_NEW];
    struct model_cache *cache = NULL;

    read_numbers(golden, "greedy.prompt", prompt, N_PROMPT);
    read_numbers(golden, "greedy.tokens", expected, N_NEW);
    REQUIRE_OK(open_cache(&cache, golden->model, 1, N_PROMPT, 1, N_NEW));
    prompt_logits(golden->model, cache, prompt, N_PROMPT, logits);
    for (int i = 0; i < N_NEW; i++) {
        struct model_decode_row row = {0, 0, i, 0};
        for (int v = 1; v < V; v++)
            if (logits[v] > logits[row.token])
                row.token = v;
        assert_int_equal(row.token, expected[i]);
        decode_logits(golden->model, cache, 1, &row, logits);
    }
    model_cache_destroy(&cache);
    mem_free(logits);
}

static void check_variant(const char *name)
{
    static const char *const devices[] = {"cpu", "reference"};

    for (size_t i = 0; i < 2; i++) {
        struct golden golden;
        open_golden(&golden, devices[i], name);
        check_logits(&golden);
        check_far_positions(&golden);
        check_greedy(&golden);
        close_golden(&golden);
    }
}

#define VARIANT(test, folder)                                                                      \
    static void test(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        check_variant(folder);                                                                     \
    }
VARIANT(linear_scaling_is_that_of_transformers, "rope_linear")
VARIANT(dynamic_scaling_is_that_of_transformers, "rope_dynamic")
VARIANT(llama3_scaling_is_that_of_transformers, "rope_llama3")
VARIANT(yarn_with_its_defaults_is_that_of_transformers, "rope_yarn")
VARIANT(yarn_with_all_keys_set_is_that_of_transformers, "rope_yarn_set")
VARIANT(half_precision_files_give_the_logits_of_transformers, "files_f16")

static void bf16_shards_give_the_logits_of_transformers(void **state)
{
    static const char *const devices[] = {"cpu", "reference"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct golden golden;
        open_golden(&golden, devices[i], "files_bf16_shards");
        check_logits(&golden);
        check_greedy(&golden);
        close_golden(&golden);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(linear_scaling_is_that_of_transformers),
        cmocka_unit_test(dynamic_scaling_is_that_of_transformers),
        cmocka_unit_test(llama3_scaling_is_that_of_transformers),
        cmocka_unit_test(yarn_with_its_defaults_is_that_of_transformers),
        cmocka_unit_test(yarn_with_all_keys_set_is_that_of_transformers),
        cmocka_unit_test(half_precision_files_give_the_logits_of_transformers),
        cmocka_unit_test(bf16_shards_give_the_logits_of_transformers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
