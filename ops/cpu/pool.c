#include "ops/cpu/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/cores.h"
#include "common/memory.h"
#include "common/status.h"
#include "ops/cpu/kernels.h"

#define MAX_THREADS 256
#define SPIN_NS 100000   /* what lies between two loops of a decoding step is shorter */
#define SPIN_ROUND 32    /* pauses between looks at the clock */

/* The tasks of a thread that nobody has taken are one word, so that another takes one of the loop
 * that it has seen or none: loop number in the high 24 bits, then the end, then the next task. */
#define FIELD_BITS 20
#define FIELD_MASK ((UINT64_C(1) << FIELD_BITS) - 1)
#define MAX_TASKS ((int64_t)FIELD_MASK)

struct worker {
    struct pool *pool;
    pthread_t thread;
    int index;
};

struct share {
    _Alignas(64) _Atomic uint64_t left;
};

struct pool {
    int n_threads;   /* with the caller */
    struct worker *workers;
    void (*task)(void *argument, int64_t i, int thread);
    void *argument;
    int64_t n_tasks;
    _Alignas(64) _Atomic uint64_t loop;   /* how many there were */
    _Alignas(64) _Atomic int64_t n_done;
    _Alignas(64) _Atomic int n_asleep;
    _Atomic int caller_asleep, stopping;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    struct share shares[];   /* [n_threads] */
};

static int64_t next_of(uint64_t left)
{
    return (int64_t)(left & FIELD_MASK);
}

static int64_t end_of(uint64_t left)
{
    return (int64_t)(left >> FIELD_BITS & FIELD_MASK);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int has_work(struct pool *pool, uint64_t seen)
{
    return atomic_load(&pool->loop) != seen || atomic_load(&pool->stopping);
}

static int is_done(struct pool *pool, int64_t n_tasks)
{
    return atomic_load(&pool->n_done) == n_tasks;
}

/* The first task of a share, or the last; returns 0 when none is left. */
static int take_task(struct share *share, int last, int64_t *i)
{
    uint64_t left = atomic_load(&share->left);

    while (next_of(left) < end_of(left)) {
        uint64_t rest = last ? left - (UINT64_C(1) << FIELD_BITS) : left + 1;
        if (!atomic_compare_exchange_weak(&share->left, &left, rest))
            continue;
        *i = last ? end_of(rest) : next_of(left);
        return 1;
    }
    return 0;
}

/* Takes tasks until the loop has none left. A task taken is a loop not yet finished, so that
 * pool->task and what goes with it are that loop's. */
static void work_off(struct pool *pool, int thread)
{
    int64_t i;

    for (int k = 0; k < pool->n_threads; k++) {
        while (take_task(&pool->shares[(thread + k) % pool->n_threads], k > 0, &i)) {
            int64_t n_tasks = pool->n_tasks;
            pool->task(pool->argument, i, thread);
            if (atomic_fetch_add(&pool->n_done, 1) + 1 == n_tasks &&
                atomic_load(&pool->caller_asleep)) {
                pthread_mutex_lock(&pool->lock);
                pthread_cond_signal(&pool->done);
                pthread_mutex_unlock(&pool->lock);
            }
        }
    }
}

static void *run_worker(void *argument)
{
    struct worker *worker = argument;
    struct pool *pool = worker->pool;
    uint64_t seen = 0;

    while (!atomic_load(&pool->stopping)) {
        int64_t until = now_ns() + SPIN_NS;
        while (!has_work(pool, seen) && now_ns() < until)
            for (int i = 0; i < SPIN_ROUND && !has_work(pool, seen); i++)
                processor_relax();
        if (!has_work(pool, seen)) {
            pthread_mutex_lock(&pool->lock);
            atomic_fetch_add(&pool->n_asleep, 1);
            while (!has_work(pool, seen))
                pthread_cond_wait(&pool->work, &pool->lock);
            atomic_fetch_sub(&pool->n_asleep, 1);
            pthread_mutex_unlock(&pool->lock);
        }
        uint64_t loop = atomic_load(&pool->loop);
        if (loop != seen)
            work_off(pool, worker->index);
        seen = loop;
    }
    return NULL;
}

static void wait_until_done(struct pool *pool, int64_t n_tasks)
{
    int64_t until = now_ns() + SPIN_NS;

    while (!is_done(pool, n_tasks) && now_ns() < until)
        for (int i = 0; i < SPIN_ROUND && !is_done(pool, n_tasks); i++)
            processor_relax();
    if (is_done(pool, n_tasks))
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_asleep, 1);
    while (!is_done(pool, n_tasks))
        pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->caller_asleep, 0);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run(struct pool *pool, int64_t n_tasks,
              void (*task)(void *argument, int64_t i, int thread), void *argument)
{
    if (pool->n_threads == 1 || n_tasks <= 1 || n_tasks > MAX_TASKS) {
        for (int64_t i = 0; i < n_tasks; i++)
            task(argument, i, 0);
        return;
    }
    pool->task = task;
    pool->argument = argument;
    atomic_store(&pool->n_done, 0);
    pool->n_tasks = n_tasks;
    uint64_t loop = atomic_load(&pool->loop) + 1;
    int64_t n = pool->n_threads;
    for (int64_t i = 0; i < n; i++)
        atomic_store(&pool->shares[i].left, loop << (2 * FIELD_BITS) |
                                                (uint64_t)(n_tasks * (i + 1) / n) << FIELD_BITS |
                                                (uint64_t)(n_tasks * i / n));
    atomic_store(&pool->loop, loop);
    if (atomic_load(&pool->n_asleep) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->work);
        pthread_mutex_unlock(&pool->lock);
    }
    work_off(pool, 0);
    wait_until_done(pool, n_tasks);
}

int pool_create(struct pool **out, int n_threads)
{
    int n = n_threads ? n_threads : cores_usable();

    *out = NULL;
    if (n > MAX_THREADS)
        n = MAX_THREADS;
    struct pool *pool = NULL;
    void *memory = NULL;
    TRY(host_alloc(NULL, sizeof(*pool) + (size_t)n * sizeof(struct share), &memory));
    pool = memory;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->n_threads = 1;
    pool->workers = mem_alloc((size_t)n, sizeof(*pool->workers));
    for (int i = 1; i < n; i++) {
        struct worker *worker = &pool->workers[i];
        *worker = (struct worker){.pool = pool, .index = i};
        int error = pthread_create(&worker->thread, NULL, run_worker, worker);
        if (error) {
            pool_destroy(&pool);
            return status_fail(STATUS_NOMEM, "cpu: thread %d of %d: %s; ask for fewer threads", i,
                               n, strerror(error));
        }
        pool->n_threads = i + 1;
    }
    *out = pool;
    return STATUS_OK;
}

void pool_destroy(struct pool **pool)
{
    struct pool *p = *pool;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->stopping, 1);
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->lock);
    for (int i = 1; i < p->n_threads; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->work);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->workers);
    host_free(NULL, p);
    *pool = NULL;
}

int pool_n_threads(const struct pool *pool)
{
    return pool->n_threads;
}
