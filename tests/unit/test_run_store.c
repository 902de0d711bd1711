#include "test_run_store.h"

static void a_new_file_says_what_it_is(void **state)
{
    (void)state;
    assert_int_equal(run_store_open(&store, path), STATUS_OK);
    assert_query("PRAGMA application_id", "1752133221");
    assert_query("PRAGMA user_version", "1");
    assert_query("PRAGMA journal_mode", "wal");
    assert_query("PRAGMA integrity_check", "ok");
}

static void every_table_is_strict(void **state)
{
    (void)state;
    assert_int_equal(run_store_open(&store, path), STATUS_OK);
    assert_query("SELECT name FROM pragma_table_list WHERE type = 'table' AND schema = 'main'"
                 " AND NOT strict AND name NOT LIKE 'sqlite_%'", "");
}

static void the_run_keeps_what_it_was_begun_with(void **state)
{
    (void)state;
    begin("zero");
    assert_query("SELECT name, seed, code_version, config_hash, data_hash, template_hash FROM run",
                 "demo|-1|1.0|aaaa|dddd|tttt");
}

static void another_configuration_is_refused_and_named(void **state)
{
    struct run_info other = info;

    (void)state;
    begin("zero");
    assert_int_equal(run_store_begin_run(store, &info, 0), STATUS_OK);
    other.config_yaml = "grpo:\n  beta: 0.5\n  epsilon: 0.2\n";
    other.config_hash = "bbbb";
    assert_int_equal(run_store_begin_run(store, &other, 0), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "grpo.beta: 0.0 -> 0.5"));
    assert_null(strstr(status_reason(), "epsilon"));
    assert_query("SELECT config_hash FROM run", "aaaa");
    assert_int_equal(run_store_begin_run(store, &other, 1), STATUS_OK);
    assert_query("SELECT config_hash FROM run", "bbbb");
}

static void other_data_are_refused_and_named(void **state)
{
    struct run_info other = info;

    (void)state;
    begin("zero");
    other.data_hash = "eeee";
    assert_int_equal(run_store_begin_run(store, &other, 0), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "data: dddd -> eeee"));
}

static void a_stage_keeps_its_id_when_it_is_begun_again(void **state)
{
    enum stage_state found;

    (void)state;
    int64_t base = begin("base"), zero = begin("zero");
    assert_int_not_equal(base, zero);
    assert_int_equal(run_store_end_stage(store, base, STAGE_INTERRUPTED, "Ctrl-C", 2.0), STATUS_OK);
    assert_int_equal(run_store_stage_state(store, "base", &found), STATUS_OK);
    assert_int_equal(found, STAGE_INTERRUPTED);
    run_store_close(&store);
    assert_int_equal(begin("base"), base);
    assert_int_equal(run_store_stage_state(store, "base", &found), STATUS_OK);
    assert_int_equal(found, STAGE_RUNNING);
    assert_int_equal(run_store_end_stage(store, base, STAGE_DONE, NULL, 3.0), STATUS_OK);
    assert_query("SELECT state, reason, wall_seconds FROM stage WHERE name = 'base'", "done||5.0");
    assert_int_equal(run_store_stage_state(store, "rl", &found), STATUS_OK);
    assert_int_equal(found, STAGE_WAITING);
}

static void a_stage_of_another_kind_is_refused(void **state)
{
    int64_t id;

    (void)state;
    begin("zero");
    assert_int_equal(run_store_begin_stage(store, "zero", "sft", "", "", &id), STATUS_CONFIG);
    assert_non_null(strstr(status_reason(), "\"zero\" is of kind grpo"));
}

static void a_step_is_stored_with_all_that_belongs_to_it(void **state)
{
    (void)state;
    int64_t stage = begin("zero");
    put_step(stage, 4, UINT64_MAX - 1);
    assert_query("SELECT step, wall_seconds FROM step", "4|2.0");
    assert_query("SELECT name, value, wall_value FROM metric ORDER BY name",
                 "completions/mean_terminated_length|NULL|NULL\nreward|4.5|NULL\n"
                 "step_time|NULL|1.5");
    assert_query("SELECT stage, step, name, value FROM v_metric WHERE name = 'step_time'",
                 "zero|4|step_time|1.5");
    assert_query("SELECT id, kind, verifier, language, question, reference FROM task",
                 "-2|chain|math|en|3+8+5|6");
    assert_query("SELECT purpose, task_id, prefill, hex(prompt_tokens) FROM sample_group",
                 "train|-2|<think>|050000000600000007000000");
    assert_query("SELECT position, finish, text, n_tokens, reward, advantage, masked FROM sample",
                 "0|eos|3+8=1,1+5=6|4|1.25|0.5|0\n1|length|bad \xef\xbf\xbd text|4|0.0|-0.5|0");
    assert_query("SELECT hex(tokens), hex(logprobs) FROM sample WHERE position = 0",
                 "0A0000000B0000000C00000002000000|000000BF000080BE0000C0BF000000BE");
    assert_query("SELECT weight_version_min, weight_version_max, hex(weight_versions) FROM sample",
                 "3|3|\n3|4|03000000030000000400000004000000");
    assert_query("SELECT name, weight, value, outcome, detail FROM score ORDER BY sample_id,"
                 " position",
                 "accuracy|1.0|1.0|right|16\nformat|0.25|1.0|right|\n"
                 "accuracy|1.0|0.0|unreadable|no <answer>\nformat|0.25|0.0|wrong|");
    assert_query("SELECT stage, step, purpose, kind, question, reward, advantage, masked"
                 " FROM v_sample WHERE reward > 1", "zero|4|train|chain|3+8+5|1.25|0.5|0");
    assert_query("SELECT stage, step, name, outcome FROM v_score WHERE outcome = 'unreadable'",
                 "zero|4|accuracy|unreadable");
}

static void a_step_may_be_put_in_parts(void **state)
{
    const struct metric_value evaluated[] = {{"eval/pass@1", 0.75}, {"reward", 9}};
    struct sample_group group = fake_group(12);

    (void)state;
    int64_t stage = begin("zero");
    put_step(stage, 1, 11);
    assert_int_equal(run_store_put_step(store, stage, 1, 0.5, evaluated, 2, "eval", &group, 1),
                     STATUS_OK);
    assert_query("SELECT wall_seconds FROM step", "2.5");
    assert_query("SELECT name, value FROM metric WHERE value IS NOT NULL",
                 "eval/pass@1|0.75\nreward|9.0");
    assert_query("SELECT purpose, count(advantage), count(*) FROM v_sample GROUP BY purpose",
                 "eval|0|2\ntrain|2|2");
}

static void samples_that_nobody_judged_have_no_reward(void **state)
{
    struct sample_group group = fake_group(1);

    (void)state;
    int64_t stage = begin("data");
    group.n_rewards = 0;
    samples[0].scores = samples[1].scores = NULL;
    samples[0].n_tokens = 0;
    samples[0].tokens = NULL;
    samples[0].logprobs = NULL;
    samples[0].weight_versions = NULL;
    samples[0].text = (struct wire_text){NULL, 0};
    assert_int_equal(run_store_put_step(store, stage, 0, 0, NULL, 0, "data", &group, 1),
                     STATUS_OK);
    assert_query("SELECT reward, n_tokens, length(tokens), logprobs, weight_version_min, text"
                 " FROM sample WHERE position = 0", "NULL|0|0|NULL|NULL|");
    assert_query("SELECT count(*) FROM score", "0");
}

static void a_step_that_fails_leaves_nothing(void **state)
{
    const struct metric_value metrics[] = {{"reward", 1}};
    struct sample_group group = fake_group(1);

    (void)state;
    int64_t stage = begin("zero");
    assert_int_equal(run_store_put_step(store, stage, 1, 1, metrics, 1, "practice", &group, 1),
                     STATUS_FAILED);
    assert_non_null(strstr(status_reason(), path));
    assert_query("SELECT count(*) FROM step", "0");
    assert_query("SELECT count(*) FROM task", "0");
    put_step(stage, 1, 1);
    assert_query("SELECT count(*) FROM step", "1");
}

static void checkpoints_and_datasets_are_found_again(void **state)
{
    struct checkpoint_row row;
    char found[FILE_PATH_MAX];
    int64_t id, again;

    (void)state;
    int64_t stage = begin("zero");
    assert_int_equal(run_store_last_checkpoint(store, "zero", &row), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "\"zero\" has no checkpoint"));
    assert_int_equal(run_store_last_dataset(store, "zero", found, &id), STATUS_FAILED);
    put_step(stage, 5, 1);
    assert_int_equal(run_store_put_checkpoint(store, stage, 5, "checkpoints/5", "d5", &id),
                     STATUS_OK);
    assert_int_equal(run_store_put_checkpoint(store, stage, 10, "checkpoints/10", "d10", &id),
                     STATUS_OK);
    assert_int_equal(run_store_put_checkpoint(store, stage, 10, "checkpoints/10", "e10", &again),
                     STATUS_OK);
    assert_int_equal(again, id);
    assert_int_equal(run_store_last_checkpoint(store, "zero", &row), STATUS_OK);
    assert_string_equal(row.path, "checkpoints/10");
    assert_string_equal(row.digest, "e10");
    assert_int_equal(row.id, again);
    assert_int_equal(row.step, 10);
    assert_int_equal(run_store_find_checkpoint(store, "zero", 10, &row), STATUS_OK);
    assert_string_equal(row.path, "checkpoints/5");
    assert_int_equal(run_store_find_checkpoint(store, "zero", 5, &row), STATUS_OK);
    assert_int_equal(row.step, -1);
    assert_int_equal(run_store_put_dataset(store, stage, "datasets/a.jsonl", "chat", 3, "dd", &id),
                     STATUS_OK);
    assert_query("SELECT step, path, format, n_rows, digest FROM dataset",
                 "5|datasets/a.jsonl|chat|3|dd");
    assert_int_equal(run_store_last_dataset(store, "zero", found, &again), STATUS_OK);
    assert_string_equal(found, "datasets/a.jsonl");
    assert_int_equal(again, id);
}

static void edges_join_what_exists_and_count_once(void **state)
{
    int64_t one, two;

    (void)state;
    int64_t stage = begin("zero");
    assert_int_equal(run_store_put_checkpoint(store, stage, 1, "a", "d", &one), STATUS_OK);
    assert_int_equal(run_store_put_checkpoint(store, stage, 2, "b", "d", &two), STATUS_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(run_store_put_parent(store, "checkpoint", two, "checkpoint", one),
                         STATUS_OK);
    assert_query("SELECT count(*) FROM parent WHERE parent_kind = 'checkpoint'", "1");
    assert_query("SELECT count(*) FROM parent WHERE parent_kind = 'stage'", "2");
    assert_int_equal(run_store_put_parent(store, "checkpoint", two, "dataset", 77), STATUS_FAILED);
    assert_non_null(strstr(status_reason(), "no dataset with id 77"));
}

static void rewind_drops_one_stage_from_the_step_on(void **state)
{
    int64_t one, two, data;

    (void)state;
    int64_t other = begin("base"), stage = begin("zero");
    put_step(other, 9, 90);
    for (int64_t step = 1; step <= 4; step++)
        put_step(stage, step, (uint64_t)step);
    assert_int_equal(run_store_put_checkpoint(store, stage, 2, "a", "d", &one), STATUS_OK);
    assert_int_equal(run_store_put_checkpoint(store, stage, 3, "b", "d", &two), STATUS_OK);
    assert_int_equal(run_store_put_dataset(store, stage, "x", "chat", 1, "d", &data), STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "checkpoint", two, "checkpoint", one), STATUS_OK);
    assert_int_equal(run_store_put_parent(store, "dataset", data, "checkpoint", one), STATUS_OK);
    assert_int_equal(run_store_rewind_stage(store, stage, 3), STATUS_OK);
    assert_query("SELECT stage_id, step FROM step ORDER BY 1, 2", "1|9\n2|1\n2|2");
    assert_query("SELECT max(step) FROM v_metric WHERE stage = 'zero'", "2");
    assert_query("SELECT count(*) FROM sample_group", "3");
    assert_query("SELECT count(*) FROM sample", "6");
    assert_query("SELECT count(*) FROM score", "12");
    assert_query("SELECT id FROM task ORDER BY id", "1\n2\n90");
    assert_query("SELECT path FROM checkpoint", "a");
    assert_query("SELECT count(*) FROM dataset", "0");
    assert_query("SELECT child_id, parent_kind FROM parent", "1|stage");
}

/* Everything but the columns that docs/formats.md calls wall_* and created_*. */
static void dump(struct text *out)
{
    sqlite3 *db;
    sqlite3_stmt *columns, *row;

    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db,
                                        "SELECT t.name, group_concat('quote('||c.name||')', '||')"
                                        " FROM pragma_table_list AS t, pragma_table_info(t.name)"
                                        " AS c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite%'"
                                        " AND c.name NOT LIKE 'wall%' AND c.name NOT LIKE"
                                        " 'created%' GROUP BY t.name ORDER BY t.name",
                                        -1, &columns, NULL), SQLITE_OK);
    while (sqlite3_step(columns) == SQLITE_ROW) {
        char query[1024];
        snprintf(query, sizeof(query), "SELECT %s FROM %s", sqlite3_column_text(columns, 1),
                 sqlite3_column_text(columns, 0));
        assert_int_equal(sqlite3_prepare_v2(db, query, -1, &row, NULL), SQLITE_OK);
        while (sqlite3_step(row) == SQLITE_ROW)
            text_print(out, "%s %s\n", sqlite3_column_text(columns, 0),
                       sqlite3_column_text(row, 0));
        sqlite3_finalize(row);
    }
    sqlite3_finalize(columns);
    sqlite3_close(db);
}

static void a_run_that_was_rewound_ends_like_one_that_was_not(void **state)
{
    struct text straight = {0}, resumed = {0};
    int64_t id;

    for (int rewinds = 0; rewinds < 2; rewinds++) {
        int64_t stage = begin("zero");
        put_step(stage, 1, 1);
        assert_int_equal(run_store_put_checkpoint(store, stage, 1, "a", "d", &id), STATUS_OK);
        if (rewinds) {
            put_step(stage, 2, 55);
            put_step(stage, 3, 56);
            run_store_close(&store);
            stage = begin("zero");
            assert_int_equal(run_store_rewind_stage(store, stage, 2), STATUS_OK);
        }
        put_step(stage, 2, 2);
        put_step(stage, 3, 1);
        dump(rewinds ? &resumed : &straight);
        tear_down(state);
        set_up(state);
    }
    assert_true(straight.length > 1000);
    assert_string_equal(straight.data, resumed.data);
    text_release(&straight);
    text_release(&resumed);
}

int main(void)
{
#define EACH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        EACH(a_new_file_says_what_it_is),
        EACH(every_table_is_strict),
        EACH(the_run_keeps_what_it_was_begun_with),
        EACH(another_configuration_is_refused_and_named),
        EACH(other_data_are_refused_and_named),
        EACH(a_stage_keeps_its_id_when_it_is_begun_again),
        EACH(a_stage_of_another_kind_is_refused),
        EACH(a_step_is_stored_with_all_that_belongs_to_it),
        EACH(a_step_may_be_put_in_parts),
        EACH(samples_that_nobody_judged_have_no_reward),
        EACH(a_step_that_fails_leaves_nothing),
        EACH(checkpoints_and_datasets_are_found_again),
        EACH(edges_join_what_exists_and_count_once),
        EACH(rewind_drops_one_stage_from_the_step_on),
        EACH(a_run_that_was_rewound_ends_like_one_that_was_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
