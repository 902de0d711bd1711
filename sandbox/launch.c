/*
 * Makes one box: pipes, clone, ids, groups, "go"; then watches it and takes it down. Everything
 * is undone on every path, whatever failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define NEW_NAMESPACES                                                                             \
    (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS |     \
     CLONE_NEWCGROUP)

enum pipe_name { PIPE_OUTPUT, PIPE_ERRORS, PIPE_STATUS, PIPE_GO, N_PIPES };

struct launch {
    int pipes[N_PIPES][2];   /* -1 when closed */
    struct run_group group;
    pid_t pid;               /* 0: none to reap */
    int pidfd;
    struct rusage usage;     /* of the whole box, once reaped */
};

static _Atomic unsigned box_counter;

static const char *step_text(int step)
{
    static const char *const texts[] = {
#define X(name, text) text,
        BOX_STEP_MAP(X)
#undef X
    };

    return step >= 0 && (size_t)step < sizeof(texts) / sizeof(texts[0]) ? texts[step] : "?";
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int open_pipes(struct launch *launch)
{
    for (int i = 0; i < N_PIPES; i++) {
        /* "Go" is a socket, because a write to an init that died must not raise SIGPIPE. */
        int failed = i == PIPE_GO ? socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
                                               launch->pipes[i])
                                  : pipe2(launch->pipes[i], O_CLOEXEC);
        if (failed < 0) {
            launch->pipes[i][0] = launch->pipes[i][1] = -1;
            return status_fail(STATUS_IO, "sandbox: pipe: %s: raise the descriptor limit",
                               strerror(errno));
        }
        if (i != PIPE_GO && fcntl(launch->pipes[i][0], F_SETFL, O_NONBLOCK) < 0)
            return status_fail(STATUS_IO, "sandbox: fcntl: %s", strerror(errno));
    }
    return 0;
}

static int clone_init(struct launch *launch, struct box_plan *plan)
{
    /* Exit signal 0: neither a caller that ignores SIGCHLD nor one that waits for any child gets
     * in between. */
    struct clone_args arguments = {.flags = NEW_NAMESPACES | CLONE_PIDFD,
                                   .pidfd = (uint64_t)(uintptr_t)&launch->pidfd};
    sigset_t all, before;

    plan->fd[BOX_STDOUT] = launch->pipes[PIPE_OUTPUT][1];
    plan->fd[BOX_STDERR] = launch->pipes[PIPE_ERRORS][1];
    plan->fd[BOX_STATUS] = launch->pipes[PIPE_STATUS][1];
    plan->fd[BOX_GO] = launch->pipes[PIPE_GO][0];
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid == 0)
        box_live(plan);
    int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pid < 0)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: new namespaces: %s: %s", strerror(error),
                           host_explain_refusal());
    launch->pid = pid;
    return 0;
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

/* One id inside; outside it is nobody's (from root) or the caller's own, and never root's: no
 * process limit holds for that. */
static int write_id_maps(const struct sandbox *sandbox, pid_t pid)
{
    int64_t spare = 0;
    char users[64], groups[64];

    if (sandbox->privileged)
        spare = sandbox->first_id + atomic_fetch_add(&box_counter, 1) % sandbox->n_ids;
    long long user = sandbox->privileged ? spare : (long long)geteuid();
    long long group = sandbox->privileged ? spare : (long long)getegid();
    if (user == 0)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: user id 0 is never given to a program: "
                                               "the caller changed its id, create a new sandbox");
    snprintf(users, sizeof(users), "%d %lld 1", BOX_ID, user);
    snprintf(groups, sizeof(groups), "%d %lld 1", BOX_ID, group);
    /* The kernel lets an ordinary user map a group only when setgroups() is denied. Root's init
     * must drop its groups first, and its program has no capability to get them back. */
    const char *failed = NULL;
    if (!sandbox->privileged && write_process_file(pid, "setgroups", "deny") < 0)
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

static int start_box(struct sandbox *sandbox, struct box_plan *plan, struct launch *launch)
{
    TRY(open_pipes(launch));
    TRY(group_create(&launch->group, &sandbox->groups, plan->memory_bytes, plan->processes));
    TRY(clone_init(launch, plan));
    for (int i = 0; i < PIPE_GO; i++)
        close_end(&launch->pipes[i][1]);
    close_end(&launch->pipes[PIPE_GO][0]);
    TRY(write_id_maps(sandbox, launch->pid));
    TRY(group_join(&launch->group, launch->pid));
    /* Not a wall: when the whole machine runs out of memory, the program goes before the caller. */
    (void)write_process_file(launch->pid, "oom_score_adj", "1000");
    ssize_t n;
    do
        n = send(launch->pipes[PIPE_GO][1], "g", 1, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return 0;   /* an init that died already shows in its reports */
}

static void take_down(struct launch *launch)
{
    if (launch->pid > 0) {
        (void)syscall(SYS_pidfd_send_signal, launch->pidfd, SIGKILL, NULL, 0);
        while (wait4(launch->pid, NULL, __WALL, &launch->usage) < 0 && errno == EINTR)
            continue;
        launch->pid = 0;
    }
    close_end(&launch->pidfd);
    for (int i = 0; i < N_PIPES; i++) {
        close_end(&launch->pipes[i][0]);
        close_end(&launch->pipes[i][1]);
    }
}

static int64_t milliseconds(const struct rusage *usage)
{
    return (int64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000 +
           (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) / 1000;
}

/* Without a memory group the kernel does not say why an allocation failed. A program that ended
 * badly close to its limit is taken to have ended for that. */
static int ran_out_of_memory(const struct box_plan *plan, const struct launch *launch,
                             const struct box_watch *watch)
{
    if (group_oom_kills(&launch->group) > 0)
        return 1;
    return plan->limit_address_space && watch->ended && watch->end.wait_status != 0 &&
           watch->end.peak_bytes >= plan->memory_bytes / 8 * 7;
}

static void judge_end(const struct box_plan *plan, const struct launch *launch,
                      const struct box_watch *watch, struct sandbox_result *result)
{
    int status = watch->ended ? watch->end.wait_status : 0;

    result->cpu_ms = watch->ended ? watch->end.cpu_us / 1000 : milliseconds(&launch->usage);
    int64_t peak = group_peak_bytes(&launch->group);
    result->peak_bytes = peak ? peak : watch->end.peak_bytes;
    result->signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    if (result->signal == SIGSYS)
        result->verdict = SANDBOX_VIOLATION;
    else if (watch->latched == SANDBOX_OUTPUT_LIMIT)
        result->verdict = SANDBOX_OUTPUT_LIMIT;
    else if (ran_out_of_memory(plan, launch, watch))
        result->verdict = SANDBOX_MEMORY_LIMIT;
    else if (watch->latched != SANDBOX_EXITED)
        result->verdict = watch->latched;
    else if (result->cpu_ms > plan->cpu_ms)
        result->verdict = SANDBOX_CPU_LIMIT;
    else
        result->verdict = result->signal ? SANDBOX_SIGNALED : SANDBOX_EXITED;
}

/* Why execveat() refused: bytes that are no program, or an interpreter that is not there, against
 * a shortage of the host's. */
static int is_fault_of_program(int error)
{
    return error != ENOMEM && error != EAGAIN && error != EMFILE && error != ENFILE &&
           error != EBADF && error != EFAULT && error != ENOSYS && error != EPERM;
}

/* 0 when the box is to be believed. */
static int check_reports(const struct box_plan *plan, const struct launch *launch,
                         const struct box_watch *watch, struct box_outcome *outcome)
{
    if (watch->failure.kind && watch->failure.step == BOX_STEP_EXEC && plan->kind == BOX_RUN &&
        is_fault_of_program(watch->failure.error)) {
        outcome->exec_error = watch->failure.error;
        return 0;
    }
    if (watch->failure.kind)
        return status_fail(watch->failure.error == EAGAIN || watch->failure.error == ENOMEM
                               ? STATUS_NOMEM
                               : STATUS_UNSUPPORTED,
                           "sandbox: %s: %s: %s", step_text(watch->failure.step),
                           strerror(watch->failure.error),
                           watch->failure.step <= BOX_STEP_HOST_NAME ? host_explain_refusal()
                                                                     : "nothing was judged");
    if (!watch->started && watch->latched == SANDBOX_WALL_LIMIT)
        return status_fail(STATUS_TIMEOUT, "sandbox: the walls were not up after %lld ms: raise "
                                           "sandbox.wall_ms or run fewer at once",
                           (long long)plan->wall_ms);
    if (!watch->ended && watch->latched == SANDBOX_EXITED && group_oom_kills(&launch->group) == 0)
        return status_fail(STATUS_FAILED, "sandbox: the box died of something outside it: look for "
                                          "the kernel's out-of-memory messages");
    return 0;
}

int box_execute(struct sandbox *sandbox, struct box_plan *plan, struct box_outcome *outcome)
{
    struct launch launch = {.pipes = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}}, .pidfd = -1};
    struct box_watch watch = {.latched = SANDBOX_EXITED, .output_bytes = plan->output_bytes};
    int64_t began_ms = clock_ms();

    memset(outcome, 0, sizeof(*outcome));
    outcome->result.output.maximum = (size_t)plan->output_bytes;
    outcome->result.errors.maximum = BOX_ERRORS_BYTES;
    plan->limit_address_space = sandbox->groups.version == 0;
    plan->drop_groups = sandbox->privileged;
    int status = start_box(sandbox, plan, &launch);
    if (status >= 0) {
        watch.pid = launch.pid;
        watch.pidfd = launch.pidfd;
        watch.output_fd = launch.pipes[PIPE_OUTPUT][0];
        watch.errors_fd = launch.pipes[PIPE_ERRORS][0];
        watch.status_fd = launch.pipes[PIPE_STATUS][0];
        watch.go_fd = launch.pipes[PIPE_GO][1];
        watch.deadline_ms = began_ms + plan->wall_ms;
        status = box_watch(&watch, &outcome->result);
        launch.pipes[PIPE_OUTPUT][0] = watch.output_fd;
        launch.pipes[PIPE_ERRORS][0] = watch.errors_fd;
        launch.pipes[PIPE_STATUS][0] = watch.status_fd;
        if (status == STATUS_TIMEOUT)   /* it cannot be reaped: waiting would hang the caller */
            launch.pid = 0;
    }
    take_down(&launch);
    if (status >= 0)
        status = check_reports(plan, &launch, &watch, outcome);
    if (status >= 0) {
        outcome->result.wall_ms = clock_ms() - began_ms;
        outcome->has_result = watch.end.has_result;
        judge_end(plan, &launch, &watch, &outcome->result);
    }
    group_remove(&launch.group);
    if (status < 0)
        sandbox_result_release(&outcome->result);
    return status;
}
