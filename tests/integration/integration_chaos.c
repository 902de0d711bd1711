/*
 * Processes are killed, stopped and let go on, and the link of a worker from outside is cut and
 * stalled, at seeded random points of a run over tcp://: it ends with the bytes of a quiet one.
 *
 *     integration_chaos [FAULTS [SEED]]      default 20, 1
 */
#include <signal.h>
#include <unistd.h>

#include "common/random.h"
#include "tests/integration/support.h"
#include "tests/integration/support_link.h"

#define MAX_STOPPED 8
#define FAR "far-0"

static struct place place;
static long n_wanted = 20;
static uint64_t seed = 1;

/* Steps long enough to be hit in the middle. Groups that die with their worker are no poison. */
#define SETTINGS                                                                                   \
    "--set", "zero:grpo.tasks_per_step=48", "--set", "zero:rollout.num_generations=8", "--set",    \
        "zero:grpo.max_steps=6", "--set", "eval.n_tasks=8", "--set", "run.save_steps=1", "--set",  \
        "run.max_lease_tries=1000", "--set", "run.silent_ms=1000"

struct chaos {
    struct random_stream random;
    struct program run, far;
    struct flaky_link *link;
    char name[32], endpoint[64], far_endpoint[64], key[64], config[64];
    pid_t stopped[MAX_STOPPED];
    int64_t let_go_ms[MAX_STOPPED];
    int n_stopped, has_far;
    long n_faults, counts[8];
};

static int make_place(void **state)
{
    struct program program;

    (void)state;
    place_make(&place);
    HONE(&program, &place, "run", RECIPE, "--run", "run/base", "--stage", "base", SETTINGS);
    assert_ends(&program, 0, "stage base is done");
    place_copy(&place, "run/base", "run/quiet");
    HONE(&program, &place, "run", "--run", "run/quiet", "--stage", "zero");
    assert_ends(&program, 0, "stage zero is done");
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    return 0;
}

/* ---- The run, and a worker that comes through the flaky link. Either is started again. */

static void start_run(struct chaos *chaos)
{
    START(&chaos->run, &place, "run", "--run", chaos->name, "--stage", "zero", "--set",
          chaos->endpoint);
}

static void keep_far(struct chaos *chaos)
{
    if (chaos->has_far && is_running(&chaos->far))
        return;
    if (chaos->has_far) {
        int code = wait_for_exit(&chaos->far);   /* killed, told to stop, or its link was down */
        if (code != 0 && code != 128 + SIGKILL && code != 6)
            assert_ends(&chaos->far, 0, NULL);
    }
    chaos->has_far = file_exists(in_place(&place, "%s", chaos->key));
    if (chaos->has_far)
        START(&chaos->far, &place, "worker", "rollout", "--connect", chaos->far_endpoint,
              "--config", chaos->config, "--stage", "zero", "--name", FAR, "--key", chaos->key);
}

/* 0 when the run has come to its end. */
static int keep_run(struct chaos *chaos)
{
    if (is_running(&chaos->run))
        return 1;
    int code = wait_for_exit(&chaos->run);
    if (code == 0)
        return 0;
    if (code != 128 + SIGKILL) {
        print_message("the run ended with code %d\n", code);
        start_run(chaos);
        assert_ends(&chaos->run, 0, NULL);   /* shows what it says */
        fail_msg("the run ended with code %d", code);
    }
    WAIT_UNTIL(find_worker(&place, "rollout-0") == 0 && find_worker(&place, "reward-0") == 0);
    start_run(chaos);
    return 1;
}

static void let_go(struct chaos *chaos, int64_t now)
{
    for (int i = chaos->n_stopped - 1; i >= 0; i--)
        if (now >= chaos->let_go_ms[i]) {
            kill(chaos->stopped[i], SIGCONT);
            chaos->stopped[i] = chaos->stopped[--chaos->n_stopped];
            chaos->let_go_ms[i] = chaos->let_go_ms[chaos->n_stopped];
        }
}

/* ---- Faults. */

static pid_t choose_worker(struct chaos *chaos)
{
    static const char *const names[] = {"rollout-0", "rollout-1", "reward-0", FAR};

    return find_worker(&place, names[random_below(&chaos->random, 4)]);
}

static int stop_for(struct chaos *chaos, pid_t pid, int64_t most_ms)
{
    if (pid <= 0 || chaos->n_stopped == MAX_STOPPED || kill(pid, SIGSTOP))
        return 0;
    chaos->stopped[chaos->n_stopped] = pid;
    chaos->let_go_ms[chaos->n_stopped++] =
        clock_ms() + 50 + (int64_t)random_below(&chaos->random, (uint64_t)most_ms);
    return 1;
}

enum fault { KILL_WORKER, STOP_WORKER, CUT_LINK, STALL_LINK, STOP_RUN, KILL_RUN, N_FAULTS };

/* 1 when there was somebody to hit. */
static int inject(struct chaos *chaos)
{
    static const enum fault table[] = {KILL_WORKER, KILL_WORKER, KILL_WORKER, STOP_WORKER,
                                       STOP_WORKER, STOP_WORKER, CUT_LINK,    CUT_LINK,
                                       STALL_LINK,  STOP_RUN,    KILL_RUN};
    enum fault fault = table[random_below(&chaos->random, sizeof(table) / sizeof(table[0]))];
    pid_t pid = choose_worker(chaos);
    int done = 1;

    switch (fault) {
    case KILL_WORKER:
        done = pid > 0 && kill(pid, SIGKILL) == 0;
        break;
    case STOP_WORKER:
        done = stop_for(chaos, pid, 2500);
        break;
    case CUT_LINK:
        link_cut(chaos->link);
        break;
    case STALL_LINK:
        link_stall(chaos->link, 50 + (int64_t)random_below(&chaos->random, 2000));
        break;
    case STOP_RUN:
        done = stop_for(chaos, chaos->run.pid, 500);
        break;
    default:
        done = is_running(&chaos->run) && kill(chaos->run.pid, SIGKILL) == 0;
    }
    chaos->counts[fault] += done;
    return done;
}

static void run_once(struct chaos *chaos, int number)
{
    int port = link_free_port(), far_port = link_free_port();

    snprintf(chaos->name, sizeof(chaos->name), "run/chaos-%d", number);
    snprintf(chaos->endpoint, sizeof(chaos->endpoint), "run.endpoint=tcp://127.0.0.1:%d", port);
    snprintf(chaos->far_endpoint, sizeof(chaos->far_endpoint), "tcp://127.0.0.1:%d", far_port);
    snprintf(chaos->key, sizeof(chaos->key), "%s/keys/worker.key", chaos->name);
    snprintf(chaos->config, sizeof(chaos->config), "%s/config.yaml", chaos->name);
    place_copy(&place, "run/base", chaos->name);
    chaos->link = link_open(far_port, port);
    assert_non_null(chaos->link);
    start_run(chaos);
    int64_t next_ms = clock_ms() + 300, end = clock_ms() + 10 * DEADLINE_MS;
    while (keep_run(chaos)) {
        int64_t now = clock_ms();
        assert_true(now < end);
        keep_far(chaos);
        let_go(chaos, now);
        if (chaos->n_faults < n_wanted && now >= next_ms) {
            chaos->n_faults += inject(chaos);
            next_ms = now + 20 + (int64_t)random_below(&chaos->random, 300);
        }
        yield_briefly();
    }
    let_go(chaos, INT64_MAX);
    if (chaos->has_far)
        kill(chaos->far.pid, SIGKILL);
    if (chaos->has_far)
        wait_for_exit(&chaos->far);
    chaos->has_far = 0;
    link_close(chaos->link);
    assert_same_runs(&place, "run/quiet", chaos->name);
    assert_int_equal(file_remove_tree(in_place(&place, "%s", chaos->name)), STATUS_OK);
}

static void a_run_full_of_faults_ends_with_the_bytes_of_a_quiet_one(void **state)
{
    struct chaos chaos = {.random = {.seed = seed}};
    int n_runs = 0;

    (void)state;
    while (chaos.n_faults < n_wanted)
        run_once(&chaos, n_runs++);
    print_message("%ld faults in %d runs: %ld workers killed, %ld stopped, %ld links cut, %ld "
                  "stalled, %ld coordinators stopped, %ld killed\n", chaos.n_faults, n_runs,
                  chaos.counts[KILL_WORKER], chaos.counts[STOP_WORKER], chaos.counts[CUT_LINK],
                  chaos.counts[STALL_LINK], chaos.counts[STOP_RUN], chaos.counts[KILL_RUN]);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_full_of_faults_ends_with_the_bytes_of_a_quiet_one),
    };

    if (argc > 1)
        n_wanted = strtol(argv[1], NULL, 10);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests_name("integration_chaos", tests, make_place, remove_place);
}
