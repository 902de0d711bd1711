/*
 * Messages over ZeroMQ, which needs no library beside the program's own and no launcher that knows
 * of it.
 *
 * A message travels in chunks, a chunk as soon as fewer than `window` bytes are under way to that
 * rank: what its receiver has in queues is bounded, and all of a step's sums may travel while it
 * computes. It says how much of them it has put to their places. Chunks of one message follow each
 * other; what nobody waits for yet is a stray.
 */
#include <stdio.h>
#include <string.h>
#include <zmq.h>

#include "common/files.h"
#include "common/memory.h"
#include "common/status.h"
#include "ranks/internal.h"
#include "wire/wire.h"

#define CHUNK_BYTES ((size_t)256 << 10)
#define ALL_WINDOWS ((size_t)64 << 20)      /* of all ranks together */
#define LEAST_WINDOW ((size_t)1 << 20)
#define LOOK_MS 10
#define TAG_TAKEN 0                         /* `total` bytes are at their places since the start */

struct head {
    int32_t tag;
    uint32_t n_sums;                        /* 0 */
    uint64_t total, offset;                 /* of the message; of this chunk in it */
};

struct request {
    struct request *next;                   /* in a list */
    struct request *older, *newer;          /* of all */
    int tag, is_done, is_stray;
    char *bytes;                            /* its own when it is a stray */
    size_t n, at;
};

struct list {
    struct request *first, *last;
};

struct route {
    struct list sends, receives, strays;
    struct request *into;                   /* what the chunks that come belong to */
    uint64_t sent, taken_there;             /* bytes */
    uint64_t taken, said;
};

static struct request *newest;              /* of all that are not tested or taken yet */
static struct wire_mesh *mesh;
static struct route *routes;                /* [n_routes] */
static int n_routes;
static size_t window;
static char spoilt[160];                    /* what has come that no rank sends, "" else */

static int spoil(int from, const struct head *head, const char *why)
{
    snprintf(spoilt, sizeof(spoilt), "rank %d sent %s: message %d, at %llu of %llu bytes", from,
             why, head->tag, (unsigned long long)head->offset, (unsigned long long)head->total);
    return status_fail(STATUS_FORMAT, "%s", spoilt);
}

static void append(struct list *list, struct request *request)
{
    request->next = NULL;
    if (list->last)
        list->last->next = request;
    else
        list->first = request;
    list->last = request;
}

/* The first of that tag, taken off; NULL without. */
static struct request *take(struct list *list, int tag)
{
    struct request *before = NULL, *request = list->first;

    while (request && request->tag != tag) {
        before = request;
        request = request->next;
    }
    if (!request)
        return NULL;
    if (before)
        before->next = request->next;
    else
        list->first = request->next;
    if (list->last == request)
        list->last = before;
    return request;
}

static struct request *new_request(int tag, const void *bytes, size_t n)
{
    struct request *request = mem_alloc(1, sizeof(*request));

    *request = (struct request){.tag = tag, .bytes = (char *)(uintptr_t)bytes, .n = n,
                                .older = newest};
    if (newest)
        newest->newer = request;
    newest = request;
    return request;
}

static void free_request(struct request *request)
{
    if (request->older)
        request->older->newer = request->newer;
    if (request->newer)
        request->newer->older = request->older;
    else
        newest = request->older;
    if (request->is_stray)
        mem_free(request->bytes);
    mem_free(request);
}

/* ---- What goes out. */

static void push(int to)
{
    struct route *route = &routes[to];

    while (route->sends.first && route->sent - route->taken_there < window) {
        struct request *request = route->sends.first;
        size_t left = request->n - request->at, n = left < CHUNK_BYTES ? left : CHUNK_BYTES;
        const struct head head = {.tag = request->tag, .total = request->n, .offset = request->at};
        wire_mesh_send(mesh, to, &head, sizeof(head), request->bytes + request->at, n);
        request->at += n;
        route->sent += n;
        request->is_done = request->at == request->n;
        if (request->is_done)
            take(&route->sends, request->tag);
    }
}

static void say_taken(int to)
{
    struct route *route = &routes[to];

    if (route->taken - route->said < window / 4)
        return;
    const struct head head = {.tag = TAG_TAKEN, .total = route->taken};
    wire_mesh_send(mesh, to, &head, sizeof(head), NULL, 0);
    route->said = route->taken;
}

/* ---- What comes in. */

static int begin_message(int from, const struct head *head)
{
    struct route *route = &routes[from];

    route->into = take(&route->receives, head->tag);
    if (!route->into) {
        if (!head->total || head->total > MAIL_MOST_BYTES)
            return spoil(from, head, "a length that no message has");
        route->into = new_request(head->tag, mem_alloc(head->total, 1), head->total);
        route->into->is_stray = 1;
        append(&route->strays, route->into);
    }
    return route->into->n == head->total ? STATUS_OK
                                         : spoil(from, head, "a length that is not wanted");
}

static int take_chunk(int from, const struct head *head, const char *bytes, size_t n)
{
    struct route *route = &routes[from];

    if (head->offset == 0)
        TRY(begin_message(from, head));
    struct request *into = route->into;
    if (!into || into->at != head->offset || n > into->n - into->at)
        return spoil(from, head, "a part that is out of turn");
    memcpy(into->bytes + into->at, bytes, n);
    into->at += n;
    into->is_done = into->at == into->n;
    if (!into->is_stray)
        route->taken += n;
    if (into->is_done)
        route->into = NULL;
    say_taken(from);
    return STATUS_OK;
}

static int go_on(void)
{
    const void *bytes;
    size_t n;
    int from;

    if (spoilt[0])
        return status_fail(STATUS_FORMAT, "%s", spoilt);
    while (wire_mesh_receive(mesh, &from, &bytes, &n)) {
        struct head head;
        if (n < sizeof(head))
            continue;
        memcpy(&head, bytes, sizeof(head));
        if (head.tag == TAG_TAKEN)
            routes[from].taken_there = head.total;
        else
            TRY(take_chunk(from, &head, (const char *)bytes + sizeof(head), n - sizeof(head)));
    }
    for (int r = 0; r < n_routes; r++)
        push(r);
    return STATUS_OK;
}

/* ---- The table. */

static int open_zmq(struct mail_place *place, const struct mail_meeting *meeting)
{
    const struct wire_mesh_config config = {
        .endpoint = meeting->endpoint,
        .keys = meeting->keys,
        .version = meeting->version,
        .index = place->rank,
        .count = place->count,
        .timeout_ms = meeting->timeout_ms,
        .stop = meeting->stop,
    };

    TRY(wire_mesh_open(&mesh, &config));
    n_routes = place->count;
    routes = mem_alloc((size_t)n_routes, sizeof(*routes));
    window = ALL_WINDOWS / (size_t)(n_routes - 1);
    if (window < LEAST_WINDOW)
        window = LEAST_WINDOW;
    wire_mesh_neighbours(mesh, &place->local_rank, &place->local_count);
    return STATUS_OK;
}

static void forget(void)
{
    while (newest)
        free_request(newest);
    spoilt[0] = '\0';
    mem_free(routes);
    routes = NULL;
    n_routes = 0;
}

static void close_zmq(int64_t timeout_ms)
{
    wire_mesh_close(&mesh, timeout_ms);
    forget();
}

static void abort_zmq(int code, const char *reason)
{
    (void)code;
    wire_mesh_end(&mesh, reason);
    forget();
}

static const char *version(void)
{
    static char text[64];
    int major, minor, patch;

    zmq_version(&major, &minor, &patch);
    snprintf(text, sizeof(text), "ZeroMQ %d.%d.%d%s", major, minor, patch,
             mesh && wire_mesh_is_secured(mesh) ? " with CURVE" : "");
    return text;
}

static int send_bytes(int to, int tag, const void *bytes, size_t n, uintptr_t *out)
{
    struct request *request = new_request(tag, bytes, n);

    append(&routes[to].sends, request);
    *out = (uintptr_t)request;
    push(to);
    return STATUS_OK;
}

/* A stray moves to where it is wanted; one that is still coming goes on there. */
static int receive_bytes(int from, int tag, void *bytes, size_t n, uintptr_t *out)
{
    struct route *route = &routes[from];
    struct request *stray = take(&route->strays, tag);

    if (stray && stray->n != n)
        return spoil(from, &(struct head){.tag = tag, .total = stray->n},
                     "a length that is not wanted");
    struct request *request = new_request(tag, bytes, n);
    *out = (uintptr_t)request;
    if (!stray) {
        append(&route->receives, request);
        return STATUS_OK;
    }
    memcpy(bytes, stray->bytes, stray->at);
    request->at = stray->at;
    request->is_done = stray->is_done;
    if (route->into == stray)
        route->into = request;
    route->taken += stray->at;
    say_taken(from);
    free_request(stray);
    return STATUS_OK;
}

static int test(uintptr_t *in, int *is_done)
{
    struct request *request = (struct request *)*in;

    *is_done = 1;
    if (!request)
        return STATUS_OK;
    if (!request->is_done)
        TRY(go_on());
    *is_done = request->is_done;
    if (*is_done) {
        free_request(request);
        *in = 0;
    }
    return STATUS_OK;
}

/* Who waits for something else than mail hears the last words of others here. */
static int find_loss(struct mail_loss *loss)
{
    static int64_t looked_ms;
    struct wire_loss found;

    if (clock_ms() - looked_ms >= LOOK_MS) {
        looked_ms = clock_ms();
        (void)go_on();   /* what is spoilt, test() says */
    }
    if (!wire_mesh_find_loss(mesh, &found))
        return 0;
    loss->rank = found.index;
    memcpy(loss->reason, found.reason, sizeof(loss->reason));
    return 1;
}

const struct mail_table mail_zmq = {
    MAIL_ABI, 0, open_zmq, close_zmq, abort_zmq, status_reason, version, send_bytes, receive_bytes,
    test, find_loss,
};
