#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/json.h"
#include "common/status.h"
#include "pipeline/checkpoint.h"
#include "pipeline/pipeline.h"
#include "tasks/tasks.h"

/* A run as the coordinator leaves it: one stage with a checkpoint and a dataset, one without. */
static char run[32], path[FILE_PATH_MAX];

#define CHECKPOINT "checkpoints/sft/step-000007"

static const char *in_run(const char *name)
{
    assert_int_equal(file_join(path, run, name), STATUS_OK);
    return path;
}

static void write_file(const char *name, const char *text)
{
    assert_int_equal(file_write_atomic(in_run(name), text, strlen(text)), STATUS_OK);
}

static void read_back(const char *name, struct text *out)
{
    text_clear(out);
    assert_int_equal(file_read(in_run(name), 1 << 20, out), STATUS_OK);
}

static int export_newest(const char *from, const char *stage, const char *dtype, const char *out)
{
    return pipeline_export_model(from, stage, CHECKPOINT_NEWEST, dtype, out);
}

static void make_checkpoint(void)
{
    const struct toy_options toy = {.seed = 1, .n_documents = 20, .n_train = 5, .n_heldout = 5,
                                    .n_general = 5};
    struct model_shape shape = {.family = MODEL_QWEN2, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1,
                                .head_dim = 8, .channels = 16, .hidden_channels = 32,
                                .max_positions = 64, .qkv_bias = 1, .tied_head = 1,
                                .rope_base = 10000, .norm_eps = 1e-6};
    struct checkpoint_save save = {.is_going_on = 0};
    struct model_notes notes = {.stop_ids = {0}, .n_stops = 1};
    struct tokenizer *tokenizer;
    struct model *model;
    struct ops *ops;

    assert_int_equal(file_make_directories(in_run("world")), STATUS_OK);
    assert_int_equal(toy_world_write(path, &toy), STATUS_OK);
    assert_int_equal(tokenizer_load(&tokenizer, path), STATUS_OK);
    shape.vocab_size = tokenizer_vocab_size(tokenizer);
    assert_int_equal(ops_create(&ops, "cpu", 1), STATUS_OK);
    assert_int_equal(model_create(&model, ops, &shape, &model_frozen, 1), STATUS_OK);
    assert_int_equal(checkpoint_begin(&save, in_run(CHECKPOINT), model, tokenizer, &notes, NULL),
                     STATUS_OK);
    assert_int_equal(checkpoint_end(&save), STATUS_OK);
    model_destroy(&model);
    ops_destroy(&ops);
    tokenizer_destroy(&tokenizer);
}

/* Puts another file into the checkpoint, and its digest into the manifest. */
static void write_checkpoint_file(const char *name, const char *bytes)
{
    struct text manifest = {0};
    char file[FILE_PATH_MAX], old[DIGEST_HEX_BYTES], new[DIGEST_HEX_BYTES];
    struct digest digest;

    snprintf(file, sizeof(file), CHECKPOINT "/%s", name);
    assert_int_equal(digest_of_file(&digest, in_run(file)), STATUS_OK);
    digest_hex(&digest, old);
    write_file(file, bytes);
    digest_of(&digest, bytes, strlen(bytes));
    digest_hex(&digest, new);
    read_back(CHECKPOINT "/manifest.json", &manifest);
    char *at = strstr(manifest.data, old);
    assert_non_null(at);
    memcpy(at, new, strlen(new));
    write_file(CHECKPOINT "/manifest.json", manifest.data);
    text_release(&manifest);
}

static void make_store(void)
{
    struct run_store *store;
    int64_t stage, other, row;

    assert_int_equal(run_store_open(&store, in_run("run.db")), STATUS_OK);
    assert_int_equal(run_store_begin_stage(store, "sft", "distill", "a: {}\n", "h", &stage),
                     STATUS_OK);
    assert_int_equal(run_store_begin_stage(store, "zero", "zero", "a: {}\n", "h", &other),
                     STATUS_OK);
    assert_int_equal(run_store_put_checkpoint(store, stage, 7, CHECKPOINT, "d", &row), STATUS_OK);
    assert_int_equal(run_store_put_dataset(store, stage, "data.jsonl", "chat-jsonl", 2, "d", &row),
                     STATUS_OK);
    run_store_close(&store);
}

static int set_up(void **state)
{
    (void)state;
    snprintf(run, sizeof(run), "/tmp/hone-export-XXXXXX");
    if (!mkdtemp(run))
        return -1;
    make_checkpoint();
    make_store();
    write_file("config.yaml",
               "tasks: {template_name: \"it's {question}\\nA {prefill}<think>\"}\n"
               "stages:\n  - {name: zero, from: ./m}\n"
               "  - {name: sft, stage: distill, from: zero, sample: zero}\n");
    write_file("data.jsonl",
               "{\"messages\":[{\"role\":\"user\",\"content\":\"1+1\"},{\"role\":\"assistant\","
               "\"content\":\"<think>é</think>2\"}],\"task_id\":5}\n\n"
               "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\","
               "\"content\":\"a\"}]}");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return file_remove_tree(run);
}

static void a_model_folder_has_what_other_programs_load(void **state)
{
    static const char *const same[] = {"config.json", "generation_config.json", "tokenizer.json",
                                       "model.safetensors"};
    struct digest a, b;
    struct text text = {0};
    json_t *json;
    char name[128];

    (void)state;
    assert_int_equal(export_newest(run, "sft", NULL, in_run("out/")), STATUS_OK);
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        snprintf(name, sizeof(name), "out/%s", same[i]);
        assert_int_equal(digest_of_file(&a, in_run(name)), STATUS_OK);
        snprintf(name, sizeof(name), CHECKPOINT "/%s", same[i]);
        assert_int_equal(digest_of_file(&b, in_run(name)), STATUS_OK);
        assert_memory_equal(&a, &b, sizeof(a));
    }
    read_back("out/tokenizer_config.json", &text);
    assert_int_equal(json_parse(&json, text.data, text.length, "t"), STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(json, "eos_token")), "<|endoftext|>");
    const char *jinja = json_string_value(json_object_get(json, "chat_template"));
    assert_non_null(strstr(jinja, "start='it\\'s '"));
    assert_non_null(strstr(jinja, "message['content'] + '\\nA ' }}"));
    assert_non_null(strstr(jinja, "{% if add_generation_prompt %}{{ '<think>' }}{% endif %}"));
    json_decref(json);
    text_release(&text);
}

static void a_bfloat16_export_says_so_and_keeps_its_bytes_when_exported_again(void **state)
{
    struct digest a, b;
    struct text text = {0};
    char again[FILE_PATH_MAX], first[FILE_PATH_MAX];

    (void)state;
    snprintf(first, sizeof(first), "%s/half", run);
    snprintf(again, sizeof(again), "%s/again", run);
    assert_int_equal(export_newest(run, "sft", "bfloat16", first), STATUS_OK);
    assert_int_equal(pipeline_export_folder(first, NULL, again), STATUS_OK);
    read_back("half/config.json", &text);
    assert_non_null(strstr(text.data, "\"torch_dtype\": \"bfloat16\""));
    assert_int_equal(digest_of_file(&a, in_run("half/model.safetensors")), STATUS_OK);
    assert_int_equal(digest_of_file(&b, in_run("again/model.safetensors")), STATUS_OK);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_int_equal(digest_of_file(&a, in_run("half/tokenizer_config.json")), STATUS_OK);
    assert_int_equal(digest_of_file(&b, in_run("again/tokenizer_config.json")), STATUS_OK);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_int_equal(pipeline_export_folder(first, "float16", in_run("out")), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "float16"));
    assert_int_equal(file_exists(in_run("out")), 0);
    text_release(&text);
}

/* What a user's folder says beyond what hone reads is theirs to keep. */
static void a_folder_keeps_its_ids_and_its_other_keys(void **state)
{
    struct text text = {0}, config = {0};
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX];

    (void)state;
    snprintf(from, sizeof(from), "%s/" CHECKPOINT, run);
    snprintf(to, sizeof(to), "%s/kept", run);
    read_back(CHECKPOINT "/config.json", &text);
    text_print(&config, "{\"bos_token_id\": 2, \"pad_token_id\": 3, \"use_cache\": true, "
                        "\"auto_map\": {},%s", strchr(text.data, '\n'));
    char *bos = strstr(config.data, "\"bos_token_id\": null,");
    assert_non_null(bos);
    memset(bos, ' ', strlen("\"bos_token_id\": null,"));
    write_file(CHECKPOINT "/config.json", config.data);
    write_file(CHECKPOINT "/generation_config.json", "{\"eos_token_id\": [0, 2], \"top_k\": 20}\n");
    assert_int_equal(pipeline_export_folder(from, "bfloat16", to), STATUS_OK);
    read_back("kept/config.json", &text);
    assert_non_null(strstr(text.data, "\"bos_token_id\": 2,"));
    assert_non_null(strstr(text.data, "\"pad_token_id\": 3"));
    assert_non_null(strstr(text.data, "\"use_cache\": true"));
    assert_non_null(strstr(text.data, "\"torch_dtype\": \"bfloat16\""));
    assert_null(strstr(text.data, "auto_map"));
    read_back("kept/generation_config.json", &text);
    assert_string_equal(text.data, "{\"eos_token_id\": [0, 2], \"top_k\": 20}\n");
    text_release(&text);
    text_release(&config);
}

/* An answer ends with the template's end of a turn, where the tokenizer has it. */
static void a_chat_familys_export_ends_answers_with_their_turn(void **state)
{
    struct text text = {0};
    json_t *json, *added;

    (void)state;
    read_back(CHECKPOINT "/tokenizer.json", &text);
    assert_int_equal(json_parse(&json, text.data, text.length, "t"), STATUS_OK);
    added = json_object_get(json, "added_tokens");
    json_array_append_new(added, json_deep_copy(json_array_get(added, 0)));
    json_t *token = json_array_get(added, json_array_size(added) - 1);
    json_object_set_new(token, "content", json_string("<|im_end|>"));
    json_object_set_new(token, "id", json_integer(1000));
    text_clear(&text);
    json_append(&text, json);
    json_decref(json);
    write_checkpoint_file("tokenizer.json", text.data);
    write_file("config.yaml", "tasks: {template_name: chatml}\nstages:\n"
                              "  - {name: zero, from: ./m}\n"
                              "  - {name: sft, stage: distill, from: zero, sample: zero}\n");
    assert_int_equal(export_newest(run, "sft", NULL, in_run("out")), STATUS_OK);
    read_back("out/tokenizer_config.json", &text);
    assert_int_equal(json_parse(&json, text.data, text.length, "t"), STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(json, "eos_token")), "<|im_end|>");
    assert_string_equal(json_string_value(json_object_get(json, "pad_token")), "<|endoftext|>");
    const char *jinja = json_string_value(json_object_get(json, "chat_template"));
    assert_non_null(strstr(jinja, "set ns.start = '\\n<|im_start|>user\\n'"));
    json_decref(json);
    text_release(&text);
}

static void what_exists_is_never_overwritten(void **state)
{
    struct text text = {0};

    (void)state;
    write_file("there", "mine");
    assert_int_equal(export_newest(run, "sft", NULL, in_run("there")), STATUS_CONFIG);
    assert_int_equal(pipeline_export_dataset(run, "sft", "chat", in_run("there")), STATUS_CONFIG);
    read_back("there", &text);
    assert_string_equal(text.data, "mine");
    text_release(&text);
}

static void a_damaged_checkpoint_is_not_exported(void **state)
{
    (void)state;
    write_file(CHECKPOINT "/config.json", "{}");
    assert_int_equal(export_newest(run, "sft", NULL, in_run("out")), STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "config.json is damaged"));
    assert_int_equal(file_exists(in_run("out")), 0);
    assert_int_equal(file_exists(in_run("out.tmp")), 0);
}

static void a_stage_without_a_checkpoint_or_dataset_says_so(void **state)
{
    (void)state;
    assert_int_equal(export_newest(run, "zero", NULL, in_run("out")), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "\"zero\""));
    assert_int_equal(pipeline_export_dataset(run, "zero", "chat", in_run("out")), STATUS_FAILED);
    assert_int_equal(export_newest(run, "nix", NULL, in_run("out")), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "zero, sft"));
    assert_int_equal(export_newest("/nonexistent", "sft", NULL, in_run("out")),
                     STATUS_CONFIG);
    assert_int_equal(pipeline_export_dataset(run, "sft", "parquet", in_run("out")), STATUS_CONFIG);
}

static void a_chat_dataset_keeps_the_messages_alone(void **state)
{
    struct text text = {0};

    (void)state;
    assert_int_equal(pipeline_export_dataset(run, "sft", "chat", in_run("out.jsonl")), STATUS_OK);
    read_back("out.jsonl", &text);
    assert_string_equal(text.data,
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"1+1\"},"
                        "{\"role\":\"assistant\",\"content\":\"<think>é</think>2\"}]}\n"
                        "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},"
                        "{\"role\":\"assistant\",\"content\":\"a\"}]}\n");
    text_release(&text);
}

static void a_prompt_dataset_holds_what_the_model_is_trained_on(void **state)
{
    struct text text = {0};

    (void)state;
    assert_int_equal(pipeline_export_dataset(run, "sft", "prompt", in_run("out.jsonl")), STATUS_OK);
    read_back("out.jsonl", &text);
    assert_string_equal(text.data,
                        "{\"prompt\":\"it's 1+1\\nA <think>\",\"completion\":\"é</think>2\"}\n"
                        "{\"prompt\":\"it's q\\nA <think>\",\"completion\":\"a\"}\n");
    text_release(&text);
}

static void a_dataset_that_was_edited_badly_names_its_line(void **state)
{
    (void)state;
    write_file("data.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":"
                             "\"assistant\",\"content\":\"a\"}]}\n{\"messages\":[]}\n");
    assert_int_equal(pipeline_export_dataset(run, "sft", "chat", in_run("out.jsonl")),
                     STATUS_FORMAT);
    assert_non_null(strstr(status_reason(), "data.jsonl:2"));
    assert_int_equal(file_exists(in_run("out.jsonl")), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_model_folder_has_what_other_programs_load),
        TEST(a_bfloat16_export_says_so_and_keeps_its_bytes_when_exported_again),
        TEST(a_folder_keeps_its_ids_and_its_other_keys),
        TEST(a_chat_familys_export_ends_answers_with_their_turn),
        TEST(what_exists_is_never_overwritten),
        TEST(a_damaged_checkpoint_is_not_exported),
        TEST(a_stage_without_a_checkpoint_or_dataset_says_so),
        TEST(a_chat_dataset_keeps_the_messages_alone),
        TEST(a_prompt_dataset_holds_what_the_model_is_trained_on),
        TEST(a_dataset_that_was_edited_badly_names_its_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
