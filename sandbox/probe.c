/*
 * Proof by trying: built-in functions run in the program's place and do the forbidden thing. What
 * a sysctl says does not count. A probe returns 0, or the number of the thing that it could do.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/status.h"
#include "sandbox/internal.h"

#define PROBE_MEMORY (48L << 20)
#define PROBE_PROCESSES 4

/* Names of the host's world, and calls the filter would stop: filter and Landlock are off in this
 * probe, so that the other walls stand alone. */
static int try_namespaces(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = 9};

    if (getpid() != 2 || getppid() != 1)
        return 1;
    if (open("/new", O_CREAT | O_WRONLY, 0600) >= 0 || errno != EROFS)
        return 2;
    if (access("/etc", F_OK) == 0 || access("/proc", F_OK) == 0 || access("/usr", F_OK) == 0)
        return 3;
    if (mount("none", "/dev", "tmpfs", 0, NULL) == 0)
        return 4;
    if (getuid() != BOX_ID || (int)syscall(SYS_setresuid, 0, 0, 0) == 0)
        return 5;
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
        return 6;
    if (kill(1, SIGKILL) < 0 && errno != EPERM)
        return 7;
    return 0;
}

/* Level 1: the same world as the host's, and nothing of it in reach. */
static int try_host(void)
{
    static const char *const names[] = {"/etc/passwd", "/proc/self/status", "/proc/1/environ",
                                        "/usr/bin/env", "/", "/tmp", "/sys", "/dev/zero"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (open(names[i], O_RDONLY) >= 0)
            return 1 + (int)i;
    if (open("/tmp/hone-probe", O_CREAT | O_WRONLY, 0600) >= 0)
        return 20;
    if (getuid() == 0 || geteuid() == 0 || getgid() == 0)
        return 21;
    if (kill(getppid(), 0) == 0 || kill(1, 0) == 0)
        return 22;
    return 0;
}

static int try_forks(void)
{
    for (int i = 1; i < PROBE_PROCESSES + 2; i++) {
        pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid < 0)
            return i <= PROBE_PROCESSES ? 0 : 1;
        if (pid == 0)
            for (;;)
                pause();
    }
    return 1;
}

static int try_filter(void)
{
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM)
        return 1;
    if (syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL) >= 0 || errno != EPERM)
        return 2;
    syscall(SYS_ptrace, PTRACE_TRACEME, 0, NULL, NULL);   /* does not return */
    return 3;
}

static int try_memory(void)
{
    for (long taken = 0; taken < 4 * PROBE_MEMORY; taken += 1 << 20) {
        char *block = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                           0);
        if (block == MAP_FAILED)
            return 0;
        for (long at = 0; at < 1 << 20; at += 4096)
            ((volatile char *)block)[at] = 1;
    }
    return 1;
}

struct probe {
    int (*attempt)(void);
    const char *wall;
    int has_filter;      /* and Landlock */
    int first, last;     /* levels that it is for */
    int is_killed;       /* the good end is a violation */
};

static const struct probe probes[] = {
    {try_namespaces, "wall of namespaces and mounts", 0, 2, 3, 0},
    {try_host, "wall of Landlock and the system call filter", 1, 1, 1, 0},
    {try_forks, "limit of processes", 0, 2, 3, 0},
    {try_filter, "system call filter", 1, 1, 3, 1},
    {try_memory, "limit of memory", 1, 1, 3, 0},
};

int probe_run(int probe)
{
    return probes[probe - 1].attempt();
}

int probe_has_filter(int probe)
{
    return probes[probe - 1].has_filter;
}

static int run_probe(struct attendant *attendant, int number, struct sandbox_result *result)
{
    struct box_outcome outcome;
    struct box_plan plan = {.kind = CELL_NATIVE,
                            .probe = number,
                            .cpu_ms = 5000,
                            .wall_ms = 20000,
                            .memory_bytes = PROBE_MEMORY,
                            .output_bytes = 4096,
                            .processes = PROBE_PROCESSES};
    int fd[BOX_N_DESCRIPTORS] = {-1, -1, -1, -1, -1, -1};

    TRY(memfd_of_input(&fd[BOX_STDIN], "", 0));
    int status = box_execute(attendant, &plan, fd, &outcome);
    close(fd[BOX_STDIN]);
    TRY(status);
    *result = outcome.result;
    sandbox_result_release(&outcome.result);
    return 0;
}

int sandbox_prove_walls(struct attendant *attendant)
{
    int level = attendant->host->level;

    if (level == 1 && attendant->host->landlock < 1)
        return status_fail(STATUS_UNSUPPORTED, "sandbox: level 1 needs Landlock (Linux 5.13, "
                                               "\"landlock\" in the lsm= boot parameter)");
    for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++) {
        struct sandbox_result result;
        if (level < probes[i].first || level > probes[i].last)
            continue;
        TRY(run_probe(attendant, (int)i + 1, &result));
        int good = probes[i].is_killed ? result.verdict == SANDBOX_VIOLATION
                                       : result.verdict == SANDBOX_MEMORY_LIMIT ||
                                             (result.verdict == SANDBOX_EXITED &&
                                              result.exit_code == 0);
        if (!good)
            return status_fail(STATUS_UNSUPPORTED,
                               "sandbox: the %s does not hold (%s, exit code %d, signal %d): %s",
                               probes[i].wall, sandbox_verdict_name(result.verdict),
                               result.exit_code, result.signal, host_explain_refusal());
    }
    return 0;
}
