#include <stdlib.h>
#include <unistd.h>

#include "test_model_support.h"

/* A model's two files, the second to be damaged. */
struct image {
    struct text config, weights;
};

static void map_bytes(const struct text *bytes, struct file_map *map)
{
    struct file_sink sink;

    REQUIRE_OK(file_sink_open_nameless(&sink));
    REQUIRE_OK(file_sink_map(&sink, file_sink_put(&sink, bytes->data, bytes->length), map));
}

static void make_image(struct image *image, struct ops *ops, enum model_family family)
{
    struct model *model = make_model(ops, family);
    struct file_map weights;

    memset(image, 0, sizeof(*image));
    model_shape_print(model_shape(model), -1, 1, &image->config);
    REQUIRE_OK(model_map_weights(model, &weights));
    text_append(&image->weights, weights.bytes, weights.n);
    file_map_close(&weights);
    model_destroy(&model);
}

static void release_image(struct image *image)
{
    text_release(&image->config);
    text_release(&image->weights);
}

static int load_image(struct model **model, struct ops *ops, const struct image *image)
{
    struct file_map weights;

    map_bytes(&image->weights, &weights);
    int status = model_load_map(model, ops, image->config.data, image->config.length, &weights,
                                &model_frozen);
    file_map_close(&weights);
    return status;
}

static void assert_refused(struct ops *ops, const struct image *image, const char *reason)
{
    struct model *model = NULL;

    assert_int_equal(load_image(&model, ops, image), STATUS_FORMAT);
    assert_null(model);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" has no \"%s\"", status_reason(), reason);
}

/* Overwrites the first `from` in the file's header with `to`, of the same length. */
static void patch(struct image *image, const char *from, const char *to)
{
    char *at = memmem(image->weights.data, image->weights.length, from, strlen(from));

    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    memcpy(at, to, strlen(to));
}

static void saving_and_loading_gives_the_same_bytes(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    char directory[] = "/tmp/hone_test_model_XXXXXX";

    assert_non_null(mkdtemp(directory));
    for (int family = MODEL_LLAMA; family <= MODEL_MISTRAL; family++) {
        struct model *model = make_model(ops, (enum model_family)family), *back = NULL;
        struct file_map first, second;
        REQUIRE_OK(model_save(model, -1, 1, directory));
        REQUIRE_OK(model_load(&back, ops, directory, &model_frozen));
        REQUIRE_OK(model_map_weights(model, &first));
        REQUIRE_OK(model_map_weights(back, &second));
        assert_int_equal(first.n, second.n);
        assert_memory_equal(first.bytes, second.bytes, first.n);
        file_map_close(&first);
        file_map_close(&second);
        model_destroy(&model);
        model_destroy(&back);
    }
    REQUIRE_OK(file_remove_tree(directory));
    ops_destroy(&ops);
}

static void reading_weights_replaces_those_that_were_there(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model_shape shape = small_shape(MODEL_QWEN2);
    struct model *model = NULL, *other = make_model(ops, MODEL_QWEN2);
    struct file_map image, back;

    REQUIRE_OK(model_map_weights(other, &image));
    REQUIRE_OK(model_create(&model, ops, &shape, &model_frozen, 99));
    REQUIRE_OK(model_read_map(model, &image, "image"));
    REQUIRE_OK(model_map_weights(model, &back));
    assert_int_equal(back.n, image.n);
    assert_memory_equal(back.bytes, image.bytes, back.n);
    file_map_close(&back);
    file_map_close(&image);
    model_destroy(&model);
    model_destroy(&other);
    ops_destroy(&ops);
}

static void a_refused_image_changes_nothing(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model *model = make_model(ops, MODEL_LLAMA);
    struct file_map before, after, damaged;
    struct image image;
    float bad[] = {NAN, INFINITY, -INFINITY};

    make_image(&image, ops, MODEL_LLAMA);
    REQUIRE_OK(model_map_weights(model, &before));
    for (size_t i = 0; i < 3; i++) {
        memcpy(image.weights.data + image.weights.length - 4, &bad[i], 4);   /* the very last */
        map_bytes(&image.weights, &damaged);
        assert_int_equal(model_read_map(model, &damaged, "x"), STATUS_FORMAT);
        file_map_close(&damaged);
        assert_non_null(strstr(status_reason(), "lm_head.weight"));
        assert_non_null(strstr(status_reason(), "NaN or Inf"));
    }
    REQUIRE_OK(model_map_weights(model, &after));
    assert_memory_equal(before.bytes, after.bytes, before.n);
    file_map_close(&before);
    file_map_close(&after);
    model_destroy(&model);
    release_image(&image);
    ops_destroy(&ops);
}

static void weights_that_do_not_fit_the_config_are_refused_by_name(void **state)
{
    (void)state;
    struct ops *ops = open_device("reference");
    struct image image;

    make_image(&image, ops, MODEL_LLAMA);
    patch(&image, "layers.1.self_attn.k_proj", "layers.1.self_attn.x_proj");
    assert_refused(ops, &image, "self_attn.x_proj.weight\" has no place");
    release_image(&image);

    make_image(&image, ops, MODEL_LLAMA);
    patch(&image, "lm_head.weight", "x.inv_freq.abc");
    patch(&image, "x.inv_freq.abc", "a.rotary_emb.i");
    assert_refused(ops, &image, "has no place");
    release_image(&image);

    make_image(&image, ops, MODEL_LLAMA);
    patch(&image, "\"dtype\":\"F32\"", "\"dtype\":\"I32\"");
    assert_refused(ops, &image, "is I32; F32, F16 and BF16 are read");
    release_image(&image);

    make_image(&image, ops, MODEL_LLAMA);
    patch(&image, "[50,20]", "[20,50]");
    assert_refused(ops, &image, "[20,50]; [50,20] is wanted");
    release_image(&image);

    make_image(&image, ops, MODEL_LLAMA);
    image.weights.length -= 4;
    assert_refused(ops, &image, "model.safetensors");
    release_image(&image);
    ops_destroy(&ops);
}

static void a_missing_weight_is_named(void **state)
{
    (void)state;
    struct ops *ops = open_device("reference");
    struct image untied, tied;

    make_image(&untied, ops, MODEL_LLAMA);
    make_image(&tied, ops, MODEL_QWEN3);
    struct image mixed = {.config = untied.config, .weights = tied.weights};
    assert_refused(ops, &mixed, "_norm.weight\" has no place");
    /* A tensor renamed to one that is tolerated leaves its own missing. */
    patch(&untied, "model.layers.0.post_attention_layernorm.weight",
          "model.layers.0.self_attn.a.rotary_emb.inv_freq");
    assert_refused(ops, &untied, "\"model.layers.0.post_attention_layernorm.weight\" is missing");
    release_image(&untied);
    release_image(&tied);
    ops_destroy(&ops);
}

static void a_config_that_asks_for_much_costs_no_memory(void **state)
{
    (void)state;
    struct ops *ops = open_device("reference");
    struct image image;
    struct model_shape shape = small_shape(MODEL_LLAMA);

    make_image(&image, ops, MODEL_LLAMA);
    shape.n_layers = 1024;
    shape.channels = 65536;
    shape.hidden_channels = 1 << 20;
    shape.vocab_size = 10000000;
    shape.n_heads = shape.n_kv_heads = 1024;
    shape.head_dim = 1024;
    text_clear(&image.config);
    model_shape_print(&shape, -1, 1, &image.config);
    assert_refused(ops, &image, "model.embed_tokens.weight");
    assert_true(model_shape_parameters(&shape) > (int64_t)1 << 40);
    release_image(&image);
    ops_destroy(&ops);
}

static void files_that_are_missing_are_named(void **state)
{
    (void)state;
    struct ops *ops = open_device("reference");
    struct model *model = NULL;
    char directory[] = "/tmp/hone_test_model_XXXXXX", path[FILE_PATH_MAX];

    assert_non_null(mkdtemp(directory));
    assert_int_equal(model_load(&model, ops, directory, &model_frozen), STATUS_IO);
    assert_non_null(strstr(status_reason(), "config.json"));
    REQUIRE_OK(file_join(path, directory, "config.json"));
    struct model_shape shape = small_shape(MODEL_LLAMA);
    struct text config = {0};
    model_shape_print(&shape, -1, 1, &config);
    REQUIRE_OK(file_write_atomic(path, config.data, config.length));
    text_release(&config);
    assert_int_equal(model_load(&model, ops, directory, &model_frozen), STATUS_IO);
    assert_non_null(strstr(status_reason(), "model.safetensors"));
    assert_null(model);
    REQUIRE_OK(file_remove_tree(directory));
    ops_destroy(&ops);
}

static void fresh_weights_depend_on_the_seed_alone(void **state)
{
    (void)state;
    struct ops *ops = open_device("cpu");
    struct model_shape shape = small_shape(MODEL_QWEN3);
    struct model *model = NULL;
    struct file_map images[3];
    uint64_t seeds[3] = {11, 11, 12};

    for (int i = 0; i < 3; i++) {
        REQUIRE_OK(model_create(&model, ops, &shape, &model_frozen, seeds[i]));
        REQUIRE_OK(model_map_weights(model, &images[i]));
        model_destroy(&model);
    }
    assert_memory_equal(images[0].bytes, images[1].bytes, images[0].n);
    assert_memory_not_equal(images[0].bytes, images[2].bytes, images[0].n);
    for (int i = 0; i < 3; i++)
        file_map_close(&images[i]);
    ops_destroy(&ops);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saving_and_loading_gives_the_same_bytes),
        cmocka_unit_test(reading_weights_replaces_those_that_were_there),
        cmocka_unit_test(a_refused_image_changes_nothing),
        cmocka_unit_test(weights_that_do_not_fit_the_config_are_refused_by_name),
        cmocka_unit_test(a_missing_weight_is_named),
        cmocka_unit_test(a_config_that_asks_for_much_costs_no_memory),
        cmocka_unit_test(files_that_are_missing_are_named),
        cmocka_unit_test(fresh_weights_depend_on_the_seed_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
