/* Where CUDA's compiler, NCCL and MPI are, and what each is for. */
#include "cmd/doctor.h"

#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/status.h"
#include "ranks/ranks.h"

/* The first nvcc of PATH, into out; 0 when there is none. */
static int search_path(char *out, size_t n_out)
{
    const char *path = getenv("PATH");

    while (path && *path) {
        int n = (int)strcspn(path, ":");
        snprintf(out, n_out, "%.*s/nvcc", n, path);
        if (access(out, X_OK) == 0)
            return 1;
        path += n + (path[n] == ':');
    }
    return 0;
}

void doctor_find_toolkit(char *out, size_t n_out)
{
    char nvcc[PATH_MAX] = "";
    glob_t found = {0};

    if (!search_path(nvcc, sizeof(nvcc)) &&
        glob("/usr/local/cuda*/bin/nvcc", 0, NULL, &found) == 0)
        snprintf(nvcc, sizeof(nvcc), "%s", found.gl_pathv[0]);
    globfree(&found);
    if (nvcc[0])
        snprintf(out, n_out, "%.200s: `make` builds the GPU's backend with it", nvcc);
    else
        snprintf(out, n_out, "not found: `make` builds without the GPU's backend");
}

void doctor_find_nccl(char *out, size_t n_out)
{
    char what[256];

    if (ranks_find_nccl(what, sizeof(what)))
        snprintf(out, n_out, "%s: gradients and weights between the GPUs of several ranks", what);
    else
        snprintf(out, n_out, "libnccl.so.2 not found: it is for several GPUs; one needs none");
}

void doctor_find_mpi(char *out, size_t n_out)
{
    char what[256];

    if (ranks_find_mpi(what, sizeof(what)))
        snprintf(out, n_out, "%s: `mpirun -n N hone run` trains with N ranks (docs/cluster.md)",
                 what);
    else
        snprintf(out, n_out, "%s; without it ranks use ZeroMQ", what);
}

static const char *name_of(enum ranks_transport transport)
{
    return transport == RANKS_MPI ? "MPI" : "ZeroMQ";
}

/* What run.rank_transport: auto would be, here or behind mpirun. */
void doctor_find_ranks(char *out, size_t n_out)
{
    struct ranks_world world;
    char why[160];

    if (ranks_find_world(&world) < 0) {
        snprintf(out, n_out, "%s", status_reason());
        return;
    }
    int count = world.count;
    if (count == 1)
        world = (struct ranks_world){.count = 2, .has_mpi = 1, .launcher = "mpirun"};
    const char *name = name_of(ranks_choose(&world, RANKS_AUTO, why, sizeof(why)));
    if (count > 1)
        snprintf(out, n_out, "this is rank %d of %d, over %s: %s", world.index, count, name, why);
    else
        snprintf(out, n_out, "this is one process; over %s when %s; over ZeroMQ when RANK and "
                 "WORLD_SIZE are set, or by srun without MPI", name, why);
}
