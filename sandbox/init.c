/*
 * Init, pid 1 of a run: starts the program as pid 2 (pid 1 would ignore abort()), counts its CPU
 * time, ends everything when it ends. Its cell sleeps until it is gone, and shares its memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
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
#define STACK_BYTES (256 << 10)
#define PIDS_MAX 512            /* of a compilation, looked at for CPU time */
#define FREE_DESCRIPTOR 64      /* above those that are being placed */

static char program_stack[STACK_BYTES] __attribute__((aligned(16)));

/* At the numbers of enum box_descriptor; every other one is closed. */
static void place_descriptors(struct cell_life *life)
{
    int moved[BOX_N_DESCRIPTORS];

    for (int i = 0; i < BOX_N_DESCRIPTORS; i++) {
        moved[i] = life->fd[i] < 0 ? -1 : fcntl(life->fd[i], F_DUPFD, FREE_DESCRIPTOR);
        if (life->fd[i] >= 0)
            box_need(life, moved[i], BOX_STEP_DESCRIPTORS);
    }
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++) {
        if (moved[i] < 0)
            close(i);
        else
            box_need(life, dup3(moved[i], i, i == BOX_PROGRAM ? O_CLOEXEC : 0),
                     BOX_STEP_DESCRIPTORS);
    }
    if (life->run_ruleset >= 0)
        box_need(life, dup3(life->run_ruleset, BOX_RULESET, O_CLOEXEC), BOX_STEP_DESCRIPTORS);
    box_need(life, (int)syscall(SYS_close_range, BOX_RULESET + 1, ~0U, 0), BOX_STEP_DESCRIPTORS);
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

static int write_file(const struct bundle_file *file)
{
    int fd = open(file->name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    uint64_t done = 0;

    while (fd >= 0 && done < file->n) {
        ssize_t n = write(fd, file->bytes + done, file->n - done);
        if (n < 0 && errno != EINTR)
            return -1;
        done += n > 0 ? (uint64_t)n : 0;
    }
    return fd < 0 ? -1 : close(fd);
}

static void unpack_sources(struct cell_life *life)
{
    struct stat about;
    int fd = life->fd[BOX_STDIN];

    box_need(life, fstat(fd, &about), BOX_STEP_SOURCE);
    /* Private and writable, because execve() takes arguments that are not const. */
    unsigned char *bytes = mmap(NULL, (size_t)about.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE,
                                fd, 0);
    errno = bytes == MAP_FAILED ? errno : EINVAL;
    box_need(life,
             bytes == MAP_FAILED ? -1 : bundle_read(&life->bundle, bytes, (size_t)about.st_size),
             BOX_STEP_SOURCE);
    for (uint32_t i = 0; i < life->bundle.n_files; i++)
        box_need(life, write_file(&life->bundle.files[i]), BOX_STEP_SOURCE);
}

/* The compiler shaped its directory: take a plain file of bounded size and follow nothing. */
static int take_result(struct cell_life *life)
{
    struct stat about;
    int fd = open(life->bundle.output, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) < 0 || !S_ISREG(about.st_mode) || about.st_size == 0 ||
        about.st_size > life->plan.scratch_bytes)
        return 0;
    box_need(life, copy_bytes(fd, life->fd[BOX_SCRIPT], life->plan.scratch_bytes),
             BOX_STEP_RESULT);
    close(fd);
    return 1;
}

/* Returns when it fails. As of box_exit, no compiler may know that it ends the process. */
static void execute(struct cell_life *life)
{
    static const char runner[] = "import os as _\n"
                                 "with _.fdopen(4,'rb') as _: _=_.read()\n"
                                 "exec(compile(_,'main.py','exec'))\n";
    static const char module[] = "const fs=require('fs'),M=require('module');"
                                 "const s=fs.readFileSync(4,'utf8');fs.closeSync(4);"
                                 "const m=new M('main.js');m.filename='/main.js';m.paths=[];"
                                 "process.argv[1]='/main.js';m._compile(s,'/main.js');";
    char heap[64], temporary[64];
    char *none[] = {NULL};
    char *native[] = {"program", NULL};
    char *python[] = {(char *)(uintptr_t)life->host->python, "-I", "-S", "-B", "-c",
                      (char *)(uintptr_t)runner, NULL};
    char *node[] = {(char *)(uintptr_t)life->host->node, heap, "-e", (char *)(uintptr_t)module,
                    NULL};
    char *quiet[] = {"OPENSSL_CONF=/dev/null", NULL};
    char *seeded[] = {"PYTHONHASHSEED=0", "LC_ALL=C.UTF-8", NULL};
    char *compiler[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", temporary, NULL};
    char **arguments = native, **environment = none;

    box_need(life, 0, BOX_STEP_EXEC);   /* where tests make it fail */
    switch (life->kind) {
    case CELL_COMPILE:
        snprintf(temporary, sizeof(temporary), "TMPDIR=%s", life->scratch ? life->scratch : "/tmp");
        execve(life->bundle.arguments[0], life->bundle.arguments, compiler);
        return;
    case CELL_PYTHON:
        arguments = python;
        environment = seeded;
        break;
    case CELL_NODE:
        snprintf(heap, sizeof(heap), "--max-old-space-size=%d",
                 (int)(life->plan.memory_bytes >> 20));
        arguments = node;
        environment = quiet;
        break;
    case CELL_NATIVE:
    case CELL_PYTHON_SERVER:
    case N_CELLS:
        break;
    }
    syscall(SYS_execveat, BOX_PROGRAM, "", arguments, environment, AT_EMPTY_PATH);
}

static int become_program(void *argument)
{
    struct cell_life *life = argument;
    int probe = life->plan.probe;
    int server = life->kind == CELL_PYTHON_SERVER;

    place_descriptors(life);
    box_confine(life);
    if (!probe && !server) {
        execute(life);
        box_need(life, -1, BOX_STEP_EXEC);
    }
    /* From here on this memory is the stranger's. */
    munmap(life, sizeof(*life));
    close(BOX_RULESET);
    if (probe)
        box_exit(probe_run(probe));
    python_run_script(BOX_SCRIPT);
    return -1;
}

static int64_t process_cpu_us(pid_t pid)
{
    struct timespec used;
    clockid_t clock = (clockid_t)((~(unsigned)pid << 3) | CPU_CLOCK_SCHEDULED);

    if (clock_gettime(clock, &used) < 0)
        return 0;
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

/* A run is one process. A compilation is several: those that live are asked, one by one; where
 * there is a group, the attendant knows better. */
static int64_t used_cpu_us(const struct cell_life *life, pid_t program)
{
    int64_t sum = 0;

    if (life->kind != CELL_COMPILE || life->host->level == 1)
        return process_cpu_us(program);
    for (pid_t pid = program; pid < PIDS_MAX; pid++)
        sum += process_cpu_us(pid);
    return sum;
}

/* Returns when the program has ended, when the attendant says stop or hangs up, or when the CPU
 * time is used, which is reported first. */
static void watch_program(struct cell_life *life, pid_t pid, int pidfd)
{
    struct pollfd ends[2] = {{pidfd, POLLIN, 0}, {life->socket, POLLIN, 0}};

    for (;;) {
        int64_t left = life->plan.cpu_ms * 1000 - used_cpu_us(life, pid);
        if (left < 0) {
            struct box_report report = {.kind = BOX_REPORT_CPU};
            (void)rights_send(life->socket, &report, sizeof(report), NULL, 0, NULL, 0);
            return;
        }
        int wait_ms = left < CPU_POLL_MS * 1000 ? (int)(left / 1000) + 1 : CPU_POLL_MS;
        if (poll(ends, 2, wait_ms) > 0)
            return;
    }
}

static int64_t time_us(const struct timeval *time)
{
    return (int64_t)time->tv_sec * 1000000 + time->tv_usec;
}

/* Whoever the program left behind is init's child by now, or descends from one. */
static int has_children(void)
{
    siginfo_t unused;

    return waitid(P_ALL, 0, &unused, WEXITED | WNOHANG | WNOWAIT | __WALL) == 0 || errno != ECHILD;
}

/* The program's end, then everyone else's: nobody is left when a result is taken. A program that
 * has ended keeps its own wait status. */
static void end_all(struct cell_life *life, pid_t program)
{
    struct rusage usage, own;
    int status = 0;

    int is_over = wait4(program, &status, __WALL | WNOHANG, NULL) == program;
    if (!is_over || has_children()) {
        /* Without a namespace -1 would mean the whole machine; its group cannot be left. */
        if (life->host->level > 1)
            kill(-1, SIGKILL);
        else {
            kill(-program, SIGKILL);
            kill(program, SIGKILL);
        }
    }
    while (!is_over && wait4(program, &status, __WALL, NULL) < 0 && errno == EINTR)
        continue;
    life->end.wait_status = status;
    while (wait4(-1, NULL, __WALL, NULL) > 0 || errno == EINTR)
        continue;
    if (getrusage(RUSAGE_CHILDREN, &usage) == 0 && getrusage(RUSAGE_SELF, &own) == 0) {
        life->end.cpu_us = time_us(&usage.ru_utime) + time_us(&usage.ru_stime);
        /* Before it executed, the program had this process's memory. */
        if (usage.ru_maxrss > own.ru_maxrss)
            life->end.peak_bytes = (int64_t)usage.ru_maxrss * 1024;
    }
}

/* Shares this memory until it executes; a copy of it when it never will. Meanwhile init waits for
 * the end of a run with calls that do not fail, so that errno stays the program's; of a compilation
 * it asks for processes that are not there, and so sleeps until then. */
static pid_t start_program(struct cell_life *life, int *pidfd)
{
    int flags = CLONE_VM | CLONE_PIDFD | SIGCHLD | (life->kind == CELL_COMPILE ? CLONE_VFORK : 0);
    pid_t pid;

    if (life->kind == CELL_PYTHON_SERVER || life->plan.probe) {
        pid = fork();
        if (pid == 0)
            become_program(life);
        *pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
        return *pidfd < 0 ? -1 : pid;
    }
    box_clean_stack(program_stack, sizeof(program_stack));
    pid = clone(become_program, program_stack + sizeof(program_stack), flags, life, pidfd);
    return pid;
}

int init_live(void *argument)
{
    struct cell_life *life = argument;
    int pidfd = -1;

    box_need(life, prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), BOX_STEP_PARENT_DEATH);
    life->init = getpid();
    if (life->host->level > 1) {
        if (life->init != 1)   /* kill(-1) must mean this run alone */
            box_exit(1);
        if (life->plan.scratch_bytes > 0)
            box_mount_scratch(life);
        /* A rule holds for a directory, and this one is new. */
        if (life->plan.scratch_bytes > 0 && life->landlock_fd >= 0) {
            life->run_ruleset = landlock_prepare(life);
            box_need(life, life->run_ruleset, BOX_STEP_LANDLOCK);
        }
    } else {
        box_need(life, prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), BOX_STEP_NAMESPACE);
        if (life->scratch)
            box_need(life, chdir(life->scratch), BOX_STEP_SCRATCH);
    }
    if (life->kind == CELL_COMPILE)
        unpack_sources(life);
    pid_t pid = start_program(life, &pidfd);
    box_need(life, pid, BOX_STEP_SPAWN);
    watch_program(life, pid, pidfd);
    end_all(life, pid);
    if (life->kind == CELL_COMPILE && !life->failure.kind && life->end.wait_status == 0)
        life->end.has_result = take_result(life);
    life->end.kind = BOX_REPORT_ENDED;
    box_exit(0);
    return -1;
}
