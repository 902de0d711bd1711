/* A process that hangs in its own work ends by itself, with its stacks; the run goes on. */
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

static void begin_hang(const char *who, const char *call, const char *n)
{
    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_ONCE", in_place(&place, "struck"), 1);
    setenv("FAULT_WHO", who, 1);
    setenv("FAULT_CALL", call, 1);
    setenv("FAULT_N", n, 1);
    setenv("FAULT_DO", "hang", 1);
    unlink(in_place(&place, "struck"));
}

static void end_hang(void)
{
    unsetenv("LD_PRELOAD");
}

static void assert_report_says(const char *path, const char *first, const char *second)
{
    struct text report = {0};

    assert_int_equal(file_read(in_place(&place, "%s", path), 1 << 20, &report), STATUS_OK);
    if (!strstr(report.data, first) || !strstr(report.data, second))
        fail_msg("%s lacks %s or %s:\n%s", path, first, second, report.data);
    text_release(&report);
}

static void a_coordinator_that_hangs_ends_with_its_stacks_and_the_run_goes_on(void **state)
{
    static const struct {
        const char *call, *n, *frame;
    } hangs[] = {{"alloc", "9000", "pipeline_run"}, {"sync", "20", "pipeline_run"}};
    struct program program;

    (void)state;
    for (size_t i = 0; i < sizeof(hangs) / sizeof(hangs[0]); i++) {
        begin_hang("hone", hangs[i].call, hangs[i].n);
        START(&program, &place, "run", MICRO, "--run", "run/hung", "--set",
              "run.stuck_ms=15000");
        end_hang();
        assert_ends(&program, 8, "no step forward for 15000 ms (run.stuck_ms)");
        assert_int_equal(count_lines(&program, "hone: "), 1);
        WAIT_UNTIL(count_processes(&place) == 0);
        assert_report_says("run/hung/stuck.txt", hangs[i].frame, "(hone)");
        HONE(&program, &place, "run", MICRO, "--run", "run/hung");
        assert_ends(&program, 0, MICRO_END);
        assert_same_runs(&place, "run/quiet", "run/hung");
        assert_int_equal(file_remove_tree(in_place(&place, "run/hung")), STATUS_OK);
    }
}

static void copy_config_for_another_machine(void)
{
    struct text text = {0};

    assert_int_equal(file_read(in_place(&place, "run/far/config.yaml"), 1 << 20, &text), STATUS_OK);
    char *setting = strstr(text.data, "stuck_ms: 3600000");
    assert_non_null(setting);
    memcpy(setting, "stuck_ms: 2000   ", 17);
    place_write(&place, "away/config.yaml", text.data);
    text_release(&text);
}

/* Two rollout workers in turn are all there is: the first one hangs. */
static void a_rollout_worker_that_hangs_ends_with_its_stacks_and_another_takes_its_groups(
    void **state)
{
    char endpoint[512], setting[600];
    struct program run, worker;

    (void)state;
    snprintf(endpoint, sizeof(endpoint), "ipc://%s", in_place(&place, "hub.sock"));
    snprintf(setting, sizeof(setting), "run.endpoint=%s", endpoint);
    START(&run, &place, "run", MICRO, "--run", "run/far", "--set", setting, "--set",
          "rollout.workers=0");
    WAIT_UNTIL(file_exists(in_place(&place, "run/far/state.json")));
    copy_config_for_another_machine();
    begin_hang("away-0", "map", "1");
    START(&worker, &place, "worker", "rollout", "--connect", endpoint, "--config",
          "away/config.yaml", "--name", "away-0");
    end_hang();
    assert_ends(&worker, 8, "no step forward for 2000 ms (run.stuck_ms)");
    assert_report_says("away/stuck-away-0.txt", "rollout_serve", "thread");
    START(&worker, &place, "worker", "rollout", "--connect", endpoint, "--config",
          "away/config.yaml", "--name", "away-0");
    assert_ends(&run, 0, MICRO_END);
    assert_ends(&worker, 0, NULL);
    assert_same_runs(&place, "run/quiet", "run/far");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_coordinator_that_hangs_ends_with_its_stacks_and_the_run_goes_on),
        cmocka_unit_test(
            a_rollout_worker_that_hangs_ends_with_its_stacks_and_another_takes_its_groups),
    };

    return cmocka_run_group_tests_name("integration_hangs", tests, make_place, remove_place);
}
