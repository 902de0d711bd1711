/*
 * bench/load.h - the coordinator's exchange under load: real wire, real leases, workers whose
 * policy answers at once. What `make bench-load` and tests/integration/integration_load.c share.
 *
 * Workers are processes: the program starts itself again with LOAD_WORKER as its first word.
 */
#ifndef HONE_BENCH_LOAD_H
#define HONE_BENCH_LOAD_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "pipeline/exchange.h"

#define LOAD_WORKER "load-worker"
#define LOAD_MAX_WORKERS 256
#define LOAD_TOKENS 16

/* Seen by all processes of a load. */
struct load_shared {
    atomic_int holds;                /* answer nothing until n_ready is so much; 0: at once */
    atomic_int n_ready;              /* workers that have taken the newest image over */
    atomic_ullong bytes[LOAD_MAX_WORKERS];   /* of WEIGHTS that came, since the start */
    atomic_int by_file[LOAD_MAX_WORKERS];    /* the newest image came as a file */
};

enum load_way { LOAD_CURVE, LOAD_PLAIN, LOAD_IPC };   /* tcp:// with keys, without, ipc:// */

struct load {
    char directory[64];              /* of keys, sockets and what is shared; "" when closed */
    struct load_shared *shared;
    struct exchange *exchange;
    int n_workers;
    pid_t pids[LOAD_MAX_WORKERS];
    uint64_t n_groups;               /* that came, checked and counted once */
    uint32_t version;
    struct arena arena;
};
/* Starts an exchange and its workers. With `over_wire` workers do not see that they share a host:
 * the weights travel. The machinery's own memory is what the caller measures from here on. */
int load_open(struct load *load, enum load_way way, int n_workers, int over_wire);
void load_close(struct load *load);
/* main() of a worker process. */
int load_worker_main(int n, char **words);

/* Publishes; *seconds until all workers have acknowledged it. Takes the image over. */
int load_publish(struct load *load, struct file_map *image, double *seconds);
/* An image of safetensors, n_tensors of tensor_bytes. Tensors from `first_changed` on depend on
 * `salt`. Sparse unless `is_solid`: a mark in each MiB, holes between. */
int load_make_image(struct file_map *image, size_t n_tensors, size_t tensor_bytes,
                    size_t first_changed, uint64_t salt, int is_solid);
uint64_t load_bytes_taken(const struct load *load);   /* of WEIGHTS, by all workers */

/* Groups of 4 samples of LOAD_TOKENS tokens, in jobs of `per_step`. Seconds from lease to group
 * are added to the histogram. A group that is missing, doubled or another's is a failure. */
#define LOAD_BUCKETS 512             /* 16 to a factor of two, from 1 us on */
struct load_latency {
    uint64_t counts[LOAD_BUCKETS], n;
};
double load_quantile(const struct load_latency *latency, double share);   /* seconds */
int load_run(struct load *load, uint64_t n_groups, size_t per_step, struct load_latency *latency);

/* Of a process: resident bytes that are its own, and open descriptors. */
size_t load_resident(pid_t pid);
int load_descriptors(pid_t pid);

/* load_raw.c: the same bytes to n readers in processes, over plain sockets of 127.0.0.1 and by
 * libzmq alone; seconds, or below 0 when it did not work. */
double load_raw_tcp(const struct file_map *bytes, int n_readers);
double load_raw_zmq(const struct file_map *bytes, int n_readers, int is_curve);

#endif
