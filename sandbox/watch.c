/*
 * The attendant's side while a run lives: reads its output and keeps the clock. The reason of an
 * end is latched first; then init is asked to end all and to report what was used; an init that
 * does not is killed with its cell, which takes every process along.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define ERRORS_FLOOD 16      /* times output_bytes that may go to stderr */
#define ASK_MS 1500          /* for init to kill, reap and report: 128 MB take 10 ms */
#define DEATH_MS 2000        /* a killed cell that lives longer is stuck in the kernel */
#define CPU_POLL_MS 10
#define FIRST_LOOK_MS 2      /* at output: most runs are over by then, and it waits in its pipes */
#define WAITING_MAX 10       /* times the wall limit that is forgiven */
#define BLOCK_BYTES 65536

enum watch_phase { RUNNING, ASKED, KILLED };

static void latch(struct box_watch *watch, enum sandbox_verdict reason)
{
    if (watch->latched == SANDBOX_EXITED)
        watch->latched = reason;
}

static void ask_to_end(struct box_watch *watch, enum watch_phase *phase)
{
    if (*phase != RUNNING)
        return;
    (void)send(watch->cell->socket, "s", 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    *phase = ASKED;
    watch->deadline_ms = clock_ms() + ASK_MS;
}

/* Appends what fits below text->maximum; 1 when some did not. */
static int append_bounded(struct text *text, const char *bytes, size_t n)
{
    size_t room = text->maximum - text->length;

    text_append(text, bytes, n < room ? n : room);
    return n > room;
}

/* One block of a pipe; 0 at its end, when empty, and over a limit. */
static int read_output(struct box_watch *watch, int *fd, struct text *text, int is_errors)
{
    char block[BLOCK_BYTES];
    ssize_t n = *fd < 0 ? -1 : read(*fd, block, sizeof(block));

    if (n < 0)
        return errno == EINTR && *fd >= 0;
    if (n == 0) {
        close(*fd);
        *fd = -1;
        return 0;
    }
    int over = append_bounded(text, block, (size_t)n);
    if (is_errors) {
        watch->n_errors += n;
        over = watch->n_errors / ERRORS_FLOOD > watch->output_bytes;
    }
    if (over)
        latch(watch, SANDBOX_OUTPUT_LIMIT);
    return !over;
}

static void read_report(struct box_watch *watch)
{
    struct box_report report;
    int no_fds = 0;
    ssize_t n = rights_receive(watch->cell->socket, &report, sizeof(report), NULL, &no_fds);

    if (n != (ssize_t)sizeof(report)) {
        watch->dead = 1;
        return;
    }
    switch (report.kind) {
    case BOX_REPORT_FAILED:
        watch->failure = report;
        watch->ended = 1;
        break;
    case BOX_REPORT_CPU:
        latch(watch, SANDBOX_CPU_LIMIT);
        break;
    case BOX_REPORT_ENDED:
        watch->end = report;
        watch->ended = 1;
        break;
    }
}

/* Everyone is dead: what is in the pipes is all there is. */
static void drain(struct box_watch *watch, struct sandbox_result *result)
{
    while (read_output(watch, &watch->output_fd, &result->output, 0))
        continue;
    while (read_output(watch, &watch->errors_fd, &result->errors, 1))
        continue;
    while (read_output(watch, &watch->answer_fd, &result->answer, 0))
        continue;
}

/* Time that a run spends waiting for a core is not its own. It cannot be stretched without end: a
 * run makes itself wait only while it uses the core, and that has a limit. 1: there was some. */
static int forgive_waiting(struct box_watch *watch)
{
    int64_t waited_ms = group_stall_us(&watch->cell->group) / 1000;

    if (waited_ms > WAITING_MAX * watch->wall_ms)
        waited_ms = WAITING_MAX * watch->wall_ms;
    if (waited_ms <= watch->waited_ms)
        return 0;
    watch->deadline_ms += waited_ms - watch->waited_ms;
    watch->waited_ms = waited_ms;
    return 1;
}

/* The next step after the deadline of this one; 1 when there is none. */
static int escalate(struct box_watch *watch, enum watch_phase *phase)
{
    switch (*phase) {
    case RUNNING:
        if (forgive_waiting(watch))
            return 0;
        latch(watch, SANDBOX_WALL_LIMIT);
        ask_to_end(watch, phase);
        return 0;
    case ASKED:
        (void)syscall(SYS_pidfd_send_signal, watch->cell->pidfd, SIGKILL, NULL, 0);
        *phase = KILLED;
        watch->deadline_ms = clock_ms() + DEATH_MS;
        return 0;
    case KILLED:
        break;
    }
    return 1;
}

static int time_to_wait(const struct box_watch *watch, enum watch_phase phase, int looks)
{
    int64_t left = watch->deadline_ms - clock_ms();

    if (looks == 0 && left > FIRST_LOOK_MS)
        return FIRST_LOOK_MS;
    if (watch->check_cpu && phase == RUNNING && left > CPU_POLL_MS)
        return CPU_POLL_MS;
    return left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
}

static void check_cpu(struct box_watch *watch)
{
    if (watch->check_cpu && group_cpu_us(&watch->cell->group) > watch->cpu_limit_us)
        latch(watch, SANDBOX_CPU_LIMIT);
}

static void read_ready(struct box_watch *watch, const struct pollfd *ready,
                       struct sandbox_result *result)
{
    if (ready[2].revents)
        read_output(watch, &watch->output_fd, &result->output, 0);
    if (ready[3].revents)
        read_output(watch, &watch->errors_fd, &result->errors, 1);
    if (ready[4].revents)
        read_output(watch, &watch->answer_fd, &result->answer, 0);
    if (ready[1].revents) {   /* the caller has nothing to say while it waits: it is gone */
        watch->caller_gone = 1;
        latch(watch, SANDBOX_WALL_LIMIT);
    }
    if (ready[0].revents)
        read_report(watch);
}

int box_watch(struct box_watch *watch, struct sandbox_result *result)
{
    enum watch_phase phase = RUNNING;
    int looks = 0;

    while (!watch->ended && !watch->dead) {
        struct pollfd ready[5] = {{watch->cell->socket, POLLIN, 0},
                                  {watch->channel, POLLIN, 0},
                                  {watch->output_fd, POLLIN, 0},
                                  {watch->errors_fd, POLLIN, 0},
                                  {watch->answer_fd, POLLIN, 0}};
        if (watch->deadline_ms <= clock_ms() && escalate(watch, &phase))
            return status_fail(STATUS_TIMEOUT,
                               "sandbox: a killed cell, process %d, does not die: is the disk or "
                               "the memory of this machine stuck?",
                               (int)watch->cell->pid);
        /* Once asked to end, what it still writes is left to drain(). */
        nfds_t n = phase != RUNNING ? 1 : looks == 0 ? 2 : 5;
        if (poll(ready, n, time_to_wait(watch, phase, looks++)) < 0 && errno != EINTR)
            return status_fail(STATUS_IO, "sandbox: poll: %s", strerror(errno));
        for (nfds_t i = n; i < 5; i++)
            ready[i].revents = 0;
        read_ready(watch, ready, result);
        check_cpu(watch);
        if (watch->latched != SANDBOX_EXITED)
            ask_to_end(watch, &phase);
    }
    drain(watch, result);
    return 0;
}
