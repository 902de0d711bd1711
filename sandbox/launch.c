/*
 * Starts a cell and takes it down: socket, clone, ids, groups, "go", and then word from the cell
 * that its walls stand. Everything is undone on every path, whatever failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |     \
     CLONE_NEWCGROUP)
#define READY_MS 20000   /* an interpreter on a loaded machine takes its time */

const char *box_step_text(int step)
{
    static const char *const texts[] = {
#define X(name, text) text,
        BOX_STEP_MAP(X)
#undef X
    };

    return step >= 0 && (size_t)step < sizeof(texts) / sizeof(texts[0]) ? texts[step] : "?";
}

int box_fail_step(const struct box_report *failure)
{
    return status_fail(failure->error == EAGAIN || failure->error == ENOMEM ? STATUS_NOMEM
                                                                            : STATUS_UNSUPPORTED,
                       "sandbox: %s: %s: %s", box_step_text(failure->step),
                       strerror(failure->error),
                       failure->step <= BOX_STEP_HOST_NAME ? host_explain_refusal()
                                                           : "nothing was judged");
}

static int fail_on_purpose(int fault, enum launch_fault here)
{
    return fault == 1 + (int)here
               ? status_fail(STATUS_IO, "sandbox: failure %d was asked for", (int)here)
               : 0;
}

static int write_process_file(pid_t pid, const char *name, const char *text)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    int error = errno;
    close(fd);
    errno = error;
    return n < 0 ? -1 : 0;
}

/* Nobody outside (from root), a different nobody for each cell; or the caller's own. Never root's:
 * no process limit holds for that. */
static int choose_id(const struct box_host *host, enum cell_kind kind, int64_t *user,
                     int64_t *group)
{
    int64_t spare = host->first_id + ((int64_t)getpid() * N_CELLS + kind) %
                                         (host->n_ids > 0 ? host->n_ids : 1);

    *user = host->privileged ? spare : (int64_t)geteuid();
    *group = host->privileged ? spare : (int64_t)getegid();
    if (*user == 0)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: user id 0 is never given to a program: "
                                               "the caller changed its id, create a new sandbox");
    return 0;
}

static int write_id_maps(const struct box_host *host, pid_t pid, int64_t user, int64_t group)
{
    char users[64], groups[64];
    const char *failed = NULL;

    snprintf(users, sizeof(users), "%d %lld 1", BOX_ID, (long long)user);
    snprintf(groups, sizeof(groups), "%d %lld 1", BOX_ID, (long long)group);
    /* The kernel lets an ordinary user map a group only when setgroups() is denied. Root's cell
     * must drop its groups first, and its program has no capability to get them back. */
    if (!host->privileged && write_process_file(pid, "setgroups", "deny") < 0)
        failed = "setgroups";
    else if (write_process_file(pid, "gid_map", groups) < 0)
        failed = "gid_map";
    else if (write_process_file(pid, "uid_map", users) < 0)
        failed = "uid_map";
    if (failed)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: write %s of the user namespace: %s: %s",
                           failed, strerror(errno), host_explain_refusal());
    return 0;
}

/* Level 1 has no mounts: the compiler's directory is one of the host's, of the cell's user. */
static int make_directory(struct cell *cell, int64_t user, int64_t group)
{
    snprintf(cell->scratch, sizeof(cell->scratch), "/tmp/hone-sandbox-XXXXXX");
    if (!mkdtemp(cell->scratch)) {
        cell->scratch[0] = '\0';
        return status_fail(STATUS_IO, "sandbox: mkdtemp in /tmp: %s", strerror(errno));
    }
    if (geteuid() == 0 && chown(cell->scratch, (uid_t)user, (gid_t)group) < 0)
        return status_fail(STATUS_IO, "sandbox: chown %s: %s", cell->scratch, strerror(errno));
    return 0;
}

static int wait_until_ready(struct cell *cell)
{
    int64_t deadline_ms = clock_ms() + READY_MS;
    struct box_report report;

    for (;;) {
        struct pollfd ready = {cell->socket, POLLIN, 0};
        int64_t left = deadline_ms - clock_ms();
        int n = left > 0 ? poll(&ready, 1, (int)left) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return status_fail(STATUS_TIMEOUT,
                               "sandbox: a cell's walls were not up after %d ms: run fewer at once",
                               READY_MS);
        break;
    }
    int no_fds = 0;
    ssize_t n = rights_receive(cell->socket, &report, sizeof(report), NULL, &no_fds);
    if (n == (ssize_t)sizeof(report) && report.kind == BOX_REPORT_FAILED)
        return box_fail_step(&report);
    if (n != (ssize_t)sizeof(report) || report.kind != BOX_REPORT_READY)
        return status_fail(STATUS_FAILED, "sandbox: a cell died while it was made: look for the "
                                          "kernel's out-of-memory messages");
    return 0;
}

static int clone_cell(struct cell *cell, const struct box_host *host, int inner, int64_t outside,
                      int fault)
{
    /* Exit signal 0: nobody who waits for any child gets in between. */
    struct clone_args arguments = {.flags = (host->level > 1 ? NEW_NAMESPACES : 0) | CLONE_PIDFD,
                                   .pidfd = (uint64_t)(uintptr_t)&cell->pidfd};

    TRY(fail_on_purpose(fault, LAUNCH_CLONE));
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0)
        cell_live(host, cell->kind, inner, cell->scratch[0] ? cell->scratch : NULL, outside,
                  fault);
    if (pid < 0)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: new namespaces: %s: %s", strerror(errno),
                           host_explain_refusal());
    cell->pid = pid;
    return 0;
}

static int launch(struct cell *cell, const struct box_host *host, int ends[2], int fault)
{
    int64_t user, group;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        ends[0] = ends[1] = -1;
        return status_fail(STATUS_IO, "sandbox: socketpair: %s: raise the descriptor limit",
                           strerror(errno));
    }
    cell->socket = ends[0];
    TRY(choose_id(host, cell->kind, &user, &group));
    TRY(fail_on_purpose(fault, LAUNCH_GROUP));
    TRY(group_create(&cell->group, &host->groups));
    if (host->level == 1 && !host->privileged)
        cell->n_others = host_count_threads();
    if (host->level == 1 && cell->kind == CELL_COMPILE)
        TRY(make_directory(cell, user, group));
    TRY(clone_cell(cell, host, ends[1], user, fault));
    close(ends[1]);
    ends[1] = -1;
    TRY(fail_on_purpose(fault, LAUNCH_MAPS));
    if (host->level > 1)
        TRY(write_id_maps(host, cell->pid, user, group));
    TRY(group_join(&cell->group, cell->pid));
    /* Not a wall: when the whole machine runs out of memory, programs go before the caller. */
    (void)write_process_file(cell->pid, "oom_score_adj", "1000");
    if (rights_send(cell->socket, "g", 1, NULL, 0, NULL, 0) < 0)
        return status_fail(STATUS_FAILED, "sandbox: a cell died at once");
    return wait_until_ready(cell);
}

int cell_start(struct cell *cell, const struct box_host *host, enum cell_kind kind, int fault)
{
    int ends[2] = {-1, -1};

    *cell = (struct cell){.kind = kind,
                          .pidfd = -1,
                          .socket = -1,
                          .group = {.peak_fd = -1, .kills_fd = -1, .stall_fd = -1}};
    int status = launch(cell, host, ends, fault);
    if (status < 0) {
        if (ends[1] >= 0)
            close(ends[1]);
        cell_stop(cell);
    }
    return status;
}

/* The compiler's directory has no directories in it, and whoever made its files is dead. */
static void remove_scratch(struct cell *cell)
{
    if (cell->scratch[0])
        (void)file_remove_tree(cell->scratch);
    cell->scratch[0] = '\0';
}

void cell_stop(struct cell *cell)
{
    if (cell->pid > 0) {
        (void)syscall(SYS_pidfd_send_signal, cell->pidfd, SIGKILL, NULL, 0);
        while (waitpid(cell->pid, NULL, __WALL) < 0 && errno == EINTR)
            continue;
    }
    if (cell->pidfd >= 0)
        close(cell->pidfd);
    if (cell->socket >= 0)
        close(cell->socket);
    group_remove(&cell->group);
    remove_scratch(cell);
    cell->pid = 0;
    cell->pidfd = cell->socket = -1;
}
