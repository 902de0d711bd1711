/* hone worker: the rollout and reward processes. `hone run` starts local ones by itself. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "common/cores.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "common/watchdog.h"
#include "pipeline/pipeline.h"

#define KEY_VARIABLE "HONE_WORKER_KEY"

static const struct option_row options[] = {
    {"connect", "ENDPOINT", "the coordinator: tcp://host:port or ipc:///path (run.endpoint)"},
    {"config", "FILE", "the run's config.yaml: its rollout, reward and sandbox settings"},
    {"stage", "NAME", "whose settings to take (default: the recipe's first stage)"},
    {"key", "FILE", "this worker's key, for tcp:// (default: the text in HONE_WORKER_KEY)"},
    {"name", "NAME", "a name of its own among the workers (default: role-host-pid)"},
    {"lost-ms", "N", "end when the coordinator has been gone for so long (default 30000)"},
    {"parent", "PID", "end when this process does; given by `hone run`"},
    {0},
};

/* A child of the coordinator dies with it, also when it died before this line; it has said why. */
static int follow_parent(const struct arguments *arguments, int *is_orphan)
{
    long long parent;

    *is_orphan = 0;
    TRY(argument_int(arguments, "parent", 0, 0, 1LL << 30, &parent));
    if (!parent)
        return STATUS_OK;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    *is_orphan = getppid() != (pid_t)parent;
    return STATUS_OK;
}

/* ---- The key. Its text in the environment is taken at the very start of the program and wiped, so
 * that no process that is started later finds it, nor who reads /proc/PID/environ. */

static char key_of_environment[1024];

void worker_take_environment(void)
{
    char *value = getenv(KEY_VARIABLE);

    if (!value)
        return;
    snprintf(key_of_environment, sizeof(key_of_environment), "%s", value);
    explicit_bzero(value, strlen(value));
    unsetenv(KEY_VARIABLE);
}

const char *worker_environment_key(void)
{
    return key_of_environment;
}

void worker_forget_key(void)
{
    explicit_bzero(key_of_environment, sizeof(key_of_environment));
}

static int read_key(const struct arguments *arguments, const char *endpoint, int insecure,
                    struct wire_keys *keys)
{
    const char *file = argument_get(arguments, "key");
    int status = STATUS_OK;

    memset(keys, 0, sizeof(*keys));
    keys->insecure = insecure;
    if (strncmp(endpoint, "tcp://", 6) != 0)
        return STATUS_OK;
    if (insecure)
        log_warning("endpoint %s is plain (run.insecure)", endpoint);
    else if (file)
        status = wire_keys_read(keys, file);
    else if (key_of_environment[0])
        status = wire_keys_parse(keys, key_of_environment, KEY_VARIABLE);
    worker_forget_key();
    return status;
}

/* Beside the configuration: in the run's directory, or where its copy lies on this machine. */
static int start_watchdog(const char *config, const char *name, const struct run_config *run,
                          struct watchdog **watchdog)
{
    static struct watchdog_options dog;
    static char report[FILE_PATH_MAX];
    const char *slash = strrchr(config, '/');

    if (snprintf(report, sizeof(report), "%.*sstuck-%s.txt",
                 slash ? (int)(slash + 1 - config) : 0, config, name) >= (int)sizeof(report))
        return status_fail(STATUS_CONFIG, "path is too long: %s", config);
    dog = (struct watchdog_options){
        .stuck_ms = run->stuck_ms, .setting = "run.stuck_ms", .report = report};
    return watchdog_start(watchdog, &dog);
}

/* The workers of a run share the machine; what another machine has is divided likewise. */
static int rollout_threads(const struct rollout_config *config)
{
    int share = cores_usable() / (config->workers > 1 ? (int)config->workers : 1);

    return config->threads ? (int)config->threads : share > 1 ? share : 1;
}

static int serve_rollout(const char *endpoint, const char *name, const struct wire_keys *keys,
                         const struct stage_settings *settings, int lost_ms)
{
    const struct rollout_options rollout = {
        .endpoint = endpoint,
        .name = name,
        .device = rollout_devices[settings->rollout.device],
        .threads = rollout_threads(&settings->rollout),
        .limits = rollout_limits_of(&settings->rollout),
        .lost_ms = lost_ms,
        .keys = keys,
        .without_graphs = !settings->rollout.cuda_graphs,
    };

    return rollout_serve(&rollout, &stop_requested);
}

static int serve_reward(const char *endpoint, const char *name, const struct wire_keys *keys,
                        const struct stage_settings *settings, int lost_ms)
{
    const struct reward_options reward = {
        .endpoint = endpoint,
        .name = name,
        .config = &settings->reward,
        .sandbox = &settings->sandbox,
        .lost_ms = lost_ms,
        .keys = keys,
    };

    return reward_serve(&reward, &stop_requested);
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *role = arguments->n_positionals ? arguments->positionals[0] : "";
    const char *endpoint = argument_get(arguments, "connect");
    const char *config = argument_get(arguments, "config");
    const char *name = argument_get(arguments, "name");
    struct stage_settings settings;
    char own_name[WIRE_NAME_BYTES], host[16];
    struct wire_keys keys;
    long long lost_ms;
    struct run_config about;
    struct watchdog *watchdog = NULL;
    int is_orphan;

    (void)command;
    if (strcmp(role, "rollout") && strcmp(role, "reward"))
        return status_fail(STATUS_CONFIG, "worker: the role is \"%s\"; it must be rollout or "
                           "reward", role);
    if (!endpoint || !config)
        return status_fail(STATUS_CONFIG, "worker: --connect and --config are needed");
    TRY(argument_int(arguments, "lost-ms", 30000, 100, 86400000, &lost_ms));
    TRY(follow_parent(arguments, &is_orphan));
    if (is_orphan)
        return STATUS_OK;
    TRY(pipeline_worker_settings(config, argument_get(arguments, "stage"), &settings, &about));
    TRY(read_key(arguments, endpoint, about.insecure, &keys));
    gethostname(host, sizeof(host));
    host[sizeof(host) - 1] = '\0';
    snprintf(own_name, sizeof(own_name), "%.7s-%.10s-%ld", role, host, (long)getpid() % 1000000);
    name = name ? name : own_name;
    log_set_name(name);
    stop_on_signals();
    /* A reward worker forks its verifiers before it has threads; each has a deadline. */
    int is_rollout = strcmp(role, "rollout") == 0;
    int status = is_rollout ? start_watchdog(config, name, &about, &watchdog) : STATUS_OK;
    if (status == STATUS_OK)
        status = is_rollout ? serve_rollout(endpoint, name, &keys, &settings, (int)lost_ms)
                            : serve_reward(endpoint, name, &keys, &settings, (int)lost_ms);
    watchdog_stop(&watchdog);
    wire_keys_forget(&keys);
    /* To be told to stop is how a worker ends. */
    return status == STATUS_INTERRUPTED ? STATUS_OK : status;
}

const struct command command_worker = {
    "worker", "rollout|reward", 1, "a worker process of a run, on this or another machine",
    "`hone run` starts local workers by itself (rollout.workers, reward.workers). On another\n"
    "machine, copy the run's config.yaml and a key of it there (`hone keys`), and connect to\n"
    "run.endpoint. The key may come in the variable HONE_WORKER_KEY, too: never as an argument.",
    options, run};
