/* How ranks find each other, and how they part. */
#include "ranks/ranks.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cores.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "ranks/internal.h"

/* ---- The library. */

/* Beside the program, above it (tests), or where `make install` puts it. */
int ranks_locate_library(char path[FILE_PATH_MAX])
{
    static const char *const places[] = {"", "../", "../lib/hone/"};
    char self[FILE_PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash)
        slash[1] = '\0';
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(path, FILE_PATH_MAX, "%s%s%s", self, places[i], MAIL_LIBRARY);
        if (file_exists(path))
            return 1;
    }
    snprintf(path, FILE_PATH_MAX, "%s%s", self, MAIL_LIBRARY);
    return 0;
}

static int load(void **library, const struct mail_table **mail)
{
    char path[FILE_PATH_MAX];

    if (!ranks_locate_library(path))
        return status_fail(STATUS_UNSUPPORTED, "%s: not built; install libopenmpi-dev and make "
                           "again", path);
    /* Global: Open MPI's own plugins look for its symbols. */
    *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!*library)
        return status_fail(STATUS_UNSUPPORTED, "%s: %s", path, dlerror());
    *mail = dlsym(*library, MAIL_SYMBOL);
    if (*mail && (*mail)->abi == MAIL_ABI)
        return STATUS_OK;
    dlclose(*library);
    return status_fail(STATUS_VERSION, "%s is of another hone", path);
}

int ranks_find_mpi(char *out, size_t n_out)
{
    const struct mail_table *mail;
    void *library;

    if (load(&library, &mail) < 0) {
        snprintf(out, n_out, "%s", status_reason());
        return 0;
    }
    snprintf(out, n_out, "%s", mail->version());
    dlclose(library);
    return 1;
}

/* ---- Who is there. */

void ranks_print_name(const struct ranks *ranks, int rank, char *out, size_t n_out)
{
    if (ranks->infos && ranks->infos[rank].pid)
        snprintf(out, n_out, "rank %d (%s, pid %lld)", rank, ranks->infos[rank].host,
                 (long long)ranks->infos[rank].pid);
    else
        snprintf(out, n_out, "rank %d", rank);
}

static uint64_t own_pid_space(void)
{
    struct stat info;

    return stat("/proc/self/ns/pid", &info) == 0 ? (uint64_t)info.st_ino : 0;
}

static int introduce(struct ranks *ranks)
{
    int count = ranks->place.count;
    struct rank_info mine = {.pid = getpid(),
                             .pid_space = own_pid_space(),
                             .local_index = ranks->place.local_rank};

    gethostname(mine.host, sizeof(mine.host) - 1);
    snprintf(mine.version, sizeof(mine.version), "%s", hone_version);
    struct rank_info *infos = mem_alloc((size_t)count, sizeof(*infos));
    int status = ranks_share(ranks, &mine, infos, sizeof(mine));
    ranks->infos = infos;
    TRY(status);
    for (int r = 1; r < count; r++)
        if (strcmp(infos[r].version, infos[0].version) != 0)
            return status_fail(STATUS_VERSION, "rank %d on %s is hone %s, but rank 0 is %s: all "
                               "must be the same program", r, infos[r].host, infos[r].version,
                               infos[0].version);
    ranks_print_name(ranks, ranks->place.rank, ranks->name, sizeof(ranks->name));
    return STATUS_OK;
}

static int join_mpi(struct ranks *ranks, const struct ranks_world *world)
{
    TRY(load(&ranks->library, &ranks->mail));
    if (ranks->mail->open(&ranks->place, NULL))
        return status_fail(STATUS_UNSUPPORTED, "MPI does not start: %s", ranks->mail->reason());
    if (ranks->place.count != world->count)
        return status_fail(STATUS_CONFIG, "%d processes were started, but MPI knows of %d: with "
                           "srun, give --mpi=pmix (or pmi2), as this MPI was built", world->count,
                           ranks->place.count);
    return STATUS_OK;
}

static int join(struct ranks *ranks, const struct ranks_world *world,
                const struct ranks_options *options)
{
    const struct mail_meeting meeting = {
        .endpoint = options->endpoint,
        .keys = options->keys,
        .version = hone_version,
        .timeout_ms = options->timeout_ms * (world->index ? 2 : 1),
        .stop = options->stop,
    };

    if (options->transport == RANKS_MPI) {
        TRY(join_mpi(ranks, world));
    } else {
        ranks->mail = &mail_zmq;
        ranks->place = (struct mail_place){.rank = world->index, .count = world->count};
        TRY(ranks->mail->open(&ranks->place, &meeting));
    }
    ranks_set_timeout(ranks, options->timeout_ms);
    snprintf(ranks->name, sizeof(ranks->name), "rank %d", ranks->place.rank);
    snprintf(ranks->description, sizeof(ranks->description), "%s", ranks->mail->version());
    return introduce(ranks);
}

int ranks_open(struct ranks **out, const struct ranks_world *world,
               const struct ranks_options *options)
{
    *out = NULL;
    if (world->count == 1)
        return STATUS_OK;
    *out = mem_alloc(1, sizeof(**out));
    int status = join(*out, world, options);
    if (status < 0 && (*out)->place.count)
        ranks_break(*out, status);
    return status;
}

static void end_all(struct ranks *ranks, int status)
{
    char why[1024];

    snprintf(why, sizeof(why), "%s", status < 0 ? status_reason() : "a rank left an order");
    if (ranks->mail->abort_ends_process)
        log_error("%s", why);
    ranks->mail->abort(status < 0 ? status_exit_code(status) : 1, why);
}

void ranks_close(struct ranks **out, int status)
{
    struct ranks *ranks = *out;

    *out = NULL;
    if (!ranks)
        return;
    ranks_leave_device(ranks);
    if (ranks->is_broken || ranks->is_in_order)
        end_all(ranks, status);
    else if (ranks->place.count)
        ranks->mail->close(ranks->timeout_ms);
    if (ranks->aborted_lane)
        ranks->aborted_lane->release(ranks);
    post_release(&ranks->host);
    mem_free(ranks->infos);
    mem_free(ranks);   /* the library stays: MPI cannot be unloaded */
}

int ranks_index(const struct ranks *ranks)
{
    return ranks ? ranks->place.rank : 0;
}

int ranks_count(const struct ranks *ranks)
{
    return ranks ? ranks->place.count : 1;
}

int ranks_local_index(const struct ranks *ranks)
{
    return ranks ? ranks->place.local_rank : 0;
}

int ranks_local_count(const struct ranks *ranks)
{
    return ranks ? ranks->place.local_count : 1;
}

const char *ranks_name(const struct ranks *ranks)
{
    return ranks ? ranks->name : "rank 0";
}

void ranks_set_timeout(struct ranks *ranks, int64_t timeout_ms)
{
    /* Rank 0 comes first: it can write down who is missing. */
    if (ranks)
        ranks->timeout_ms = ranks->place.rank ? 2 * timeout_ms : timeout_ms;
}

const char *ranks_describe(const struct ranks *ranks)
{
    return ranks ? ranks->description : "alone";
}

/* Cores that this process may use, less what the other ranks here take of them. */
static int share_of_cores(const struct ranks *ranks)
{
    int n = cores_usable() / ranks_local_count(ranks);

    return n > 1 ? n : 1;
}

/* Where srun has given each rank a card of its own, each sees it as the first. */
static int open_card(const struct ranks *ranks, struct ops **out, const char *rest)
{
    char device[64];

    snprintf(device, sizeof(device), "cuda:%d%s%s", ranks_local_index(ranks), *rest ? "," : "",
             rest);
    int status = ops_create(out, device, 0);
    if (status != STATUS_UNSUPPORTED || !ranks_local_index(ranks))
        return status;
    snprintf(device, sizeof(device), "cuda:0%s%s", *rest ? "," : "", rest);
    return ops_create(out, device, 0);
}

int ranks_open_device(const struct ranks *ranks, struct ops **out, const char *device,
                      int64_t threads)
{
    if (!ranks)
        return ops_create(out, device, (int)threads);
    if (strcmp(device, "cuda") == 0)
        return open_card(ranks, out, "");
    if (strcmp(device, "cuda:bf16") == 0)
        return open_card(ranks, out, "bf16");
    return ops_create(out, device, threads ? (int)threads : share_of_cores(ranks));
}

int ranks_use_device(struct ranks *ranks, struct ops *ops)
{
    if (!ranks)
        return STATUS_OK;
    if (ranks->lane && ranks->lane_ops == ops)
        return STATUS_OK;
    if (ranks->lane)
        ranks->lane->close(ranks);
    ranks->lane = NULL;
    ranks->lane_ops = ops;
    return ops_is_host(ops) ? lane_host_open(ranks) : lane_nccl_open(ranks, ops);
}

void ranks_leave_device(struct ranks *ranks)
{
    if (!ranks || !ranks->lane)
        return;
    if (ranks->is_broken || ranks->is_in_order) {
        ranks->lane->abort(ranks);
        ranks->aborted_lane = ranks->lane;
    } else {
        ranks->lane->close(ranks);
    }
    ranks->lane = NULL;
}
