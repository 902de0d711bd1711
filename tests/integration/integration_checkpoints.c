/* Which checkpoints stay, what a damaged one does, and a run that is done is left as it is. */
#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/integration/support_micro.h"

static struct place place;

static int make_place(void **state)
{
    (void)state;
    micro_make(&place);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

/* The names in a stage's directory of checkpoints, in order: "step-000002 step-000004 ". */
static const char *list_steps(const char *run, const char *stage)
{
    static char list[1024];
    struct dirent **entries;
    int n = scandir(in_place(&place, "%s/checkpoints/%s", run, stage), &entries, NULL, alphasort);

    assert_true(n >= 0);
    list[0] = '\0';
    for (int i = 0; i < n; i++) {
        size_t used = strlen(list);
        if (entries[i]->d_name[0] != '.')
            snprintf(list + used, sizeof(list) - used, "%s ", entries[i]->d_name);
        free(entries[i]);
    }
    free(entries);
    return list;
}

static void flip_byte(const char *path)
{
    FILE *file = fopen(path, "r+b");

    assert_non_null(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_END), 0);
    fputc(byte ^ 1, file);
    assert_int_equal(fclose(file), 0);
}

static void the_newest_every_nth_and_the_best_checkpoint_stay(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", MICRO, "--run", "run/kept", "--stage", "base", "--set",
         "sft.max_steps=12", "--set", "run.save_total_limit=2", "--set", "run.keep_every_steps=8",
         "--set", "run.metric_for_best_model=tokens", "--set", "run.greater_is_better=false");
    assert_ends(&program, 0, "stage base is done");
    char *best = ask(&place, "run/kept", "SELECT printf('step-%06d', step) FROM v_metric WHERE name"
                     " = 'tokens' AND step % 2 = 0 ORDER BY value, step LIMIT 1");
    best[strcspn(best, "\n")] = '\0';
    const char *list = list_steps("run/kept", "base");
    assert_non_null(strstr(list, best));
    assert_non_null(strstr(list, "step-000008 "));
    assert_non_null(strstr(list, "step-000010 step-000012 "));
    int others = strcmp(best, "step-000008") && strcmp(best, "step-000010") &&
                 strcmp(best, "step-000012");
    assert_int_equal(strlen(list), (3 + (size_t)others) * strlen("step-000008 "));
    mem_free(best);
}

/* Of the run of the test before. */
static void the_best_checkpoint_and_any_that_is_there_can_be_exported(void **state)
{
    struct digest best, same, newest;
    struct program program;
    char step[32];

    (void)state;
    char *rows = ask(&place, "run/kept", "SELECT step FROM v_metric WHERE name = 'tokens' AND step"
                     " % 2 = 0 ORDER BY value, step LIMIT 1");
    snprintf(step, sizeof(step), "%ld", strtol(rows, NULL, 10));
    assert_string_not_equal(step, "12");
    HONE(&program, &place, "export", "model", "--run", "run/kept", "--stage", "base", "--best",
         "--out", "best");
    assert_ends(&program, 0, "wrote best");
    HONE(&program, &place, "export", "model", "--run", "run/kept", "--stage", "base",
         "--checkpoint", step, "--out", "same");
    assert_ends(&program, 0, "wrote same");
    HONE(&program, &place, "export", "model", "--run", "run/kept", "--stage", "base", "--out",
         "newest");
    assert_ends(&program, 0, "wrote newest");
    assert_int_equal(digest_of_file(&best, in_place(&place, "best/model.safetensors")), STATUS_OK);
    assert_int_equal(digest_of_file(&same, in_place(&place, "same/model.safetensors")), STATUS_OK);
    assert_int_equal(digest_of_file(&newest, in_place(&place, "newest/model.safetensors")),
                     STATUS_OK);
    assert_memory_equal(&best, &same, sizeof(best));
    assert_memory_not_equal(&best, &newest, sizeof(best));
    mem_free(rows);
}

static void a_checkpoint_that_is_not_there_is_not_exported(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "export", "model", "--run", "run/kept", "--stage", "base",
         "--checkpoint", "3", "--out", "none");
    assert_ends(&program, 1, "no checkpoint of step 3; there are those of step ");
    HONE(&program, &place, "export", "model", "--run", "run/quiet", "--stage", "base", "--best",
         "--out", "none");
    assert_ends(&program, 2, "run.metric_for_best_model is empty");
    HONE(&program, &place, "export", "model", "--run", "run/kept", "--stage", "base", "--best",
         "--checkpoint", "8", "--out", "none");
    assert_ends(&program, 2, "one is wanted");
    assert_int_equal(file_exists(in_place(&place, "none")), 0);
}

static void a_metric_that_is_none_or_a_clocks_chooses_no_checkpoint(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", MICRO, "--run", "run/none", "--set",
         "run.metric_for_best_model=rewards");
    assert_ends(&program, 2, "run.metric_for_best_model is \"rewards\", which is no metric");
    HONE(&program, &place, "run", MICRO, "--run", "run/none", "--set",
         "run.metric_for_best_model=step_time");
    assert_ends(&program, 2, "which a clock measures");
}

static void checkpoints_of_ctrl_c_and_leftovers_are_removed_in_their_turn(void **state)
{
    struct program program;
    int n_interrupted = 0;

    (void)state;
    for (int i = 0; i < 3; i++) {
        long before = steps_of(&place, "run/odd", "zero");
        START(&program, &place, "run", MICRO, "--run", "run/odd", "--set",
              "zero:grpo.tasks_per_step=60", "--set", "zero:grpo.max_steps=8");
        WAIT_UNTIL(steps_of(&place, "run/odd", "zero") > (before > 0 ? before : 0) ||
                   !is_running(&program));
        kill(program.pid, SIGINT);
        n_interrupted += wait_for_exit(&program) == 3;
    }
    assert_true(n_interrupted >= 1);
    assert_int_equal(mkdir(in_place(&place, "run/odd/checkpoints/zero/step-000099"), 0755), 0);
    assert_int_equal(mkdir(in_place(&place, "run/odd/checkpoints/zero/step-000098.tmp"), 0755), 0);
    HONE(&program, &place, "run", "--run", "run/odd");
    assert_ends(&program, 0, MICRO_END);
    assert_string_equal(list_steps("run/odd", "zero"), "step-000006 step-000008 ");
    assert_string_equal(list_steps("run/odd", "base"), "step-000002 step-000003 ");
}

/* Each file of the newest checkpoint, and its manifest. */
static void a_damaged_checkpoint_is_named_and_the_newest_whole_one_is_offered(void **state)
{
    static const char *const files[] = {"model.safetensors", "optimizer.safetensors",
                                        "reference.safetensors", "config.json", "tokenizer.json",
                                        "generation_config.json", "manifest.json"};
    struct program program;

    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        const char *part = in_place(&place, "run/bad/checkpoints/zero/step-000004/%s", files[i]);
        file_remove_tree(in_place(&place, "run/bad"));
        place_copy(&place, "run/quiet", "run/bad");
        if (i % 2)
            flip_byte(part);
        else
            assert_int_equal(unlink(part), 0);
        file_remove_tree(in_place(&place, "run/bad/datasets"));
        HONE(&program, &place, "run", "--run", "run/bad", "--stage", "coldstart");
        assert_ends(&program, 0, "stage coldstart is done already");
        file_remove_tree(in_place(&place, "run/bad/checkpoints/coldstart"));
        HONE(&program, &place, "run", "--run", "run/bad", "--stage", "coldstart");
        assert_ends(&program, 4, "run/bad/checkpoints/zero/step-000004/");
        assert_true(SAYS(&program, files[i]));
        assert_true(SAYS(&program, i % 2 ? " is damaged: " : " is missing"));
        assert_true(SAYS(&program, "from step 2, which is whole: hone run --run run/bad "
                                   "--skip-damaged"));
        assert_int_equal(count_lines(&program, "hone: "), 1);
    }
    HONE(&program, &place, "run", "--run", "run/bad", "--skip-damaged");
    assert_ends(&program, 0, MICRO_END);
    assert_true(SAYS(&program, "stage zero goes on from an earlier checkpoint"));
    assert_same_runs(&place, "run/quiet", "run/bad");
}

static void when_no_checkpoint_is_whole_the_stage_begins_again(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/quiet", "run/worse");
    flip_byte(in_place(&place, "run/worse/checkpoints/base/step-000002/model.safetensors"));
    flip_byte(in_place(&place, "run/worse/checkpoints/base/step-000003/model.safetensors"));
    file_remove_tree(in_place(&place, "run/worse/checkpoints/zero"));
    HONE(&program, &place, "run", "--run", "run/worse", "--stage", "zero");
    assert_ends(&program, 4, "from the stage's beginning, since no other is whole");
    HONE(&program, &place, "run", "--run", "run/worse", "--skip-damaged");
    assert_ends(&program, 0, MICRO_END);
    assert_same_runs(&place, "run/quiet", "run/worse");
}

static void the_window_of_the_guard_goes_on_where_it_stopped(void **state)
{
    struct program program;

    (void)state;
#define GUARDED(run)                                                                               \
    "run", MICRO, "--run", (run), "--stage", "base", "--set", "sft.max_steps=30", "--set",         \
    "guard.z_score=1", "--set", "guard.window=10"
    HONE(&program, &place, GUARDED("run/guarded"));
    assert_ends(&program, 0, "is left out: loss");
    assert_int_equal(ask_number(&place, "run/guarded", "SELECT count(*) FROM metric WHERE name = "
                                "'skipped_updates'"), 30);
    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_WHO", "hone", 1);
    setenv("FAULT_CALL", "name", 1);
    setenv("FAULT_DO", "kill", 1);
    setenv("FAULT_N", "200", 1);
    START(&program, &place, GUARDED("run/guarded2"));
    unsetenv("LD_PRELOAD");
    assert_int_equal(wait_for_exit(&program), 128 + SIGKILL);
    long steps = steps_of(&place, "run/guarded2", "base");
    assert_true(steps > 10 && steps < 30);
    HONE(&program, &place, GUARDED("run/guarded2"));
    assert_ends(&program, 0, "stage base is done");
    assert_same_databases(&place, "run/guarded", "run/guarded2");
}

static void a_run_that_is_done_is_left_as_it_is(void **state)
{
    struct digest before, after;
    struct program program;

    (void)state;
    place_copy(&place, "run/quiet", "run/done");
    assert_int_equal(digest_of_file(&before, in_place(&place, "run/done/config.yaml")), STATUS_OK);
    HONE(&program, &place, "run", "--run", "run/done", "--set", "rollout.workers=3", "--set",
         "run.save_steps=7");
    assert_ends(&program, 0, "stage coldstart is done already");
    assert_int_equal(digest_of_file(&after, in_place(&place, "run/done/config.yaml")), STATUS_OK);
    assert_memory_equal(&before, &after, sizeof(before));
    assert_int_equal(ask_number(&place, "run/done", "SELECT config_yaml LIKE '%save_steps: 7%' FROM"
                                " run"), 0);
    HONE(&program, &place, "run", "--run", "run/done", "--set", "grpo.beta=0.5");
    assert_ends(&program, 2, "was begun with other settings");
    assert_same_databases(&place, "run/quiet", "run/done");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_every_nth_and_the_best_checkpoint_stay),
        cmocka_unit_test(the_best_checkpoint_and_any_that_is_there_can_be_exported),
        cmocka_unit_test(a_checkpoint_that_is_not_there_is_not_exported),
        cmocka_unit_test(a_metric_that_is_none_or_a_clocks_chooses_no_checkpoint),
        cmocka_unit_test(checkpoints_of_ctrl_c_and_leftovers_are_removed_in_their_turn),
        cmocka_unit_test(a_damaged_checkpoint_is_named_and_the_newest_whole_one_is_offered),
        cmocka_unit_test(when_no_checkpoint_is_whole_the_stage_begins_again),
        cmocka_unit_test(the_window_of_the_guard_goes_on_where_it_stopped),
        cmocka_unit_test(a_run_that_is_done_is_left_as_it_is),
    };

    return cmocka_run_group_tests_name("integration_checkpoints", tests, make_place, remove_place);
}
