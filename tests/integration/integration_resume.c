/* A run that is killed or interrupted leaves no process behind, and goes on to the same end. */
#include <signal.h>

#include "tests/integration/support.h"

static struct place place;

#define LONG_STEPS                                                                                 \
    "--set", "zero:grpo.tasks_per_step=64", "--set", "zero:rollout.num_generations=8"

static int make_place(void **state)
{
    struct program program;

    (void)state;
    place_make(&place);
    HONE(&program, &place, "run", RECIPE, "--run", "run/quiet", LONG_STEPS);
    assert_ends(&program, 0, "stage distill is done");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static long n_data_groups(const char *run, const char *stage)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT count(*) FROM v_sample WHERE stage = '%s' AND purpose = "
             "'data'", stage);
    return ask_number(&place, run, sql);
}

static void assert_no_process_is_left(void)
{
    WAIT_UNTIL(count_processes(&place) == 0);
}

static void a_run_killed_in_every_stage_ends_with_the_same_bytes(void **state)
{
    static const struct {
        const char *stage;
        long step;
    } kills[] = {{"base", 1}, {"base", 5},      {"student", 3}, {"zero", 1},  {"zero", 3},
                 {"rl", 2},   {"coldstart", 3}, {"reject", 1},  {"align", 3}, {"distill", 1}};
    struct program program;
    int n_killed = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(kills) / sizeof(kills[0]); i++) {
        if (i == 0)
            START(&program, &place, "run", RECIPE, "--run", "run/killed", LONG_STEPS);
        else
            START(&program, &place, "run", "--run", "run/killed");
        WAIT_UNTIL(steps_of(&place, "run/killed", kills[i].stage) >= kills[i].step ||
                   !is_running(&program));
        n_killed += is_running(&program);
        kill(program.pid, SIGKILL);
        wait_for_exit(&program);
        assert_no_process_is_left();
    }
    assert_true(n_killed >= 6);
    HONE(&program, &place, "run", "--run", "run/killed");
    assert_ends(&program, 0, "stage distill is done");
    assert_same_runs(&place, "run/quiet", "run/killed");
}

static void a_run_killed_while_it_samples_a_dataset_samples_it_anew(void **state)
{
    struct program program;

    (void)state;
    HONE(&program, &place, "run", RECIPE, "--run", "run/data", "--stage", "base", LONG_STEPS);
    assert_ends(&program, 0, "stage base is done");
    HONE(&program, &place, "run", "--run", "run/data", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    START(&program, &place, "run", "--run", "run/data", "--stage", "coldstart");
    WAIT_UNTIL(n_data_groups("run/data", "coldstart") > 0);
    kill(program.pid, SIGKILL);
    wait_for_exit(&program);
    assert_no_process_is_left();
    HONE(&program, &place, "run", "--run", "run/data");
    assert_ends(&program, 0, "stage coldstart is done");
    assert_int_equal(ask_number(&place, "run/data", "SELECT count(*) FROM stage WHERE state = "
                                "'done'"), 8);
    assert_same_runs(&place, "run/quiet", "run/data");
}

static long newest(const char *run, const char *table, const char *stage)
{
    char sql[256];

    snprintf(sql, sizeof(sql), "SELECT coalesce(max(step), 0) FROM %s t JOIN stage s ON s.id = "
             "t.stage_id WHERE s.name = '%s'", table, stage);
    return ask_number(&place, run, sql);
}

static void an_interrupted_run_saves_says_how_to_go_on_and_ends_the_same(void **state)
{
    static const char *const stages[] = {"base", "zero", "coldstart", "rl"};
    struct program program;
    int n_interrupted = 0;

    (void)state;
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        if (i == 0)
            START(&program, &place, "run", RECIPE, "--run", "run/stopped", LONG_STEPS);
        else
            START(&program, &place, "run", "--run", "run/stopped");
        WAIT_UNTIL(steps_of(&place, "run/stopped", stages[i]) >= 1 || !is_running(&program));
        n_interrupted += is_running(&program);
        kill(program.pid, SIGINT);
        assert_ends(&program, 3, "go on with: hone run --run run/stopped");
        assert_no_process_is_left();
        char *stage = ask(&place, "run/stopped",
                          "SELECT name FROM stage WHERE state = 'interrupted'");
        stage[strcspn(stage, "\n")] = '\0';
        assert_true(stage[0] != '\0');
        assert_int_equal(newest("run/stopped", "checkpoint", stage),
                         newest("run/stopped", "step", stage));
        mem_free(stage);
    }
    assert_int_equal(n_interrupted, 4);
    HONE(&program, &place, "run", "--run", "run/stopped");
    assert_ends(&program, 0, "stage distill is done");
    assert_same_runs(&place, "run/quiet", "run/stopped");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_killed_in_every_stage_ends_with_the_same_bytes),
        cmocka_unit_test(a_run_killed_while_it_samples_a_dataset_samples_it_anew),
        cmocka_unit_test(an_interrupted_run_saves_says_how_to_go_on_and_ends_the_same),
    };

    return cmocka_run_group_tests_name("integration_resume", tests, make_place, remove_place);
}
