/* Before a run begins: whether this process is one of several ranks, and how they find each
 * other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/log.h"
#include "common/status.h"
#include "common/trust.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"
#include "pipeline/setup.h"

#define DEFAULT_PORT "29500"   /* that of those who set MASTER_ADDR */
#define LOOK_MS 50

/* Ranks but the first may be where no file of the run can be seen: then --set alone counts. */
static int read_settings(const struct pipeline_options *options, int index, struct run_config *run)
{
    const struct config_binding binding = {&run_config_section, run};
    const char *const *overrides = options->overrides;
    struct recipe recipe;
    char path[FILE_PATH_MAX];

    TRY(file_join(path, options->run, "config.yaml"));
    if (index == 0 || file_exists(options->config ? options->config : path)) {
        TRY(locate_recipe(&recipe, options->config, options->run, overrides));
        *run = recipe.run;
        recipe_release(&recipe);
        return STATUS_OK;
    }
    config_set_defaults(&binding, 1);
    for (; overrides && *overrides; overrides++)
        if (strncmp(*overrides, "run.", 4) == 0)
            TRY(config_override(*overrides, &binding, 1));
    return config_check(&binding, 1);
}

/* The setting, else the environment, else a socket in the run directory. */
static int find_endpoint(const struct pipeline_options *options, const struct run_config *run,
                         char out[FILE_PATH_MAX])
{
    const char *address = getenv("MASTER_ADDR"), *port = getenv("MASTER_PORT");

    if (run->rank_endpoint[0]) {
        snprintf(out, FILE_PATH_MAX, "%s", run->rank_endpoint);
        return STATUS_OK;
    }
    if (address && *address) {
        snprintf(out, FILE_PATH_MAX, "tcp://%.200s:%.16s", address,
                 port && *port ? port : DEFAULT_PORT);
        return STATUS_OK;
    }
    return setup_endpoint(options->run, "ranks.sock", out);
}

/* Rank 0 may be about to make it. */
static int wait_for_key(const struct pipeline_options *options, const struct run_config *run,
                        const char *path)
{
    int64_t end_ms = clock_ms() + run->rank_timeout_ms;

    while (!file_exists(path)) {
        if (options->stop && *options->stop)
            return status_fail(STATUS_INTERRUPTED, "stopped while waiting for %s", path);
        if (clock_ms() > end_ms)
            return status_fail(STATUS_TIMEOUT, "%s is not there, and rank 0 did not make it for "
                               "%lld ms: share that folder, copy the key, or give its text in "
                               "HONE_WORKER_KEY", path, (long long)run->rank_timeout_ms);
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000}, NULL);
    }
    return STATUS_OK;
}

static int find_key(const struct pipeline_options *options, const struct run_config *run,
                    const char *endpoint, struct wire_keys *keys)
{
    char directory[FILE_PATH_MAX], path[FILE_PATH_MAX];

    if (strncmp(endpoint, "tcp://", 6) != 0)
        return STATUS_OK;
    if (run->insecure) {
        log_warning("endpoint %s is plain (run.insecure)", endpoint);
        keys->insecure = 1;
        return STATUS_OK;
    }
    if (options->rank_key && options->rank_key[0])
        return wire_keys_parse(keys, options->rank_key, "HONE_WORKER_KEY");
    if (run->keys[0])
        snprintf(directory, sizeof(directory), "%s", run->keys);
    else
        TRY(file_join(directory, options->run, "keys"));
    TRY(file_join(path, directory, WIRE_WORKER_KEY));
    TRY(wait_for_key(options, run, path));
    return wire_keys_read(keys, path);
}

/* A replay writes nothing into the run: its keys are there, or somewhere else. */
static int find_keys(const struct pipeline_options *options, const struct run_config *run,
                     int index, const char *endpoint, struct wire_keys *keys)
{
    char path[FILE_PATH_MAX];

    if (index)
        return find_key(options, run, endpoint, keys);
    if (options->is_replay && !run->keys[0] && !run->insecure &&
        strncmp(endpoint, "tcp://", 6) == 0) {
        TRY(file_join(path, options->run, "keys/" WIRE_HUB_KEY));
        if (!file_exists(path))
            return status_fail(STATUS_CONFIG, "%s is not there, for the ranks at %s; `hone keys "
                               "DIR` makes keys: --set run.keys=DIR", path, endpoint);
    }
    return setup_keys(run, options->run, endpoint, keys, path);
}

static int join(const struct pipeline_options *options, const struct ranks_world *world,
                const struct run_config *run, struct ranks **out)
{
    struct wire_keys keys = {0};
    char endpoint[FILE_PATH_MAX], why[256];
    struct ranks_options ranks = {
        .transport = ranks_choose(world, (enum ranks_transport)run->rank_transport, why,
                                  sizeof(why)),
        .timeout_ms = run->rank_timeout_ms,
        .endpoint = endpoint,
        .keys = &keys,
        .stop = options->stop,
    };

    if (ranks.transport == RANKS_ZMQ) {
        if (!options->is_replay) {
            TRY(trust_check_directory(options->run, "run"));
            if (world->index == 0 || !run->rank_endpoint[0])
                TRY(file_make_directories(options->run));
        }
        TRY(find_endpoint(options, run, endpoint));
        TRY(find_keys(options, run, world->index, endpoint, &keys));
        if (world->index == 0)
            log_info("%d ranks over ZeroMQ (%s): rank 0 waits for the others at %s", world->count,
                     why, endpoint);
    }
    int status = ranks_open(out, world, &ranks);
    wire_keys_forget(&keys);
    return status;
}

int pipeline_join_ranks(const struct pipeline_options *options, struct ranks **out)
{
    struct ranks_world world;
    struct run_config run;

    *out = NULL;
    TRY(ranks_find_world(&world));
    if (world.count == 1)
        return STATUS_OK;
    TRY(read_settings(options, world.index, &run));
    return join(options, &world, &run, out);
}
