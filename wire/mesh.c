/* A mesh that stands: messages, who is gone, and the end. */
#include "wire/mesh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"

#define ASK_MS 250            /* how often those who came to the listener are asked for */
#define LOOK_MS 20
#define GRACE_MS 100          /* for the last words of one who is gone: they may lie in a queue */
#define MOST_IO_THREADS 2

/* ---- Messages. */

static int send_part(void *socket, zmq_msg_t *message, int flags)
{
    int n;

    do
        n = zmq_msg_send(message, socket, flags | ZMQ_DONTWAIT);
    while (n < 0 && errno == EINTR);
    return n < 0 ? -1 : 0;
}

static int send_name(struct wire_mesh *mesh, int to)
{
    char name[WIRE_NAME_BYTES];
    zmq_msg_t part;

    snprintf(name, sizeof(name), "rank-%d", to);
    if (zmq_msg_init_size(&part, strlen(name)))
        return -1;
    memcpy(zmq_msg_data(&part), name, strlen(name));
    int failed = send_part(mesh->listener, &part, ZMQ_SNDMORE);
    zmq_msg_close(&part);
    return failed;
}

void mesh_send(struct wire_mesh *mesh, int to, enum mesh_kind kind, const void *head, size_t n_head,
               const void *bytes, size_t n)
{
    struct mesh_peer *peer = &mesh->peers[to];
    zmq_msg_t message;

    if (peer->gone_ms || (!peer->socket && !mesh->listener))
        return;
    if (zmq_msg_init_size(&message, 1 + n_head + n)) {
        log_warning("a message of %zu bytes to rank %d: %s", n, to, zmq_strerror(errno));
        return;
    }
    unsigned char *at = zmq_msg_data(&message);
    *at = (unsigned char)kind;
    if (n_head)
        memcpy(at + 1, head, n_head);
    if (n)
        memcpy(at + 1 + n_head, bytes, n);
    int failed = !peer->socket && send_name(mesh, to);
    if (!failed)
        failed = send_part(peer->socket ? peer->socket : mesh->listener, &message, 0);
    /* Only the listener knows whether somebody of that name is connected. */
    if (failed && errno == EHOSTUNREACH && peer->is_here)
        peer->gone_ms = clock_ms();
    zmq_msg_close(&message);
}

/* The next part of what has begun, into mesh->message. */
static int next_part(struct wire_mesh *mesh, void *socket, int flags)
{
    int n;

    zmq_msg_close(&mesh->message);
    zmq_msg_init(&mesh->message);
    do
        n = zmq_msg_recv(&mesh->message, socket, flags);
    while (n < 0 && errno == EINTR);
    return n;
}

/* "rank-12": one who may come here, or -1. */
static int read_name(const struct wire_mesh *mesh, zmq_msg_t *part)
{
    char name[WIRE_NAME_BYTES] = "", again[WIRE_NAME_BYTES];
    size_t n = zmq_msg_size(part);

    if (n >= sizeof(name) || n < 6)
        return -1;
    memcpy(name, zmq_msg_data(part), n);
    long index = strtol(name + 5, NULL, 10);
    snprintf(again, sizeof(again), "rank-%ld", index);
    return strcmp(name, again) == 0 && index > mesh->index && index < mesh->count ? (int)index : -1;
}

/* 1: a message is there, of `from`; 0: none; what strangers send is dropped. */
static int take_from_listener(struct wire_mesh *mesh, int *from)
{
    while (mesh->listener && next_part(mesh, mesh->listener, ZMQ_DONTWAIT) >= 0) {
        int is_good;
        *from = read_name(mesh, &mesh->message);
        is_good = *from >= 0 && zmq_msg_more(&mesh->message) &&
                  next_part(mesh, mesh->listener, 0) >= 1 && !zmq_msg_more(&mesh->message);
        while (zmq_msg_more(&mesh->message) && next_part(mesh, mesh->listener, 0) >= 0)
            continue;
        if (is_good)
            return 1;
        log_debug("endpoint %s: dropped a message that no rank sends", mesh->bound);
    }
    return 0;
}

static int take_any(struct wire_mesh *mesh, int *from)
{
    for (int i = 0; i <= mesh->index; i++) {
        int at = (mesh->next + i) % (mesh->index + 1);   /* mesh->index: the listener */
        int got = 0;
        if (at == mesh->index)
            got = take_from_listener(mesh, from);
        else if (mesh->peers[at].socket)
            got = next_part(mesh, mesh->peers[at].socket, ZMQ_DONTWAIT) >= 1 &&
                  !zmq_msg_more(&mesh->message);
        if (got && at != mesh->index)
            *from = at;
        if (got) {
            mesh->next = at + 1;
            return 1;
        }
    }
    return 0;
}

static void note_end(struct wire_mesh *mesh, int from, const char *bytes, size_t n)
{
    if (mesh->has_end)
        return;
    mesh->has_end = 1;
    mesh->end.index = from;
    snprintf(mesh->end.reason, sizeof(mesh->end.reason), "%.*s", (int)(n < 900 ? n : 900), bytes);
}

int mesh_receive(struct wire_mesh *mesh, int *from, const void **bytes, size_t *n)
{
    while (take_any(mesh, from)) {
        const unsigned char *at = zmq_msg_data(&mesh->message);
        *bytes = at + 1;
        *n = zmq_msg_size(&mesh->message) - 1;
        if (*at == MESH_PART)
            mesh->peers[*from].has_parted = 1;
        else if (*at == MESH_END)
            note_end(mesh, *from, *bytes, *n);
        else if (*at != MESH_ALIVE)
            return *at;
    }
    return 0;
}

void wire_mesh_send(struct wire_mesh *mesh, int to, const void *head, size_t n_head,
                    const void *bytes, size_t n)
{
    mesh_send(mesh, to, MESH_DATA, head, n_head, bytes, n);
}

int wire_mesh_receive(struct wire_mesh *mesh, int *from, const void **bytes, size_t *n)
{
    static const char twice[] = "another process of that number has come";
    int kind;

    while ((kind = mesh_receive(mesh, from, bytes, n)))
        if (kind == MESH_DATA)
            return 1;
        else if (kind == MESH_HELLO)   /* the number is taken: who had it is gone, or not alone */
            note_end(mesh, *from, twice, sizeof(twice) - 1);
    return 0;
}

/* ---- Who is gone. */

/* An event is two parts: 16 bits of event and 32 of value, then the address. */
void mesh_read_events(struct mesh_peer *peer)
{
    unsigned char bytes[8];
    uint16_t event;

    while (zmq_recv(peer->monitor, bytes, sizeof(bytes), ZMQ_DONTWAIT) >= 2) {
        memcpy(&event, bytes, sizeof(event));
        zmq_recv(peer->monitor, bytes, sizeof(bytes), 0);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED)
            peer->n_connections++;
        else if (event == ZMQ_EVENT_DISCONNECTED && peer->is_here && !peer->gone_ms)
            peer->gone_ms = clock_ms();
        peer->is_refused = event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH ||
                           (peer->is_refused && event == ZMQ_EVENT_DISCONNECTED);
        peer->is_broken_off = event == ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL ||
                              (peer->is_broken_off && event == ZMQ_EVENT_DISCONNECTED);
    }
}

int wire_mesh_find_loss(struct wire_mesh *mesh, struct wire_loss *loss)
{
    int64_t now_ms = clock_ms();

    if (mesh->has_end) {
        *loss = mesh->end;
        return 1;
    }
    if (now_ms - mesh->looked_ms < LOOK_MS)
        return 0;
    mesh->looked_ms = now_ms;
    for (int i = 0; i < mesh->index; i++)
        mesh_read_events(&mesh->peers[i]);
    for (int i = mesh->index + 1; i < mesh->count && now_ms - mesh->asked_ms >= ASK_MS; i++)
        mesh_send(mesh, i, MESH_ALIVE, NULL, 0, NULL, 0);
    if (now_ms - mesh->asked_ms >= ASK_MS)
        mesh->asked_ms = now_ms;
    for (int i = 0; i < mesh->count; i++) {
        const struct mesh_peer *peer = &mesh->peers[i];
        if (!peer->gone_ms || peer->has_parted || now_ms - peer->gone_ms < GRACE_MS)
            continue;
        *loss = (struct wire_loss){.index = i};
        return 1;
    }
    return 0;
}

/* ---- The beginning and the end. */

void wire_mesh_neighbours(const struct wire_mesh *mesh, int *index, int *count)
{
    *index = *count = 0;
    for (int i = 0; i < mesh->count; i++) {
        int is_here = strcmp(mesh->peers[i].place.host, mesh->peers[mesh->index].place.host) == 0;
        *index += is_here && i < mesh->index;
        *count += is_here;
    }
}

int wire_mesh_is_secured(const struct wire_mesh *mesh)
{
    return !mesh->job.insecure;
}

/* A lower number takes three descriptors, a higher one one. */
static void raise_limit(int count)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur > (rlim_t)count * 4 + 256)
        return;
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int wire_mesh_open(struct wire_mesh **out, const struct wire_mesh_config *config)
{
    struct wire_mesh *mesh = mem_alloc(1, sizeof(*mesh));

    *out = NULL;
    zmq_msg_init(&mesh->message);
    mesh->config = config;
    mesh->index = config->index;
    mesh->count = config->count;
    mesh->peers = mem_alloc((size_t)config->count, sizeof(*mesh->peers));
    mesh->context = zmq_ctx_new();
    raise_limit(config->count);
    int status = socket_check_endpoint(config->endpoint, config->keys);
    if (status == STATUS_OK && !mesh->context)
        status = status_fail(STATUS_IO, "endpoint %s: %s", config->endpoint, zmq_strerror(errno));
    if (status == STATUS_OK) {
        zmq_ctx_set(mesh->context, ZMQ_MAX_SOCKETS, 4 * config->count + 64);
        zmq_ctx_set(mesh->context, ZMQ_IO_THREADS,
                    config->count > MOST_IO_THREADS ? MOST_IO_THREADS : 1);
        status = mesh_meet(mesh);
    }
    mesh->config = NULL;
    if (status < 0) {
        char why[1024];
        snprintf(why, sizeof(why), "%s", status_reason());
        wire_mesh_end(&mesh, why);
        return status_fail(status, "%s", why);
    }
    *out = mesh;
    return STATUS_OK;
}

void mesh_release(struct wire_mesh **out)
{
    struct wire_mesh *mesh = *out;

    *out = NULL;
    for (int i = 0; i < mesh->count; i++) {
        if (mesh->peers[i].monitor)
            zmq_close(mesh->peers[i].monitor);
        if (mesh->peers[i].socket)
            zmq_close(mesh->peers[i].socket);
    }
    zmq_msg_close(&mesh->message);
    gate_close_sockets(mesh->gate);
    socket_close(&mesh->context, &mesh->listener);
    gate_destroy(&mesh->gate);
    if (strncmp(mesh->bound, "ipc://", 6) == 0)
        unlink(mesh->bound + 6);   /* ZeroMQ leaves it */
    wire_keys_forget(&mesh->job);
    mem_free(mesh->peers);
    mem_free(mesh);
}

void wire_mesh_end(struct wire_mesh **mesh, const char *reason)
{
    if (!*mesh)
        return;
    for (int i = 0; i < (*mesh)->count; i++)
        if (i != (*mesh)->index)
            mesh_send(*mesh, i, MESH_END, reason, strlen(reason), NULL, 0);
    mesh_release(mesh);   /* lingers until that is out */
}

static int have_all_parted(const struct wire_mesh *mesh)
{
    for (int i = 0; i < mesh->count; i++)
        if (i != mesh->index && !mesh->peers[i].has_parted)
            return 0;
    return 1;
}

void wire_mesh_close(struct wire_mesh **mesh, int64_t timeout_ms)
{
    int64_t end_ms = clock_ms() + timeout_ms;
    struct wire_loss loss;
    const void *bytes;
    size_t n;
    int from;

    if (!*mesh)
        return;
    for (int i = 0; i < (*mesh)->count; i++)
        if (i != (*mesh)->index)
            mesh_send(*mesh, i, MESH_PART, NULL, 0, NULL, 0);
    for (;;) {
        while (mesh_receive(*mesh, &from, &bytes, &n))
            continue;
        if (have_all_parted(*mesh) || wire_mesh_find_loss(*mesh, &loss) || clock_ms() > end_ms)
            break;
        zmq_poll(NULL, 0, 1);
    }
    mesh_release(mesh);
}
