#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/status.h"
#include "math/child.h"

#define FRAME_MAGIC 0x6d617468u
#define LEAVING_MS 50     /* between the end of its socket and the end of the child */
#define DYING 8
#define ALONE_SECONDS 5   /* longest a child works when its parent cannot kill it */
#define NOT_BEGUN 81      /* how a child ends that could not get ready for its first request */

struct child {
    void (*serve)(const struct text *request, struct text *reply);
    pid_t pid;            /* 0: none now */
    int pidfd, fd;
    uint64_t n_asked;
    int dying[DYING];     /* pidfds of killed ones: a large one takes its time to go */
    int n_dying;
};

struct frame_head {
    uint32_t magic, bytes;
    uint64_t number;      /* of the request; its answer has the same */
};

/* How long the parent waits for its child. */
struct patience {
    const struct deadline *deadline;
    pid_t pid;
    int64_t began_us;     /* of the child's CPU clock */
};

/* A process that is gone has used nothing: its socket tells. */
static int64_t process_cpu_us(pid_t pid)
{
    struct timespec used;
    clockid_t clock;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &used) < 0)
        return 0;
    return (int64_t)used.tv_sec * 1000000 + used.tv_nsec / 1000;
}

static int64_t used_us(const struct patience *patience)
{
    int64_t used = process_cpu_us(patience->pid) - patience->began_us;

    return used > 0 ? used : 0;
}

/* No sooner can the deadline come than after so long; 0: it is there. */
static int left_ms(const struct patience *patience)
{
    int64_t cpu_us = deadline_cpu_left_us(patience->deadline) - used_us(patience);
    int64_t cpu_ms = (cpu_us + 999) / 1000, wall_ms = deadline_wall_left_ms(patience->deadline);
    int64_t left = cpu_ms < wall_ms ? cpu_ms : wall_ms;

    return left <= 0 ? 0 : left > 1000000 ? 1000000 : (int)left;
}

/* ---- Both sides. patience NULL: wait for ever. */

static int wait_for(int fd, short events, const struct patience *patience)
{
    struct pollfd wanted = {.fd = fd, .events = events};

    for (;;) {
        int left = patience ? left_ms(patience) : -1;
        if (left == 0)
            return STATUS_TIMEOUT;
        int n = poll(&wanted, 1, left);
        if (n > 0)
            return STATUS_OK;
        if (n < 0 && errno != EINTR)
            return STATUS_IO;
    }
}

static int send_bytes(int fd, const void *bytes, size_t n, const struct patience *patience)
{
    const char *at = bytes;

    while (n) {
        ssize_t sent = send(fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            at += sent;
            n -= (size_t)sent;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            TRY(wait_for(fd, POLLOUT, patience));
        } else if (errno != EINTR) {
            return STATUS_CLOSED;
        }
    }
    return STATUS_OK;
}

static int receive_bytes(int fd, void *bytes, size_t n, const struct patience *patience)
{
    char *at = bytes;

    while (n) {
        ssize_t got = recv(fd, at, n, MSG_DONTWAIT);
        if (got > 0) {
            at += got;
            n -= (size_t)got;
        } else if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            TRY(wait_for(fd, POLLIN, patience));
        } else if (got == 0 || errno != EINTR) {
            return STATUS_CLOSED;
        }
    }
    return STATUS_OK;
}

static int send_frame(int fd, uint64_t number, const struct text *body,
                      const struct patience *patience)
{
    struct frame_head head = {FRAME_MAGIC, (uint32_t)body->length, number};

    TRY(send_bytes(fd, &head, sizeof(head), patience));
    return send_bytes(fd, body->data, body->length, patience);
}

static int receive_frame(int fd, uint64_t *number, struct text *body,
                         const struct patience *patience)
{
    struct frame_head head;
    char piece[4096];

    text_clear(body);
    TRY(receive_bytes(fd, &head, sizeof(head), patience));
    if (head.magic != FRAME_MAGIC || head.bytes > CHILD_FRAME_BYTES)
        return STATUS_FORMAT;
    *number = head.number;
    for (size_t left = head.bytes; left;) {
        size_t n = left < sizeof(piece) ? left : sizeof(piece);
        TRY(receive_bytes(fd, piece, n, patience));
        text_append(body, piece, n);
        left -= n;
    }
    return STATUS_OK;
}

/* ---- The child's side. After a fork from a process with threads, only malloc is promised by the
 * C library: no log, no standard streams, nothing that takes a lock of ours. */

static void restore_signals(void)
{
    sigset_t none;

    for (int i = 1; i < NSIG; i++)
        signal(i, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Bytes of address space now; a sanitizer's shadow or a parent's mappings are in it. */
static size_t address_space(void)
{
    char line[64] = "";
    size_t pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0)
        _exit(NOT_BEGUN);
    for (const char *at = line; *at >= '0' && *at <= '9'; at++)
        pages = pages * 10 + (size_t)(*at - '0');
    close(fd);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static void enter(int fd, pid_t parent)
{
    struct rlimit core = {0, 0}, memory;

    setpgid(0, 0);   /* the keyboard's signals are not for it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(NOT_BEGUN);
    restore_signals();
    setrlimit(RLIMIT_CORE, &core);
    if (fd < 3)
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 4);
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, 0) < 0 || dup2(nowhere, 1) < 0 || dup2(nowhere, 2) < 0)
        _exit(NOT_BEGUN);
    if (fd != 3 && dup2(fd, 3) < 0)
        _exit(NOT_BEGUN);
    fcntl(3, F_SETFD, FD_CLOEXEC);
    if (close_range(4, ~0U, 0) < 0)
        _exit(NOT_BEGUN);
    memory.rlim_cur = memory.rlim_max = address_space() + CHILD_MEMORY_BYTES;
    if (setrlimit(RLIMIT_AS, &memory) < 0)
        _exit(NOT_BEGUN);
}

__attribute__((noreturn)) static void child_main(const struct child *child, int fd, pid_t parent)
{
    struct text request = {.maximum = CHILD_FRAME_BYTES}, reply = {.maximum = CHILD_FRAME_BYTES};
    struct itimerval alone = {.it_value = {.tv_sec = ALONE_SECONDS}}, off = {0};
    uint64_t number;

    enter(fd, parent);
    while (receive_frame(3, &number, &request, NULL) == STATUS_OK && !request.failed) {
        setitimer(ITIMER_REAL, &alone, NULL);
        text_clear(&reply);
        child->serve(&request, &reply);
        setitimer(ITIMER_REAL, &off, NULL);
        if (reply.failed || send_frame(3, number, &reply, NULL) < 0)
            break;
    }
    _exit(0);
}

/* ---- The parent's side. */

void child_create(struct child **out,
                  void (*serve)(const struct text *request, struct text *reply))
{
    struct child *child = mem_alloc(1, sizeof(*child));

    child->serve = serve;
    child->pidfd = child->fd = -1;
    *out = child;
}

/* ECHILD: the host ignores SIGCHLD, or waits for any child. It is gone all the same. */
static siginfo_t reap(int pidfd)
{
    siginfo_t how = {0};

    while (waitid(P_PIDFD, (id_t)pidfd, &how, WEXITED) < 0 && errno == EINTR)
        ;
    close(pidfd);
    return how;
}

/* Waits for the oldest only when there are more than `most`. */
static void reap_dying(struct child *child, int most)
{
    for (int i = 0; i < child->n_dying;) {
        struct pollfd ended = {.fd = child->dying[i], .events = POLLIN};
        if (child->n_dying <= most && poll(&ended, 1, 0) == 0) {
            i++;
            continue;
        }
        reap(child->dying[i]);
        memmove(&child->dying[i], &child->dying[i + 1],
                (size_t)(--child->n_dying - i) * sizeof(child->dying[0]));
    }
}

/* Kills what is left of it. 1 when it is not to blame: a signal that neither it nor we sent has
 * ended it, or it had not begun. */
static int end_child(struct child *child, int wait_ms)
{
    struct pollfd ended = {.fd = child->pidfd, .events = POLLIN};
    siginfo_t how = {0};

    if (!child->pid)
        return 0;
    close(child->fd);
    if (wait_ms && poll(&ended, 1, wait_ms) > 0) {
        how = reap(child->pidfd);
    } else {
        (void)pidfd_send_signal(child->pidfd, SIGKILL, NULL, 0);
        reap_dying(child, DYING - 1);
        child->dying[child->n_dying++] = child->pidfd;
    }
    child->pid = 0;
    child->pidfd = child->fd = -1;
    if (how.si_code == CLD_EXITED)
        return how.si_status == NOT_BEGUN;
    return how.si_code == CLD_KILLED &&
           (how.si_status == SIGKILL || how.si_status == SIGTERM || how.si_status == SIGINT ||
            how.si_status == SIGHUP);
}

void child_destroy(struct child **child)
{
    if (!*child)
        return;
    end_child(*child, 0);
    reap_dying(*child, 0);
    mem_free(*child);
    *child = NULL;
}

static int start_child(struct child *child)
{
    int fds[2];
    pid_t parent = getpid();

    reap_dying(child, DYING);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return status_fail(STATUS_IO, "child of math: socketpair: %s", strerror(errno));
    pid_t pid = fork();
    if (pid == 0)
        child_main(child, fds[1], parent);
    int error = errno;
    close(fds[1]);
    if (pid < 0) {
        close(fds[0]);
        return status_fail(STATUS_IO, "child of math: fork: %s", strerror(error));
    }
    setpgid(pid, pid);   /* in both processes, so that neither can be late */
    child->pidfd = pidfd_open(pid, 0);
    if (child->pidfd < 0) {
        error = errno;
        close(fds[0]);
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        return status_fail(STATUS_IO, "child of math: pidfd_open: %s", strerror(error));
    }
    child->pid = pid;
    child->fd = fds[0];
    return STATUS_OK;
}

/* One that died while nobody asked it anything is replaced without a word. Late bytes of an answer
 * cannot be there: a late child is killed. */
static int ensure_child(struct child *child)
{
    struct pollfd state = {.fd = child->fd, .events = POLLIN};

    if (child->pid && poll(&state, 1, 0) > 0)
        end_child(child, 0);
    return child->pid ? STATUS_OK : start_child(child);
}

static int exchange(struct child *child, const struct text *request, struct text *reply,
                    struct deadline *deadline)
{
    struct patience patience = {deadline, child->pid, process_cpu_us(child->pid)};
    uint64_t number = 0;

    child->n_asked++;
    int status = send_frame(child->fd, child->n_asked, request, &patience);
    if (status == STATUS_OK)
        status = receive_frame(child->fd, &number, reply, &patience);
    deadline_charge(deadline, used_us(&patience));
    if (status == STATUS_OK && (number != child->n_asked || reply->failed))
        return STATUS_FORMAT;
    return status;
}

enum child_outcome child_ask(struct child *child, const struct text *request, struct text *reply,
                             struct deadline *deadline)
{
    if (request->failed || request->length > CHILD_FRAME_BYTES)
        return CHILD_FAILED;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (ensure_child(child) < 0)
            return CHILD_ABSENT;
        int status = exchange(child, request, reply, deadline);
        if (status == STATUS_OK)
            return CHILD_OK;
        if (!end_child(child, status == STATUS_CLOSED ? LEAVING_MS : 0))
            return status == STATUS_TIMEOUT ? CHILD_LATE : CHILD_FAILED;
    }
    return CHILD_KILLED;
}

pid_t child_pid(const struct child *child)
{
    return child->pid;
}
