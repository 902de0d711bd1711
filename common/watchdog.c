#include "common/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"

#define TICK_MS 500
#define REPORT_SECONDS 15   /* then the process ends without the rest of it */

static _Atomic uint64_t n_pulses;
static _Atomic(const char *) doing_now = "begins";

struct watchdog {
    const struct watchdog_options *options;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    int is_ending;
};

void pulse(const char *doing)
{
    if (doing)
        atomic_store_explicit(&doing_now, doing, memory_order_relaxed);
    /* Two threads may count as one: what is asked is whether it changed. */
    uint64_t n = atomic_load_explicit(&n_pulses, memory_order_relaxed);
    atomic_store_explicit(&n_pulses, n + 1, memory_order_relaxed);
}

/* What the process holds may hold the report up as well: locked memory, a disk that hangs. */
static void end_at_once(int number)
{
    (void)number;
    _exit(status_exit_code(STATUS_STUCK));
}

static void limit_report(void)
{
    struct sigaction action = {.sa_handler = end_at_once};
    sigset_t only;

    sigemptyset(&action.sa_mask);
    sigaction(SIGALRM, &action, NULL);
    sigemptyset(&only);
    sigaddset(&only, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &only, NULL);
    alarm(REPORT_SECONDS);
}

static void print_description(int fd, const struct watchdog_options *options)
{
    struct text text = {.maximum = (size_t)4 << 20};

    options->describe(&text, options->context);
    if (text.length && write(fd, text.data, text.length) < 0)
        dprintf(fd, "(the rest cannot be written)\n");
    text_release(&text);
}

__attribute__((noreturn)) static void report_and_end(const struct watchdog_options *options)
{
    const char *doing = atomic_load(&doing_now);
    char why[256];
    int fd = -1;

    limit_report();
    snprintf(why, sizeof(why), "%s: no step forward for %lld ms (%s)", doing,
             (long long)options->stuck_ms, options->setting);
    if (options->report)
        fd = open(options->report, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    int out = fd < 0 ? STDERR_FILENO : fd;
    dprintf(out, "%s\n", why);
    stacks_print(out);
    if (options->describe)
        print_description(out, options);
    if (fd >= 0)
        fsync(fd);
    dprintf(STDERR_FILENO, "hone: %s; %s has the stacks\n", why,
            fd >= 0 ? options->report : "what stands above");
    _exit(status_exit_code(STATUS_STUCK));
}

/* Waits one tick; how long it took, but of a process that stood still only what a tick takes. */
static int64_t wait_a_tick(struct watchdog *watchdog, int64_t tick_ms)
{
    int64_t before = clock_ms();
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_sec += (end.tv_nsec / 1000000 + tick_ms) / 1000;
    end.tv_nsec = (end.tv_nsec / 1000000 + tick_ms) % 1000 * 1000000;
    while (!watchdog->is_ending &&
           pthread_cond_timedwait(&watchdog->wake, &watchdog->mutex, &end) != ETIMEDOUT)
        continue;
    int64_t took = clock_ms() - before;
    return took < 2 * tick_ms ? took : tick_ms;
}

static void *watch(void *argument)
{
    struct watchdog *watchdog = argument;
    int64_t stuck_ms = watchdog->options->stuck_ms, unmoved_ms = 0;
    int64_t tick_ms = stuck_ms < 8 * TICK_MS ? stuck_ms / 8 + 1 : TICK_MS;
    uint64_t seen = 0;

    pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->is_ending) {
        int64_t took = wait_a_tick(watchdog, tick_ms);
        uint64_t n = atomic_load(&n_pulses);
        unmoved_ms = n == seen ? unmoved_ms + took : 0;
        seen = n;
        if (unmoved_ms >= stuck_ms && !watchdog->is_ending)
            report_and_end(watchdog->options);
    }
    pthread_mutex_unlock(&watchdog->mutex);
    return NULL;
}

int watchdog_start(struct watchdog **out, const struct watchdog_options *options)
{
    struct watchdog *watchdog = mem_alloc(1, sizeof(*watchdog));
    pthread_condattr_t attributes;

    *out = NULL;
    watchdog->options = options;
    pthread_mutex_init(&watchdog->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    int status = stacks_prepare();
    int error = status < 0 ? 0 : pthread_create(&watchdog->thread, NULL, watch, watchdog);
    if (error)
        status = status_fail(STATUS_IO, "cannot start a thread: %s", strerror(error));
    if (status < 0) {
        pthread_cond_destroy(&watchdog->wake);
        pthread_mutex_destroy(&watchdog->mutex);
        mem_free(watchdog);
        return status;
    }
    *out = watchdog;
    return STATUS_OK;
}

void watchdog_stop(struct watchdog **watchdog)
{
    struct watchdog *old = *watchdog;

    *watchdog = NULL;
    if (!old)
        return;
    pthread_mutex_lock(&old->mutex);
    old->is_ending = 1;
    pthread_cond_signal(&old->wake);
    pthread_mutex_unlock(&old->mutex);
    pthread_join(old->thread, NULL);
    pthread_cond_destroy(&old->wake);
    pthread_mutex_destroy(&old->mutex);
    mem_free(old);
}
