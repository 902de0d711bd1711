/*
 * The caller's side of the broker: starts it, keeps channels to its attendants, one request at a
 * time in each, and starts it again when it died. The broker has no other way to know that its
 * caller is gone than the end of these sockets.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "sandbox/internal.h"

#define HELLO_MS 120000     /* it proves every wall first */
#define PATIENCE_MS 60000   /* beyond a run's own limits: turns, second runs, a new cell */
#define GOODBYE_MS 5000
#define ATTEMPTS 2
#define CHANNELS_MAX 1024

struct client {
    struct sandbox_config config;
    struct box_hello hello;
    pthread_mutex_t lock;
    pthread_cond_t is_free;
    pid_t owner;
    int control;                 /* -1: no broker */
    unsigned generation;         /* of the broker */
    int idle[CHANNELS_MAX], n_idle, n_channels;
};


/* What a loader or a sanitizer needs; the broker forgets it at once. */
static void choose_environment(char *environment[])
{
    static const char *const names[] = {"LD_LIBRARY_PATH=", "ASAN_OPTIONS=", "TSAN_OPTIONS=",
                                        "UBSAN_OPTIONS=", "LSAN_OPTIONS="};
    int n = 0;

    for (char **one = environ; one && *one; one++)
        for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
            if (strncmp(*one, names[i], strlen(names[i])) == 0 && n < 5)
                environment[n++] = *one;
    environment[n] = NULL;
}

/* A descriptor above the standard ones, which the caller may have closed. */
static int move_up(int *fd)
{
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, BROKER_SOCKET + 1);

    if (moved < 0)
        return -1;
    close(*fd);
    *fd = moved;
    return 0;
}

static int spawn(int socket, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    char name[] = BROKER_NAME;
    char *arguments[] = {name, NULL}, *environment[6];

    choose_environment(environment);
    sigemptyset(&none);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, socket, BROKER_SOCKET);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int error = posix_spawn(pid, "/proc/self/exe", &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error)
        return status_fail(STATUS_UNSUPPORTED,
                           "sandbox: start the broker (/proc/self/exe): %s: mount /proc, raise the "
                           "limit of processes",
                           strerror(error));
    return 0;
}

static int wait_readable(int fd, int64_t ms)
{
    int64_t deadline_ms = clock_ms() + ms;

    for (;;) {
        struct pollfd ready = {fd, POLLIN, 0};
        int64_t left = deadline_ms - clock_ms();
        int n = poll(&ready, 1, left < 0 ? 0 : (int)left);
        if (n > 0)
            return 1;
        if (n == 0 || errno != EINTR)
            return 0;
    }
}

static int greet(struct client *client, int socket)
{
    int no_fds = 0;

    if (rights_send(socket, &client->config, sizeof(client->config), NULL, 0, NULL, 0) < 0)
        return status_fail(STATUS_CLOSED, "sandbox: the broker does not listen: %s",
                           strerror(errno));
    if (!wait_readable(socket, HELLO_MS))
        return status_fail(STATUS_TIMEOUT, "sandbox: the broker says nothing for %d s: is the "
                                           "machine overloaded?", HELLO_MS / 1000);
    if (rights_receive(socket, &client->hello, sizeof(client->hello), NULL, &no_fds) !=
            (ssize_t)sizeof(client->hello) ||
        client->hello.magic != BOX_MAGIC)
        return status_fail(STATUS_CLOSED, "sandbox: the broker died while it was started: look for "
                                          "limits of memory or processes (ulimit -a)");
    if (client->hello.status < 0)
        return status_fail(client->hello.status, "%s", client->hello.reason);
    return 0;
}

/* With the lock held. */
static int start_broker(struct client *client)
{
    int ends[2];
    pid_t pid = 0;

    broker_is_linked();
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return status_fail(STATUS_IO, "sandbox: socketpair: %s: raise the descriptor limit",
                           strerror(errno));
    int status = 0;
    if (move_up(&ends[0]) < 0 || move_up(&ends[1]) < 0)
        status = status_fail(STATUS_IO, "sandbox: fcntl: %s: raise the descriptor limit",
                             strerror(errno));
    if (status >= 0)
        status = spawn(ends[1], &pid);
    close(ends[1]);
    /* The first process only starts the second. Who ignores SIGCHLD has no child to wait for. */
    while (status >= 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (status >= 0)
        status = greet(client, ends[0]);
    if (status < 0) {
        close(ends[0]);
        return status;
    }
    client->control = ends[0];
    client->generation++;
    return 0;
}

/* With the lock held: everything of a broker that is gone. */
static void forget_broker(struct client *client)
{
    if (client->control >= 0)
        close(client->control);
    client->control = -1;
    client->n_channels -= client->n_idle;
    while (client->n_idle > 0)
        close(client->idle[--client->n_idle]);
}

/* With the lock held. */
static int open_channel(struct client *client, int *out)
{
    int ends[2];

    for (int attempt = 0;; attempt++) {
        if (client->control < 0)
            TRY(start_broker(client));
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
            return status_fail(STATUS_IO, "sandbox: socketpair: %s: raise the descriptor limit",
                               strerror(errno));
        int sent = rights_send(client->control, "c", 1, NULL, 0, &ends[1], 1);
        int error = errno;
        close(ends[1]);
        if (sent == 0)
            break;
        close(ends[0]);
        if (attempt + 1 == ATTEMPTS || error == EMFILE || error == ENFILE || error == ETOOMANYREFS)
            return status_fail(STATUS_CLOSED, "sandbox: the broker takes no channel: %s",
                               strerror(error));
        forget_broker(client);
    }
    *out = ends[0];
    return 0;
}

static int take_channel(struct client *client, int *channel, unsigned *generation)
{
    int status = 0;

    pthread_mutex_lock(&client->lock);
    while (client->n_idle == 0 && client->n_channels >= client->hello.n_cells)
        pthread_cond_wait(&client->is_free, &client->lock);
    if (client->n_idle > 0)
        *channel = client->idle[--client->n_idle];
    else {
        status = open_channel(client, channel);
        client->n_channels += status >= 0;
    }
    *generation = client->generation;
    pthread_mutex_unlock(&client->lock);
    return status;
}

/* A channel on which something failed is closed: its attendant cleans up and ends. */
static void give_channel(struct client *client, int channel, unsigned generation, int good)
{
    pthread_mutex_lock(&client->lock);
    if (good && generation == client->generation)
        client->idle[client->n_idle++] = channel;
    else {
        close(channel);
        client->n_channels--;
    }
    pthread_cond_signal(&client->is_free);
    pthread_mutex_unlock(&client->lock);
}

static int map_bytes(int fd, uint64_t n, struct sandbox_result *result,
                     const struct box_answer *answer)
{
    struct stat about;

    if (fstat(fd, &about) < 0 || (uint64_t)about.st_size != n)
        return -1;
    char *bytes = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return -1;
    text_append(&result->output, bytes, answer->n_output);
    text_append(&result->errors, bytes + answer->n_output, answer->n_errors);
    text_append(&result->answer, bytes + answer->n_output + answer->n_errors, answer->n_answer);
    munmap(bytes, n);
    return 0;
}

/* Reads the one answer; -1 when it makes no sense. */
static int take_answer(int channel, struct box_answer *answer, struct sandbox_result *result,
                       int *result_fd)
{
    static const size_t room = sizeof(*answer) + BOX_INLINE_BYTES;
    char *bytes = mem_alloc(room, 1);
    int fds[BOX_RIGHTS_MAX], n_fds = BOX_RIGHTS_MAX, next = 0, bad = 1;
    ssize_t n = rights_receive(channel, bytes, room, fds, &n_fds);

    if (n >= (ssize_t)sizeof(*answer)) {
        memcpy(answer, bytes, sizeof(*answer));
        answer->reason[sizeof(answer->reason) - 1] = '\0';
        uint64_t total = answer->n_output + answer->n_errors + answer->n_answer;
        const char *rest = bytes + sizeof(*answer);
        if (answer->has_result && next < n_fds)
            *result_fd = fds[next++];
        if (total == (uint64_t)n - sizeof(*answer)) {
            text_append(&result->output, rest, answer->n_output);
            text_append(&result->errors, rest + answer->n_output, answer->n_errors);
            text_append(&result->answer, rest + answer->n_output + answer->n_errors,
                        answer->n_answer);
            bad = 0;
        } else if (next < n_fds)
            bad = map_bytes(fds[next], total, result, answer);
        bad |= answer->magic != BOX_MAGIC || (answer->has_result && *result_fd < 0);
    }
    while (next < n_fds)
        close(fds[next++]);
    mem_free(bytes);
    return bad ? -1 : 0;
}

/* 1: answered; 0: whoever was there is gone; negative: no answer in time. */
static int ask_once(int channel, const struct box_request *request, const int *fds, int n_fds,
                    struct sandbox_result *result, struct box_answer *answer, int *result_fd)
{
    int64_t patience_ms = 24 * request->limits.wall_ms + PATIENCE_MS;

    if (rights_send(channel, request, sizeof(*request), NULL, 0, fds, n_fds) < 0) {
        if (errno == EPIPE || errno == ECONNRESET)
            return 0;
        return status_fail(STATUS_IO, "sandbox: send a request: %s: raise the descriptor limit",
                           strerror(errno));
    }
    if (!wait_readable(channel, patience_ms))
        return status_fail(STATUS_TIMEOUT, "sandbox: no answer after %lld s: is the machine "
                                           "stuck?", (long long)(patience_ms / 1000));
    if (take_answer(channel, answer, result, result_fd) < 0) {
        sandbox_result_release(result);
        if (*result_fd >= 0)
            close(*result_fd);
        *result_fd = -1;
        return 0;
    }
    return 1;
}

static int try_channel(struct client *client, const struct box_request *request, const int *fds,
                       int n_fds, struct sandbox_result *result, struct box_answer *answer,
                       int *result_fd)
{
    unsigned generation;
    int channel = -1;

    TRY(take_channel(client, &channel, &generation));
    int got = ask_once(channel, request, fds, n_fds, result, answer, result_fd);
    give_channel(client, channel, generation, got == 1);
    return got;
}

/* The one that died may have read some: the same files, opened anew. */
static int try_again(struct client *client, const struct box_request *request, const int *fds,
                     int n_fds, struct sandbox_result *result, struct box_answer *answer,
                     int *result_fd)
{
    int fresh[BOX_RIGHTS_MAX], n = 0, status = 0;

    while (n < n_fds && status >= 0) {
        status = memfd_reopen(&fresh[n], fds[n]);
        n += status >= 0;
    }
    if (status >= 0)
        status = try_channel(client, request, fresh, n, result, answer, result_fd);
    while (n > 0)
        close(fresh[--n]);
    return status;
}

int client_ask(struct client *client, const struct box_request *request, const int *fds, int n_fds,
               struct sandbox_result *result, struct box_answer *answer, int *result_fd)
{
    *result_fd = -1;
    if (client->owner != getpid())
        return status_fail(STATUS_UNSUPPORTED, "sandbox: a forked child uses its parent's sandbox: "
                                               "create one of its own");
    int got = try_channel(client, request, fds, n_fds, result, answer, result_fd);
    if (got == 0)
        got = try_again(client, request, fds, n_fds, result, answer, result_fd);
    TRY(got);
    if (got == 0)
        return status_fail(STATUS_CLOSED, "sandbox: the broker died twice in one run: look for the "
                                          "kernel's out-of-memory messages");
    return answer->status < 0 ? status_fail(answer->status, "%s", answer->reason) : 0;
}

int client_create(struct client **out, const struct sandbox_config *config)
{
    struct client *client = mem_alloc(1, sizeof(*client));

    client->config = *config;
    client->control = -1;
    client->owner = getpid();
    pthread_mutex_init(&client->lock, NULL);
    pthread_cond_init(&client->is_free, NULL);
    *out = client;
    int status = start_broker(client);
    if (client->hello.n_cells > CHANNELS_MAX)
        client->hello.n_cells = CHANNELS_MAX;
    if (status < 0)
        client_destroy(out);
    return status;
}

/* Returns when the broker has cleaned up and ended, so that nothing of it is left. */
void client_destroy(struct client **client)
{
    struct client *one = *client;

    if (!one)
        return;
    if (one->owner == getpid()) {
        while (one->n_idle > 0) {
            shutdown(one->idle[--one->n_idle], SHUT_RDWR);
            close(one->idle[one->n_idle]);
        }
        if (one->control >= 0) {
            char byte;
            int no_fds = 0;
            shutdown(one->control, SHUT_WR);
            if (wait_readable(one->control, GOODBYE_MS))
                (void)rights_receive(one->control, &byte, 1, NULL, &no_fds);
        }
    }
    if (one->control >= 0)
        close(one->control);
    pthread_cond_destroy(&one->is_free);
    pthread_mutex_destroy(&one->lock);
    mem_free(one);
    *client = NULL;
}

const struct box_hello *client_hello(const struct client *client)
{
    return &client->hello;
}
