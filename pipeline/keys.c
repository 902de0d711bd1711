/* Who may connect: the keys of a run whose endpoint is tcp://, made when they are missing. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/setup.h"

static int warn_insecure(struct wire_keys *keys, const char *endpoint)
{
    keys->insecure = 1;
    log_warning("endpoint %s is plain (run.insecure): whoever can reach it can read and write this "
                "run's weights and samples", endpoint);
    return STATUS_OK;
}

int setup_keys(const struct run_config *config, const char *run, const char *endpoint,
               struct wire_keys *keys, char worker_key[FILE_PATH_MAX])
{
    char directory[FILE_PATH_MAX];

    memset(keys, 0, sizeof(*keys));
    worker_key[0] = '\0';
    if (strncmp(endpoint, "tcp://", 6) != 0)
        return STATUS_OK;
    if (config->insecure)
        return warn_insecure(keys, endpoint);
    if (config->keys[0])
        snprintf(directory, sizeof(directory), "%s", config->keys);
    else
        TRY(file_join(directory, run, "keys"));
    TRY(wire_keys_make(directory));
    TRY(wire_keys_read_hub(keys, directory));
    return file_join(worker_key, directory, WIRE_WORKER_KEY);
}
