/* A whole recipe, and what it leaves behind. */
#include "tests/integration/support.h"

#include "common/json.h"

static struct place place;

static int make_place(void **state)
{
    (void)state;
    place_make(&place);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void all_stages_of_a_recipe_run_and_the_table_is_printed(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", RECIPE, "--run", "run/debug");
    assert_ends(&program, 0, "stage distill is done");
    assert_int_equal(ask_number(&place, "run/debug", "SELECT count(*) FROM stage"), 8);
    assert_int_equal(
        ask_number(&place, "run/debug", "SELECT count(*) FROM stage WHERE state != 'done'"), 0);
    assert_true(SAYS(&program, "pass@1"));
    assert_int_equal(count_lines(&program, "warning"), 0);
    assert_int_equal(count_lines(&program, "hone: "), 0);
}

static void every_stage_evaluates_and_leaves_a_whole_checkpoint_and_curves(void **state)
{
    static const char *const stages[] = {"base", "student", "zero",  "coldstart",
                                         "rl",   "reject",  "align", "distill"};

    (void)state;
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        char sql[512];
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM v_metric WHERE stage = '%s' AND name IN "
                 "('eval/pass@1', 'eval/pass@4', 'eval/cons@4', 'eval/format')", stages[i]);
        assert_int_equal(ask_number(&place, "run/debug", sql), 4);
        assert_true(file_exists(in_place(&place, "run/debug/tensorboard/%s", stages[i])));
        snprintf(sql, sizeof(sql), "SELECT path FROM checkpoint c JOIN stage s ON s.id = c.stage_id"
                 " WHERE s.name = '%s' ORDER BY step DESC LIMIT 1", stages[i]);
        char *path = ask(&place, "run/debug", sql);
        path[strcspn(path, "\n")] = '\0';
        assert_true(file_exists(in_place(&place, "run/debug/%s/manifest.json", path)));
        mem_free(path);
    }
    assert_true(file_exists(in_place(&place, "run/debug/curves.svg")));
    assert_true(file_exists(in_place(&place, "run/debug/config.yaml")));
    assert_true(file_exists(in_place(&place, "run/debug/datasets/coldstart.jsonl")));
    assert_true(file_exists(in_place(&place, "run/debug/datasets/reject.jsonl")));
}

static void assert_edge(const char *child, const char *parent, const char *sql)
{
    long n = ask_number(&place, "run/debug", sql);

    if (n < 1)
        fail_msg("%s does not name %s as its parent", child, parent);
}

static void every_checkpoint_and_dataset_names_its_parents(void **state)
{
    (void)state;
    assert_int_equal(ask_number(&place, "run/debug",
                                "SELECT count(*) FROM checkpoint WHERE NOT EXISTS (SELECT 1 FROM "
                                "parent WHERE child_kind = 'checkpoint' AND child_id = id AND "
                                "parent_kind = 'stage' AND parent_id = stage_id)"), 0);
    assert_int_equal(ask_number(&place, "run/debug",
                                "SELECT count(*) FROM dataset WHERE NOT EXISTS (SELECT 1 FROM "
                                "parent WHERE child_kind = 'dataset' AND child_id = id AND "
                                "parent_kind = 'checkpoint')"), 0);
    assert_int_equal(ask_number(&place, "run/debug",
                                "SELECT count(*) FROM stage WHERE kind != 'base' AND NOT EXISTS "
                                "(SELECT 1 FROM parent WHERE child_kind = 'stage' AND child_id = "
                                "id AND parent_kind = 'checkpoint')"), 0);
    assert_edge("coldstart's dataset", "zero's checkpoint",
                "SELECT count(*) FROM parent p JOIN dataset d ON d.id = p.child_id JOIN stage s ON "
                "s.id = d.stage_id JOIN checkpoint c ON c.id = p.parent_id JOIN stage t ON t.id = "
                "c.stage_id WHERE p.child_kind = 'dataset' AND p.parent_kind = 'checkpoint' AND "
                "s.name = 'coldstart' AND t.name = 'zero'");
    assert_edge("distill", "reject's dataset",
                "SELECT count(*) FROM parent p JOIN stage s ON s.id = p.child_id JOIN dataset d ON "
                "d.id = p.parent_id JOIN stage t ON t.id = d.stage_id WHERE p.child_kind = 'stage' "
                "AND p.parent_kind = 'dataset' AND s.name = 'distill' AND t.name = 'reject'");
    assert_edge("rl", "coldstart's checkpoint",
                "SELECT count(*) FROM parent p JOIN stage s ON s.id = p.child_id JOIN checkpoint c "
                "ON c.id = p.parent_id JOIN stage t ON t.id = c.stage_id WHERE p.child_kind = "
                "'stage' AND p.parent_kind = 'checkpoint' AND s.name = 'rl' AND t.name = "
                "'coldstart'");
}

static void the_preference_reward_joins_for_the_last_steps_alone(void **state)
{
    (void)state;
    char *steps = ask(&place, "run/debug",
                      "SELECT DISTINCT step FROM v_score WHERE stage = 'align' AND purpose = "
                      "'train' AND name = 'preference' ORDER BY step");
    assert_string_equal(steps, "3\n4\n");
    mem_free(steps);
}

static void a_run_that_is_done_is_left_as_it_is(void **state)
{
    struct program program;
    char *before = ask(&place, "run/debug", "SELECT * FROM checkpoint");

    (void)state;
    HONE(&program, &place, "run", "--run", "run/debug");
    assert_ends(&program, 0, "stage distill is done already");
    assert_int_equal(count_lines(&program, "is done already"), 8);
    assert_true(SAYS(&program, "pass@1"));
    char *after = ask(&place, "run/debug", "SELECT * FROM checkpoint");
    assert_string_equal(before, after);
    mem_free(before);
    mem_free(after);
}

/* A folder as a user brings it: several ids end a completion, and there is more in its files. */
static void a_folder_with_several_stop_ids_ends_samples_there_and_keeps_its_words(void **state)
{
    struct program program;
    struct text text = {0};
    const char *digits = "SELECT count(*) FROM v_sample WHERE text GLOB '*[0-9]*'";

    (void)state;
    char *path = ask(&place, "run/debug", "SELECT 'run/debug/' || path FROM checkpoint c JOIN "
                     "stage s ON s.id = c.stage_id WHERE s.name = 'base' ORDER BY step DESC "
                     "LIMIT 1");
    path[strcspn(path, "\n")] = '\0';
    place_copy(&place, path, "model");
    mem_free(path);
    /* The toy tokenizer's first ids: the end of text, tags, bytes up to the digit 9. */
    text_print(&text, "{\"eos_token_id\": [0");
    for (int id = 1; id < 63; id++)
        text_print(&text, ",%d", id);
    text_print(&text, "], \"temperature\": 0.6}");
    place_write(&place, "model/generation_config.json", text.data);
    place_write(&place, "stops.yaml",
                "tasks: {train: run/debug/world/train.jsonl, template_name: toy}\n"
                "rollout: {num_generations: 4, max_completion_length: 24, workers: 1}\n"
                "grpo: {tasks_per_step: 6, max_steps: 2}\n"
                "stages: [{name: zero, stage: zero, from: ./model}]\n");
    HONE(&program, &place, "run", "stops.yaml", "--run", "run/stops");
    assert_ends(&program, 0, "stage zero is done");
    assert_int_equal(ask_number(&place, "run/stops", digits), 0);
    assert_true(ask_number(&place, "run/debug", digits) > 0);
    text_clear(&text);
    assert_int_equal(file_read(in_place(&place,
                               "run/stops/checkpoints/zero/step-000002/generation_config.json"),
                               1 << 16, &text), STATUS_OK);
    assert_non_null(strstr(text.data, "\"eos_token_id\": [0,1,2,"));
    assert_non_null(strstr(text.data, "\"temperature\": 0.6"));
    text_release(&text);
}

/* The toy tokenizer with ChatML's tokens, as 332 and 333. */
static void write_chat_tokenizer(void)
{
    static const char *const names[] = {"<|im_start|>", "<|im_end|>"};
    struct text text = {0};
    json_t *root;

    assert_int_equal(json_read_file(&root, in_place(&place, "run/debug/world/tokenizer.json"),
                                    1 << 20), STATUS_OK);
    json_t *added = json_object_get(root, "added_tokens");
    json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
    for (size_t i = 0; i < 2; i++) {
        json_t *token = json_deep_copy(json_array_get(added, 0));
        json_object_set_new(token, "id", json_integer((json_int_t)(json_object_size(vocab) + i)));
        json_object_set_new(token, "content", json_string(names[i]));
        json_array_append_new(added, token);
    }
    json_append(&text, root);
    json_decref(root);
    assert_int_equal(file_make_directories(in_place(&place, "chat")), STATUS_OK);
    place_write(&place, "chat/tokenizer.json", text.data);
    text_release(&text);
}

static void a_chat_family_learns_the_end_of_its_turn_and_samples_stop_there(void **state)
{
    struct program program;
    struct text text = {0};

    (void)state;
    write_chat_tokenizer();
    place_write(&place, "chat.yaml",
                "tasks: {train: run/debug/world/train.jsonl, text: run/debug/world/pretrain.jsonl,"
                " template_name: chatml}\n"
                "model: {tokenizer: chat, hidden_size: 32, intermediate_size: 48,"
                " num_hidden_layers: 1, num_attention_heads: 2, num_key_value_heads: 1,"
                " max_position_embeddings: 128}\n"
                "rollout: {num_generations: 4, max_completion_length: 24, workers: 1}\n"
                "data: {n_tasks: 20, require_right: false, require_format: false,"
                " min_language: 0, max_repetition: 1}\n"
                "stages:\n"
                "  - {name: base, stage: base, sft: {batch_tokens: 4096, num_train_epochs: 1}}\n"
                "  - {name: cold, stage: coldstart, from: base, sample: base,"
                " optimizer: {learning_rate: 0.05}, sft: {num_train_epochs: 60}}\n"
                "  - {name: zero, stage: zero, from: cold, grpo: {max_steps: 1,"
                " tasks_per_step: 8}}\n");
    HONE(&program, &place, "run", "chat.yaml", "--run", "run/chat");
    assert_ends(&program, 0, "stage zero is done");
    /* 333 in the tokens' last four bytes: it ended them, and no end of text was wanted. */
    assert_true(ask_number(&place, "run/chat", "SELECT count(*) FROM sample s JOIN sample_group g "
                           "ON g.id = s.group_id JOIN stage t ON t.id = g.stage_id WHERE t.name = "
                           "'zero' AND finish = 'eos' AND hex(substr(tokens, -4)) = '4D010000'") >
                0);
    assert_int_equal(file_read(in_place(&place,
                               "run/chat/checkpoints/zero/step-000001/generation_config.json"),
                               1 << 16, &text), STATUS_OK);
    assert_non_null(strstr(text.data, "\"eos_token_id\": [0,333]"));
    text_release(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_stages_of_a_recipe_run_and_the_table_is_printed),
        cmocka_unit_test(every_stage_evaluates_and_leaves_a_whole_checkpoint_and_curves),
        cmocka_unit_test(every_checkpoint_and_dataset_names_its_parents),
        cmocka_unit_test(the_preference_reward_joins_for_the_last_steps_alone),
        cmocka_unit_test(a_run_that_is_done_is_left_as_it_is),
        cmocka_unit_test(a_folder_with_several_stop_ids_ends_samples_there_and_keeps_its_words),
        cmocka_unit_test(a_chat_family_learns_the_end_of_its_turn_and_samples_stop_there),
    };

    return cmocka_run_group_tests_name("integration_recipe", tests, make_place, remove_place);
}
