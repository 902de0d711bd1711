#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/model.h"

#define QWEN                                                                                       \
    "\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",\"hidden_size\":8,"         \
    "\"intermediate_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2,"                   \
    "\"num_key_value_heads\":2,\"vocab_size\":300,\"max_position_embeddings\":32"

static int parse(struct model_notes *notes, const char *config, const char *generation)
{
    return model_notes_parse(notes, config, strlen(config), generation, strlen(generation), "dir");
}

static void assert_stops(const char *config, const char *generation, int n, const int32_t *ids)
{
    struct model_notes notes;

    assert_int_equal(parse(&notes, config, generation), STATUS_OK);
    assert_int_equal(notes.n_stops, n);
    if (n)
        assert_memory_equal(notes.stop_ids, ids, (size_t)n * sizeof(*ids));
    model_notes_release(&notes);
}

static void stop_ids_are_those_of_the_generation_config_else_of_the_config(void **state)
{
    (void)state;
    assert_stops("{" QWEN "}", "", 0, NULL);
    assert_stops("{" QWEN ",\"eos_token_id\":null}", "{}", 0, NULL);
    assert_stops("{" QWEN ",\"eos_token_id\":7}", "", 1, (const int32_t[]){7});
    assert_stops("{" QWEN ",\"eos_token_id\":[7,299,7]}", "{\"do_sample\":true}", 2,
                 (const int32_t[]){7, 299});
    assert_stops("{" QWEN ",\"eos_token_id\":7}", "{\"eos_token_id\":[9,8]}", 2,
                 (const int32_t[]){9, 8});
    assert_stops("{" QWEN ",\"eos_token_id\":7}", "{\"eos_token_id\":0}", 1, (const int32_t[]){0});
    assert_stops("{" QWEN ",\"eos_token_id\":7}", "{\"eos_token_id\":[]}", 1, (const int32_t[]){7});
}

static void assert_refused(const char *config, const char *generation, int wanted,
                           const char *reason)
{
    struct model_notes notes;

    assert_int_equal(parse(&notes, config, generation), wanted);
    if (!strstr(status_reason(), reason))
        fail_msg("\"%s\" is not in: %s", reason, status_reason());
    assert_int_equal(notes.n_stops, 0);
    assert_null(notes.config.data);
}

static void a_hostile_list_of_ids_is_refused_by_name(void **state)
{
    struct text many = {0};

    (void)state;
    assert_refused("{" QWEN ",\"eos_token_id\":300}", "", STATUS_FORMAT, "dir/config.json: "
                   "\"eos_token_id\" has 300");
    assert_refused("{" QWEN ",\"eos_token_id\":-1}", "", STATUS_FORMAT, "has -1");
    assert_refused("{" QWEN ",\"eos_token_id\":4294967296}", "", STATUS_FORMAT, "4294967296");
    assert_refused("{" QWEN ",\"eos_token_id\":\"7\"}", "", STATUS_FORMAT, "neither an id nor");
    assert_refused("{" QWEN ",\"eos_token_id\":7.5}", "", STATUS_FORMAT, "neither an id nor");
    assert_refused("{" QWEN "}", "{\"eos_token_id\":[1,[2]]}", STATUS_FORMAT,
                   "dir/generation_config.json: \"eos_token_id\"");
    assert_refused("{" QWEN "}", "[]", STATUS_FORMAT, "generation_config.json: not a JSON object");
    assert_refused("{" QWEN "}", "{", STATUS_FORMAT, "generation_config.json");
    assert_refused("[]", "", STATUS_FORMAT, "config.json");
    text_print(&many, "{\"eos_token_id\":[0");
    for (int i = 1; i < 65; i++)
        text_print(&many, ",%d", i);
    text_print(&many, "]}");
    assert_refused("{" QWEN "}", many.data, STATUS_UNSUPPORTED, "more than 64");
    text_release(&many);
}

static void a_stop_id_is_added_once(void **state)
{
    struct model_notes notes = {.n_stops = 0};

    (void)state;
    for (int32_t round = 0; round < 2; round++)
        for (int32_t id = -1; id < 3; id++)
            assert_int_equal(model_notes_add_stop(&notes, id), STATUS_OK);
    assert_int_equal(notes.n_stops, 3);
    assert_int_equal(notes.stop_ids[2], 2);
}

static void print_with(const char *config, struct text *out)
{
    struct model_notes notes;
    struct model_shape shape;

    assert_int_equal(model_shape_parse(&shape, config, strlen(config), "t"), STATUS_OK);
    assert_int_equal(parse(&notes, config, ""), STATUS_OK);
    text_clear(out);
    model_shape_print(&shape, -1, 5, out);
    assert_int_equal(model_notes_put_config(&notes, out), STATUS_OK);
    model_notes_release(&notes);
}

static void config_keeps_its_ids_and_the_keys_that_are_not_read(void **state)
{
    static const char *const wanted[] = {
        "\n  \"bos_token_id\": 3,\n", "\n  \"eos_token_id\": [7,8],\n", "\n  \"pad_token_id\": 9",
        "\n  \"initializer_range\": 0.02", "\n  \"use_cache\": true", "\n  \"x\\\"y\": {\"a\":[1]}",
        "\n  \"transformers_version\": \"4.43.1\"", "\n  \"torch_dtype\": \"float32\","};
    static const char *const unwanted[] = {"bfloat16", "auto_map", "use_sliding_window",
                                           "max_window_layers", "layer_types"};
    struct text first = {0}, second = {0};

    (void)state;
    print_with("{" QWEN ",\"bos_token_id\":3,\"eos_token_id\":[7,8],\"pad_token_id\":9,"
               "\"initializer_range\":0.02,\"use_cache\":true,\"x\\\"y\":{\"a\":[1]},"
               "\"transformers_version\":\"4.43.1\",\"torch_dtype\":\"bfloat16\","
               "\"dtype\":\"bfloat16\",\"auto_map\":{\"a\":\"b.c\"},\"use_sliding_window\":false,"
               "\"max_window_layers\":1,\"layer_types\":[\"full_attention\"]}", &first);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++)
        if (!strstr(first.data, wanted[i]))
            fail_msg("%s is not in %s", wanted[i], first.data);
    for (size_t i = 0; i < sizeof(unwanted) / sizeof(unwanted[0]); i++)
        assert_null(strstr(first.data, unwanted[i]));
    print_with(first.data, &second);   /* handed on again, it is the same */
    assert_string_equal(first.data, second.data);
    text_release(&first);
    text_release(&second);
}

static void a_model_made_here_is_printed_as_ever(void **state)
{
    const struct model_notes none = {.n_stops = 0};
    const struct model_notes one = {.stop_ids = {4}, .n_stops = 1};
    struct text out = {0};

    (void)state;
    text_print(&out, "{\n}\n");
    assert_int_equal(model_notes_put_config(&none, &out), STATUS_OK);
    assert_string_equal(out.data, "{\n}\n");
    text_clear(&out);
    assert_int_equal(model_notes_print_generation(&one, &out), STATUS_OK);
    assert_string_equal(out.data, "{\n  \"do_sample\": true,\n  \"eos_token_id\": 4\n}\n");
    text_clear(&out);
    assert_int_equal(model_notes_print_generation(&none, &out), STATUS_OK);
    assert_string_equal(out.data, "{\n  \"do_sample\": true\n}\n");
    text_release(&out);
}

static void generation_config_keeps_its_sampling_and_gets_the_stop_ids(void **state)
{
    struct text first = {0}, second = {0};
    struct model_notes notes;

    (void)state;
    assert_int_equal(parse(&notes, "{" QWEN ",\"eos_token_id\":7}",
                           "{\"bos_token_id\":3,\"eos_token_id\":[9,8],\"temperature\":0.6,"
                           "\"top_p\":0.95}"), STATUS_OK);
    assert_int_equal(model_notes_add_stop(&notes, 5), STATUS_OK);
    assert_int_equal(model_notes_print_generation(&notes, &first), STATUS_OK);
    assert_string_equal(first.data, "{\n  \"bos_token_id\": 3,\n  \"eos_token_id\": [9,8,5],\n"
                                    "  \"temperature\": 0.6,\n  \"top_p\": 0.95\n}\n");
    model_notes_release(&notes);
    assert_int_equal(parse(&notes, "{" QWEN "}", first.data), STATUS_OK);
    assert_int_equal(notes.n_stops, 3);
    assert_int_equal(model_notes_print_generation(&notes, &second), STATUS_OK);
    assert_string_equal(first.data, second.data);
    model_notes_release(&notes);
    text_release(&first);
    text_release(&second);
}

static void a_folder_needs_no_generation_config(void **state)
{
    char directory[] = "/tmp/hone-notes-XXXXXX", path[FILE_PATH_MAX];
    const char *config = "{" QWEN ",\"eos_token_id\":7}", *generation = "{\"eos_token_id\":[1,2]}";
    struct model_notes notes;

    (void)state;
    assert_non_null(mkdtemp(directory));
    assert_int_equal(model_notes_read(&notes, directory), STATUS_IO);
    assert_int_equal(file_join(path, directory, "config.json"), STATUS_OK);
    assert_int_equal(file_write_atomic(path, config, strlen(config)), STATUS_OK);
    assert_int_equal(model_notes_read(&notes, directory), STATUS_OK);
    assert_int_equal(notes.stop_ids[0], 7);
    assert_string_equal(notes.config.data, config);
    model_notes_release(&notes);
    assert_int_equal(file_join(path, directory, "generation_config.json"), STATUS_OK);
    assert_int_equal(file_write_atomic(path, generation, strlen(generation)), STATUS_OK);
    assert_int_equal(model_notes_read(&notes, directory), STATUS_OK);
    assert_int_equal(notes.n_stops, 2);
    model_notes_release(&notes);
    assert_int_equal(file_remove_tree(directory), STATUS_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stop_ids_are_those_of_the_generation_config_else_of_the_config),
        cmocka_unit_test(a_hostile_list_of_ids_is_refused_by_name),
        cmocka_unit_test(a_stop_id_is_added_once),
        cmocka_unit_test(config_keeps_its_ids_and_the_keys_that_are_not_read),
        cmocka_unit_test(a_model_made_here_is_printed_as_ever),
        cmocka_unit_test(generation_config_keeps_its_sampling_and_gets_the_stop_ids),
        cmocka_unit_test(a_folder_needs_no_generation_config),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
