/*
 * kill -9 at random instants and at the calls by which things are made durable, of any process: the
 * run goes on, as often as need be, and ends the same.
 *
 *     integration_kills [KILLS [SEED]]      default 50, 1
 */
#include <signal.h>
#include <unistd.h>

#include "common/random.h"
#include "tests/integration/support_micro.h"

#define MAX_ATTEMPTS_PER_KILL 4

static struct place place;
static long n_kills = 50;
static uint64_t seed = 1;
static int64_t quiet_ms;

static int make_place(void **state)
{
    struct program program;

    (void)state;
    micro_make(&place);
    int64_t started = clock_ms();
    HONE(&program, &place, "run", MICRO, "--run", "run/timed");
    assert_ends(&program, 0, MICRO_END);
    quiet_ms = clock_ms() - started;
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

static void set_number(const char *name, uint64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    setenv(name, text, 1);
}

/* Whom and when. The calls that a quiet run makes: about 770 writes, 100 syncs, 100 of names. */
static void choose_kill(struct random_stream *random, int by_time)
{
    static const char *const who[] = {"hone", "hone", "hone", "hone", "rollout-0", "reward-0"};
    static const struct {
        const char *call;
        uint64_t n;
    } calls[] = {{"write", 770}, {"sync", 100}, {"sync", 100}, {"name", 100}, {"name", 100}};
    size_t call = (size_t)random_below(random, sizeof(calls) / sizeof(calls[0]));

    setenv("LD_PRELOAD", shim_path("faults"), 1);
    setenv("FAULT_ONCE", in_place(&place, "struck"), 1);
    unlink(in_place(&place, "struck"));
    unsetenv("FAULT_CALL");
    unsetenv("FAULT_KILL_US");
    if (by_time) {
        setenv("FAULT_WHO", who[random_below(random, sizeof(who) / sizeof(who[0]))], 1);
        set_number("FAULT_KILL_US", 1 + random_below(random, (uint64_t)quiet_ms * 1000));
        return;
    }
    setenv("FAULT_WHO", "hone", 1);
    setenv("FAULT_CALL", calls[call].call, 1);
    setenv("FAULT_DO", random_below(random, 2) ? "kill" : "kill-after", 1);
    set_number("FAULT_N", 1 + random_below(random, calls[call].n));
}

static void show_kill(void)
{
    static const char *const names[] = {"FAULT_WHO", "FAULT_KILL_US", "FAULT_CALL", "FAULT_N",
                                        "FAULT_DO"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (getenv(names[i]))
            print_message("%s=%s ", names[i], getenv(names[i]));
    print_message("\n");
}

/* 1 when the run came to its end all the same. */
static int attempt(int *n_struck)
{
    struct program program;

    show_kill();
    START(&program, &place, "run", MICRO, "--run", "run/killed");
    unsetenv("LD_PRELOAD");
    int code = wait_for_exit(&program);
    WAIT_UNTIL(count_processes(&place) == 0);
    *n_struck += code == 128 + SIGKILL || file_exists(in_place(&place, "struck"));
    if (code == 128 + SIGKILL)
        return 0;
    if (code != 0)
        show_output(&program);
    assert_int_equal(code, 0);
    return 1;
}

static void compare_and_begin_anew(void)
{
    assert_same_databases(&place, "run/quiet", "run/killed");
    assert_int_equal(file_remove_tree(in_place(&place, "run/killed")), STATUS_OK);
}

static void kill_again_and_again(int by_time)
{
    struct random_stream random = {.seed = random_mix(seed, (uint64_t)by_time)};
    int n_struck = 0, n_ended = 0, is_over = 1;
    struct program program;

    for (long i = 0; n_struck < n_kills / 2 && i < n_kills * MAX_ATTEMPTS_PER_KILL; i++) {
        choose_kill(&random, by_time);
        is_over = attempt(&n_struck);
        if (is_over) {
            compare_and_begin_anew();
            n_ended++;
        }
    }
    if (!is_over) {
        HONE(&program, &place, "run", MICRO, "--run", "run/killed");
        assert_ends(&program, 0, MICRO_END);
        compare_and_begin_anew();
        n_ended++;
    }
    print_message("%d kills, %d runs\n", n_struck, n_ended);
    assert_true(n_struck >= n_kills / 2);
}

static void runs_killed_at_random_instants_end_with_the_same_bytes(void **state)
{
    (void)state;
    kill_again_and_again(1);
}

static void runs_killed_at_calls_that_make_things_durable_end_with_the_same_bytes(void **state)
{
    (void)state;
    kill_again_and_again(0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_killed_at_random_instants_end_with_the_same_bytes),
        cmocka_unit_test(runs_killed_at_calls_that_make_things_durable_end_with_the_same_bytes),
    };

    n_kills = argc > 1 ? strtol(argv[1], NULL, 10) : n_kills;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) : seed;
    return cmocka_run_group_tests_name("integration_kills", tests, make_place, remove_place);
}
