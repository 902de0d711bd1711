/* hone worker: the rollout and reward processes. `hone run` starts local ones by itself. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {
    {"connect", "ENDPOINT", "the coordinator: tcp://host:port or ipc:///path (run.endpoint)"},
    {"config", "FILE", "the run's config.yaml: its rollout, reward and sandbox settings"},
    {"stage", "NAME", "whose settings to take (default: the recipe's first stage)"},
    {"name", "NAME", "a name of its own among the workers (default: role-host-pid)"},
    {"lost-ms", "N", "end when the coordinator has been gone for so long (default 30000)"},
    {"parent", "PID", "end when this process does; given by `hone run`"},
    {0},
};

/* A child of the coordinator dies with it, also when it died before this line. */
static int follow_parent(const struct arguments *arguments)
{
    long long parent;

    TRY(argument_int(arguments, "parent", 0, 0, 1LL << 30, &parent));
    if (!parent)
        return STATUS_OK;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != (pid_t)parent)
        return status_fail(STATUS_CLOSED, "the coordinator (pid %lld) is gone", parent);
    return STATUS_OK;
}

static int serve_rollout(const char *endpoint, const char *name,
                         const struct stage_settings *settings, int lost_ms)
{
    const struct rollout_options rollout = {
        .endpoint = endpoint,
        .name = name,
        .device = rollout_devices[settings->rollout.device],
        .threads = (int)settings->rollout.threads,
        .limits = {.max_sequences = (int)settings->rollout.max_sequences,
                   .max_prompt = (int)settings->rollout.max_prompt_length,
                   .max_completion = (int)settings->rollout.max_completion_length,
                   .max_batched_tokens = (int)settings->rollout.max_num_batched_tokens},
        .lost_ms = lost_ms,
    };

    return rollout_serve(&rollout, &stop_requested);
}

static int serve_reward(const char *endpoint, const char *name,
                        const struct stage_settings *settings, int lost_ms)
{
    const struct reward_options reward = {
        .endpoint = endpoint,
        .name = name,
        .config = &settings->reward,
        .sandbox = &settings->sandbox,
        .lost_ms = lost_ms,
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
    long long lost_ms;

    (void)command;
    if (strcmp(role, "rollout") && strcmp(role, "reward"))
        return status_fail(STATUS_CONFIG, "worker: the role is \"%s\"; it must be rollout or "
                           "reward", role);
    if (!endpoint || !config)
        return status_fail(STATUS_CONFIG, "worker: --connect and --config are needed");
    TRY(argument_int(arguments, "lost-ms", 30000, 100, 86400000, &lost_ms));
    TRY(follow_parent(arguments));
    TRY(pipeline_worker_settings(config, argument_get(arguments, "stage"), &settings));
    gethostname(host, sizeof(host));
    host[sizeof(host) - 1] = '\0';
    snprintf(own_name, sizeof(own_name), "%.7s-%.10s-%ld", role, host, (long)getpid() % 1000000);
    name = name ? name : own_name;
    log_set_name(name);
    stop_on_signals();
    int status = strcmp(role, "rollout") == 0
                     ? serve_rollout(endpoint, name, &settings, (int)lost_ms)
                     : serve_reward(endpoint, name, &settings, (int)lost_ms);
    /* To be told to stop is how a worker ends. */
    return status == STATUS_INTERRUPTED ? STATUS_OK : status;
}

const struct command command_worker = {
    "worker", "rollout|reward", 1, "a worker process of a run, on this or another machine",
    "`hone run` starts local workers by itself (rollout.workers, reward.workers). On another\n"
    "machine, copy the run's config.yaml there and connect to run.endpoint.",
    options, run};
