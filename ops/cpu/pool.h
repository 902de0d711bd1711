/*
 * ops/cpu/pool.h - a few threads that share the tasks of one loop at a time. Private to ops/cpu/.
 *
 * pool_run() hands out task numbers 0 .. n_tasks-1; the caller works too and returns when all are
 * done. Each thread begins with a part of the numbers, as many as others and in order, then takes
 * the last ones of others' parts: what neighbours in number touch stays in one core's caches from
 * loop to loop. A thread that the system does not run takes no task, so that a busy machine slows a
 * loop down but never stalls it behind a sleeping worker. Results must not depend on which thread
 * runs a task: `thread` (0 is the caller) may choose scratch memory and nothing else.
 */
#ifndef HONE_OPS_CPU_POOL_H
#define HONE_OPS_CPU_POOL_H

#include <stdint.h>

struct pool;

int pool_create(struct pool **out, int n_threads);   /* 0: one per core this process may use */
void pool_destroy(struct pool **pool);
int pool_n_threads(const struct pool *pool);

/* Only the thread that created the pool may call this, and not from within a task. */
void pool_run(struct pool *pool, int64_t n_tasks,
              void (*task)(void *argument, int64_t i, int thread), void *argument);

#endif
