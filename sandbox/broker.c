/*
 * The broker: a process of its own, so that nothing of the caller's (memory, threads, signal
 * handlers, limits, descriptors) is in the way. It is the same program started again under another
 * name, found out what this host can do, and gives every channel an attendant.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/cores.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define LEVELS 3

/* What the caller's shell ignored, blocked or limited is not our programs' concern; hard limits
 * stay. */
static void make_own_state(void)
{
    sigset_t children;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    sigprocmask(SIG_SETMASK, &children, NULL);
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            _exit(1);
    (void)syscall(SYS_close_range, BROKER_SOCKET + 1, ~0U, 0);
    (void)fcntl(BROKER_SOCKET, F_SETFD, FD_CLOEXEC);
    for (int limit = 0; limit < RLIM_NLIMITS; limit++) {
        struct rlimit now;
        if (getrlimit(limit, &now) == 0) {
            now.rlim_cur = limit == RLIMIT_STACK ? now.rlim_cur : now.rlim_max;
            (void)setrlimit(limit, &now);
        }
    }
    clearenv();
    if (chdir("/") < 0)   /* the caller's directory may be unmounted one day */
        _exit(1);
    setsid();
    prctl(PR_SET_NAME, "hone-broker", 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);   /* an unprivileged cell's id maps are written by it */
}

static void describe(struct box_host *host)
{
    const struct group_bases *groups = &host->groups;
    const char *memory = groups->version == 2   ? "cgroup v2 memory"
                         : !groups->version     ? "no cgroup: memory limited by address space"
                         : groups->pids[0]      ? "cgroup v1 memory and pids"
                                                : "cgroup v1 memory";
    char landlock[32] = "no Landlock";

    if (host->landlock > 0)
        snprintf(landlock, sizeof(landlock), "Landlock %d", host->landlock);
    snprintf(host->description, sizeof(host->description),
             "level %d: %s, seccomp, %s, rlimits, %s", host->level,
             host->level > 1 ? "namespaces, read-only root" : "no namespaces", landlock, memory);
}

static int prove_level(struct box_host *host)
{
    struct attendant attendant = {.host = host, .channel = -1};
    int status = sandbox_prove_walls(&attendant);

    attendant_release(&attendant);
    return status;
}

/* The highest level that holds, and why a higher one does not. */
static int find_level(struct box_host *host)
{
    const struct group_bases all = host->groups;
    int wanted = host->config.min_level > 0 ? (int)host->config.min_level
                 : host->privileged         ? LEVELS
                                            : LEVELS - 1;

    if (wanted > host->config.max_level)
        wanted = (int)host->config.max_level;
    for (int level = (int)host->config.max_level; level >= wanted; level--) {
        host->level = level;
        host->groups = all;
        if (level < LEVELS)
            memset(&host->groups, 0, sizeof(host->groups));
        int status = 0;
        if (level == LEVELS && !all.version)
            status = status_fail(STATUS_UNSUPPORTED,
                                 "sandbox: level 3 needs a memory cgroup that %s can make: run as "
                                 "root or in a delegated cgroup (systemd-run --user --scope "
                                 "-p Delegate=yes), or set sandbox.min_level to 2",
                                 host->privileged ? "root" : "this user");
        else
            status = prove_level(host);
        if (status == 0)
            return 0;
        /* The reason nearest to what can be had is the one to act on. */
        snprintf(host->shortfall, sizeof(host->shortfall), "%s", status_reason());
    }
    return status_fail(STATUS_UNSUPPORTED, "%s%s", host->shortfall,
                       wanted > 1 ? " (or lower sandbox.min_level)" : "");
}

int broker_examine(struct box_host *host)
{
    host->turns[0] = host->turns[1] = -1;
    TRY(host_choose_ids(host));
    TRY(turn_create(host->turns));
    for (int i = 0; i < N_FILTERS; i++)
        TRY(filter_build(&host->filters[i], (enum filter_profile)(1 << i)));
    host->landlock = landlock_version();
    host_find_interpreters(host);
    host->config.python_server = host->config.python_server && python_has_library(host->python);
    group_find_bases(&host->groups);
    TRY(find_level(host));
    describe(host);
    return 0;
}

static int say_hello(const struct box_host *host, int status)
{
    struct box_hello hello = {.magic = BOX_MAGIC, .status = status, .level = host->level,
                              .pid = getpid()};

    hello.supports = 1 << SANDBOX_NATIVE | (host->python[0] ? 1 << SANDBOX_PYTHON : 0) |
                     (host->node[0] ? 1 << SANDBOX_NODE : 0);
    hello.n_cells = host->config.cells > 0 ? (int32_t)host->config.cells
                                           : 2 * cores_usable();
    snprintf(hello.description, sizeof(hello.description), "%s", host->description);
    snprintf(hello.reason, sizeof(hello.reason), "%s",
             status < 0 ? status_reason() : host->shortfall);
    return rights_send(BROKER_SOCKET, &hello, sizeof(hello), NULL, 0, NULL, 0);
}

/* Attendants that ended; what one that was killed left behind is removed. */
static int reap(const struct box_host *host)
{
    int n = 0, status, killed = 0;

    while (waitpid(-1, &status, WNOHANG) > 0) {
        n++;
        killed |= WIFSIGNALED(status);
    }
    if (killed)
        group_sweep(&host->groups);
    return n;
}

static int start_attendant(const struct box_host *host, int signals)
{
    int channel = -1, n = 1;
    char byte;
    ssize_t got = rights_receive(BROKER_SOCKET, &byte, 1, &channel, &n);

    if (got <= 0 || n != 1)
        return got <= 0 ? -1 : 0;
    pid_t pid = fork();
    if (pid == 0) {
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        close(BROKER_SOCKET);
        close(signals);
        attendant_serve(host, channel);
    }
    close(channel);   /* where fork() failed, this tells the caller */
    return pid > 0;
}

/* Until the caller hangs up; then until the last attendant has cleaned up. */
static void keep_attendants(const struct box_host *host)
{
    sigset_t children;
    int n_attendants = 0, open = 1;

    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    int signals = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
    while (signals >= 0 && (open || n_attendants > 0)) {
        struct pollfd ready[2] = {{signals, POLLIN, 0}, {open ? BROKER_SOCKET : -1, POLLIN, 0}};
        if (poll(ready, 2, -1) < 0)
            continue;
        if (ready[0].revents) {
            struct signalfd_siginfo info;
            while (read(signals, &info, sizeof(info)) > 0)
                continue;
            n_attendants -= reap(host);
        }
        if (ready[1].revents) {
            int started = start_attendant(host, signals);
            if (started < 0)
                open = 0;
            else
                n_attendants += started;
        }
    }
    group_sweep(&host->groups);
}

__attribute__((noreturn)) static void live(void)
{
    static struct box_host host;
    int no_fds = 0;

    /* Not the caller's child: nobody there waits for it. */
    pid_t pid = fork();
    if (pid != 0)
        _exit(pid < 0);
    make_own_state();
    if (rights_receive(BROKER_SOCKET, &host.config, sizeof(host.config), NULL, &no_fds) !=
        (ssize_t)sizeof(host.config))
        _exit(1);
    int status = broker_examine(&host);
    if (status >= 0 && host.level > 1)
        precompiled_open(&host);
    if (say_hello(&host, status) < 0 || status < 0)
        _exit(1);
    keep_attendants(&host);
    precompiled_close(&host);
    _exit(0);
}

/* Any program that uses the sandbox can be started as its broker: there is no second file that
 * could be missing or older. */
__attribute__((constructor)) static void start_if_asked(int n_arguments, char **arguments)
{
    if (n_arguments == 1 && strcmp(arguments[0], BROKER_NAME) == 0)
        live();
}

void broker_is_linked(void)
{
}
