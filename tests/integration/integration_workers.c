/* Workers that die or freeze in the middle of a step: the step ends with the same result. */
#include <signal.h>

#include "pipeline/report.h"
#include "tests/integration/support_micro.h"

#define REST_MS 300

static struct place place;

/* Steps long enough to be hit in the middle, and enough of them that it need not be the second. */
#define LONG_STEPS                                                                                 \
    "--set", "zero:grpo.tasks_per_step=96", "--set", "zero:rollout.num_generations=8", "--set",    \
        "zero:grpo.max_steps=8", "--set", "eval.n_tasks=8"

static int make_place(void **state)
{
    (void)state;
    place_make_quiet(&place, (const char *const[]){LONG_STEPS, NULL});
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

/* Nothing is computed any more: all wait for the one that is frozen. */
static int all_rest(const struct program *program)
{
    static long before;
    static int64_t since_ms;
    long now = cpu_ticks(program->pid) + cpu_ticks(find_worker(&place, "rollout-0")) +
               cpu_ticks(find_worker(&place, "rollout-1"));

    if (now != before)
        since_ms = clock_ms();
    before = now;
    return clock_ms() - since_ms > REST_MS;
}

/* The worker, frozen while it writes groups of a step. */
static pid_t freeze_at_work(const char *run, const char *name)
{
    pid_t pid;

    WAIT_UNTIL(steps_of(&place, run, "zero") >= 1);
    pid = find_worker(&place, name);
    assert_true(pid > 0);
    long before = cpu_ticks(pid);
    WAIT_UNTIL(cpu_ticks(pid) != before);
    assert_int_equal(kill(pid, SIGSTOP), 0);
    return pid;
}

/* The step cannot end without the one that is frozen: only then is it killed. */
static void kill_in_a_step(struct program *program, pid_t pid)
{
    WAIT_UNTIL(all_rest(program));
    assert_true(is_running(program));
    assert_int_equal(kill(pid, SIGKILL), 0);
}

static void a_rollout_worker_killed_in_a_step_changes_nothing(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/killed");
    START(&program, &place, "run", "--run", "run/killed", "--stage", "zero");
    kill_in_a_step(&program, freeze_at_work("run/killed", "rollout-1"));
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
    kill_in_a_step(&program, freeze_at_work("run/only", "rollout-0"));
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
    assert_int_equal(kill(pid, SIGSTOP), 0);
    kill_in_a_step(&program, pid);
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
    freeze_at_work("run/frozen", "rollout-0");
    assert_ends(&program, 0, "rollout-0: no answer within 4000 ms (run.lease_ms)");
    assert_same_runs(&place, "run/quiet", "run/frozen");
}

/* Killed at a message early in its life, each time that it is started: that is why the run ends,
 * also when the last words to it find nobody. */
static void a_worker_that_ends_again_and_again_is_why_the_run_ends(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/again");
    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_WHO", "rollout-0", 1);
    setenv("FAULT_CALL", "send", 1);
    setenv("FAULT_N", "2", 1);
    setenv("FAULT_DO", "kill", 1);
    START(&program, &place, "run", "--run", "run/again", "--stage", "zero", "--set",
          "rollout.workers=1");
    unsetenv("LD_PRELOAD");
    assert_ends(&program, 1, "hone: stage zero: worker rollout-0 ended 5 times within 2000 ms");
    HONE(&program, &place, "run", "--run", "run/again", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    assert_same_runs(&place, "run/quiet", "run/again");
}

/* Nothing is missing but what the frozen one has. */
static int waits_for_first_alone(void)
{
    struct text text = {0};
    int is_so = report_state(&text, in_place(&place, "run/eight"), 0, 0) == STATUS_OK &&
                text.data && strstr(text.data, "joined-6") &&
                strstr(text.data, "waits for GROUP of rollout-0") &&
                !strstr(text.data, "waits for GROUP of joined") &&
                !strstr(text.data, "waits for GROUP of reward");

    text_release(&text);
    return is_so;
}

/* One worker, frozen in the middle of a step; seven from outside join; then the first goes on. */
static void seven_workers_that_join_in_a_step_change_nothing(void **state)
{
    struct program program, status, joined[7];
    char name[32];

    (void)state;
    place_copy(&place, "run/base", "run/eight");
    START(&program, &place, "run", "--run", "run/eight", "--stage", "zero", "--set",
          "rollout.workers=1");
    pid_t first = freeze_at_work("run/eight", "rollout-0");
    for (int i = 0; i < 7; i++) {
        snprintf(name, sizeof(name), "joined-%d", i);
        START(&joined[i], &place, "worker", "rollout", "--connect", "ipc://run/eight/wire.sock",
              "--config", "run/eight/config.yaml", "--stage", "zero", "--name", name);
    }
    WAIT_UNTIL(waits_for_first_alone());
    HONE(&status, &place, "status", "run/eight");
    assert_ends(&status, 0, "waits for GROUP of rollout-0");
    assert_true(SAYS(&status, "joined-6"));
    assert_int_equal(kill(first, SIGCONT), 0);
    assert_ends(&program, 0, "stage zero is done");
    assert_same_runs(&place, "run/quiet", "run/eight");
}

/* Only its silence tells: its connection stands for longer. */
static void a_silent_rollout_worker_is_ended_and_changes_nothing(void **state)
{
    struct program program;

    (void)state;
    place_copy(&place, "run/base", "run/silent");
    START(&program, &place, "run", "--run", "run/silent", "--stage", "zero", "--set",
          "run.silent_ms=3000");
    freeze_at_work("run/silent", "rollout-0");
    assert_ends(&program, 0, "rollout-0: silent for 3000 ms (run.silent_ms)");
    assert_same_runs(&place, "run/quiet", "run/silent");
}

static void a_run_whose_only_worker_hangs_ends_with_a_report(void **state)
{
    struct program program;
    struct text report = {0};

    (void)state;
    place_copy(&place, "run/base", "run/stuck");
    START(&program, &place, "run", "--run", "run/stuck", "--stage", "zero", "--set",
          "rollout.workers=1", "--set", "run.stuck_ms=8000");
    freeze_at_work("run/stuck", "rollout-0");
    assert_ends(&program, 8, "run/stuck/stuck.txt has the waits and the last messages");
    assert_int_equal(file_read(in_place(&place, "run/stuck/stuck.txt"), 1 << 20, &report),
                     STATUS_OK);
    assert_non_null(strstr(report.data, "waits for GROUP of rollout-0"));
    assert_non_null(strstr(report.data, "last messages:"));
    text_release(&report);
    HONE(&program, &place, "run", "--run", "run/stuck", "--stage", "zero", "--set",
         "run.stuck_ms=3600000");
    assert_ends(&program, 0, "stage zero is done");
    assert_same_runs(&place, "run/quiet", "run/stuck");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_rollout_worker_killed_in_a_step_changes_nothing),
        cmocka_unit_test(the_only_rollout_worker_killed_in_a_step_changes_nothing),
        cmocka_unit_test(a_reward_worker_killed_with_groups_in_hand_changes_nothing),
        cmocka_unit_test(a_worker_that_ends_again_and_again_is_why_the_run_ends),
        cmocka_unit_test(a_frozen_rollout_worker_loses_its_lease_and_changes_nothing),
        cmocka_unit_test(a_silent_rollout_worker_is_ended_and_changes_nothing),
        cmocka_unit_test(seven_workers_that_join_in_a_step_change_nothing),
        cmocka_unit_test(a_run_whose_only_worker_hangs_ends_with_a_report),
    };

    return cmocka_run_group_tests_name("integration_workers", tests, make_place, remove_place);
}
