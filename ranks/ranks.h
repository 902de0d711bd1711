/*
 * ranks/ranks.h - the processes that train one policy together, each on its share of a batch.
 *
 * Whatever starts `hone run` N times, and says to each which one it is, starts N ranks. Rank 0 is
 * the coordinator; the others do what it orders.
 * Every function here but ranks_order_*() is collective: all ranks call it, in the same order, with
 * equal sizes. Sums are made in rank order, so that a run gives the same bytes every time.
 *
 * A NULL `ranks` is one rank alone: calls do nothing, and nothing of the result changes. Every wait
 * but that for the next order has a deadline; the error names the rank that did not come. After an
 * error nothing more can be sent: ranks_close() then ends all ranks.
 */
#ifndef HONE_RANKS_RANKS_H
#define HONE_RANKS_RANKS_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"
#include "ops/ops.h"

#define RANKS_MAX 1024

struct ranks;

/* What mpirun, srun, or RANK and WORLD_SIZE say of this process in its environment. */
struct ranks_world {
    int index, count;            /* count 1: it is alone */
    int has_mpi;                 /* what started it has brought MPI up */
    const char *launcher;
};
int ranks_find_world(struct ranks_world *world);
enum ranks_transport { RANKS_AUTO, RANKS_MPI, RANKS_ZMQ };
extern const char *const ranks_transports[];   /* "auto", ...; NULL-ended */
/* MPI or ZeroMQ, and why. */
enum ranks_transport ranks_choose(const struct ranks_world *world, enum ranks_transport wanted,
                                  char *why, size_t n_why);

struct wire_keys;
struct ranks_options {
    enum ranks_transport transport;   /* not RANKS_AUTO */
    int64_t timeout_ms;               /* until all are there; see ranks_set_timeout() */
    /* Of RANKS_ZMQ: as in struct wire_mesh_config. */
    const char *endpoint;
    const struct wire_keys *keys;
    const _Atomic int *stop;
};
/* *out stays NULL when the process is alone. After a failure it is to be closed all the same. */
int ranks_open(struct ranks **out, const struct ranks_world *world,
               const struct ranks_options *options);
/* With STATUS_OK all ranks part; with a failure, or after a broken call, all are ended: over MPI
 * this does not return then. Rank 0 has sent its last order before. */
void ranks_close(struct ranks **ranks, int status);

int ranks_index(const struct ranks *ranks);      /* 0 .. count - 1 */
int ranks_count(const struct ranks *ranks);      /* 1: alone */
/* Of those on this machine: for threads, and for the number of a GPU. */
int ranks_local_index(const struct ranks *ranks);
int ranks_local_count(const struct ranks *ranks);
const char *ranks_name(const struct ranks *ranks);   /* "rank 1 (host, pid 123)" */
void ranks_set_timeout(struct ranks *ranks, int64_t timeout_ms);
/* "Open MPI v4.1.4", "ZeroMQ 4.3.4 with CURVE". */
const char *ranks_describe(const struct ranks *ranks);

/* The device of this rank: "cuda" is the GPU of its number among the ranks of this machine; with 0
 * threads they share the cores. */
int ranks_open_device(const struct ranks *ranks, struct ops **out, const char *device,
                      int64_t threads);
/* How vectors on the device of `ops` travel: through host memory, or over NCCL from a GPU; until
 * ranks_leave_device(), which comes before ops_destroy(). */
int ranks_use_device(struct ranks *ranks, struct ops *ops);
void ranks_leave_device(struct ranks *ranks);

/* ---- Host memory. */
/* From rank 0 to the others, who wait for it as long as it takes. */
int ranks_order_send(struct ranks *ranks, const struct text *order);
int ranks_order_receive(struct ranks *ranks, struct text *order);
/* All ranks have done what it says, or have agreed that it failed. A rank that leaves an order
 * otherwise takes the others with it. */
void ranks_order_done(struct ranks *ranks);
/* From rank 0 to the others. */
int ranks_broadcast(struct ranks *ranks, void *bytes, size_t n);
/* From rank `from` to rank 0; the others do not call it. */
int ranks_bring(struct ranks *ranks, int from, void *bytes, size_t n);
/* Rank r has bytes [cuts[r], cuts[r + 1]); afterwards all have all. */
int ranks_gather(struct ranks *ranks, void *bytes, const size_t *cuts);
/* all[count][n]: `mine` of each rank. */
int ranks_share(struct ranks *ranks, const void *mine, void *all, size_t n);
/* STATUS_OK when all ranks bring it; else the failure of the first that does not, everywhere; then
 * rank 0 records it and ends the others, who wait for that. */
int ranks_agree(struct ranks *ranks, int status);
int ranks_have_agreed(const struct ranks *ranks);   /* on a failure */

/* ---- Vectors on the device, begun in the same order by all; any number is under way, until end.
 * Slice r, [cuts[r], cuts[r + 1]) of data, belongs to rank r. */
/* On its owner a slice becomes the sum over all ranks; elsewhere it is of no use afterwards. With
 * is_bf16 what travels is rounded to bfloat16. */
int ranks_sum_begin(struct ranks *ranks, float *data, const size_t *cuts, int is_bf16);
int ranks_sum_end(struct ranks *ranks);
/* Every slice as its owner has it, everywhere. */
int ranks_spread_begin(struct ranks *ranks, float *data, const size_t *cuts);
int ranks_spread_end(struct ranks *ranks);

/* For `hone doctor`: whether ranks could be started here. */
int ranks_find_mpi(char *out, size_t n_out);    /* 1: found; what, or why not */
int ranks_find_nccl(char *out, size_t n_out);

#endif
