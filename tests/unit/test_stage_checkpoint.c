/* Which checkpoints stay, and that a question to run.db without an answer costs none of them. */
#include "test_run_store.h"

#include "pipeline/internal.h"
#include "pipeline/run_store_internal.h"

static struct pipeline pipeline;
static struct stage stage = {.name = "zero"};
static struct stage_run run;

static int refuse_names(void *unused, int action, const char *table, const char *column,
                        const char *database, const char *trigger)
{
    (void)unused;
    (void)database;
    (void)trigger;
    int is_name = action == SQLITE_READ && !strcmp(table, "stage") && !strcmp(column, "name");
    return is_name ? SQLITE_DENY : SQLITE_OK;
}

/* From now on what asks for checkpoints by a stage's name has no answer; rows are still put. */
static void fail_questions(void)
{
    assert_int_equal(sqlite3_set_authorizer(store->sql.handle, refuse_names, NULL), SQLITE_OK);
}

static const char *step_path(int64_t step)
{
    static char name[FILE_PATH_MAX];

    snprintf(name, sizeof(name), "%s/checkpoints/zero/step-%06lld", directory, (long long)step);
    return name;
}

static int has_step(int64_t step)
{
    return file_exists(step_path(step));
}

static void make_step(int64_t step, int with_row)
{
    char relative[64], manifest[FILE_PATH_MAX];
    int64_t row;

    assert_int_equal(file_make_directories(step_path(step)), STATUS_OK);
    assert_int_equal(file_join(manifest, step_path(step), "manifest.json"), STATUS_OK);
    assert_int_equal(file_write_atomic(manifest, "{\"files\": {}}", 13), STATUS_OK);
    snprintf(relative, sizeof(relative), "checkpoints/zero/step-%06lld", (long long)step);
    if (with_row)
        assert_int_equal(run_store_put_checkpoint(store, run.id, step, relative, "00", &row),
                         STATUS_OK);
}

static void *save_nothing(void *unused)
{
    return unused;
}

/* A checkpoint that is on the disk and not yet in run.db. */
static void begin_checkpoint(int64_t step)
{
    make_step(step, 0);
    run.saved_step = step;
    snprintf(run.saved_path, sizeof(run.saved_path), "checkpoints/zero/step-%06lld",
             (long long)step);
    run.save = (struct checkpoint_save){.is_going_on = 1, .digest_hex = "00"};
    assert_int_equal(pthread_create(&run.save.thread, NULL, save_nothing, NULL), 0);
}

static int make_run(void **state)
{
    if (set_up(state) < 0)
        return -1;
    pipeline = (struct pipeline){.options.run = directory};
    run = (struct stage_run){.pipeline = &pipeline, .stage = &stage, .id = begin("zero")};
    pipeline.store = store;
    pipeline.recipe.run.save_total_limit = 2;
    make_step(2, 1);
    make_step(4, 1);
    return 0;
}

static void the_newest_stay_and_what_has_no_row_goes(void **state)
{
    (void)state;
    make_step(5, 0);
    begin_checkpoint(6);
    assert_int_equal(stage_end_checkpoint(&run), STATUS_OK);
    assert_false(has_step(2));
    assert_true(has_step(4));
    assert_false(has_step(5));
    assert_true(has_step(6));
}

static void a_question_that_fails_removes_no_checkpoint(void **state)
{
    (void)state;
    make_step(5, 0);
    begin_checkpoint(6);
    fail_questions();
    assert_true(stage_end_checkpoint(&run) < 0);
    assert_non_null(strstr(status_reason(), path));
    for (int64_t step = 2; step <= 6; step += 2)
        assert_true(has_step(step));
    assert_query("SELECT group_concat(step) FROM checkpoint", "2,4,6");
}

static void a_question_that_fails_is_not_a_stage_without_checkpoints(void **state)
{
    char found[FILE_PATH_MAX];
    int has;

    (void)state;
    assert_int_equal(stage_has_checkpoint(&pipeline, "zero", &has), STATUS_OK);
    assert_true(has);
    fail_questions();
    assert_true(stage_has_checkpoint(&pipeline, "zero", &has) < 0);
    assert_true(stage_find_own(&run, found) < 0);
    assert_non_null(strstr(status_reason(), path));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_stay_and_what_has_no_row_goes, make_run,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_question_that_fails_removes_no_checkpoint, make_run,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_question_that_fails_is_not_a_stage_without_checkpoints,
                                        make_run, tear_down),
    };

    return cmocka_run_group_tests_name("test_stage_checkpoint", tests, NULL, NULL);
}
