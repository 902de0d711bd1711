/* What hub and link share: options, waiting, sending, closing. */
#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "common/status.h"
#include "wire/internal.h"

#define LINGER_MS 1000            /* a STOP that was just sent still gets out */
#define HANDSHAKE_MS 5000
#define BACKLOG 128
#define HEARTBEAT_MS 2000
#define HEARTBEAT_TIMEOUT_MS 20000
#define SEND_QUEUE 1024           /* frames per peer */
#define IPC_PATH_MAX 107          /* sun_path less its NUL */

int socket_is_secured(const char *endpoint)
{
    return !strncmp(endpoint, "tcp://", 6);
}

int socket_check_endpoint(const char *endpoint, const struct wire_keys *keys)
{
    if (socket_is_secured(endpoint)) {
        if (keys && (keys->insecure || keys->secret[0]))
            return STATUS_OK;
        return status_fail(STATUS_CONFIG, "endpoint %s needs keys: `hone run` makes them in "
                           "run.keys; a worker takes its own with --key FILE or in "
                           "HONE_WORKER_KEY", endpoint);
    }
    if (strncmp(endpoint, "ipc://", 6) || !endpoint[6])
        return status_fail(STATUS_CONFIG,
                           "endpoint \"%s\": wanted ipc:///path/socket or tcp://host:port",
                           endpoint);
    size_t n = strlen(endpoint + 6);
    if (n > IPC_PATH_MAX)
        return status_fail(STATUS_CONFIG,
                           "endpoint \"%s\": its path has %zu bytes, a socket's may have %d; "
                           "choose a shorter one with --set run.endpoint=ipc:///tmp/...",
                           endpoint, n, IPC_PATH_MAX);
    return STATUS_OK;
}

static int set_int(void *socket, int option, int value, const char *endpoint)
{
    if (zmq_setsockopt(socket, option, &value, sizeof(value)))
        return status_fail(STATUS_IO, "endpoint %s: socket option %d: %s", endpoint, option,
                           zmq_strerror(errno));
    return STATUS_OK;
}

int socket_set_options(void *socket, const char *endpoint)
{
    int64_t max_message = (int64_t)WIRE_MAX_FRAME;

    TRY(set_int(socket, ZMQ_LINGER, LINGER_MS, endpoint));
    TRY(set_int(socket, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS, endpoint));
    TRY(set_int(socket, ZMQ_BACKLOG, BACKLOG, endpoint));
    TRY(set_int(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS, endpoint));
    TRY(set_int(socket, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS, endpoint));
    TRY(set_int(socket, ZMQ_SNDHWM, SEND_QUEUE, endpoint));
    /* Unbounded on purpose: a full queue would stop the I/O thread from reading, and with it from
     * answering heartbeats while this process computes. The protocol bounds what is under way. */
    TRY(set_int(socket, ZMQ_RCVHWM, 0, endpoint));
    if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &max_message, sizeof(max_message)))
        return status_fail(STATUS_IO, "endpoint %s: ZMQ_MAXMSGSIZE: %s", endpoint,
                           zmq_strerror(errno));
    return STATUS_OK;
}

int socket_set_keys(void *socket, const char *endpoint, const struct wire_keys *keys, int is_hub)
{
    int on = 1;

    if (!socket_is_secured(endpoint) || keys->insecure)
        return STATUS_OK;
    int failed =
        is_hub ? zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &on, sizeof(on)) ||
                     zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, "hone", 4)
               : zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, keys->hub, WIRE_KEY_BYTES) ||
                     zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, keys->public_key, WIRE_KEY_BYTES);
    if (failed || zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, keys->secret, WIRE_KEY_BYTES))
        return status_fail(STATUS_UNSUPPORTED, "endpoint %s: CURVE: %s", endpoint,
                           zmq_strerror(errno));
    return STATUS_OK;
}

int socket_wait(void *socket, int64_t deadline_ms, const char *endpoint)
{
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    int64_t left = deadline_ms - clock_ms();
    int n = zmq_poll(&item, 1, left > 0 ? left : 0);

    if (n > 0)
        return STATUS_OK;
    if (n == 0)
        return status_fail(STATUS_TIMEOUT, "endpoint %s: no message came in time", endpoint);
    if (errno == EINTR)
        return status_fail(STATUS_INTERRUPTED, "endpoint %s: a signal came while waiting",
                           endpoint);
    return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
}

static int fail_send(const char *peer, int timeout_ms, const char *endpoint)
{
    const char *to = peer ? peer : "the coordinator";

    switch (errno) {
    case EHOSTUNREACH:
        return status_fail(STATUS_CLOSED, "endpoint %s: %s is not connected", endpoint, to);
    case EAGAIN:
        return status_fail(STATUS_TIMEOUT, "endpoint %s: the queue to %s stayed full for %d ms",
                           endpoint, to, timeout_ms);
    case EINTR:
        return status_fail(STATUS_INTERRUPTED, "endpoint %s: a signal came while sending to %s",
                           endpoint, to);
    default:
        return status_fail(STATUS_IO, "endpoint %s: sending to %s: %s", endpoint, to,
                           zmq_strerror(errno));
    }
}

int socket_send(void *socket, const char *peer, const struct text *frame, int timeout_ms,
                const char *endpoint)
{
    int n;

    if (frame->failed || frame->length > WIRE_MAX_FRAME)
        return status_fail(STATUS_FORMAT, "endpoint %s: a frame of %zu bytes was not sent",
                           endpoint, frame->length);
    TRY(set_int(socket, ZMQ_SNDTIMEO, timeout_ms > 0 ? timeout_ms : 0, endpoint));
    if (peer && zmq_send(socket, peer, strlen(peer), ZMQ_SNDMORE) < 0)
        return fail_send(peer, timeout_ms, endpoint);
    /* Once the peer's name is in, the frame must follow, or the next send would be taken for it. */
    do
        n = zmq_send(socket, frame->data, frame->length, 0);
    while (n < 0 && errno == EINTR && peer);
    return n < 0 ? fail_send(peer, timeout_ms, endpoint) : STATUS_OK;
}

void socket_close(void **context, void **socket)
{
    if (*socket)
        zmq_close(*socket);
    *socket = NULL;
    while (*context && zmq_ctx_term(*context) && errno == EINTR)
        continue;
    *context = NULL;
}
