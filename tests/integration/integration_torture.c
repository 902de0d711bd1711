/*
 * Each allocation, file call and start of a process fails once, in turn, in the coordinator and in
 * the workers: no crash, no hang, one line, and the run goes on to the same bytes.
 *
 *     integration_torture [SHARE [SEED [FROM]]]
 *
 * One of SHARE calls is struck, 1: all of them, the rare ones always; default 400, 1. Calls are
 * numbered through all kinds; those before FROM are left out, so that a campaign of hours goes on
 * behind a fault that was mended (its number is in the failure).
 */
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/integration/support_micro.h"

#define N_WHO 3
#define N_CALLS 10

#define PLAIN "plain.yaml"   /* the recipe without a sandbox, whose proof is most of the time */

/* In whom calls are struck; a sandbox matters only to where it is. */
static const struct {
    const char *name, *recipe, *quiet;
} who[N_WHO] = {
    {"hone", PLAIN, "run/plain"},
    {"rollout-0", PLAIN, "run/plain"},
    {"reward-0", MICRO, "run/quiet"},
};

static struct place place;
static long share = 400;
static uint64_t seed = 1;
static long from = 1;
static const char *const calls[N_CALLS] = {"alloc", "map",  "open",  "read",   "write",
                                           "sync",  "name", "spawn", "thread", "send"};
static long counts[N_WHO][N_CALLS];
static long n_before;   /* calls of the kinds before this one */

static void make_plain_recipe(void)
{
    struct program program;
    struct text text = {0};

    assert_int_equal(file_read(in_place(&place, MICRO), 1 << 16, &text), STATUS_OK);
    text_print(&text, "sandbox: {compiler: /nonexistent}\n");
    place_write(&place, PLAIN, text.data);
    text_release(&text);
    HONE(&program, &place, "run", PLAIN, "--run", "run/plain");
    assert_ends(&program, 0, MICRO_END);
}

/* How often a quiet run makes each call. */
static void count_calls(int w)
{
    struct program program;
    struct text text = {0};

    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_COUNT", in_place(&place, "counts"), 1);
    START(&program, &place, "run", who[w].recipe, "--run", "run/counted");
    unsetenv("LD_PRELOAD");
    unsetenv("FAULT_COUNT");
    assert_ends(&program, 0, MICRO_END);
    assert_int_equal(file_read(in_place(&place, "counts.%s", who[w].name), 4096, &text),
                     STATUS_OK);
    assert_int_equal(text.length, sizeof(counts[w]));
    memcpy(counts[w], text.data, sizeof(counts[w]));
    assert_true(counts[w][0] > 100);
    text_release(&text);
    assert_int_equal(file_remove_tree(in_place(&place, "run/counted")), STATUS_OK);
    for (int i = 0; i < N_WHO; i++)
        unlink(in_place(&place, "counts.%s", who[i].name));
}

static int make_place(void **state)
{
    (void)state;
    micro_make(&place);
    make_plain_recipe();
    for (int w = 0; w < N_WHO; w++)
        count_calls(w);
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    print_message("last struck: FAULT_WHO=%s FAULT_CALL=%s FAULT_N=%s\n", getenv("FAULT_WHO"),
                  getenv("FAULT_CALL"), getenv("FAULT_N"));
    place_remove(&place);
    return 0;
}

static void fail_like(const struct program *program, int w, int c, long n, const char *why)
{
    show_output(program);
    fail_msg("FAULT_WHO=%s FAULT_CALL=%s FAULT_N=%ld (FROM %ld): %s", who[w].name, calls[c], n,
             n_before + n, why);
}

/* One run with one failure; 1 when it came to its end all the same. */
static int run_with_fault(int w, int c, long n)
{
    struct program program;
    char number[32];

    snprintf(number, sizeof(number), "%ld", n);
    unlink(in_place(&place, "struck"));
    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_ONCE", in_place(&place, "struck"), 1);
    setenv("FAULT_WHO", who[w].name, 1);
    setenv("FAULT_CALL", calls[c], 1);
    setenv("FAULT_N", number, 1);
    START(&program, &place, "run", who[w].recipe, "--run", "run/torture");
    unsetenv("LD_PRELOAD");
    int code = wait_for_exit(&program);
    int is_struck = file_exists(in_place(&place, "struck"));
    WAIT_UNTIL(count_processes(&place) == 0);
    if (code >= 128)
        fail_like(&program, w, c, n, "the program crashed");
    if (!is_struck && code)
        fail_like(&program, w, c, n, "a failure out of nothing");
    if (code && count_lines(&program, "hone: ") != 1)
        fail_like(&program, w, c, n, "not one line");
    if (SAYS(&program, "BUG") || SAYS(&program, "Assertion"))
        fail_like(&program, w, c, n, "an assertion");
    return code == 0;
}

static void compare_and_begin_anew(int w)
{
    assert_same_databases(&place, who[w].quiet, "run/torture");
    assert_int_equal(file_remove_tree(in_place(&place, "run/torture")), STATUS_OK);
}

/* Calls of a kind are struck at `seed`, seed + step, ...; a failed run is gone on with by the next
 * one, as people do. */
static void strike_all(int w, int c)
{
    struct program program;
    long step = counts[w][c] < share ? (counts[w][c] + 1) / 2 : share;
    int is_over = 1;

    /* There are few of the rare ones, and each has a meaning of its own. */
    if (counts[w][c] <= 8 || share == 1)
        step = 1;
    for (long n = 1 + (long)(seed % (uint64_t)step); n <= counts[w][c]; n += step) {
        if (n_before + n < from)
            continue;
        is_over = run_with_fault(w, c, n);
        if (is_over)
            compare_and_begin_anew(w);
    }
    if (is_over)
        return;
    HONE(&program, &place, "run", who[w].recipe, "--run", "run/torture");
    assert_ends(&program, 0, MICRO_END);
    compare_and_begin_anew(w);
}

static void strike(int w)
{
    for (int c = 0; c < N_CALLS; c++) {
        if (counts[w][c])
            strike_all(w, c);
        n_before += counts[w][c];
        print_message("%s, %s: through %ld\n", who[w].name, calls[c], n_before);
    }
}

static void a_call_that_fails_in_the_coordinator_is_one_line_and_the_run_goes_on(void **state)
{
    (void)state;
    strike(0);
}

static void a_call_that_fails_in_a_worker_changes_nothing(void **state)
{
    (void)state;
    strike(1);
    strike(2);
}

static void a_wall_clock_that_jumps_by_years_changes_nothing(void **state)
{
    struct program program;

    (void)state;
    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_CLOCK", "100000000", 1);
    START(&program, &place, "run", MICRO, "--run", "run/clock");
    unsetenv("LD_PRELOAD");
    unsetenv("FAULT_CLOCK");
    assert_ends(&program, 0, MICRO_END);
    assert_same_databases(&place, "run/quiet", "run/clock");
}

/* A run that may fail, in one line. */
static void assert_one_line_at_most(struct program *program, const char *what, long limit)
{
    int code = wait_for_exit(program);

    WAIT_UNTIL(count_processes(&place) == 0);
    if (code >= 128 || (code && count_lines(program, "hone: ") != 1)) {
        show_output(program);
        fail_msg("%s %ld: code %d, %d lines", what, limit, code, count_lines(program, "hone: "));
    }
}

static void go_on_without_limits(void)
{
    struct program program;

    HONE(&program, &place, "run", MICRO, "--run", "run/limited");
    assert_ends(&program, 0, MICRO_END);
    assert_same_databases(&place, "run/quiet", "run/limited");
    assert_int_equal(file_remove_tree(in_place(&place, "run/limited")), STATUS_OK);
}

static void a_run_with_too_few_descriptors_is_one_line_and_goes_on(void **state)
{
    static const long limits[] = {6, 10, 16, 24, 40, 71, 72};
    struct program program;
    char number[32];

    (void)state;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        snprintf(number, sizeof(number), "%ld", limits[i]);
        setenv("FAULT_FILES", number, 1);
        setenv("LD_PRELOAD", shim_path("faults"), 1);
        START(&program, &place, "run", MICRO, "--run", "run/limited");
        unsetenv("LD_PRELOAD");
        unsetenv("FAULT_FILES");
        assert_one_line_at_most(&program, "descriptors", limits[i]);
        assert_int_equal(SAYS(&program, "ulimit -n 72"), limits[i] < 72);
    }
    go_on_without_limits();
}

static void a_file_that_may_not_grow_is_one_line_and_the_run_goes_on(void **state)
{
    static const rlim_t limits[] = {8192, 20000, 40000, 70000, 100000, 150000, 250000};
    struct rlimit before, less;
    struct program program;
    int n_failed = 0;

    (void)state;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        less = (struct rlimit){limits[i], before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &less), 0);
        START(&program, &place, "run", MICRO, "--run", "run/limited", "--quiet");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_one_line_at_most(&program, "bytes", (long)limits[i]);
        n_failed += SAYS(&program, "hone: ");
    }
    assert_true(n_failed >= 2);
    go_on_without_limits();
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_fails_in_the_coordinator_is_one_line_and_the_run_goes_on),
        cmocka_unit_test(a_call_that_fails_in_a_worker_changes_nothing),
        cmocka_unit_test(a_wall_clock_that_jumps_by_years_changes_nothing),
        cmocka_unit_test(a_run_with_too_few_descriptors_is_one_line_and_goes_on),
        cmocka_unit_test(a_file_that_may_not_grow_is_one_line_and_the_run_goes_on),
    };

    share = argc > 1 ? strtol(argv[1], NULL, 10) : share;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : seed;
    from = argc > 3 ? strtol(argv[3], NULL, 10) : from;
    return cmocka_run_group_tests_name("integration_torture", tests, make_place, remove_place);
}
