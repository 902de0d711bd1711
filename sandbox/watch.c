/*
 * The caller's side while a box lives: reads its output and keeps the clock. The reason of an end
 * is latched first; then init is asked to end all and to report what was used; an init that does
 * not is killed, which takes every process of the box with it.
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
#define ASK_MS 500           /* for init to kill, reap and report */
#define DEATH_MS 1000        /* a killed box that lives longer is stuck in the kernel */
#define BLOCK_BYTES 65536

enum watch_phase { RUNNING, ASKED, KILLED };

static void ask_to_end(struct box_watch *watch, enum sandbox_verdict reason)
{
    if (watch->latched == SANDBOX_EXITED)
        watch->latched = reason;
    /* Not close(): a box that another thread starts now may hold a copy. */
    shutdown(watch->go_fd, SHUT_RDWR);
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
        ask_to_end(watch, SANDBOX_OUTPUT_LIMIT);
    return !over;
}

static int read_report(struct box_watch *watch)
{
    struct box_report report;
    ssize_t n = read(watch->status_fd, &report, sizeof(report));

    if (n == 0) {
        close(watch->status_fd);
        watch->status_fd = -1;
    }
    if (n != (ssize_t)sizeof(report))
        return n < 0 && errno == EINTR;
    switch (report.kind) {
    case BOX_REPORT_STARTED:
        watch->started = 1;
        break;
    case BOX_REPORT_FAILED:
        watch->failure = report;
        break;
    case BOX_REPORT_CPU:
        if (watch->latched == SANDBOX_EXITED)
            watch->latched = SANDBOX_CPU_LIMIT;
        break;
    case BOX_REPORT_ENDED:
        watch->end = report;
        watch->ended = 1;
        break;
    }
    return 1;
}

/* Everyone is dead: what is in the pipes is all there is. Their ends may still be open in a box
 * that another thread starts at this moment, so nobody waits for an end of file. */
static void drain(struct box_watch *watch, struct sandbox_result *result)
{
    while (read_report(watch))
        continue;
    while (read_output(watch, &watch->output_fd, &result->output, 0))
        continue;
    while (read_output(watch, &watch->errors_fd, &result->errors, 1))
        continue;
}

/* The next step after the deadline of this one; 1 when there is none. */
static int escalate(struct box_watch *watch, enum watch_phase *phase)
{
    switch (*phase) {
    case RUNNING:
        ask_to_end(watch, SANDBOX_WALL_LIMIT);
        *phase = ASKED;
        watch->deadline_ms = clock_ms() + ASK_MS;
        return 0;
    case ASKED:
        (void)syscall(SYS_pidfd_send_signal, watch->pidfd, SIGKILL, NULL, 0);
        *phase = KILLED;
        watch->deadline_ms = clock_ms() + DEATH_MS;
        return 0;
    case KILLED:
        break;
    }
    return 1;
}

int box_watch(struct box_watch *watch, struct sandbox_result *result)
{
    enum watch_phase phase = RUNNING;

    for (;;) {
        struct pollfd ready[4] = {{watch->pidfd, POLLIN, 0},
                                  {watch->status_fd, POLLIN, 0},
                                  {watch->output_fd, POLLIN, 0},
                                  {watch->errors_fd, POLLIN, 0}};
        int64_t left = watch->deadline_ms - clock_ms();
        if (left <= 0 || (phase == RUNNING && watch->latched == SANDBOX_OUTPUT_LIMIT)) {
            if (escalate(watch, &phase))
                return status_fail(STATUS_TIMEOUT,
                                   "sandbox: a killed box, process %d, does not die: is the disk "
                                   "or the memory of this machine stuck?",
                                   (int)watch->pid);
            continue;
        }
        /* Once asked to end, what it still writes is left to drain(). */
        nfds_t n = phase == RUNNING ? 4 : 1;
        if (poll(ready, n, left > 60000 ? 60000 : (int)left) < 0 && errno != EINTR)
            return status_fail(STATUS_IO, "sandbox: poll: %s", strerror(errno));
        if (ready[0].revents)
            break;
        if (ready[1].revents)
            read_report(watch);
        if (ready[2].revents)
            read_output(watch, &watch->output_fd, &result->output, 0);
        if (ready[3].revents)
            read_output(watch, &watch->errors_fd, &result->errors, 1);
    }
    drain(watch, result);
    return 0;
}
