#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "common/log.h"
#include "common/status.h"
#include "wire/internal.h"

#define RECONNECT_MS 100
#define RECONNECT_MAX_MS 2000
#define MONITOR "inproc://monitor"   /* of this link's own context */
#define RENEW_MS 6000                /* longer than a handshake may take */
/* internal.h says why there is no HANDSHAKE_FAILED_PROTOCOL. */
#define EVENTS                                                                                     \
    (ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |                                      \
     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

/* Why the last handshake failed. */
enum trouble { TROUBLE_NONE, TROUBLE_BROKEN, TROUBLE_PLAIN, TROUBLE_REFUSED };

struct wire_link {
    void *context, *socket;
    void *monitor;           /* tells when the connection stands and falls */
    char *endpoint;
    int64_t lost_since_ms;   /* 0 while it stands */
    int64_t renewed_ms;      /* when it was last given up for a new one */
    int is_explained;        /* why the connection that ends now does not stand */
    uint64_t n_connections;
    enum trouble trouble, said;
    char public_key[WIRE_KEY_BYTES];   /* "" when plain */
};

static int open_monitor(struct wire_link *link)
{
    int linger = 0;

    if (zmq_socket_monitor(link->socket, MONITOR, EVENTS))
        return status_fail(STATUS_IO, "endpoint %s: %s", link->endpoint, zmq_strerror(errno));
    link->monitor = zmq_socket(link->context, ZMQ_PAIR);
    if (!link->monitor || zmq_setsockopt(link->monitor, ZMQ_LINGER, &linger, sizeof(linger)) ||
        zmq_connect(link->monitor, MONITOR))
        return status_fail(STATUS_IO, "endpoint %s: %s", link->endpoint, zmq_strerror(errno));
    return STATUS_OK;
}

static int connect_link(struct wire_link *link, const char *name, const struct wire_keys *keys)
{
    int interval_ms = RECONNECT_MS, interval_max_ms = RECONNECT_MAX_MS;

    TRY(socket_set_options(link->socket, link->endpoint));
    TRY(socket_set_keys(link->socket, link->endpoint, keys, 0));
    if (zmq_setsockopt(link->socket, ZMQ_ROUTING_ID, name, strlen(name)) ||
        zmq_setsockopt(link->socket, ZMQ_RECONNECT_IVL, &interval_ms, sizeof(interval_ms)) ||
        zmq_setsockopt(link->socket, ZMQ_RECONNECT_IVL_MAX, &interval_max_ms,
                       sizeof(interval_max_ms)))
        return status_fail(STATUS_IO, "endpoint %s: %s", link->endpoint, zmq_strerror(errno));
    TRY(open_monitor(link));
    if (zmq_connect(link->socket, link->endpoint))
        return status_fail(STATUS_CONFIG, "endpoint \"%s\": %s", link->endpoint,
                           zmq_strerror(errno));
    return STATUS_OK;
}

int wire_link_open(struct wire_link **out, const char *endpoint, const char *name,
                   const struct wire_keys *keys)
{
    size_t n = strlen(name);

    *out = NULL;
    TRY(socket_check_endpoint(endpoint, keys));
    if (n == 0 || n >= WIRE_NAME_BYTES)
        return status_fail(STATUS_CONFIG, "a worker's name \"%s\" must have 1 to %d bytes", name,
                           WIRE_NAME_BYTES - 1);
    struct wire_link *link = mem_alloc(1, sizeof(*link));
    link->endpoint = mem_copy_text(endpoint);
    link->lost_since_ms = clock_ms();
    if (keys && socket_is_secured(endpoint))
        memcpy(link->public_key, keys->public_key, sizeof(link->public_key));
    link->context = zmq_ctx_new();
    link->socket = link->context ? zmq_socket(link->context, ZMQ_DEALER) : NULL;
    int status = link->socket ? connect_link(link, name, keys)
                              : status_fail(STATUS_IO, "endpoint %s: %s", endpoint,
                                            zmq_strerror(errno));
    if (status < 0)
        wire_link_close(&link);
    *out = link;
    return status;
}

void wire_link_close(struct wire_link **link)
{
    if (!*link)
        return;
    if ((*link)->monitor)
        zmq_close((*link)->monitor);
    socket_close(&(*link)->context, &(*link)->socket);
    mem_free((*link)->endpoint);
    mem_free(*link);
    *link = NULL;
}

/* A handshake that ends without a reason broke a rule of the protocol. */
static void note_event(struct wire_link *link, uint16_t event)
{
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        link->lost_since_ms = 0;
        link->trouble = link->said = TROUBLE_NONE;
        link->n_connections++;
    } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
        link->trouble = TROUBLE_REFUSED;
    } else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) {
        link->trouble = TROUBLE_BROKEN;
    } else if (link->lost_since_ms && !link->is_explained) {
        link->trouble = TROUBLE_PLAIN;
    }
    link->is_explained = event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ||
                         event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    if (event != ZMQ_EVENT_HANDSHAKE_SUCCEEDED && !link->lost_since_ms)
        link->lost_since_ms = clock_ms();
}

/* libzmq connects again after a broken connection, but not after a spoilt one. */
static void renew(struct wire_link *link)
{
    int64_t now_ms = clock_ms();
    int64_t since_ms =
        link->renewed_ms > link->lost_since_ms ? link->renewed_ms : link->lost_since_ms;

    if (!link->lost_since_ms || now_ms - since_ms < RENEW_MS)
        return;
    link->renewed_ms = now_ms;
    zmq_disconnect(link->socket, link->endpoint);   /* fails when libzmq has given it up */
    if (zmq_connect(link->socket, link->endpoint))
        log_debug("endpoint %s: %s", link->endpoint, zmq_strerror(errno));
}

/* An event is two parts: 16 bits of event and 32 of value, then the address. */
static void read_events(struct wire_link *link)
{
    unsigned char bytes[8];
    uint16_t event;

    while (zmq_recv(link->monitor, bytes, sizeof(bytes), ZMQ_DONTWAIT) >= 2) {
        memcpy(&event, bytes, sizeof(event));
        zmq_recv(link->monitor, bytes, sizeof(bytes), 0);
        note_event(link, event);
    }
    renew(link);
}

static const char *explain(const struct wire_link *link)
{
    switch (link->trouble) {
    case TROUBLE_REFUSED:
        return "; it does not know this worker's key: see `hone keys`";
    case TROUBLE_PLAIN:
        return link->public_key[0]
                   ? "; what listens there does not speak CURVE (run.insecure there?)"
                   : "; it does not speak plain: take its key with --key FILE";
    case TROUBLE_BROKEN:
        return link->public_key[0]
                   ? "; the handshake broke off: the key file may be another coordinator's, or "
                     "what listens there does not speak CURVE"
                   : "; the handshake broke off: it may want a key, --key FILE";
    case TROUBLE_NONE:
        break;
    }
    return "";
}

int wire_link_check(struct wire_link *link, int64_t lost_ms)
{
    int64_t lost = wire_link_lost_ms(link);

    if (!lost)
        return STATUS_OK;
    if (link->trouble == TROUBLE_REFUSED)
        return status_fail(STATUS_CONFIG, "endpoint %s: the coordinator does not let in the key %s "
                           "of this worker; there, `hone keys` shows who is let in and adds one",
                           link->endpoint, link->public_key);
    if (lost > lost_ms)
        return status_fail(STATUS_CLOSED, "endpoint %s: no connection to the coordinator for %lld "
                           "ms%s", link->endpoint, (long long)lost, explain(link));
    if (link->trouble && !link->said)   /* the first one; the others come every two seconds */
        log_warning("endpoint %s: no connection yet%s", link->endpoint, explain(link));
    link->said = link->trouble;
    return STATUS_OK;
}

int64_t wire_link_lost_ms(struct wire_link *link)
{
    read_events(link);
    if (!link->lost_since_ms)
        return 0;
    int64_t lost_ms = clock_ms() - link->lost_since_ms;
    return lost_ms > 0 ? lost_ms : 1;
}

uint64_t wire_link_connections(struct wire_link *link)
{
    read_events(link);
    return link->n_connections;
}

int wire_link_receive(struct wire_link *link, struct text *frame, int timeout_ms)
{
    int64_t deadline_ms = clock_ms() + (timeout_ms > 0 ? timeout_ms : 0);
    zmq_msg_t message;

    text_clear(frame);
    TRY(socket_wait(link->socket, deadline_ms, link->endpoint));
    zmq_msg_init(&message);
    int status = STATUS_OK;
    if (zmq_msg_recv(&message, link->socket, ZMQ_DONTWAIT) < 0)
        status = errno == EAGAIN ? status_fail(STATUS_TIMEOUT, "endpoint %s: no message came",
                                               link->endpoint)
               : errno == EINTR  ? status_fail(STATUS_INTERRUPTED, "endpoint %s: a signal came",
                                               link->endpoint)
                                 : status_fail(STATUS_IO, "endpoint %s: %s", link->endpoint,
                                               zmq_strerror(errno));
    else
        text_append(frame, zmq_msg_data(&message), zmq_msg_size(&message));
    zmq_msg_close(&message);
    if (frame->failed)
        return status_fail(STATUS_NOMEM, "endpoint %s: a message does not fit", link->endpoint);
    return status;
}

int wire_link_send(struct wire_link *link, const struct text *frame, int timeout_ms)
{
    return socket_send(link->socket, NULL, frame, timeout_ms, link->endpoint);
}
