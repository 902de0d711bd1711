/* What loopback and libzmq give by themselves: the same bytes, from the same map, to n readers in
 * processes of their own. */
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include "bench/load.h"
#include "common/memory.h"

#define PIECE_BYTES ((size_t)1 << 20)
#define QUEUE 32
#define FIRST_READER 0x41414141   /* a routing id has no 0 at its start */

static int wait_for(int n)
{
    int failed = 0, how;

    for (int i = 0; i < n; i++)
        failed |= wait(&how) < 0 || how != 0;
    return failed;
}

/* ---- Plain TCP: a writer and a reader for each connection. */

static int write_all(int fd, const struct file_map *bytes)
{
    for (size_t at = 0; at < bytes->n;) {
        size_t left = bytes->n - at;
        ssize_t n = send(fd, bytes->bytes + at, left < PIECE_BYTES ? left : PIECE_BYTES,
                         MSG_NOSIGNAL);
        if (n <= 0)
            return 1;
        at += (size_t)n;
    }
    return 0;
}

static int read_all(int fd, size_t n)
{
    char *piece = mem_alloc(PIECE_BYTES, 1);
    ssize_t got;

    for (; n > 0 && (got = recv(fd, piece, PIECE_BYTES, 0)) > 0; n -= (size_t)got)
        continue;
    mem_free(piece);
    return n > 0;
}

static int connect_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fds[1] = -1;
    if (!bind(listener, (struct sockaddr *)&address, n) && !listen(listener, 1) &&
        !getsockname(listener, (struct sockaddr *)&address, &n) &&
        !connect(fds[0], (struct sockaddr *)&address, n))
        fds[1] = accept(listener, NULL, NULL);
    close(listener);
    return fds[1] < 0;
}

double load_raw_tcp(const struct file_map *bytes, int n_readers)
{
    double start = clock_seconds();
    int failed = 0;

    for (int i = 0; i < n_readers; i++) {
        int fds[2];
        failed |= connect_pair(fds);
        for (int side = 0; side < 2; side++)
            if (fork() == 0)
                _exit(side ? read_all(fds[1], bytes->n) : write_all(fds[0], bytes));
        close(fds[0]);
        close(fds[1]);
    }
    failed |= wait_for(2 * n_readers);
    return failed ? -1 : clock_seconds() - start;
}

/* ---- libzmq: one ROUTER, DEALERs, messages of 1 MiB. */

struct pair {
    char public_key[41], secret[41];
};

static int read_messages(const char *endpoint, int number, size_t n, const struct pair *hub)
{
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_DEALER);
    int wait_ms = 60000, queue = QUEUE;
    struct pair own;
    zmq_msg_t message;

    zmq_curve_keypair(own.public_key, own.secret);
    zmq_setsockopt(socket, ZMQ_ROUTING_ID, &number, sizeof(number));
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms));
    zmq_setsockopt(socket, ZMQ_RCVHWM, &queue, sizeof(queue));
    if (hub) {
        zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, hub->public_key, 41);
        zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, own.public_key, 41);
        zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, own.secret, 41);
    }
    int failed = zmq_connect(socket, endpoint) || zmq_send(socket, "", 0, 0);
    while (!failed && n > 0) {
        zmq_msg_init(&message);
        failed = zmq_msg_recv(&message, socket, 0) < 0;
        n -= failed ? 0 : zmq_msg_size(&message);
        zmq_msg_close(&message);
    }
    return failed;
}

/* Greetings first, then a piece to each in turn; a full queue is waited for. */
static int send_messages(void *router, const struct file_map *bytes, int n_readers)
{
    int number;
    char nothing;

    for (int i = 0; i < n_readers; i++)
        if (zmq_recv(router, &number, sizeof(number), 0) < 0 ||
            zmq_recv(router, &nothing, 1, 0) < 0)
            return 1;
    for (size_t at = 0; at < bytes->n; at += PIECE_BYTES) {
        size_t left = bytes->n - at;
        for (number = FIRST_READER; number < FIRST_READER + n_readers; number++)
            if (zmq_send(router, &number, sizeof(number), ZMQ_SNDMORE) < 0 ||
                zmq_send(router, bytes->bytes + at, left < PIECE_BYTES ? left : PIECE_BYTES, 0) < 0)
                return 1;
    }
    return 0;
}

double load_raw_zmq(const struct file_map *bytes, int n_readers, int is_curve)
{
    int on = 1, wait_ms = 60000, queue = QUEUE;
    void *context = zmq_ctx_new(), *router = zmq_socket(context, ZMQ_ROUTER);
    char endpoint[128];
    size_t n = sizeof(endpoint);
    struct pair hub;

    zmq_curve_keypair(hub.public_key, hub.secret);
    zmq_setsockopt(router, ZMQ_ROUTER_MANDATORY, &on, sizeof(on));
    zmq_setsockopt(router, ZMQ_SNDTIMEO, &wait_ms, sizeof(wait_ms));
    zmq_setsockopt(router, ZMQ_RCVTIMEO, &wait_ms, sizeof(wait_ms));
    zmq_setsockopt(router, ZMQ_SNDHWM, &queue, sizeof(queue));
    if (is_curve) {
        zmq_setsockopt(router, ZMQ_CURVE_SERVER, &on, sizeof(on));
        zmq_setsockopt(router, ZMQ_CURVE_SECRETKEY, hub.secret, 41);
    }
    int failed = zmq_bind(router, "tcp://127.0.0.1:*") ||
                 zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &n);
    double start = clock_seconds();
    for (int i = 0; i < n_readers && !failed; i++)   /* each with a context of its own */
        if (fork() == 0)
            _exit(read_messages(endpoint, FIRST_READER + i, bytes->n, is_curve ? &hub : NULL));
    failed = failed || send_messages(router, bytes, n_readers) || wait_for(n_readers);
    double seconds = clock_seconds() - start;
    zmq_close(router);
    zmq_ctx_term(context);
    return failed ? -1 : seconds;
}
