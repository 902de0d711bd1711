/*
 * How a mesh comes to stand.
 *
 *     HELLO, KEYS, PLACE    each other number tells number 0 who it is, gets the mesh's keys, and
 *                           then has a listener of its own, whose place number 0 keeps;
 *     ROSTER, HERE          all get all places, and connect with those of lower number;
 *     READY, GO             all of all are connected.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/random.h"
#include "common/status.h"
#include "wire/mesh.h"

#define MAGIC "hone-rk1"
#define RECONNECT_MS 50
#define RECONNECT_MAX_MS 1000
#define POLL_MS 5
#define HOST_MAX 200
#define EVENTS                                                                                     \
    (ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED |                                      \
     ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

/* ---- Sockets. */

static int set_options(void *socket, const char *endpoint)
{
    int unbounded = 0, interval_ms = RECONNECT_MS, interval_max_ms = RECONNECT_MAX_MS;

    TRY(socket_set_options(socket, endpoint));
    if (zmq_setsockopt(socket, ZMQ_SNDHWM, &unbounded, sizeof(unbounded)) ||
        zmq_setsockopt(socket, ZMQ_RECONNECT_IVL, &interval_ms, sizeof(interval_ms)) ||
        zmq_setsockopt(socket, ZMQ_RECONNECT_IVL_MAX, &interval_max_ms, sizeof(interval_max_ms)))
        return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    return STATUS_OK;
}

static int listen_at(struct wire_mesh *mesh, const char *endpoint, const struct wire_keys *keys)
{
    int on = 1;

    mesh->listener = zmq_socket(mesh->context, ZMQ_ROUTER);
    if (!mesh->listener)
        return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    TRY(set_options(mesh->listener, endpoint));
    TRY(socket_set_keys(mesh->listener, endpoint, keys, 1));
    if (socket_is_secured(endpoint) && !keys->insecure)
        TRY(gate_open(&mesh->gate, mesh->context, mesh->listener, endpoint, keys));
    if (zmq_setsockopt(mesh->listener, ZMQ_ROUTER_MANDATORY, &on, sizeof(on)) ||
        zmq_setsockopt(mesh->listener, ZMQ_ROUTER_HANDOVER, &on, sizeof(on)))
        return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    return socket_bind(mesh->listener, endpoint, mesh->bound, sizeof(mesh->bound));
}

static int connect_to(struct wire_mesh *mesh, int index, const struct wire_keys *keys)
{
    struct mesh_peer *peer = &mesh->peers[index];
    const char *endpoint = peer->place.endpoint;
    char name[WIRE_NAME_BYTES], monitor[64];
    int linger = 0;

    snprintf(name, sizeof(name), "rank-%d", mesh->index);
    snprintf(monitor, sizeof(monitor), "inproc://mesh-%d", index);
    peer->socket = zmq_socket(mesh->context, ZMQ_DEALER);
    peer->monitor = zmq_socket(mesh->context, ZMQ_PAIR);
    if (!peer->socket || !peer->monitor)
        return status_fail(STATUS_IO, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    TRY(set_options(peer->socket, endpoint));
    TRY(socket_set_keys(peer->socket, endpoint, keys, 0));
    if (zmq_setsockopt(peer->socket, ZMQ_ROUTING_ID, name, strlen(name)) ||
        zmq_setsockopt(peer->monitor, ZMQ_LINGER, &linger, sizeof(linger)) ||
        zmq_socket_monitor(peer->socket, monitor, EVENTS) || zmq_connect(peer->monitor, monitor) ||
        zmq_connect(peer->socket, endpoint))
        return status_fail(STATUS_CONFIG, "endpoint %s: %s", endpoint, zmq_strerror(errno));
    return STATUS_OK;
}

/* ---- Places. */

/* "tcp://host:port" into its parts; NULL when it is none. */
static const char *split(const char *endpoint, char host[HOST_MAX])
{
    const char *colon = strrchr(endpoint, ':');
    size_t n = (size_t)(colon - (endpoint + 6));

    if (colon < endpoint + 7 || n >= HOST_MAX || !colon[1]) {
        status_fail(STATUS_CONFIG, "endpoint \"%s\" of rank 0: wanted tcp://host:port", endpoint);
        return NULL;
    }
    memcpy(host, endpoint + 6, n);
    host[n] = '\0';
    return colon + 1;
}

/* A name may stand for an address that is not this machine's, as a Service's does. */
static int place_of_first(const char *endpoint, char out[MESH_ENDPOINT_BYTES])
{
    struct in_addr address;
    char host[HOST_MAX];

    snprintf(out, MESH_ENDPOINT_BYTES, "%s", endpoint);
    if (!socket_is_secured(endpoint))
        return STATUS_OK;
    const char *port = split(endpoint, host);
    if (!port)
        return STATUS_CONFIG;
    if (inet_pton(AF_INET, host, &address) != 1)
        snprintf(out, MESH_ENDPOINT_BYTES, "tcp://0.0.0.0:%s", port);
    return STATUS_OK;
}

/* The address by which this machine reaches number 0, and any port. Nothing is sent for that. */
static int place_towards(const char *endpoint, char out[MESH_ENDPOINT_BYTES])
{
    struct addrinfo wanted = {.ai_family = AF_INET, .ai_socktype = SOCK_DGRAM}, *found;
    struct sockaddr_in own = {.sin_family = AF_INET};
    char host[HOST_MAX], text[INET_ADDRSTRLEN];
    socklen_t n = sizeof(own);
    const char *port = split(endpoint, host);

    if (!port)
        return STATUS_CONFIG;
    int error = getaddrinfo(host, port, &wanted, &found);
    if (error)
        return status_fail(STATUS_IO, "%s: %s", endpoint, gai_strerror(error));
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int failed = fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) ||
                 getsockname(fd, (struct sockaddr *)&own, &n);
    error = errno;
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
    if (failed || !inet_ntop(AF_INET, &own.sin_addr, text, sizeof(text)))
        return status_fail(STATUS_IO, "no way to %s: %s", endpoint, strerror(error));
    snprintf(out, MESH_ENDPOINT_BYTES, "tcp://%s:*", text);
    return STATUS_OK;
}

static void name_host(char out[MESH_HOST_BYTES])
{
    char id[WIRE_NAME_BYTES * 2], host[64] = "";

    gethostname(host, sizeof(host) - 1);
    snprintf(out, MESH_HOST_BYTES, "%s %s", host, wire_host_id(id));
}

/* ---- Number 0. */

#define NAME_OF(host) (int)strcspn(host, " "), host

static int refuse_hello(const struct wire_mesh *mesh, int from, const struct mesh_hello *hello)
{
    const struct wire_mesh_config *config = mesh->config;

    if (strcmp(hello->version, config->version) != 0)
        return status_fail(STATUS_VERSION, "rank %d on %.*s is hone %s, but rank 0 is %s: all "
                           "must be the same program", from, NAME_OF(hello->host),
                           hello->version, config->version);
    if (hello->count != mesh->count || hello->index != from)
        return status_fail(STATUS_CONFIG, "rank %d on %.*s takes itself for rank %d of %d, but "
                           "rank 0 for one of %d", from, NAME_OF(hello->host), hello->index,
                           hello->count, mesh->count);
    return status_fail(STATUS_CONFIG, "two processes are rank %d: one on %.*s, one on %.*s", from,
                       NAME_OF(mesh->peers[from].place.host), NAME_OF(hello->host));
}

static int take_hello(struct wire_mesh *mesh, int from, const void *bytes, size_t n)
{
    struct mesh_peer *peer = &mesh->peers[from];
    struct mesh_hello hello = {.index = -1};
    struct mesh_pair pair;

    memcpy(&hello, bytes, n < sizeof(hello) ? n : sizeof(hello));
    hello.version[sizeof(hello.version) - 1] = hello.host[sizeof(hello.host) - 1] = '\0';
    if (n != sizeof(hello) || memcmp(hello.magic, MAGIC, sizeof(hello.magic)) != 0)
        return status_fail(STATUS_VERSION, "rank %d is another hone: all must be the same program",
                           from);
    if (strcmp(hello.version, mesh->config->version) != 0 || hello.count != mesh->count ||
        hello.index != from || (peer->process && peer->process != hello.process))
        return refuse_hello(mesh, from, &hello);
    peer->process = hello.process;
    peer->is_here = 1;
    memcpy(peer->place.host, hello.host, sizeof(hello.host));
    memcpy(pair.public_key, mesh->job.public_key, sizeof(pair.public_key));
    memcpy(pair.secret, mesh->job.secret, sizeof(pair.secret));
    mesh_send(mesh, from, MESH_KEYS, &pair, sizeof(pair), NULL, 0);
    explicit_bzero(&pair, sizeof(pair));
    return STATUS_OK;
}

static void send_roster(struct wire_mesh *mesh)
{
    struct mesh_place *places = mem_alloc((size_t)mesh->count, sizeof(*places));

    for (int i = 0; i < mesh->count; i++)
        places[i] = mesh->peers[i].place;
    for (int i = 1; i < mesh->count; i++)
        mesh_send(mesh, i, MESH_ROSTER, places, (size_t)mesh->count * sizeof(*places), NULL, 0);
    mem_free(places);
    mesh->has_roster = 1;
}

static int take_first(struct wire_mesh *mesh, int kind, int from, const void *bytes, size_t n)
{
    struct mesh_peer *peer = &mesh->peers[from];
    int n_placed = 1, n_ready = 1;

    if (kind == MESH_HELLO)
        TRY(take_hello(mesh, from, bytes, n));
    if (kind == MESH_PLACE && n == sizeof(peer->place.endpoint)) {
        memcpy(peer->place.endpoint, bytes, n);
        peer->place.endpoint[n - 1] = '\0';
        peer->has_place = 1;
    }
    if (kind == MESH_READY)
        peer->is_ready = 1;
    for (int i = 1; i < mesh->count; i++) {
        n_placed += mesh->peers[i].has_place;
        n_ready += mesh->peers[i].is_ready;
    }
    if (n_placed == mesh->count && !mesh->has_roster)
        send_roster(mesh);
    for (int i = 1; i < mesh->count && n_ready == mesh->count; i++)
        mesh_send(mesh, i, MESH_GO, NULL, 0, NULL, 0);
    mesh->has_go = n_ready == mesh->count;
    return STATUS_OK;
}

/* ---- The others. */

static void say_hello(struct wire_mesh *mesh)
{
    struct mesh_hello hello = {.magic = MAGIC, .index = mesh->index, .count = mesh->count};

    hello.process = mesh->peers[mesh->index].process;
    snprintf(hello.version, sizeof(hello.version), "%s", mesh->config->version);
    memcpy(hello.host, mesh->peers[mesh->index].place.host, sizeof(hello.host));
    mesh_send(mesh, 0, MESH_HELLO, &hello, sizeof(hello), NULL, 0);
}

/* Its pair of keys, and then a listener for those of higher number. */
static int take_keys(struct wire_mesh *mesh, const void *bytes, size_t n)
{
    const char *first = mesh->config->endpoint;
    char endpoint[MESH_ENDPOINT_BYTES], *place = mesh->peers[mesh->index].place.endpoint;
    struct mesh_pair pair;

    if (n != sizeof(pair) || mesh->has_keys)
        return status_fail(STATUS_FORMAT, "endpoint %s: rank 0 sent no keys", first);
    memcpy(&pair, bytes, sizeof(pair));
    if (socket_is_secured(first) && !mesh->config->keys->insecure && !pair.secret[0])
        return status_fail(STATUS_CONFIG, "endpoint %s: rank 0 is plain (run.insecure), this rank "
                           "is not", first);
    memcpy(mesh->job.public_key, pair.public_key, sizeof(pair.public_key));
    memcpy(mesh->job.hub, pair.public_key, sizeof(pair.public_key));
    memcpy(mesh->job.secret, pair.secret, sizeof(pair.secret));
    explicit_bzero(&pair, sizeof(pair));
    mesh->job.insecure = !mesh->job.secret[0];
    mesh->has_keys = 1;
    mesh->peers[0].is_here = 1;
    if (mesh->index + 1 < mesh->count) {
        if (socket_is_secured(first))
            TRY(place_towards(first, endpoint));
        else
            snprintf(endpoint, sizeof(endpoint), "%s-%d", first, mesh->index);
        TRY(listen_at(mesh, endpoint, &mesh->job));
        snprintf(place, MESH_ENDPOINT_BYTES, "%s", mesh->bound);
    }
    mesh_send(mesh, 0, MESH_PLACE, place, MESH_ENDPOINT_BYTES, NULL, 0);
    return STATUS_OK;
}

static int take_roster(struct wire_mesh *mesh, const void *bytes, size_t n)
{
    const struct mesh_place *places = bytes;

    if (n != (size_t)mesh->count * sizeof(*places) || mesh->has_roster)
        return status_fail(STATUS_FORMAT, "endpoint %s: rank 0 sent no roster",
                           mesh->config->endpoint);
    for (int i = 0; i < mesh->count; i++)
        if (i != 0 && i != mesh->index)
            memcpy(&mesh->peers[i].place, &places[i], sizeof(places[i]));
    memcpy(mesh->peers[0].place.host, places[0].host, sizeof(places[0].host));
    for (int i = 1; i < mesh->index; i++)
        TRY(connect_to(mesh, i, &mesh->job));
    mesh->has_roster = 1;
    return STATUS_OK;
}

static int take_other(struct wire_mesh *mesh, int kind, int from, const void *bytes, size_t n)
{
    if (kind == MESH_KEYS && from == 0)
        return take_keys(mesh, bytes, n);
    if (kind == MESH_ROSTER && from == 0)
        return take_roster(mesh, bytes, n);
    if (kind == MESH_HERE)
        mesh->peers[from].is_here = 1;
    mesh->has_go |= kind == MESH_GO && from == 0;
    return STATUS_OK;
}

/* What follows from connections that came up. */
static int go_on(struct wire_mesh *mesh)
{
    int n_here = 2;   /* number 0 and this one */

    for (int i = 0; i < mesh->index; i++) {
        struct mesh_peer *peer = &mesh->peers[i];
        if (!peer->socket)
            continue;
        mesh_read_events(peer);
        if (peer->is_refused)
            return status_fail(STATUS_CONFIG, "endpoint %s: rank %d does not let in the key %s of "
                               "this rank; `hone keys` shows who is let in and adds one",
                               peer->place.endpoint, i, mesh->config->keys->public_key);
        if (peer->n_connections == peer->n_greeted)
            continue;
        peer->n_greeted = peer->n_connections;
        if (i == 0) {
            say_hello(mesh);
        } else {
            mesh_send(mesh, i, MESH_HERE, NULL, 0, NULL, 0);
            peer->is_here = 1;
        }
    }
    for (int i = 1; i < mesh->count; i++)
        n_here += i != mesh->index && mesh->peers[i].is_here;
    if (mesh->has_roster && n_here == mesh->count && !mesh->peers[mesh->index].is_ready) {
        mesh_send(mesh, 0, MESH_READY, NULL, 0, NULL, 0);
        mesh->peers[mesh->index].is_ready = 1;
    }
    return STATUS_OK;
}

/* ---- Together. */

static const char *explain(const struct mesh_peer *peer)
{
    return peer->is_broken_off ? "; the handshake breaks off: the key may be another coordinator's,"
                                 " or what listens there does not speak CURVE"
                               : "";
}

/* Whom this one waits for: those who have not come, else those who are not ready. */
static void list_missing(const struct wire_mesh *mesh, int are_here, struct text *out)
{
    for (int i = 0; i < mesh->count; i++) {
        const struct mesh_peer *peer = &mesh->peers[i];
        if (i != mesh->index && peer->is_here == are_here && !(are_here && peer->is_ready))
            text_print(out, "%srank %d", out->length ? " and " : "", i);
    }
}

static int fail_late(const struct wire_mesh *mesh)
{
    const struct wire_mesh_config *config = mesh->config;
    long long waited_ms = (long long)config->timeout_ms;
    struct text names = {0};

    if (mesh->index && !mesh->has_keys)
        return status_fail(STATUS_TIMEOUT, "rank %d has not found rank 0 at %s for %lld ms%s; a "
                           "job that takes longer to start needs a larger run.rank_timeout_ms",
                           mesh->index, config->endpoint, waited_ms, explain(&mesh->peers[0]));
    list_missing(mesh, 0, &names);
    int has_come = !names.length;
    if (has_come)
        list_missing(mesh, 1, &names);
    int status = status_fail(STATUS_TIMEOUT, "%s: %s for %lld ms (rank %d waits at %s); %s",
                             names.data ? names.data : "nobody",
                             has_come ? "not connected with all others" : "has not come", waited_ms,
                             mesh->index, mesh->bound[0] ? mesh->bound : config->endpoint,
                             has_come ? "ranks must reach each other on any port"
                                      : "a job that takes longer to start needs a larger "
                                        "run.rank_timeout_ms");
    text_release(&names);
    return status;
}

static int check_met(struct wire_mesh *mesh, int64_t end_ms)
{
    struct wire_loss loss;
    int is_lost = wire_mesh_find_loss(mesh, &loss);

    if (is_lost && loss.reason[0])
        return status_fail(STATUS_CLOSED, "%s (rank %d ends it)", loss.reason, loss.index);
    if (is_lost)
        return status_fail(STATUS_CLOSED, "rank %d came, and is gone again", loss.index);
    if (mesh->config->stop && *mesh->config->stop)
        return status_fail(STATUS_INTERRUPTED, "stopped while ranks gather at %s",
                           mesh->config->endpoint);
    return clock_ms() > end_ms ? fail_late(mesh) : STATUS_OK;
}

static int begin(struct wire_mesh *mesh)
{
    const struct wire_mesh_config *config = mesh->config;
    struct mesh_peer *own = &mesh->peers[mesh->index];
    char endpoint[MESH_ENDPOINT_BYTES];

    own->process = random_mix((uint64_t)clock_unix_ms(), (uint64_t)getpid()) | 1;
    name_host(own->place.host);
    if (strlen(config->endpoint) >= MESH_ENDPOINT_BYTES - 8)
        return status_fail(STATUS_CONFIG, "endpoint %s is too long", config->endpoint);
    snprintf(mesh->peers[0].place.endpoint, MESH_ENDPOINT_BYTES, "%s", config->endpoint);
    if (mesh->index)
        return connect_to(mesh, 0, config->keys);
    mesh->job.insecure = !socket_is_secured(config->endpoint) || config->keys->insecure;
    if (!mesh->job.insecure && zmq_curve_keypair(mesh->job.public_key, mesh->job.secret))
        return status_fail(STATUS_UNSUPPORTED, "cannot make a key pair: %s", zmq_strerror(errno));
    TRY(place_of_first(config->endpoint, endpoint));
    return listen_at(mesh, endpoint, config->keys);
}

int mesh_meet(struct wire_mesh *mesh)
{
    int64_t end_ms = clock_ms() + mesh->config->timeout_ms;

    TRY(begin(mesh));
    while (!mesh->has_go) {
        const void *bytes;
        size_t n;
        int from, kind = mesh_receive(mesh, &from, &bytes, &n);
        if (kind)
            TRY(mesh->index ? take_other(mesh, kind, from, bytes, n)
                            : take_first(mesh, kind, from, bytes, n));
        if (mesh->index)
            TRY(go_on(mesh));
        TRY(check_met(mesh, end_ms));
        if (!kind && !mesh->has_go)
            zmq_poll(NULL, 0, POLL_MS);
    }
    return STATUS_OK;
}
