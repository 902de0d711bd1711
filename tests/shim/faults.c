/*
 * tests/shim/faults.c - LD_PRELOAD: makes one call of one process fail, or kills it there or at an
 * instant. What it does is said by the environment:
 *
 *   FAULT_WHO=hone|rollout-0|reward-0   the coordinator, or the worker of that name
 *   FAULT_ONCE=PATH                     made by the process that is struck; no other is struck then
 *   FAULT_CALL=alloc|map|open|read|write|sync|name|spawn|thread|send    kinds of calls
 *   FAULT_N=n                           the n-th of them, from 1
 *   FAULT_DO=fail|kill|kill-after|hang  an error, SIGKILL before or behind the call, or no return
 *   FAULT_KILL_US=n                     SIGKILL so many microseconds after the start
 *   FAULT_COUNT=PATH                    counts calls in the file PATH.<who>: a long of each kind
 *   FAULT_FILES=n                       no more than n files may be open
 *   FAULT_CLOCK=s                       the wall clock jumps by s seconds, back and forth
 *
 * Calls count when they come from the program itself or from SQLite; reads, writes and syncs when
 * the descriptor is a file or a directory. What other libraries do with a failure is theirs.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum kind { ALLOC, MAP, OPEN, READ, WRITE, SYNC, NAME, SPAWN, THREAD, SEND, N_KINDS };
static const char *const kind_names[] = {"alloc", "map",  "open",  "read",   "write",
                                         "sync",  "name", "spawn", "thread", "send"};

static struct {
    int is_ready, is_struck_process;
    enum kind kind;
    long n;                             /* 0: none */
    int is_kill, is_kill_after, is_hang;
    long clock_jump;
    const char *once;
    uintptr_t low[2], high[2];          /* text of the program, and of SQLite */
} plan;
static atomic_long own_counts[N_KINDS], *counts = own_counts;

static int note_text(struct dl_phdr_info *info, size_t size, void *turn)
{
    int is_program = (*(int *)turn)++ == 0;
    int is_sqlite = strstr(info->dlpi_name, "libsqlite3") != NULL;

    (void)size;
    for (int i = 0; (is_program || is_sqlite) && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X))
            continue;
        plan.low[is_sqlite] = info->dlpi_addr + part->p_vaddr;
        plan.high[is_sqlite] = plan.low[is_sqlite] + part->p_memsz;
    }
    return 0;
}

/* The worker's name behind --name, else "hone"; "" for other programs and commands. */
static const char *own_name(void)
{
    static char line[8192];
    const char *name = "";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/cmdline", O_RDONLY);
    ssize_t n = fd >= 0 ? syscall(SYS_read, fd, line, sizeof(line) - 1) : 0;

    syscall(SYS_close, fd);
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(line + i) + 1) {
        if (strcmp(line + i, "run") == 0 && !*name)
            name = "hone";
        if (strcmp(line + i, "--name") == 0 && i + 7 < n)
            name = line + i + 7;
    }
    return name;
}

static void arm_timer(long us)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {us / 1000000, us % 1000000 * 1000 + 1}};
    timer_t timer;

    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &when, NULL);
}

static long number(const char *name)
{
    const char *text = getenv(name);

    return text ? strtol(text, NULL, 10) : 0;
}

/* One process alone is struck, by whoever makes the file first. */
static int claim(void)
{
    int fd = plan.once ? (int)syscall(SYS_openat, AT_FDCWD, plan.once,
                                      O_CREAT | O_EXCL | O_WRONLY, 0600)
                       : -1;

    if (fd >= 0)
        syscall(SYS_close, fd);
    return !plan.once || fd >= 0;
}

/* A file, since a worker may be killed. */
static void count_in_file(const char *path, const char *self)
{
    char whole[4096];

    snprintf(whole, sizeof(whole), "%.4000s.%.32s", path, self);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, whole, O_CREAT | O_RDWR, 0600);
    if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof(own_counts)) < 0)
        return;
    void *memory = (void *)syscall(SYS_mmap, NULL, sizeof(own_counts), PROT_READ | PROT_WRITE,
                                   MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (memory != MAP_FAILED)
        counts = memory;
}

__attribute__((constructor)) static void read_plan(void)
{
    const char *who = getenv("FAULT_WHO"), *call = getenv("FAULT_CALL"), *how = getenv("FAULT_DO");
    int turn = 0;

    dl_iterate_phdr(note_text, &turn);
    const char *self = own_name();
    plan.once = getenv("FAULT_ONCE");
    if (*self && getenv("FAULT_COUNT"))
        count_in_file(getenv("FAULT_COUNT"), self);
    rlim_t files = (rlim_t)number("FAULT_FILES");
    if (files)
        setrlimit(RLIMIT_NOFILE, &(struct rlimit){files, files});
    plan.clock_jump = number("FAULT_CLOCK");
    plan.is_struck_process = who && strcmp(who, self) == 0;
    plan.is_kill = how && strncmp(how, "kill", 4) == 0;
    plan.is_hang = how && strcmp(how, "hang") == 0;
    plan.is_kill_after = how && strcmp(how, "kill-after") == 0;
    for (int kind = 0; call && kind < N_KINDS; kind++)
        if (strcmp(call, kind_names[kind]) == 0) {
            plan.kind = (enum kind)kind;
            plan.n = plan.is_struck_process ? number("FAULT_N") : 0;
        }
    long us = plan.is_struck_process ? number("FAULT_KILL_US") : 0;
    if (us && claim())
        arm_timer(us);
    plan.is_ready = 1;
}

static int counts_for(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;

    return plan.is_ready && ((at >= plan.low[0] && at < plan.high[0]) ||
                             (at >= plan.low[1] && at < plan.high[1]));
}

static void die(void)
{
    syscall(SYS_kill, getpid(), SIGKILL);
    pause();
}

enum strike { GOES_ON, FAILS, DIES_BEHIND };

/* What becomes of this call. One that is to be killed before it does not come back. */
static enum strike strikes(enum kind kind, const void *caller)
{
    if (!counts_for(caller))
        return GOES_ON;
    long n = atomic_fetch_add(&counts[kind], 1) + 1;
    if (!plan.n || kind != plan.kind || n != plan.n || !claim())
        return GOES_ON;
    while (plan.is_hang)
        pause();
    if (plan.is_kill_after)
        return DIES_BEHIND;
    if (plan.is_kill)
        die();
    return FAILS;
}

static int is_file(int fd)
{
    struct stat info;
    int error = errno;
    int is = syscall(SYS_newfstatat, fd, "", &info, AT_EMPTY_PATH) == 0 &&
             (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode));

    errno = error;
    return is;
}

/* The true function behind the one of the same name here. */
#define TRUE_CALL(name)                                                                            \
    ({                                                                                             \
        static __typeof__(&name) true_##name;                                                      \
        if (!true_##name)                                                                          \
            true_##name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                              \
        true_##name;                                                                               \
    })

#define CALLER __builtin_return_address(0)

/* `error` and `failed` are what the caller sees. Where nothing is done, the true function takes the
 * place of this one on the stack (-foptimize-sibling-calls): ThreadSanitizer sees who called. */
#define STRIKE(kind, condition, error, failed, call)                                               \
    do {                                                                                           \
        enum strike strike_ = (condition) ? strikes(kind, CALLER) : GOES_ON;                       \
        if (strike_ == FAILS) {                                                                    \
            errno = (error);                                                                       \
            return failed;                                                                         \
        }                                                                                          \
        if (strike_ == GOES_ON)                                                                    \
            return (call);                                                                         \
        __typeof__(call) result_ = (call);                                                         \
        die();                                                                                     \
        return result_;                                                                            \
    } while (0)

void *malloc(size_t n)
{
    STRIKE(ALLOC, 1, ENOMEM, NULL, TRUE_CALL(malloc)(n));
}

void *calloc(size_t count, size_t size)
{
    STRIKE(ALLOC, 1, ENOMEM, NULL, TRUE_CALL(calloc)(count, size));
}

void *realloc(void *memory, size_t n)
{
    STRIKE(ALLOC, 1, ENOMEM, NULL, TRUE_CALL(realloc)(memory, n));
}

void *aligned_alloc(size_t align, size_t n)
{
    STRIKE(ALLOC, 1, ENOMEM, NULL, TRUE_CALL(aligned_alloc)(align, n));
}

static void *true_mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset);
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    STRIKE(MAP, 1, ENOMEM, MAP_FAILED, true_mmap(at, n, protection, flags, fd, offset));
}

void *mmap64(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    STRIKE(MAP, 1, ENOMEM, MAP_FAILED, true_mmap(at, n, protection, flags, fd, offset));
}

static int true_open(int directory, const char *path, int flags, int mode)
{
    return (int)syscall(SYS_openat, directory, path, flags, mode);
}

#define MODE_OF(flags)                                                                             \
    ({                                                                                             \
        va_list list_;                                                                             \
        va_start(list_, flags);                                                                    \
        int mode_ = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(list_, int) : 0;                      \
        va_end(list_);                                                                             \
        mode_;                                                                                     \
    })

int open(const char *path, int flags, ...)
{
    int mode = MODE_OF(flags);
    STRIKE(OPEN, 1, EMFILE, -1, true_open(AT_FDCWD, path, flags, mode));
}

int open64(const char *path, int flags, ...)
{
    int mode = MODE_OF(flags);
    STRIKE(OPEN, 1, EMFILE, -1, true_open(AT_FDCWD, path, flags, mode));
}

ssize_t read(int fd, void *bytes, size_t n)
{
    STRIKE(READ, is_file(fd), EIO, -1, TRUE_CALL(read)(fd, bytes, n));
}

ssize_t pread64(int fd, void *bytes, size_t n, off_t at)
{
    STRIKE(READ, is_file(fd), EIO, -1, TRUE_CALL(pread64)(fd, bytes, n, at));
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    STRIKE(WRITE, is_file(fd), ENOSPC, -1, TRUE_CALL(write)(fd, bytes, n));
}

ssize_t pwrite64(int fd, const void *bytes, size_t n, off_t at)
{
    STRIKE(WRITE, is_file(fd), ENOSPC, -1, TRUE_CALL(pwrite64)(fd, bytes, n, at));
}

int ftruncate64(int fd, off_t n)
{
    STRIKE(WRITE, is_file(fd), ENOSPC, -1, TRUE_CALL(ftruncate64)(fd, n));
}

int fsync(int fd)
{
    STRIKE(SYNC, is_file(fd), EIO, -1, TRUE_CALL(fsync)(fd));
}

int fdatasync(int fd)
{
    STRIKE(SYNC, is_file(fd), EIO, -1, TRUE_CALL(fdatasync)(fd));
}

int rename(const char *from, const char *to)
{
    STRIKE(NAME, 1, EIO, -1, TRUE_CALL(rename)(from, to));
}

int unlink(const char *path)
{
    STRIKE(NAME, 1, EIO, -1, TRUE_CALL(unlink)(path));
}

int remove(const char *path)
{
    STRIKE(NAME, 1, EIO, -1, TRUE_CALL(remove)(path));
}

int mkdir(const char *path, mode_t mode)
{
    STRIKE(NAME, 1, ENOSPC, -1, TRUE_CALL(mkdir)(path, mode));
}

pid_t fork(void)
{
    STRIKE(SPAWN, 1, EAGAIN, -1, TRUE_CALL(fork)());
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const *arguments,
                char *const *environment)
{
    STRIKE(SPAWN, 1, EAGAIN, EAGAIN,
           TRUE_CALL(posix_spawn)(pid, path, actions, attributes, arguments, environment));
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    STRIKE(THREAD, 1, EAGAIN, EAGAIN,
           TRUE_CALL(pthread_create)(thread, attributes, start, argument));
}

/* libzmq's: no memory for the message, also of a part behind the first. */
int zmq_send(void *socket, const void *bytes, size_t n, int flags);
int zmq_send(void *socket, const void *bytes, size_t n, int flags)
{
    STRIKE(SEND, 1, ENOMEM, -1, TRUE_CALL(zmq_send)(socket, bytes, n, flags));
}

ssize_t send(int fd, const void *bytes, size_t n, int flags)
{
    STRIKE(SEND, 1, ENOBUFS, -1, TRUE_CALL(send)(fd, bytes, n, flags));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    STRIKE(SEND, 1, ENOBUFS, -1, TRUE_CALL(sendmsg)(fd, message, flags));
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    static atomic_long calls;
    int result = (int)syscall(SYS_clock_gettime, id, now);

    if (id == CLOCK_REALTIME && plan.clock_jump)
        now->tv_sec += atomic_fetch_add(&calls, 1) / 3 % 2 ? plan.clock_jump : -plan.clock_jump;
    return result;
}
