/*
 * What travels between learner ranks: sums of gradients to their owners, weights to all, small
 * figures to all. Each rank is one process of it, as hone's are:
 *
 *     mpirun -n 2 --bind-to none build/release/bench/bench_ranks mpi
 *     for r in 1 0; do RANK=$r WORLD_SIZE=2 build/release/bench/bench_ranks ipc:///tmp/ranks & done
 *     ... bench_ranks tcp://127.0.0.1:29500 KEYS     # a folder that `hone keys KEYS` has made
 */
#include <stdio.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "ranks/ranks.h"
#include "wire/wire.h"

#define N_FLOATS ((size_t)16 << 20)      /* 64 MiB, in buckets of 16 */
#define BUCKET ((size_t)4 << 20)
#define N_ROUNDS 10
#define N_SMALL 300

static int open_ranks(struct ranks **ranks, const char *endpoint, const char *keys)
{
    struct wire_keys pair = {.insecure = 0};
    struct ranks_world world;
    char path[FILE_PATH_MAX];

    TRY(ranks_find_world(&world));
    const struct ranks_options options = {
        .transport = strcmp(endpoint, "mpi") == 0 ? RANKS_MPI : RANKS_ZMQ,
        .timeout_ms = 60000,
        .endpoint = endpoint,
        .keys = &pair,
    };
    if (keys) {
        TRY(file_join(path, keys, WIRE_WORKER_KEY));
        TRY(world.index ? wire_keys_read(&pair, path) : wire_keys_read_hub(&pair, keys));
    }
    return ranks_open(ranks, &world, &options);
}

/* Slices of every bucket. */
static void cut(size_t *cuts, size_t first, int count)
{
    for (int r = 0; r <= count; r++)
        cuts[r] = first + BUCKET * (size_t)r / (size_t)count;
}

static int sum_and_spread(struct ranks *ranks, float *data, double seconds[2])
{
    size_t cuts[N_FLOATS / BUCKET][RANKS_MAX + 1];
    double begun = clock_seconds();

    for (size_t b = 0; b < N_FLOATS / BUCKET; b++) {
        cut(cuts[b], b * BUCKET, ranks_count(ranks));
        TRY(ranks_sum_begin(ranks, data, cuts[b], 0));
    }
    TRY(ranks_sum_end(ranks));
    seconds[0] += clock_seconds() - begun;
    begun = clock_seconds();
    for (size_t b = 0; b < N_FLOATS / BUCKET; b++)
        TRY(ranks_spread_begin(ranks, data, cuts[b]));
    TRY(ranks_spread_end(ranks));
    seconds[1] += clock_seconds() - begun;
    return STATUS_OK;
}

static int measure(struct ranks *ranks, float *data)
{
    double seconds[2] = {0}, mine = 0, all[RANKS_MAX], begun;
    double bytes = N_ROUNDS * (double)(N_FLOATS * sizeof(float)) * (ranks_count(ranks) - 1) /
                   ranks_count(ranks);

    TRY(sum_and_spread(ranks, data, seconds));
    seconds[0] = seconds[1] = 0;
    for (int i = 0; i < N_ROUNDS; i++)
        TRY(sum_and_spread(ranks, data, seconds));
    begun = clock_seconds();
    for (int i = 0; i < N_SMALL; i++)
        TRY(ranks_share(ranks, &mine, all, sizeof(mine)));
    begun = clock_seconds() - begun;
    if (ranks_index(ranks) == 0)
        printf("%s, %d ranks: sums %.0f MB/s, weights %.0f MB/s sent by each; 8 bytes of each to "
               "all %.0f us\n", ranks_describe(ranks), ranks_count(ranks), bytes / seconds[0] / 1e6,
               bytes / seconds[1] / 1e6, begun / N_SMALL * 1e6);
    return STATUS_OK;
}

static int run(struct ranks *ranks)
{
    float *data = mem_alloc(N_FLOATS, sizeof(*data));
    struct ops *ops;

    TRY(ops_create(&ops, "cpu", 1));
    int status = ranks_use_device(ranks, ops);
    if (status == STATUS_OK)
        status = measure(ranks, data);
    ranks_leave_device(ranks);
    ops_destroy(&ops);
    mem_free(data);
    return status;
}

int main(int argc, char **argv)
{
    struct ranks *ranks = NULL;

    if (argc < 2) {
        fprintf(stderr, "usage: bench_ranks mpi|ENDPOINT [KEYS], as one of several ranks\n");
        return 2;
    }
    int status = open_ranks(&ranks, argv[1], argv[2]);
    if (status == STATUS_OK && !ranks)
        status = status_fail(STATUS_CONFIG, "this is one process; set RANK and WORLD_SIZE");
    if (status == STATUS_OK)
        status = run(ranks);
    if (status < 0)
        fprintf(stderr, "bench_ranks: %s\n", status_reason());
    ranks_close(&ranks, status);
    return status_exit_code(status);
}
