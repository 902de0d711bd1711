/*
 * The hub's gate: one thread that lets in whose key is on the list (ZAP, RFC 27), counts who was
 * turned away, and bounds what strangers cost.
 *
 * A connection whose handshake is not done is pending. There are at most MAX_PENDING: one more
 * makes room by ending the oldest. libzmq takes a frame of up to ZMQ_MAXMSGSIZE into memory before
 * it looks whether a handshake may hold it, so one that sends over PENDING_BYTES is ended. libzmq
 * does not say which connection's handshake succeeded; that the hub has sent its READY says it
 * (RFC 26: greeting 64 bytes, WELCOME 170, then READY, or ERROR, which is shorter than 32).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "common/status.h"
#include "wire/internal.h"

#define ZAP "inproc://zeromq.zap.01"
#define MONITOR "inproc://gate"
#define EVENTS                                                                                     \
    (ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED |                              \
     ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |                        \
     ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
#define MAX_PENDING 128
#define PENDING_BYTES 8192u
#define LOOK_MS 20                    /* how often pending ones are looked at */
#define HANDSHAKE_SENT (64 + 170 + 32)
#define ZAP_PARTS 16
#define ZAP_PART_BYTES 256

/* A descriptor is libzmq's, which may close it before its event is read; the next socket then has
 * the same number, but another inode. */
struct pending {
    int fd;
    ino_t socket;
};

struct gate {
    void *zap, *monitor;              /* of the thread, once it runs */
    char endpoint[256];
    char allowed[FILE_PATH_MAX];      /* or "": */
    char own[WIRE_KEY_BYTES];         /* this key alone */
    struct pending pending[MAX_PENDING];   /* the oldest first */
    int n_pending;
    int n_let_in, n_denied;           /* of the pending: those with a verdict (events without a
                                       * descriptor; what was sent may be seen before the event) */
    int is_explained;                 /* why the connection that ends now does not stand */
    pthread_t thread;
    int has_thread;
    pthread_mutex_t mutex;            /* of the counts */
    struct wire_refusals refusals;
};

static void count(struct gate *gate, uint64_t *which)
{
    pthread_mutex_lock(&gate->mutex);
    ++*which;
    pthread_mutex_unlock(&gate->mutex);
}

/* ---- Who is let in. */

/* The parts of one request; 0 when it has not the form of one. */
static int take_request(struct gate *gate, char parts[ZAP_PARTS][ZAP_PART_BYTES], int *sizes)
{
    int n = 0, more = 1, good = 1;
    size_t size = sizeof(more);

    while (more) {
        char *part = parts[n < ZAP_PARTS ? n : ZAP_PARTS - 1];
        int got = zmq_recv(gate->zap, part, ZAP_PART_BYTES, n ? 0 : ZMQ_DONTWAIT);
        if (got < 0)
            return -1;
        good = good && n < ZAP_PARTS && got <= ZAP_PART_BYTES;
        if (good)
            sizes[n] = got;
        n++;
        if (zmq_getsockopt(gate->zap, ZMQ_RCVMORE, &more, &size))
            return -1;
    }
    return good ? n : 0;
}

static int is_let_in(const struct gate *gate, char parts[ZAP_PARTS][ZAP_PART_BYTES],
                     const int *sizes, int n)
{
    char key[WIRE_KEY_BYTES];

    if (n != 7 || sizes[5] != 5 || memcmp(parts[5], "CURVE", 5) || sizes[6] != 32)
        return 0;
    if (!zmq_z85_encode(key, (const uint8_t *)parts[6], 32))
        return 0;
    return gate->allowed[0] ? keys_are_allowed(gate->allowed, key) == 1
                            : strcmp(gate->own, key) == 0;
}

static void answer_request(struct gate *gate)
{
    char parts[ZAP_PARTS][ZAP_PART_BYTES];
    int sizes[ZAP_PARTS] = {0};
    int n = take_request(gate, parts, sizes);

    if (n < 0)
        return;
    int good = is_let_in(gate, parts, sizes, n);
    if (!good)
        count(gate, &gate->refusals.n_unknown);
    zmq_send(gate->zap, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(gate->zap, parts[1], n > 1 ? (size_t)sizes[1] : 0, ZMQ_SNDMORE);
    zmq_send(gate->zap, good ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(gate->zap, "", 0, ZMQ_SNDMORE);
    zmq_send(gate->zap, "", 0, ZMQ_SNDMORE);
    zmq_send(gate->zap, "", 0, 0);
}

/* ---- Pending connections. */

static void forget(struct gate *gate, int i)
{
    gate->n_pending--;
    memmove(gate->pending + i, gate->pending + i + 1,
            (size_t)(gate->n_pending - i) * sizeof(*gate->pending));
}

/* 0: none. */
static ino_t socket_of(int fd)
{
    struct stat stat;

    return fstat(fd, &stat) == 0 && S_ISSOCK(stat.st_mode) ? stat.st_ino : 0;
}

/* The descriptor stays libzmq's, which closes it once it reads the error. To disconnect resets the
 * connection; shutdown() would still take in what the other end goes on sending. */
static void end_connection(struct gate *gate, int i)
{
    const struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    int fd = fcntl(gate->pending[i].fd, F_DUPFD_CLOEXEC, 0);   /* of one socket from here on */

    if (fd >= 0 && socket_of(fd) == gate->pending[i].socket) {
        connect(fd, &nobody, sizeof(nobody));
        count(gate, &gate->refusals.n_crowded);
    }
    if (fd >= 0)
        close(fd);
    forget(gate, i);
}

static void look_at_pending(struct gate *gate)
{
    for (int i = gate->n_pending - 1; i >= 0; i--) {
        struct tcp_info info = {0};
        socklen_t n = sizeof(info);
        if (socket_of(gate->pending[i].fd) != gate->pending[i].socket ||
            getsockopt(gate->pending[i].fd, IPPROTO_TCP, TCP_INFO, &info, &n) ||
            n < offsetof(struct tcp_info, tcpi_bytes_sent) + sizeof(info.tcpi_bytes_sent))
            forget(gate, i);          /* it is gone */
        else if (info.tcpi_bytes_sent > HANDSHAKE_SENT) {
            forget(gate, i);          /* it was let in */
            gate->n_let_in--;
        } else if (info.tcpi_bytes_received > PENDING_BYTES)
            end_connection(gate, i);
    }
}

static void add_pending(struct gate *gate, int fd)
{
    if (gate->n_pending == MAX_PENDING)
        look_at_pending(gate);
    if (gate->n_pending == MAX_PENDING)
        end_connection(gate, 0);
    gate->pending[gate->n_pending++] = (struct pending){fd, socket_of(fd)};
}

/* A handshake that ends without a verdict broke a rule of the protocol. */
static void remove_pending(struct gate *gate, int fd)
{
    for (int i = gate->n_pending - 1; i >= 0; i--) {
        if (gate->pending[i].fd != fd)
            continue;
        forget(gate, i);
        if (gate->n_let_in > 0)
            gate->n_let_in--;
        else if (gate->n_denied > 0)
            gate->n_denied--;
        else if (!gate->is_explained)
            count(gate, &gate->refusals.n_broken);
    }
    gate->is_explained = 0;
}

/* An event is two parts: 16 bits of event and 32 of value, then the address. */
static void take_events(struct gate *gate)
{
    unsigned char bytes[6], address[8];
    uint16_t event;
    int32_t value;

    while (zmq_recv(gate->monitor, bytes, sizeof(bytes), ZMQ_DONTWAIT) == (int)sizeof(bytes)) {
        zmq_recv(gate->monitor, address, sizeof(address), 0);
        memcpy(&event, bytes, sizeof(event));
        memcpy(&value, bytes + sizeof(event), sizeof(value));
        if (event == ZMQ_EVENT_ACCEPTED)
            add_pending(gate, value);
        else if (event == ZMQ_EVENT_DISCONNECTED || event == ZMQ_EVENT_CLOSED)
            remove_pending(gate, value);
        else if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            gate->n_let_in++;
        else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)   /* that was counted by its key */
            gate->n_denied++;
        else {
            count(gate, &gate->refusals.n_broken);
            gate->is_explained = 1;
        }
    }
}

/* ---- The thread. It ends with the context. */

static void *keep_gate(void *argument)
{
    struct gate *gate = argument;
    zmq_pollitem_t items[2] = {{.socket = gate->zap, .events = ZMQ_POLLIN},
                               {.socket = gate->monitor, .events = ZMQ_POLLIN}};

    /* It goes on whatever fails: without an answer to ZAP, libzmq would let everybody in. */
    while (zmq_poll(items, 2, gate->n_pending ? LOOK_MS : -1) >= 0 || errno != ETERM) {
        if (items[0].revents)
            answer_request(gate);
        if (items[1].revents)
            take_events(gate);
        look_at_pending(gate);
    }
    zmq_close(gate->zap);
    zmq_close(gate->monitor);
    return NULL;
}

/* Signals are for the threads that wait for them. */
static int start_thread(struct gate *gate)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&gate->thread, NULL, keep_gate, gate);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return status_fail(STATUS_IO, "endpoint %s: no thread for the gate: %s", gate->endpoint,
                           strerror(error));
    gate->has_thread = 1;
    return STATUS_OK;
}

static int open_sockets(struct gate *gate, void *context, void *socket)
{
    int linger = 0, unbounded = 0;

    gate->zap = zmq_socket(context, ZMQ_REP);
    gate->monitor = zmq_socket(context, ZMQ_PAIR);
    /* The monitor's queue is unbounded: a full one would stop the I/O thread. It is emptied by a
     * thread that does nothing else. */
    if (!gate->zap || !gate->monitor ||
        zmq_setsockopt(gate->zap, ZMQ_LINGER, &linger, sizeof(linger)) ||
        zmq_setsockopt(gate->monitor, ZMQ_LINGER, &linger, sizeof(linger)) ||
        zmq_setsockopt(gate->monitor, ZMQ_RCVHWM, &unbounded, sizeof(unbounded)) ||
        zmq_bind(gate->zap, ZAP) || zmq_socket_monitor(socket, MONITOR, EVENTS) ||
        zmq_connect(gate->monitor, MONITOR))
        return status_fail(STATUS_IO, "endpoint %s: no gate: %s", gate->endpoint,
                           zmq_strerror(errno));
    return STATUS_OK;
}

int gate_open(struct gate **out, void *context, void *socket, const char *endpoint,
              const struct wire_keys *keys)
{
    struct gate *gate = mem_alloc(1, sizeof(*gate));

    *out = gate;
    strncpy(gate->endpoint, endpoint, sizeof(gate->endpoint) - 1);
    memcpy(gate->allowed, keys->allowed, sizeof(gate->allowed));
    memcpy(gate->own, keys->public_key, sizeof(gate->own));
    pthread_mutex_init(&gate->mutex, NULL);
    TRY(open_sockets(gate, context, socket));
    return start_thread(gate);
}

void gate_close_sockets(struct gate *gate)
{
    if (!gate || gate->has_thread)
        return;
    if (gate->zap)
        zmq_close(gate->zap);
    if (gate->monitor)
        zmq_close(gate->monitor);
}

void gate_destroy(struct gate **gate)
{
    if (!*gate)
        return;
    if ((*gate)->has_thread)
        pthread_join((*gate)->thread, NULL);
    pthread_mutex_destroy(&(*gate)->mutex);
    mem_free(*gate);
    *gate = NULL;
}

void gate_refusals(struct gate *gate, struct wire_refusals *refusals)
{
    pthread_mutex_lock(&gate->mutex);
    *refusals = gate->refusals;
    pthread_mutex_unlock(&gate->mutex);
}
