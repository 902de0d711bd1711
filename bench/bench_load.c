/*
 * bench/bench_load.c - the coordinator under load: groups a second from many workers, and weights
 * to many workers beside what loopback gives.
 *
 *     bench_load groups [n [workers [per step]]]   1, 8 and 64 workers when none are said
 *     bench_load weights [GB [workers ["ways"]]]   of: curve plain ipc file ipcfile
 *
 * Workers are processes with a policy that answers at once; everything else is the real thing.
 * Weights that travel are kept by each worker in TMPDIR, else /var/tmp.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/load.h"
#include "common/log.h"
#include "common/status.h"

#define N_GROUPS 20000
#define PER_STEP 1000
#define N_TENSORS 16
#define RAW_BYTES ((size_t)256000000)
#define MIB ((size_t)1 << 20)

static double processor_seconds(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           1e-6 * (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- Groups. */

static int bench_groups(uint64_t n, int n_workers, size_t per_step)
{
    static const int shares[] = {10, 50, 100};
    struct load_latency latency = {.n = 0};
    size_t resident[3], worker[3];
    int descriptors[3];
    struct load load;
    uint64_t done = 0;

    TRY(load_open(&load, LOAD_CURVE, n_workers, 0));
    int status = load_run(&load, per_step, per_step, NULL);   /* what it needs, it has now */
    double start = clock_seconds(), busy = processor_seconds(RUSAGE_SELF);
    for (int i = 0; i < 3 && status == STATUS_OK; i++) {
        uint64_t end = n * (uint64_t)shares[i] / 100;
        status = load_run(&load, end - done, per_step, &latency);
        done = end;
        resident[i] = load_resident(getpid());
        worker[i] = load_resident(load.pids[0]);
        descriptors[i] = load_descriptors(getpid());
    }
    double seconds = clock_seconds() - start;
    busy = processor_seconds(RUSAGE_SELF) - busy;
    load_close(&load);
    TRY(status);
    printf("%7d %9llu %9.0f %8.2f %8.2f %8.1f   %5.1f %5.1f %5.1f   %4.1f %4.1f %4.1f   %3d %3d\n",
           n_workers, (unsigned long long)n, (double)n / seconds,
           1e3 * load_quantile(&latency, 0.5), 1e3 * load_quantile(&latency, 0.99),
           1e6 * busy / (double)n, (double)resident[0] / MIB, (double)resident[1] / MIB,
           (double)resident[2] / MIB, (double)worker[0] / MIB, (double)worker[1] / MIB,
           (double)worker[2] / MIB, descriptors[0], descriptors[2]);
    fflush(stdout);
    return STATUS_OK;
}

static int run_groups(int n, char **words)
{
    static const int counts[] = {1, 8, 64};
    uint64_t n_groups = n > 0 ? strtoull(words[0], NULL, 10) : N_GROUPS;
    int n_workers = n > 1 ? (int)strtol(words[1], NULL, 10) : 0;
    size_t per_step = n > 2 ? strtoull(words[2], NULL, 10) : PER_STEP;

    if (n_workers > LOAD_MAX_WORKERS || n_groups < 10 || !per_step)
        return status_fail(STATUS_CONFIG, "wanted 10 groups or more, %d workers or fewer",
                           LOAD_MAX_WORKERS);
    printf("groups of 4 samples, steps of %zu, tcp:// with CURVE; the workers answer at once\n",
           per_step);
    printf("workers    groups  groups/s   p50 ms   p99 ms   CPU us   MiB at 10, 50, 100 %%   "
           "MiB of a worker  descriptors\n");
    for (int i = 0; i < (n_workers ? 1 : 3); i++)
        TRY(bench_groups(n_groups, n_workers ? n_workers : counts[i], per_step));
    return STATUS_OK;
}

/* ---- Weights. */

struct figures {
    double tcp;          /* raw loopback, bytes a second in all */
    size_t tensor_bytes;
    int n_workers;
};

static void print_way(const struct figures *figures, const char *what, double bytes, double seconds,
                      uint64_t travelled)
{
    printf("%-62s %6.2f %9.2f %6.0f %%  %12.1f\n", what, seconds, bytes / seconds * 1e-9,
           100 * bytes / seconds / figures->tcp, (double)travelled / MIB);
    fflush(stdout);
}

/* A whole image, one in which half of the tensors changed, and one in which nothing did. */
static int bench_way(const struct figures *figures, enum load_way way, int over_wire,
                     const char *name)
{
    static const struct {
        const char *what;
        size_t first_changed;
        uint64_t salt;
    } rows[] = {{"all of it", N_TENSORS, 0},
                {"half of the tensors changed", N_TENSORS / 2, 1},
                {"nothing changed", N_TENSORS / 2, 1}};
    struct load load;
    char what[96];
    int status = STATUS_OK;

    TRY(load_open(&load, way, figures->n_workers, over_wire));
    for (size_t i = 0; i < 3 && status == STATUS_OK; i++) {
        uint64_t before = load_bytes_taken(&load);
        struct file_map image;
        double seconds, bytes = 0;
        status = load_make_image(&image, N_TENSORS, figures->tensor_bytes, rows[i].first_changed,
                                 rows[i].salt, 0);
        if (status == STATUS_OK) {
            bytes = (double)image.n * figures->n_workers;
            status = load_publish(&load, &image, &seconds);
        }
        if (status == STATUS_OK) {
            snprintf(what, sizeof(what), "%s: %s", name, rows[i].what);
            print_way(figures, what, bytes, seconds, load_bytes_taken(&load) - before);
        }
    }
    if (status == STATUS_OK)
        printf("%-60s %8zu MiB, a worker %zu MiB\n", "  resident afterwards",
               load_resident(getpid()) / MIB, load_resident(load.pids[0]) / MIB);
    load_close(&load);
    return status;
}

/* A rate: of so much, not of all that is published. */
static int bench_raw(struct figures *figures)
{
    size_t tensor_bytes = figures->tensor_bytes < RAW_BYTES / N_TENSORS ? figures->tensor_bytes
                                                                        : RAW_BYTES / N_TENSORS;
    struct file_map image;

    TRY(load_make_image(&image, N_TENSORS, tensor_bytes, N_TENSORS, 0, 0));
    double bytes = (double)image.n * figures->n_workers;
    load_raw_tcp(&image, figures->n_workers);   /* the file's pages are there now */
    double tcp = load_raw_tcp(&image, figures->n_workers);
    double plain = load_raw_zmq(&image, figures->n_workers, 0);
    double curve = load_raw_zmq(&image, figures->n_workers, 1);
    file_map_close(&image);
    if (tcp < 0 || plain < 0 || curve < 0)
        return status_fail(STATUS_IO, "loopback does not carry plain bytes here");
    figures->tcp = bytes / tcp;
    print_way(figures, "raw: TCP, a process at each end", bytes, tcp, (uint64_t)bytes);
    print_way(figures, "raw: libzmq, no keys", bytes, plain, (uint64_t)bytes);
    print_way(figures, "raw: libzmq, CURVE", bytes, curve, (uint64_t)bytes);
    return STATUS_OK;
}

static const struct {
    const char *word, *name;
    enum load_way way;
    int over_wire;
} ways[] = {
    {"curve", "tcp://, CURVE, as from another host", LOAD_CURVE, 1},
    {"plain", "tcp://, insecure, as from another host", LOAD_PLAIN, 1},
    {"ipc", "ipc://, no file", LOAD_IPC, 1},
    {"file", "this host, the file (tcp://, CURVE)", LOAD_CURVE, 0},
    {"ipcfile", "this host, the file (ipc://)", LOAD_IPC, 0},
};

static int run_weights(int n, char **words)
{
    double gigabytes = n > 0 ? strtod(words[0], NULL) : 1;
    struct figures figures = {.n_workers = n > 1 ? (int)strtol(words[1], NULL, 10) : 8};
    const char *wanted = n > 2 ? words[2] : "curve plain ipc file ipcfile";

    if (!(gigabytes > 0) || figures.n_workers < 1 || figures.n_workers > LOAD_MAX_WORKERS)
        return status_fail(STATUS_CONFIG, "wanted GB above 0, 1 to %d workers", LOAD_MAX_WORKERS);
    figures.tensor_bytes = (size_t)(gigabytes * 1e9) / N_TENSORS / 2 * 2;
    printf("%.2f GB of weights to %d workers, from publish to the last acknowledgement\n"
           "%-60s  seconds  GB/s all   of raw  MiB travelled\n", gigabytes, figures.n_workers, "");
    TRY(bench_raw(&figures));
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        size_t length = strlen(ways[i].word);
        const char *at = strstr(wanted, ways[i].word);
        while (at && at[length] && at[length] != ' ')
            at = strstr(at + 1, ways[i].word);
        if (at)
            TRY(bench_way(&figures, ways[i].way, ways[i].over_wire, ways[i].name));
    }
    return STATUS_OK;
}

int main(int n, char **words)
{
    int status = STATUS_OK;

    if (n > 1 && strcmp(words[1], LOAD_WORKER) == 0)
        return load_worker_main(n, words);
    log_set_level(LOG_WARNING);
    if (n < 2 || strcmp(words[1], "groups") == 0)
        status = run_groups(n > 2 ? n - 2 : 0, words + 2);
    if (status == STATUS_OK && (n < 2 || strcmp(words[1], "weights") == 0))
        status = run_weights(n > 2 ? n - 2 : 0, words + 2);
    if (status < 0)
        fprintf(stderr, "bench_load: %s\n", status_reason());
    return status < 0;
}
