/* Workers that die or freeze in the middle of a step: the step ends with the same result. */
#include <signal.h>

#include "tests/integration/support.h"

static struct place place;

/* Steps long enough to be hit in the middle. */
#define LONG_STEPS                                                                                 \
    "--set", "zero:grpo.tasks_per_step=96", "--set", "zero:rollout.num_generations=8", "--set",    \
        "zero:grpo.max_steps=3", "--set", "eval.n_tasks=8"

static int make_place(void **state)
{
    struct program program;

    (void)state;
    place_make(&place);
    HONE(&program, &place, "run", RECIPE, "--run", "run/base", "--stage", "base", LONG_STEPS);
    assert_ends(&program, 0, "stage base is done");
    place_copy(&place, "run/base", "run/quiet");
    HONE(&program, &place, "run", "--run", "run/quiet", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    assert_int_equal(count_lines(&program, "warning"), 0);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static int has_worked(pid_t pid, long since)
{
    return cpu_ticks(pid) > since + 1;
}

/* The worker, in the middle of step 2: step 1 is recorded, and it has computed since. */
static pid_t catch_in_step_two(const char *run, const char *name)
{
    pid_t pid;

    WAIT_UNTIL(steps_of(&place, run, "zero") >= 1);
    pid = find_worker(&place, name);
    assert_true(pid > 0);
    long before = cpu_ticks(pid);
    WAIT_UNTIL(has_worked(pid, before) || cpu_ticks(pid) < 0);
    assert_int_equal(steps_of(&place, run, "zero"), 1);
    return pid;
}

/* Nothing is computed any more: all wait for the one that was stopped. */
static int all_rest(void)
{
    static const char *const names[] = {"rollout-0", "rollout-1"};
    static long ticks[2];
    static int64_t since_ms;

    for (int i = 0; i < 2; i++) {
        long now = cpu_ticks(find_worker(&place, names[i]));
        if (now != ticks[i])
            since_ms = clock_ms();
        ticks[i] = now;
    }
    return clock_ms() - since_ms > 100;
}

static void a_rollout_worker_killed_in_a_step_changes_nothing(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/killed");
    START(&program, &place, "run", "--run", "run/killed", "--stage", "zero");
    kill(catch_in_step_two("run/killed", "rollout-1"), SIGKILL);
    assert_ends(&program, 0, "worker rollout-1 killed by signal 9");
    assert_int_equal(count_lines(&program, "warning"), 1);
    assert_same_runs(&place, "run/quiet", "run/killed");
}

static void the_only_rollout_worker_killed_in_a_step_changes_nothing(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/only");
    START(&program, &place, "run", "--run", "run/only", "--stage", "zero", "--set",
          "rollout.workers=1");
    kill(catch_in_step_two("run/only", "rollout-0"), SIGKILL);
    assert_ends(&program, 0, "worker rollout-0 killed by signal 9");
    assert_int_equal(count_lines(&program, "warning"), 1);
    assert_same_runs(&place, "run/quiet", "run/only");
}

static void a_reward_worker_killed_with_groups_in_hand_changes_nothing(void **state)
{
    struct program program;
    pid_t pid;

    (void)state;
    place_copy(&place, "run/base", "run/reward");
    START(&program, &place, "run", "--run", "run/reward", "--stage", "zero");
    WAIT_UNTIL(steps_of(&place, "run/reward", "zero") >= 1);
    pid = find_worker(&place, "reward-0");
    assert_true(pid > 0);
    kill(pid, SIGSTOP);
    WAIT_UNTIL(all_rest());
    kill(pid, SIGKILL);
    assert_ends(&program, 0, "worker reward-0 killed by signal 9");
    assert_int_equal(count_lines(&program, "warning"), 1);
    assert_same_runs(&place, "run/quiet", "run/reward");
}

static void a_frozen_rollout_worker_loses_its_lease_and_changes_nothing(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/frozen");
    START(&program, &place, "run", "--run", "run/frozen", "--stage", "zero", "--set",
          "run.lease_ms=4000");
    kill(catch_in_step_two("run/frozen", "rollout-0"), SIGSTOP);
    assert_ends(&program, 0, "rollout-0: no answer within 4000 ms (run.lease_ms)");
    assert_same_runs(&place, "run/quiet", "run/frozen");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rollout_worker_killed_in_a_step_changes_nothing),
        cmocka_unit_test(the_only_rollout_worker_killed_in_a_step_changes_nothing),
        cmocka_unit_test(a_reward_worker_killed_with_groups_in_hand_changes_nothing),
        cmocka_unit_test(a_frozen_rollout_worker_loses_its_lease_and_changes_nothing),
    };

    return cmocka_run_group_tests_name("integration_workers", tests, make_place, remove_place);
}
