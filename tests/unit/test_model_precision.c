/* bfloat16 weights and adapters against PyTorch and PEFT: tools/make_golden_precision.py. */
#include <stdlib.h>
#include <unistd.h>

#include "test_model_golden.h"

#define EXACT 1e-5      /* the same arithmetic: float32 */
#define ROUNDED 5e-3    /* ... on rounded factors: a last bit may make one of them the next */
#define STEEP 1e-2      /* ... and a gradient has more of them on its way */
#define HALF 2e-2       /* the other side rounds its activations as well */
#define GRADIENT 1e-4

static const char *const families[] = {"llama", "qwen2", "qwen3", "mistral"};
static const char *const targets[] = {
    "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "q_proj,v_proj",
    "k_proj,o_proj,up_proj", "gate_proj,down_proj"};

static unsigned bits_of(const char *list)
{
    unsigned bits = 0;

    for (int i = 0; i < MODEL_N_LORA_TARGETS; i++)
        if (strstr(list, model_lora_targets[i]))
            bits |= 1u << i;
    return bits;
}

/* The model of a family in these options; the numbers are those of precision.safetensors. */
static void open_precision(struct golden *golden, const char *device, size_t family,
                           const struct model_options *options)
{
    char directory[FILE_PATH_MAX], path[FILE_PATH_MAX];

    snprintf(directory, sizeof(directory), "tests/golden/%s", families[family]);
    open_golden(golden, device, directory, options);
    safetensors_close(&golden->file);
    file_map_close(&golden->map);
    REQUIRE_OK(file_join(path, directory, "precision.safetensors"));
    REQUIRE_OK(file_map_open(&golden->map, path));
    REQUIRE_OK(safetensors_open(&golden->file, golden->map.bytes, golden->map.n, path));
    if (!options->lora.rank)
        return;
    struct file_map map;
    REQUIRE_OK(file_join(path, directory, "adapter/adapter_model.safetensors"));
    REQUIRE_OK(file_map_open(&map, path));
    REQUIRE_OK(model_read_adapters(golden->model, map.bytes, map.n, path));
    file_map_close(&map);
}

static void check_logits(struct golden *golden, const char *name, double tolerance)
{
    struct tensor like = tensor_2d(NULL, N_TARGETS, model_shape(golden->model)->vocab_size);
    float *logits = golden_logits(golden);

    assert_near(golden, name, &like, logits, tolerance, 1);
    mem_free(logits);
}

/* Matrices of about the deviation that a model starts with: a wide model magnifies rounding. */
static void shrink(struct golden *golden)
{
    for (size_t i = 0; i < model_n_weights(golden->model); i++) {
        struct tensor weight;
        model_weight(golden->model, i, &weight, NULL);
        if (weight.n_dims == 2)
            ops_scale(golden->ops, &weight, 0.1f);
    }
    model_weights_changed(golden->model);
}

static void check_gradients(struct golden *golden, const char *prefix, double tolerance)
{
    float logprobs[N_TARGETS], d_logprobs[N_TARGETS];
    char name[160];

    for (int i = 0; i < N_TARGETS; i++)
        d_logprobs[i] = -1.0f / N_TARGETS;
    model_zero_gradients(golden->model);
    REQUIRE_OK(model_forward(golden->model, golden->tape, &golden->batch, 1.0f, TAPE_KEEP_INPUTS,
                             logprobs, NULL));
    REQUIRE_OK(model_backward(golden->model, golden->tape, &golden->batch, 1.0f, d_logprobs));
    for (size_t i = 0; i < model_n_trained(golden->model); i++) {
        struct tensor gradient;
        snprintf(name, sizeof(name), "%s%s", prefix,
                 model_trained(golden->model, i, NULL, &gradient));
        float *values = mem_alloc((size_t)tensor_count(&gradient), sizeof(float));
        ops_download(golden->ops, values, gradient.data,
                     (size_t)tensor_count(&gradient) * sizeof(float));
        REQUIRE_OK(ops_sync(golden->ops));
        gradient.data = NULL;
        assert_near(golden, name, &gradient, values, tolerance, 0);
        mem_free(values);
    }
}

static const char *device_number(size_t i)
{
    return i == 0 ? "cpu" : i == 1 ? "reference" : gpu_device();
}

static void bf16_logits_and_gradients_are_those_of_transformers(void **state)
{
    const struct model_options options = {.trainable = 1, .bf16 = 1};

    (void)state;
    for (size_t i = 0; i < 12; i++) {
        struct golden golden;
        open_precision(&golden, device_number(i / 4), i % 4, &options);
        check_logits(&golden, "rounded.logits", ROUNDED);
        check_gradients(&golden, "rounded.grad.", STEEP);
        shrink(&golden);
        check_logits(&golden, "bf16.logits", HALF);
        close_golden(&golden);
    }
}

static void adapters_have_the_logits_and_gradients_of_peft(void **state)
{
    (void)state;
    for (size_t i = 0; i < 12; i++) {
        struct model_options options = {.trainable = 1,
                                        .lora = {4, 6.0, bits_of(targets[i % 4]), 1}};
        struct golden golden;
        open_precision(&golden, device_number(i / 4), i % 4, &options);
        check_logits(&golden, "lora.logits", EXACT);
        check_gradients(&golden, "lora.grad.", GRADIENT);
        close_golden(&golden);
    }
}

/* The next token's log-probabilities after each of the first tokens, bit for bit. */
static void assert_same_model(struct model *a, struct model *b, const struct model_batch *batch)
{
    float first[N_TARGETS], second[N_TARGETS];
    struct model_tape *tapes[2] = {NULL, NULL};

    REQUIRE_OK(model_tape_create(&tapes[0], a));
    REQUIRE_OK(model_tape_create(&tapes[1], b));
    REQUIRE_OK(model_forward(a, tapes[0], batch, 1.0f, TAPE_KEEP_NOTHING, first, NULL));
    REQUIRE_OK(model_forward(b, tapes[1], batch, 1.0f, TAPE_KEEP_NOTHING, second, NULL));
    assert_memory_equal(first, second, sizeof(first));
    model_tape_destroy(&tapes[0]);
    model_tape_destroy(&tapes[1]);
}

/* What the learner publishes is, to the bit, the model that it trains: with and without rounding,
 * with and without adapters. */
static void a_published_model_has_the_bits_of_the_trained_one(void **state)
{
    (void)state;
    for (size_t i = 0; i < 16; i++) {
        struct model_options options = {.trainable = 1, .bf16 = i / 4 % 2};
        struct text config = {0};
        struct file_map image;
        struct model *rollout = NULL;
        struct golden golden;
        if (i >= 8)
            options.lora = (struct model_lora){4, 6.0, bits_of(targets[i % 4]), 1};
        open_precision(&golden, "cpu", i % 4, &options);
        model_weights_changed(golden.model);
        REQUIRE_OK(model_map_weights(golden.model, &image));
        model_shape_print(model_shape(golden.model), -1, 1, &config);
        REQUIRE_OK(model_load_map(&rollout, golden.ops, config.data, config.length, &image,
                                  &model_frozen));
        assert_same_model(golden.model, rollout, &golden.batch);
        REQUIRE_OK(model_read_map(rollout, &image, "again"));
        assert_same_model(golden.model, rollout, &golden.batch);
        assert_true(!options.bf16 ||
                    image.n < 2 * (size_t)model_shape_parameters(model_shape(rollout)) + 9000);
        file_map_close(&image);
        text_release(&config);
        model_destroy(&rollout);
        close_golden(&golden);
    }
}

/* A reference is loaded from float32 masters, and must be what the policy began as. */
static void a_frozen_model_rounds_as_the_trained_one_does(void **state)
{
    const struct model_options trained = {.trainable = 1, .bf16 = 1}, frozen = {.bf16 = 1};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        char directory[FILE_PATH_MAX];
        struct model *reference = NULL;
        struct golden golden;
        open_precision(&golden, "cpu", i, &trained);
        snprintf(directory, sizeof(directory), "tests/golden/%s", families[i]);
        REQUIRE_OK(model_load(&reference, golden.ops, directory, &frozen));
        assert_same_model(golden.model, reference, &golden.batch);
        model_destroy(&reference);
        close_golden(&golden);
    }
}

static void float32_weights_are_not_read_into_a_bf16_model(void **state)
{
    const struct model_options half = {.trainable = 1, .bf16 = 1};
    struct file_map narrow, wide;
    struct text config = {0};
    struct model *rollout = NULL;
    struct golden golden;

    (void)state;
    open_precision(&golden, "cpu", 1, &half);
    REQUIRE_OK(model_map_weights(golden.model, &narrow));
    model_shape_print(model_shape(golden.model), -1, 1, &config);
    close_golden(&golden);
    open_precision(&golden, "cpu", 1, &model_trainable);
    REQUIRE_OK(model_map_weights(golden.model, &wide));
    REQUIRE_OK(model_load_map(&rollout, golden.ops, config.data, config.length, &narrow,
                              &model_frozen));
    assert_int_equal(model_read_map(rollout, &wide, "wide"), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "is not BF16"));
    file_map_close(&narrow);
    file_map_close(&wide);
    text_release(&config);
    model_destroy(&rollout);
    close_golden(&golden);
}

static void save_and_read(const struct model *model, const char *path, struct text *out)
{
    REQUIRE_OK(model_save_adapters(model, path));
    text_clear(out);
    REQUIRE_OK(file_read(path, 1 << 24, out));
}

static void adapters_come_back_as_they_were_written(void **state)
{
    const struct model_options options = {.trainable = 1, .lora = {3, 8.0, 0x7f, 5}};
    struct model_options other = options;
    struct text first = {0}, second = {0};
    char path[] = "/tmp/hone-adapter-XXXXXX";
    struct golden golden;

    (void)state;
    assert_true(close(mkstemp(path)) == 0);
    open_golden(&golden, "cpu", "tests/golden/qwen3", &options);
    save_and_read(golden.model, path, &first);
    close_golden(&golden);
    other.lora.seed = 6;
    open_golden(&golden, "cpu", "tests/golden/qwen3", &other);
    save_and_read(golden.model, path, &second);
    assert_memory_not_equal(first.data, second.data, first.length);
    REQUIRE_OK(model_read_adapters(golden.model, first.data, first.length, "first"));
    save_and_read(golden.model, path, &second);
    assert_int_equal(first.length, second.length);
    assert_memory_equal(first.data, second.data, first.length);
    memset(first.data + first.length - 4, 0xff, 4);   /* a NaN */
    assert_int_equal(model_read_adapters(golden.model, first.data, first.length, "bad"),
                     STATUS_FORMAT);
    assert_int_equal(model_read_adapters(golden.model, first.data, 20, "cut"), STATUS_FORMAT);
    unlink(path);
    text_release(&first);
    text_release(&second);
    close_golden(&golden);
}

/* B starts at 0: a fresh adapter changes nothing. */
static void a_fresh_adapter_changes_nothing(void **state)
{
    const struct model_options options = {.trainable = 1, .lora = {2, 8.0, 0x7f, 5}};
    struct golden golden;
    struct model *plain = NULL;

    (void)state;
    open_golden(&golden, "cpu", "tests/golden/llama", &options);
    REQUIRE_OK(model_load(&plain, golden.ops, "tests/golden/llama", &model_frozen));
    assert_same_model(golden.model, plain, &golden.batch);
    model_destroy(&plain);
    close_golden(&golden);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_logits_and_gradients_are_those_of_transformers),
        cmocka_unit_test(adapters_have_the_logits_and_gradients_of_peft),
        cmocka_unit_test(a_published_model_has_the_bits_of_the_trained_one),
        cmocka_unit_test(a_frozen_model_rounds_as_the_trained_one_does),
        cmocka_unit_test(float32_weights_are_not_read_into_a_bf16_model),
        cmocka_unit_test(adapters_come_back_as_they_were_written),
        cmocka_unit_test(a_fresh_adapter_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
