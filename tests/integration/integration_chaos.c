/*
 * Processes are killed, stopped and let go on, the link of a worker from outside is cut, stalled
 * and spoilt, and the network of one on another host loses, delays and throttles packets or is cut,
 * at seeded random points of a run over tcp://: it ends with the bytes of a quiet one.
 *
 *     integration_chaos [FAULTS [SEED]]      default 20, 1
 */
#include <signal.h>
#include <unistd.h>

#include "common/random.h"
#include "tests/integration/support.h"
#include "tests/integration/support_link.h"
#include "tests/integration/support_net.h"

#define MAX_STOPPED 8
#define MAX_NAMES 5
#define SOON_MS 4000
#define MOST_SOON 1
#define RUN "run/chaos"
#define KEY RUN "/keys/worker.key"
#define LOOK_MS 20
#define FAULTS_A_STEP 4
#define SPARE_STEPS 5    /* besides half as many again: faults come late where steps are fast */
#define FAR "far-0"      /* its link is a process's that breaks TCP connections */
#define AWAY "away-0"    /* on another host */

static struct place place;
static struct net *net;  /* NULL: the machine gives no second host */
static long n_wanted = 20;
static uint64_t seed = 1;
static char n_steps[48];   /* so many that one run has all faults */

/* Steps long enough to be hit in the middle. Groups that die with their worker are no poison. */
#define SETTINGS                                                                                   \
    "--set", "zero:grpo.tasks_per_step=48", "--set", "zero:rollout.num_generations=8", "--set",    \
        n_steps, "--set", "eval.n_tasks=8", "--set", "run.save_steps=1", "--set",                  \
        "run.max_lease_tries=1000", "--set", "run.silent_ms=1000"

/* Name and what is counted. */
#define FAULT_MAP(X)                                                                               \
    X(KILL_WORKER, "workers killed")                                                               \
    X(STOP_WORKER, "workers stopped")                                                              \
    X(CUT_LINK, "links cut")                                                                       \
    X(STALL_LINK, "links stalled")                                                                 \
    X(FLIP_LINK, "links spoilt")                                                                   \
    X(STOP_RUN, "coordinators stopped")                                                            \
    X(KILL_RUN, "coordinators killed")                                                             \
    X(LOSE, "losses of packets")                                                                   \
    X(DELAY, "delays")                                                                             \
    X(THROTTLE, "slow networks")                                                                   \
    X(CUT_NET, "networks cut")
enum fault {
#define X(name, text) name,
    FAULT_MAP(X)
#undef X
    N_FAULTS
};

/* A worker that the test starts, as a person on another machine does. */
struct outsider {
    struct program program;
    const char *name;
    char endpoint[64];
    int is_there;
};

struct chaos {
    struct random_stream random;
    struct program run;
    struct outsider far, away;
    struct flaky_link *link;
    char endpoint[64];
    pid_t stopped[MAX_STOPPED];
    int64_t let_go_ms[MAX_STOPPED];
    int n_stopped;
    long n_faults, counts[N_FAULTS];
    int64_t next_ms, looked_ms;
    int64_t killed_ms[MAX_NAMES];
    int n_soon[MAX_NAMES];
};

static int make_place(void **state)
{
    const char *why_not;

    (void)state;
    net = net_open(seed, &why_not);
    if (net)
        print_message("packets are lost and delayed by %s\n",
                      net_has_netem(net) ? "netem" : "the test: this kernel has no netem");
    else
        print_message("left out: faults of a network between hosts: %s\n", why_not);
    place_make_quiet(&place, (const char *const[]){SETTINGS, NULL});
    return 0;
}

static int remove_place(void **state)
{
    (void)state;
    place_remove(&place);
    if (net)
        net_close(net);
    return 0;
}

/* ---- The run, and the workers from outside. Each is started again. */

static void start_run(struct chaos *chaos)
{
    START(&chaos->run, &place, "run", "--run", RUN, "--stage", "zero", "--set", chaos->endpoint);
}

static void keep_outsider(struct outsider *outsider)
{
    if (outsider->is_there && is_running(&outsider->program))
        return;
    if (outsider->is_there) {   /* killed, told to stop, or its link was down */
        int code = wait_for_exit(&outsider->program);
        if (code != 0 && code != 128 + SIGKILL && code != 6) {
            show_output(&outsider->program);
            fail_msg("%s ended with code %d", outsider->name, code);
        }
    }
    outsider->is_there = file_exists(in_place(&place, KEY));
    if (outsider->is_there)
        START(&outsider->program, &place, "worker", "rollout", "--connect", outsider->endpoint,
              "--config", RUN "/config.yaml", "--stage", "zero", "--name", outsider->name, "--key",
              KEY);
}

static void keep_outsiders(struct chaos *chaos)
{
    keep_outsider(&chaos->far);
    if (!net)
        return;
    net_go_there(net);
    keep_outsider(&chaos->away);
    net_come_back(net);
    net_look(net);
}

static void end_outsider(struct outsider *outsider)
{
    if (!outsider->is_there)
        return;
    kill(outsider->program.pid, SIGKILL);
    wait_for_exit(&outsider->program);
    outsider->is_there = 0;
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
        show_output(&chaos->run);
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

static const char *const names[MAX_NAMES] = {"rollout-0", "rollout-1", "reward-0", FAR, AWAY};

static int choose_worker(struct chaos *chaos)
{
    return (int)random_below(&chaos->random, net ? MAX_NAMES : MAX_NAMES - 1);
}

/* A worker that ends five times in a row, each time soon after its start, ends the run; the
 * coordinator ends it too, when it was stopped for long. */
static int kill_worker(struct chaos *chaos, int worker, pid_t pid)
{
    int64_t now = clock_ms();
    int is_soon = now - chaos->killed_ms[worker] < SOON_MS;

    if (pid <= 0 || (is_soon && chaos->n_soon[worker] == MOST_SOON) || kill(pid, SIGKILL))
        return 0;
    chaos->n_soon[worker] = is_soon ? chaos->n_soon[worker] + 1 : 0;
    chaos->killed_ms[worker] = now;
    return 1;
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

/* Some cuts are longer than the heartbeats' patience. */
static int spoil_net(struct chaos *chaos, enum fault fault)
{
    struct net_weather weather = {0};
    int64_t most_ms = 4000;

    if (!net)
        return 0;
    switch (fault) {
    case LOSE:
        weather.loss_percent = 5 + (int)random_below(&chaos->random, 40);
        weather.twice_percent = (int)random_below(&chaos->random, 10);
        weather.jitter_ms = (int)random_below(&chaos->random, 10);
        break;
    case DELAY:
        weather.delay_ms = 10 + (int)random_below(&chaos->random, 200);
        weather.jitter_ms = (int)random_below(&chaos->random, 100);
        weather.loss_percent = (int)random_below(&chaos->random, 5);
        break;
    case THROTTLE:
        weather.bytes_per_second = 2000 + (long)random_below(&chaos->random, 100000);
        break;
    default:
        weather.cut = 1 + (int)random_below(&chaos->random, 3);
        most_ms = random_below(&chaos->random, 8) ? 4000 : 25000;
    }
    net_set_weather(net, &weather,
                    100 + (int64_t)random_below(&chaos->random, (uint64_t)most_ms));
    return 1;
}

/* 1 when there was somebody to hit. */
static int inject(struct chaos *chaos)
{
    static const enum fault table[] = {KILL_WORKER, KILL_WORKER, KILL_WORKER, STOP_WORKER,
                                       STOP_WORKER, STOP_WORKER, CUT_LINK,    CUT_LINK,
                                       STALL_LINK,  FLIP_LINK,   STOP_RUN,    KILL_RUN,
                                       LOSE,        LOSE,        DELAY,       DELAY,
                                       THROTTLE,    CUT_NET,     CUT_NET};
    enum fault fault = table[random_below(&chaos->random, sizeof(table) / sizeof(table[0]))];
    int worker = choose_worker(chaos), done = 1;
    pid_t pid = find_worker(&place, names[worker]);

    switch (fault) {
    case KILL_WORKER:
        done = kill_worker(chaos, worker, pid);
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
    case FLIP_LINK:
        link_flip(chaos->link);
        break;
    case STOP_RUN:
        done = stop_for(chaos, chaos->run.pid, 500);
        break;
    case KILL_RUN:
        done = is_running(&chaos->run) && kill(chaos->run.pid, SIGKILL) == 0;
        break;
    default:
        done = spoil_net(chaos, fault);
    }
    chaos->counts[fault] += done;
    return done;
}

/* The run listens on every address that this process's network has: loopback, and the link to the
 * other host. */
static void name_run(struct chaos *chaos)
{
    int port = link_free_port(), far_port = link_free_port();

    snprintf(chaos->endpoint, sizeof(chaos->endpoint), "run.endpoint=tcp://%s:%d",
             net ? "0.0.0.0" : "127.0.0.1", port);
    chaos->far.name = FAR;
    chaos->away.name = AWAY;
    snprintf(chaos->far.endpoint, sizeof(chaos->far.endpoint), "tcp://127.0.0.1:%d", far_port);
    snprintf(chaos->away.endpoint, sizeof(chaos->away.endpoint), "tcp://" NET_HERE ":%d", port);
    chaos->link = link_open(far_port, port);
    assert_non_null(chaos->link);
}

/* Some time after the last one, or sooner when the run gets on so fast that it would end without
 * having had them all. */
static int is_due(struct chaos *chaos, int64_t now)
{
    if (now >= chaos->next_ms)
        return 1;
    if (now < chaos->looked_ms + LOOK_MS)
        return 0;
    chaos->looked_ms = now;
    return chaos->n_faults < FAULTS_A_STEP * steps_of(&place, RUN, "zero");
}

static void run_with_faults(struct chaos *chaos)
{
    name_run(chaos);
    place_copy(&place, "run/base", RUN);
    start_run(chaos);
    int64_t end = clock_ms() + 10 * DEADLINE_MS;
    chaos->next_ms = clock_ms() + 300;
    while (keep_run(chaos)) {
        int64_t now = clock_ms();
        assert_true(now < end);
        keep_outsiders(chaos);
        let_go(chaos, now);
        if (chaos->n_faults < n_wanted && is_due(chaos, now)) {
            chaos->n_faults += inject(chaos);
            chaos->next_ms = now + 20 + (int64_t)random_below(&chaos->random, 300);
        }
        yield_briefly();
    }
    let_go(chaos, INT64_MAX);
    end_outsider(&chaos->far);
    end_outsider(&chaos->away);
    link_close(chaos->link);
}

static void a_run_full_of_faults_ends_with_the_bytes_of_a_quiet_one(void **state)
{
    static const char *const texts[] = {
#define X(name, text) text,
        FAULT_MAP(X)
#undef X
    };
    struct chaos chaos = {.random = {.seed = seed}};

    (void)state;
    run_with_faults(&chaos);
    print_message("%ld faults in one run:", chaos.n_faults);
    for (int i = 0; i < N_FAULTS; i++)
        print_message(" %ld %s%s", chaos.counts[i], texts[i], i + 1 < N_FAULTS ? "," : "\n");
    assert_int_equal(chaos.n_faults, n_wanted);
    assert_same_runs(&place, "run/quiet", RUN);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_full_of_faults_ends_with_the_bytes_of_a_quiet_one),
    };

    if (argc > 1)
        n_wanted = strtol(argv[1], NULL, 10);
    snprintf(n_steps, sizeof(n_steps), "zero:grpo.max_steps=%ld",
             n_wanted / FAULTS_A_STEP * 3 / 2 + SPARE_STEPS);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 10);
    return cmocka_run_group_tests_name("integration_chaos", tests, make_place, remove_place);
}
