#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include "common/log.h"
#include "common/status.h"
#include "wire/internal.h"

#define ENDPOINT_BYTES 512

#define SAY_EVERY_MS 10000

struct wire_hub {
    void *context, *socket;
    struct gate *gate;               /* NULL for ipc:// and plain tcp:// */
    struct wire_refusals said;       /* what the log has been told */
    int64_t said_ms;
    char endpoint[ENDPOINT_BYTES];
};

static int fail_in_use(const char *endpoint)
{
    return status_fail(STATUS_IO,
                       "endpoint %s is in use by another process; choose another with --set "
                       "run.endpoint=... (of ranks: run.rank_endpoint)",
                       endpoint);
}

/* ZeroMQ unlinks whatever lies at the path before it binds: right for a stale socket, wrong for one
 * that somebody listens on and for a file. */
static int check_ipc_free(const char *endpoint)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = endpoint + 6;
    struct stat info;

    if (lstat(path, &info))
        return STATUS_OK;
    if (!S_ISSOCK(info.st_mode))
        return status_fail(STATUS_IO, "endpoint %s: a file that is no socket is there; choose "
                           "another with --set run.endpoint=...", endpoint);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return STATUS_OK;
    int alive = connect(probe, (struct sockaddr *)&address, sizeof(address)) == 0;
    close(probe);
    return alive ? fail_in_use(endpoint) : STATUS_OK;
}

int socket_bind(void *socket, const char *endpoint, char *bound, size_t n_bound)
{
    int is_ipc = !strncmp(endpoint, "ipc://", 6);

    if (is_ipc && strcmp(endpoint, "ipc://*"))
        TRY(check_ipc_free(endpoint));
    if (zmq_bind(socket, endpoint)) {
        if (errno == EADDRINUSE)
            return fail_in_use(endpoint);
        return status_fail(STATUS_IO, "endpoint %s: cannot listen: %s", endpoint,
                           zmq_strerror(errno));
    }
    if (zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, bound, &n_bound))
        return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    if (is_ipc && chmod(bound + 6, S_IRUSR | S_IWUSR))
        return status_fail(STATUS_IO, "endpoint %s: chmod: %s", endpoint, strerror(errno));
    return STATUS_OK;
}

static int bind_hub(struct wire_hub *hub, const char *endpoint, const struct wire_keys *keys)
{
    int on = 1;

    TRY(socket_set_options(hub->socket, endpoint));
    TRY(socket_set_keys(hub->socket, endpoint, keys, 1));
    if (socket_is_secured(endpoint) && !keys->insecure)
        TRY(gate_open(&hub->gate, hub->context, hub->socket, endpoint, keys));
    if (zmq_setsockopt(hub->socket, ZMQ_ROUTER_MANDATORY, &on, sizeof(on)) ||
        zmq_setsockopt(hub->socket, ZMQ_ROUTER_HANDOVER, &on, sizeof(on)))
        return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    return socket_bind(hub->socket, endpoint, hub->endpoint, sizeof(hub->endpoint));
}

int wire_hub_open(struct wire_hub **out, const char *endpoint, const struct wire_keys *keys)
{
    *out = NULL;
    TRY(socket_check_endpoint(endpoint, keys));
    struct wire_hub *hub = mem_alloc(1, sizeof(*hub));
    hub->context = zmq_ctx_new();
    hub->socket = hub->context ? zmq_socket(hub->context, ZMQ_ROUTER) : NULL;
    int status = hub->socket ? bind_hub(hub, endpoint, keys)
                             : status_fail(STATUS_IO, "endpoint %s: %s", endpoint,
                                           zmq_strerror(errno));
    if (status < 0)
        wire_hub_close(&hub);
    *out = hub;
    return status;
}

void wire_hub_close(struct wire_hub **hub)
{
    if (!*hub)
        return;
    gate_close_sockets((*hub)->gate);
    socket_close(&(*hub)->context, &(*hub)->socket);
    gate_destroy(&(*hub)->gate);
    if (strncmp((*hub)->endpoint, "ipc://", 6) == 0)
        unlink((*hub)->endpoint + 6);   /* ZeroMQ leaves it */
    mem_free(*hub);
    *hub = NULL;
}

const char *wire_hub_endpoint(const struct wire_hub *hub)
{
    return hub->endpoint;
}

/* A worker's name: printable, so that it may stand in a log line. */
static int read_peer(char peer[WIRE_NAME_BYTES], zmq_msg_t *part)
{
    const unsigned char *bytes = zmq_msg_data(part);
    size_t n = zmq_msg_size(part);

    if (n == 0 || n >= WIRE_NAME_BYTES)
        return 0;
    for (size_t i = 0; i < n; i++)
        if (bytes[i] <= ' ' || bytes[i] > '~')
            return 0;
    memcpy(peer, bytes, n);
    peer[n] = '\0';
    return 1;
}

/* Takes the next part of the message that has begun; 0 when it has no more. */
static int take_part(void *socket, zmq_msg_t *part)
{
    if (!zmq_msg_more(part))
        return 0;
    zmq_msg_close(part);
    zmq_msg_init(part);
    while (zmq_msg_recv(part, socket, 0) < 0)
        if (errno != EINTR)
            return 0;
    return 1;
}

/* 1 when `frame` holds a message, 0 when none is there or it was a stranger's. */
static int receive_message(struct wire_hub *hub, char peer[WIRE_NAME_BYTES], struct text *frame)
{
    zmq_msg_t part;
    int good;

    zmq_msg_init(&part);
    if (zmq_msg_recv(&part, hub->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close(&part);
        if (errno == EAGAIN || errno == EINTR)
            return 0;
        return status_fail(STATUS_IO, "endpoint %s: %s", hub->endpoint, zmq_strerror(errno));
    }
    good = read_peer(peer, &part);
    if (take_part(hub->socket, &part))
        text_append(frame, zmq_msg_data(&part), zmq_msg_size(&part));
    else
        good = 0;
    while (take_part(hub->socket, &part))
        good = 0;
    zmq_msg_close(&part);
    if (!good) {
        text_clear(frame);
        log_debug("endpoint %s: dropped a message that no worker of hone sends", hub->endpoint);
        return 0;
    }
    if (frame->failed)
        return status_fail(STATUS_NOMEM, "a message of %s does not fit", peer);
    return 1;
}

void wire_hub_refusals(struct wire_hub *hub, struct wire_refusals *refusals)
{
    memset(refusals, 0, sizeof(*refusals));
    if (hub->gate)
        gate_refusals(hub->gate, refusals);
}

/* However many strangers knock, one line in ten seconds. */
static void say_refusals(struct wire_hub *hub)
{
    struct wire_refusals now, *said = &hub->said;
    int64_t now_ms = clock_ms();

    if (!hub->gate || (hub->said_ms && now_ms - hub->said_ms < SAY_EVERY_MS))
        return;
    gate_refusals(hub->gate, &now);
    if (memcmp(&now, said, sizeof(now)) == 0)
        return;
    log_warning("endpoint %s: turned away: %llu with a key that is not on the list, %llu whose "
                "handshake broke off (no CURVE, or another coordinator's key), %llu that sent too "
                "much or were too many", hub->endpoint,
                (unsigned long long)(now.n_unknown - said->n_unknown),
                (unsigned long long)(now.n_broken - said->n_broken),
                (unsigned long long)(now.n_crowded - said->n_crowded));
    *said = now;
    hub->said_ms = now_ms;
}

int wire_hub_receive(struct wire_hub *hub, char peer[WIRE_NAME_BYTES], struct text *frame,
                     int timeout_ms)
{
    int64_t deadline_ms = clock_ms() + (timeout_ms > 0 ? timeout_ms : 0);

    text_clear(frame);
    say_refusals(hub);
    for (;;) {
        TRY(socket_wait(hub->socket, deadline_ms, hub->endpoint));
        int got = receive_message(hub, peer, frame);
        if (got)
            return got < 0 ? got : STATUS_OK;
    }
}

int wire_hub_send(struct wire_hub *hub, const char *peer, const struct text *frame, int timeout_ms)
{
    size_t n = strlen(peer);

    if (n == 0 || n >= WIRE_NAME_BYTES)
        return status_fail(STATUS_CLOSED, "endpoint %s: no worker is named \"%s\"", hub->endpoint,
                           peer);
    return socket_send(hub->socket, peer, frame, timeout_ms, hub->endpoint);
}
