/* What started this process says which rank of how many it is; and how ranks are to reach each
 * other then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "ranks/internal.h"

const char *const ranks_transports[] = {"auto", "mpi", "zmq", NULL};

/* The innermost comes first: mpirun within Slurm leaves Slurm's variables to its own processes. */
static const struct launcher {
    const char *size, *rank, *name;
    const char *mpi;                     /* set where MPI works, too; NULL: never */
} launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "mpirun", "OMPI_COMM_WORLD_SIZE"},
    {"PMI_SIZE", "PMI_RANK", "mpirun or srun --mpi=pmi2", "PMI_SIZE"},
    {"WORLD_SIZE", "RANK", "RANK and WORLD_SIZE", NULL},
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "srun", "PMIX_RANK"},
};

static long number_of(const char *name)
{
    const char *value = getenv(name);
    char *end = NULL;
    long number = value && *value ? strtol(value, &end, 10) : -1;

    return end && !*end ? number : -1;
}

int ranks_find_world(struct ranks_world *world)
{
    *world = (struct ranks_world){.count = 1, .launcher = "one process"};
    for (size_t i = 0; i < sizeof(launchers) / sizeof(launchers[0]); i++) {
        const struct launcher *launcher = &launchers[i];
        long count = number_of(launcher->size), rank = number_of(launcher->rank);
        if (count <= 1)
            continue;
        if (count > RANKS_MAX)
            return status_fail(STATUS_CONFIG, "%s is %ld; there can be %d ranks", launcher->size,
                               count, RANKS_MAX);
        if (rank < 0 || rank >= count)
            return status_fail(STATUS_CONFIG, "%s is %ld, but %s is not one of 0 to %ld",
                               launcher->size, count, launcher->rank, count - 1);
        *world = (struct ranks_world){
            .index = (int)rank,
            .count = (int)count,
            .launcher = launcher->name,
            .has_mpi = launcher->mpi && getenv(launcher->mpi),
        };
        return STATUS_OK;
    }
    return STATUS_OK;
}

enum ranks_transport ranks_choose(const struct ranks_world *world, enum ranks_transport wanted,
                                  char *why, size_t n_why)
{
    char path[FILE_PATH_MAX];

    if (wanted != RANKS_AUTO) {
        snprintf(why, n_why, "run.rank_transport");
        return wanted;
    }
    if (!world->has_mpi) {
        snprintf(why, n_why, "%s, without MPI", world->launcher);
        return RANKS_ZMQ;
    }
    if (!ranks_locate_library(path)) {
        snprintf(why, n_why, "started by %s, but %s is not there", world->launcher, MAIL_LIBRARY);
        return RANKS_ZMQ;
    }
    snprintf(why, n_why, "started by %s", world->launcher);
    return RANKS_MPI;
}
