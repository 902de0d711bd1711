/*
 * The power fails: what was not synced is gone, in whole or in part, and the run ends the same.
 *
 *     integration_power [CRASHES [SEED]]      default 24, 1
 */
#include <sys/stat.h>

#include "common/random.h"
#include "tests/integration/support_crash.h"
#include "tests/integration/support_micro.h"

static struct place place;
static long n_crashes = 24;
static uint64_t seed = 1;
static struct crash_trace trace;

static int make_place(void **state)
{
    char before[FILE_PATH_MAX + 32], root[FILE_PATH_MAX + 32], path[FILE_PATH_MAX + 32];
    struct program program;

    (void)state;
    micro_make(&place);
    snprintf(before, sizeof(before), "%s", shim_path("trace"));
    snprintf(root, sizeof(root), "%s", in_place(&place, "run/traced"));
    snprintf(path, sizeof(path), "%s", in_place(&place, "trace"));
    setenv("TRACE_ROOT", root, 1);
    setenv("TRACE_LOG", path, 1);
    setenv("LD_PRELOAD", before, 1);
    HONE(&program, &place, "run", MICRO, "--run", "run/traced");
    unsetenv("LD_PRELOAD");
    assert_ends(&program, 0, MICRO_END);
    crash_read(&trace, path);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    crash_release(&trace);
    place_remove(&place);
    return 0;
}

/* Older ones are removed when a newer one is durable, and not before. */
static void assert_newest_checkpoints_are_there(const char *run)
{
    char *paths = ask(&place, run, "SELECT path FROM checkpoint c WHERE step = (SELECT max(step)"
                      " FROM checkpoint d WHERE d.stage_id = c.stage_id)");

    for (char *path = paths, *end; (end = strchr(path, '\n')); path = end + 1) {
        *end = '\0';
        if (!file_exists(in_place(&place, "%s/%s/manifest.json", run, path)))
            fail_msg("%s/%s has a row and is not there", run, path);
    }
    mem_free(paths);
}

static void no_checkpoint_is_removed_before_a_newer_one_is_durable(void **state)
{
    (void)state;
    for (size_t n = 0; n <= trace.n; n += 20) {
        assert_int_equal(file_remove_tree(in_place(&place, "run/names")), STATUS_OK);
        crash_write(&trace, n, CRASH_NAMES, 0, in_place(&place, "run/names"));
        assert_newest_checkpoints_are_there("run/names");
    }
}

static void go_on_after(size_t n, enum crash_kind kind, uint64_t crash_seed)
{
    struct program program;

    file_remove_tree(in_place(&place, "run/crashed"));
    crash_write(&trace, n, kind, crash_seed, in_place(&place, "run/crashed"));
    print_message("record %zu of %zu, kind %d, seed %llu\n", n, trace.n, (int)kind,
                  (unsigned long long)crash_seed);
    assert_newest_checkpoints_are_there("run/crashed");
    HONE(&program, &place, "run", MICRO, "--run", "run/crashed");
    assert_ends(&program, 0, MICRO_END);
    assert_same_databases(&place, "run/quiet", "run/crashed");
}

static void a_trace_tells_the_whole_run(void **state)
{
    (void)state;
    assert_true(trace.n > 500);
    crash_write(&trace, trace.n, CRASH_KILL, 0, in_place(&place, "run/whole"));
    assert_same_databases(&place, "run/quiet", "run/whole");
    /* Everything that counts is synced at the end: the strictest disk has all of it. */
    crash_write(&trace, trace.n, CRASH_STRICT, 0, in_place(&place, "run/strict"));
    assert_same_databases(&place, "run/quiet", "run/strict");
}

static void a_run_goes_on_after_a_power_cut_at_any_point(void **state)
{
    struct random_stream random = {.seed = seed};

    (void)state;
    for (long i = 0; i < n_crashes; i++) {
        size_t n = (size_t)random_below(&random, trace.n + 1);
        go_on_after(n, (enum crash_kind)(i % N_CRASH_KINDS), random_next(&random));
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_trace_tells_the_whole_run),
        cmocka_unit_test(no_checkpoint_is_removed_before_a_newer_one_is_durable),
        cmocka_unit_test(a_run_goes_on_after_a_power_cut_at_any_point),
    };

    n_crashes = argc > 1 ? strtol(argv[1], NULL, 10) : n_crashes;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : seed;
    return cmocka_run_group_tests_name("integration_power", tests, make_place, remove_place);
}
