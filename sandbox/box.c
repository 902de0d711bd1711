/*
 * Init, pid 1 of the box: builds the walls, starts the program as pid 2 (pid 1 would ignore
 * abort()), counts its CPU time, ends everything when it ends. The rule of walls.c holds here too.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define CPU_POLL_MS 10
#define CPU_CLOCK_SCHEDULED 2   /* the exact one, as in the kernel's posix-timers.h */

/* The plan's descriptors at the numbers of enum box_descriptor; every other one is closed. */
static void take_descriptors(const struct box_plan *plan)
{
    int moved[BOX_N_DESCRIPTORS];

    for (int i = 0; i < BOX_N_DESCRIPTORS; i++) {
        moved[i] = plan->fd[i] < 0 ? -1 : fcntl(plan->fd[i], F_DUPFD, BOX_N_DESCRIPTORS);
        if (plan->fd[i] >= 0 && moved[i] < 0)
            box_exit(1);
    }
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++) {
        if (moved[i] < 0)
            close(i);
        else if (dup3(moved[i], i, i > BOX_STDERR ? O_CLOEXEC : 0) < 0)
            box_exit(1);
    }
    if (syscall(SYS_close_range, BOX_N_DESCRIPTORS, ~0U, 0) < 0)
        box_exit(1);
}

/* The caller's handlers must not run here. All signals are blocked until this is done. */
static void reset_signals(void)
{
    struct sigaction standard;

    memset(&standard, 0, sizeof(standard));
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
}

/* End of file instead of a byte: the caller died or gave up. */
static void wait_for_go(void)
{
    char byte;
    ssize_t n;

    do
        n = read(BOX_GO, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        box_exit(1);
}

static void take_ids(const struct box_plan *plan)
{
    if (plan->drop_groups)
        box_need((int)syscall(SYS_setgroups, 0, NULL), BOX_STEP_IDS);
    box_need((int)syscall(SYS_setresgid, BOX_ID, BOX_ID, BOX_ID), BOX_STEP_IDS);
    box_need((int)syscall(SYS_setresuid, BOX_ID, BOX_ID, BOX_ID), BOX_STEP_IDS);
    /* After the ids, because a change of them resets it. A caller that died just before has left
     * the status pipe without a reader. */
    box_need(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), BOX_STEP_PARENT_DEATH);
    struct pollfd caller = {BOX_STATUS, 0, 0};
    if (poll(&caller, 1, 0) != 0)
        box_exit(1);
}

/* Up to `most` bytes; -1 with EFBIG when there are more. */
static int copy_bytes(int from, int to, int64_t most)
{
    char block[16384];
    int64_t total = 0;

    for (;;) {
        ssize_t n = read(from, block, sizeof(block));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return (int)n;
        total += n;
        if (total > most) {
            errno = EFBIG;
            return -1;
        }
        for (ssize_t done = 0; done < n;) {
            ssize_t written = write(to, block + done, (size_t)(n - done));
            if (written < 0 && errno != EINTR)
                return -1;
            done += written > 0 ? written : 0;
        }
    }
}

static void write_source(void)
{
    int fd = open("/tmp/source.c", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    box_need(fd, BOX_STEP_SOURCE);
    box_need(copy_bytes(BOX_STDIN, fd, BOX_FILE_BYTES), BOX_STEP_SOURCE);
    box_need(close(fd), BOX_STEP_SOURCE);
}

/* The compiler shaped /tmp: take a plain file of bounded size and follow nothing. 1 when taken. */
static int take_result(void)
{
    struct stat about;
    int fd = open("/tmp/program", O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) < 0 || !S_ISREG(about.st_mode) || about.st_size == 0 ||
        about.st_size > BOX_FILE_BYTES)
        return 0;
    box_need(copy_bytes(fd, BOX_RESULT, BOX_FILE_BYTES), BOX_STEP_RESULT);
    close(fd);
    return 1;
}

__attribute__((noreturn)) static void become_program(const struct box_plan *plan)
{
    if (plan->kind == BOX_COMPILE)
        box_need(chdir("/tmp"), BOX_STEP_SOURCE);
    box_confine(plan);
    if (plan->kind == BOX_PROBE)
        box_exit(plan->probe());
    if (plan->kind == BOX_COMPILE)
        execve(plan->arguments[0], plan->arguments, plan->environment);
    else
        syscall(SYS_execveat, BOX_PROGRAM, "", plan->arguments, plan->environment, AT_EMPTY_PATH);
    box_need(-1, BOX_STEP_EXEC);
    box_exit(1);
}

static int64_t program_cpu_ms(pid_t pid)
{
    struct timespec used;
    clockid_t clock = (clockid_t)((~(unsigned)pid << 3) | CPU_CLOCK_SCHEDULED);

    if (clock_gettime(clock, &used) < 0)
        return 0;
    return used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* Returns when the program has ended, when the caller hung up, which means stop, or when the CPU
 * time is used, which is reported first. */
static void watch_program(const struct box_plan *plan, pid_t pid, int pidfd)
{
    struct pollfd ends[2] = {{pidfd, POLLIN, 0}, {BOX_GO, POLLIN, 0}};

    for (;;) {
        int64_t left = plan->cpu_ms - program_cpu_ms(pid);
        if (left < 0) {
            struct box_report report = {.kind = BOX_REPORT_CPU};
            box_send(&report);
            return;
        }
        if (poll(ends, 2, left < CPU_POLL_MS ? (int)left + 1 : CPU_POLL_MS) > 0)
            return;
    }
}

static int64_t time_us(const struct timeval *time)
{
    return (int64_t)time->tv_sec * 1000000 + time->tv_usec;
}

/* The program's end, then everyone else's: nobody is left when a result is taken. A program that
 * has ended keeps its own wait status. */
static void end_all(pid_t program, struct box_report *report)
{
    struct rusage usage;
    int status = 0;

    kill(-1, SIGKILL);
    while (wait4(program, &status, __WALL, NULL) < 0 && errno == EINTR)
        continue;
    report->wait_status = status;
    while (wait4(-1, NULL, __WALL, NULL) > 0 || errno == EINTR)
        continue;
    if (getrusage(RUSAGE_CHILDREN, &usage) == 0) {
        report->cpu_us = time_us(&usage.ru_utime) + time_us(&usage.ru_stime);
        report->peak_bytes = (int64_t)usage.ru_maxrss * 1024;
    }
}

void box_live(const struct box_plan *plan)
{
    int pidfd = -1;
    struct clone_args program = {.flags = CLONE_PIDFD,
                                 .pidfd = (uint64_t)(uintptr_t)&pidfd,
                                 .exit_signal = SIGCHLD};
    struct box_report started = {.kind = BOX_REPORT_STARTED};
    struct box_report end = {.kind = BOX_REPORT_ENDED};

    if (getpid() != 1)   /* kill(-1) must mean this box alone */
        box_exit(1);
    take_descriptors(plan);
    reset_signals();
    setsid();
    wait_for_go();
    take_ids(plan);
    box_build_root(plan);
    box_need(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), BOX_STEP_HIDE);
    if (plan->kind == BOX_COMPILE)
        write_source();
    pid_t pid = (pid_t)syscall(SYS_clone3, &program, sizeof(program));
    box_need(pid, BOX_STEP_SPAWN);
    if (pid == 0)
        become_program(plan);
    box_send(&started);
    watch_program(plan, pid, pidfd);
    end_all(pid, &end);
    if (plan->kind == BOX_COMPILE && end.wait_status == 0)
        end.has_result = take_result();
    box_send(&end);
    box_exit(0);
}
