/*
 * A cell: pid 1 of its own namespaces, behind its walls, without descriptors but its socket. It
 * starts one run after another; each is over, with all its processes, before the next begins.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/internal.h"

#define STACK_BYTES (256 << 10)
#define OWN_DESCRIPTOR 32   /* its own are from here on; those of runs are below */

static char init_stack[STACK_BYTES] __attribute__((aligned(16)));

/* The broker's handlers must not run here. */
static void reset_signals(void)
{
    struct sigaction standard;
    sigset_t none;

    memset(&standard, 0, sizeof(standard));
    standard.sa_handler = SIG_DFL;
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &standard, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* 0 to 2 are /dev/null, the socket moves up, everything else is closed. */
static void take_descriptors(struct cell_life *life)
{
    int moved = fcntl(life->socket, F_DUPFD_CLOEXEC, OWN_DESCRIPTOR);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (moved < 0 || null < 0)
        box_exit(1);
    for (int fd = 0; fd < 3; fd++)
        if (null != fd && dup2(null, fd) < 0)
            box_exit(1);
    if (dup3(moved, OWN_DESCRIPTOR, O_CLOEXEC) < 0 && moved != OWN_DESCRIPTOR)
        box_exit(1);
    life->socket = OWN_DESCRIPTOR;
    if (syscall(SYS_close_range, 3, OWN_DESCRIPTOR - 1, 0) < 0 ||
        syscall(SYS_close_range, OWN_DESCRIPTOR + 1, ~0U, 0) < 0)
        box_exit(1);
}

/* End of file instead of a message: the attendant died or gave up. */
static void wait_for_go(struct cell_life *life)
{
    char byte;
    int no_fds = 0;

    if (rights_receive(life->socket, &byte, 1, NULL, &no_fds) != 1)
        box_exit(1);
}

static void take_ids(struct cell_life *life, int64_t outside)
{
    int id = life->host->level > 1 ? BOX_ID : (int)outside;

    if (life->host->privileged)
        box_need(life, (int)syscall(SYS_setgroups, 0, NULL), BOX_STEP_IDS);
    if (life->host->level > 1 || life->host->privileged) {
        box_drop_bounding_set(life);
        box_need(life, (int)syscall(SYS_setresgid, id, id, id), BOX_STEP_IDS);
        box_need(life, (int)syscall(SYS_setresuid, id, id, id), BOX_STEP_IDS);
    }
    /* After the ids, because a change of them resets it. An attendant that died just before has
     * hung up. */
    box_need(life, prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), BOX_STEP_PARENT_DEATH);
    struct pollfd attendant = {life->socket, POLLIN, 0};
    if (poll(&attendant, 1, 0) != 0)
        box_exit(1);
}

static void open_interpreter(struct cell_life *life)
{
    const char *path = life->kind == CELL_PYTHON ? life->host->python
                       : life->kind == CELL_NODE ? life->host->node
                                                 : NULL;

    life->interpreter_fd = -1;
    if (path) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        box_need(life, fd, BOX_STEP_INTERPRETER);
        life->interpreter_fd = fcntl(fd, F_DUPFD_CLOEXEC, OWN_DESCRIPTOR + 1);
        box_need(life, life->interpreter_fd, BOX_STEP_INTERPRETER);
        close(fd);
    }
    if (life->kind == CELL_PYTHON_SERVER)
        box_need(life, python_start(life->host->python), BOX_STEP_INTERPRETER);
}

static void raise_walls(struct cell_life *life, int64_t outside)
{
    take_ids(life, outside);
    if (life->host->level > 1)
        box_build_root(life);
    else if (chdir("/") < 0)
        box_exit(1);
    box_need(life, prctl(PR_SET_DUMPABLE, 0, 0, 0, 0), BOX_STEP_HIDE);
    box_limit_cell(life);
    open_interpreter(life);
    life->landlock_fd = -1;
    if (life->host->landlock > 0) {
        life->landlock_fd = landlock_prepare(life);
        box_need(life, life->landlock_fd, BOX_STEP_LANDLOCK);
    }
}

/* 0 when the attendant hung up. */
static int receive_run(struct cell_life *life)
{
    int fds[BOX_RIGHTS_MAX], n = BOX_RIGHTS_MAX, next = 0;
    ssize_t got = rights_receive(life->socket, &life->plan, sizeof(life->plan), fds, &n);

    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        life->fd[i] = got == (ssize_t)sizeof(life->plan) && next < n &&
                              (life->plan.descriptors & 1u << i)
                          ? fds[next++]
                          : -1;
    while (next < n)
        close(fds[next++]);
    if (life->interpreter_fd >= 0)
        life->fd[BOX_PROGRAM] = life->interpreter_fd;
    if (got == 1)   /* a "stop" that came too late for its run */
        return 1;
    return got == (ssize_t)sizeof(life->plan);
}

/* A sanitizer that is linked remembers the frames of whoever had this stack before and never
 * returned from them. */
void __asan_unpoison_memory_region(const volatile void *from, size_t n) __attribute__((weak));

void box_clean_stack(char *stack, size_t n)
{
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(stack, n);
}

/* It shares this memory, which sleeps meanwhile, so that no page table is copied. */
static pid_t start_init(struct cell_life *life)
{
    int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;

    if (life->host->level > 1)
        flags |= CLONE_NEWPID | (life->plan.scratch_bytes > 0 ? CLONE_NEWNS : 0);
    box_clean_stack(init_stack, sizeof(init_stack));
    return clone(init_live, init_stack + sizeof(init_stack), flags, life);
}

static void reap(pid_t pid)
{
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        continue;
}

static void run_one(struct cell_life *life)
{
    const struct box_report *report = &life->end;

    memset(&life->end, 0, sizeof(life->end));
    memset(&life->failure, 0, sizeof(life->failure));
    life->run_ruleset = life->landlock_fd;
    pid_t pid = start_init(life);
    if (pid < 0)
        life->failure = (struct box_report){.kind = BOX_REPORT_FAILED,
                                            .step = BOX_STEP_NAMESPACE,
                                            .error = errno};
    /* It shared this memory until it let go of it, after its last word. A mount that goes with it
     * is memory, which would be counted in the next run. */
    int goes_with_mounts = life->plan.scratch_bytes > 0;
    if (pid > 0 && goes_with_mounts)
        reap(pid);
    if (!life->end.kind && !life->failure.kind)   /* killed, which only the outside can do */
        life->failure = (struct box_report){.kind = BOX_REPORT_FAILED,
                                            .step = BOX_STEP_SPAWN,
                                            .error = ECHILD};
    if (life->failure.kind)
        report = &life->failure;
    for (int i = 0; i < BOX_N_DESCRIPTORS; i++)
        if (life->fd[i] >= 0 && life->fd[i] != life->interpreter_fd)
            close(life->fd[i]);
    if (rights_send(life->socket, report, sizeof(*report), NULL, 0, NULL, 0) < 0)
        box_exit(1);
    if (pid > 0 && !goes_with_mounts)
        reap(pid);
}

void cell_live(const struct box_host *host, enum cell_kind kind, int socket, const char *scratch,
               int64_t outside, int fault)
{
    struct cell_life *life = mmap(NULL, sizeof(*life), PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    const struct box_report ready = {.kind = BOX_REPORT_READY};

    if (life == MAP_FAILED)
        box_exit(1);
    *life = (struct cell_life){.host = host, .kind = kind, .socket = socket, .scratch = scratch};
    life->plan.fault = fault;
    reset_signals();
    setsid();
    take_descriptors(life);
    wait_for_go(life);
    raise_walls(life, outside);
    life->ready = 1;
    if (rights_send(life->socket, &ready, sizeof(ready), NULL, 0, NULL, 0) < 0)
        box_exit(1);
    while (receive_run(life))
        if (life->plan.kind == (int32_t)kind)
            run_one(life);
    for (;;)
        box_exit(0);
}
