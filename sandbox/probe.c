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

#define PROBE_MEMORY (32L << 20)
#define PROBE_PROCESSES 4

/* Names of the host's world, and calls the filter would stop: the filter is off in this probe, so
 * that each wall stands alone. */
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

static int run_probe(struct sandbox *sandbox, int (*probe)(void), int with_filter,
                     struct sandbox_result *result)
{
    struct box_outcome outcome;
    struct box_plan plan = {.kind = BOX_PROBE,
                            .cpu_ms = 5000,
                            .wall_ms = 10000,
                            .memory_bytes = PROBE_MEMORY,
                            .output_bytes = 4096,
                            .processes = PROBE_PROCESSES,
                            .filter = with_filter ? &sandbox->run_filter : NULL,
                            .probe = probe};

    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        plan.fd[i] = -1;
    TRY(memfd_of_input(&plan.fd[BOX_STDIN], "", 0));
    int status = box_execute(sandbox, &plan, &outcome);
    close(plan.fd[BOX_STDIN]);
    TRY(status);
    *result = outcome.result;
    sandbox_result_release(result);
    return 0;
}

static int refuse(const char *wall, const struct sandbox_result *result)
{
    return status_fail(STATUS_UNSUPPORTED,
                       "sandbox: the %s does not hold (%s, exit code %d, signal %d): %s",
                       wall, sandbox_verdict_name(result->verdict), result->exit_code,
                       result->signal, host_explain_refusal());
}

int sandbox_prove_walls(struct sandbox *sandbox)
{
    struct sandbox_result result;

    TRY(run_probe(sandbox, try_namespaces, 0, &result));
    if (result.verdict != SANDBOX_EXITED || result.exit_code != 0)
        return refuse("wall of namespaces and mounts", &result);
    TRY(run_probe(sandbox, try_forks, 0, &result));
    if (result.verdict != SANDBOX_EXITED || result.exit_code != 0)
        return refuse("limit of processes", &result);
    TRY(run_probe(sandbox, try_filter, 1, &result));
    if (result.verdict != SANDBOX_VIOLATION)
        return refuse("system call filter", &result);
    TRY(run_probe(sandbox, try_memory, 1, &result));
    if (result.verdict == SANDBOX_EXITED && result.exit_code != 0)
        return refuse("limit of memory", &result);
    return 0;
}
