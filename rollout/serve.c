/*
 * The rollout process. One loop: greet, take all frames that wait, take over new weights when no
 * group runs, decode one token for every running sequence, send what is finished.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "common/version.h"
#include "common/watchdog.h"
#include "rollout/internal.h"

#define HEARTBEAT_MS 1000
#define IDLE_WAIT_MS 200              /* also how late a signal between two waits is seen */
#define SEND_MS 1000
#define ARENA_BYTES (4 * WIRE_MAX_FRAME)
#define GROUP_ARENA_BYTES ((size_t)1 << 30)

struct server {
    const struct rollout_options *options;
    struct wire_link *link;
    struct policy policy;
    struct arena arena;               /* one message in */
    struct arena result;              /* one group out */
    struct text in, out;
    uint64_t n_greeted;               /* connections that got a HELLO */
    int64_t heartbeat_ms;             /* when the last one was sent */
    int n_running;                    /* samples not done */
    uint32_t n_leases;                /* groups not sent */
    enum { IDLE, RECEIVING, DECODING } doing;
    int64_t doing_since_ms;
    int stopped;
};

/* ---- Out. */

/* A frame that cannot be sent is dropped: the hub gives the lease to another worker. */
static int send_out(struct server *server, int status)
{
    if (status == STATUS_OK)
        status = wire_link_send(server->link, &server->out, SEND_MS);
    text_clear(&server->out);
    if (status == STATUS_TIMEOUT) {
        log_warning("%s", status_reason());
        return STATUS_OK;
    }
    return status;
}

static int send_hello(struct server *server)
{
    char host[WIRE_NAME_BYTES * 2];
    struct wire_hello hello = {
        .role = "rollout",
        .pid = (uint64_t)getpid(),
        .version = {hone_version, (uint32_t)strlen(hone_version)},
        .held = server->policy.image.held,
    };

    hello.host.data = wire_host_id(host);
    hello.host.bytes = (uint32_t)strlen(host);
    memcpy(hello.name, server->options->name, strnlen(server->options->name, WIRE_NAME_BYTES - 1));
    snprintf(hello.place, sizeof(hello.place), "%s", ops_place(server->policy.ops));
    return send_out(server, wire_encode_hello(&hello, &server->out));
}

static void note_doing(struct server *server, int64_t now_ms)
{
    int doing = server->n_running                           ? DECODING
                : server->policy.image.state != IMAGE_NONE ? RECEIVING
                                                            : IDLE;

    if (!server->doing_since_ms || doing != (int)server->doing)
        server->doing_since_ms = now_ms;
    server->doing = doing;
}

static void describe_decoding(const struct server *server, char *doing, size_t bytes)
{
    struct rollout_load load = {0};

    if (server->policy.rollout)
        rollout_load(server->policy.rollout, &load);
    if (load.n_pauses)
        snprintf(doing, bytes, "decodes %d samples; the cache was too small %lld times",
                 server->n_running, (long long)load.n_pauses);
    else
        snprintf(doing, bytes, "decodes %d samples", server->n_running);
}

static int send_heartbeat(struct server *server)
{
    int64_t now_ms = clock_ms();

    note_doing(server, now_ms);
    server->heartbeat_ms = now_ms;
    struct wire_heartbeat beat = {
        .since_ms = (uint64_t)(now_ms - server->doing_since_ms),
        .weight_version = server->policy.version,
        .n_leases = server->n_leases,
        .weights_bytes = server->policy.image.bytes_taken,
    };

    if (server->doing == DECODING)
        describe_decoding(server, beat.doing, sizeof(beat.doing));
    else if (server->doing == RECEIVING)
        snprintf(beat.doing, sizeof(beat.doing), "%s WEIGHTS %u of the coordinator, is at %llu of "
                 "%llu bytes", server->policy.image.state == IMAGE_ARRIVES ? "waits for" : "takes",
                 server->policy.image.version, (unsigned long long)server->policy.image.offset,
                 (unsigned long long)server->policy.image.pieces.total);
    else
        snprintf(beat.doing, sizeof(beat.doing), "waits for SAMPLE of the coordinator");
    return send_out(server, wire_encode_heartbeat(&beat, &server->out));
}

static int send_failed(struct server *server, uint64_t lease, const char *reason)
{
    struct wire_failed failed = {lease, {reason, (uint32_t)strlen(reason)}};

    log_debug("lease %llu failed: %s", (unsigned long long)lease, reason);
    return send_out(server, wire_encode_failed(&failed, &server->out));
}

static int send_weights_state(struct server *server, uint32_t version, int verdict)
{
    const char *reason = verdict < 0 ? status_reason() : "";
    struct wire_weights_state state = {
        .version = version,
        .accepted = verdict == STATUS_OK,
        .wants_bytes = verdict < 0 && server->policy.image.wants_bytes,
        .digest = server->policy.image.digest,
        .reason = {reason, (uint32_t)strlen(reason)},
    };

    if (verdict < 0 && !state.wants_bytes)
        log_warning("weights of version %u refused: %s", version, reason);
    return send_out(server, wire_encode_weights_state(&state, &server->out));
}

static int send_finished(struct server *server)
{
    struct wire_group group;

    for (;;) {
        arena_rewind(&server->result);
        int got = rollout_take(server->policy.rollout, &server->result, &group);
        if (got == 0)
            return STATUS_OK;
        server->n_leases -= server->n_leases > 0;
        int status = got < 0 ? got : wire_encode_group(&group, &server->out);
        if (status < 0)
            TRY(send_failed(server, group.lease, status_reason()));
        else
            TRY(send_out(server, STATUS_OK));
    }
}

/* ---- In. */

static int apply_weights(struct server *server)
{
    struct image *image = &server->policy.image;
    uint32_t version = image->version;

    if (image->state == IMAGE_IS_CHECKED) {
        int checked = image_check_some(image);
        if (checked < 0)
            return send_weights_state(server, version, checked);
    }
    if (image->state != IMAGE_COMPLETE || server->n_running)
        return STATUS_OK;
    pulse("takes over weights");
    int status = policy_apply_image(&server->policy);
    if (status == STATUS_DEVICE)
        return status;   /* nothing more will work */
    return send_weights_state(server, version, status);
}

static int take_lease(struct server *server)
{
    struct wire_sample_lease lease;

    TRY(wire_decode_sample_lease(server->in.data, server->in.length, &server->arena, &lease));
    TRY(apply_weights(server));   /* those that came before it on the same connection */
    if (!server->policy.rollout)
        return send_failed(server, lease.lease, "this worker has no policy yet");
    int status =
        rollout_submit(server->policy.rollout, lease.lease, &lease.task, &lease.sampling);
    if (status < 0)
        return send_failed(server, lease.lease, status_reason());
    server->n_running += (int)lease.sampling.num_generations;
    server->n_leases++;
    return STATUS_OK;
}

/* A complete image that still waits gives way to what is newer. */
static int supersede_image(struct server *server)
{
    if (server->policy.image.state != IMAGE_COMPLETE)
        return STATUS_OK;
    uint32_t version = server->policy.image.version;
    image_end(&server->policy.image);
    return send_weights_state(server, version,
                              status_fail(STATUS_CLOSED, "newer ones came before they were used"));
}

static int take_image(struct server *server)
{
    struct wire_image message;

    TRY(wire_decode_image(server->in.data, server->in.length, &server->arena, &message));
    TRY(supersede_image(server));
    int status = image_begin(&server->policy.image, &message);
    return status < 0 ? send_weights_state(server, message.version, status) : STATUS_OK;
}

static int take_weights_part(struct server *server)
{
    struct image *image = &server->policy.image;
    struct wire_weights_part part;

    TRY(wire_decode_weights_part(server->in.data, server->in.length, &server->arena, &part));
    uint64_t before = image->bytes_taken / WIRE_WEIGHTS_REPORT;
    int status = image_add(image, &part);
    if (status < 0)
        return send_weights_state(server, part.version, status);
    return image->bytes_taken / WIRE_WEIGHTS_REPORT > before ? send_heartbeat(server) : STATUS_OK;
}

static int take_shared_weights(struct server *server)
{
    struct wire_shared_weights offer;

    TRY(wire_decode_shared_weights(server->in.data, server->in.length, &server->arena, &offer));
    TRY(supersede_image(server));
    int status = policy_take_offer(&server->policy, &offer);
    return status < 0 ? send_weights_state(server, offer.version, status) : STATUS_OK;
}

static int take_model(struct server *server)
{
    struct wire_model model;

    TRY(wire_decode_model(server->in.data, server->in.length, &server->arena, &model));
    TRY(supersede_image(server));
    return policy_announce(&server->policy, &model);
}

static int take_frame(struct server *server)
{
    enum wire_kind kind;

    arena_rewind(&server->arena);
    TRY(wire_kind_of(server->in.data, server->in.length, &kind));
    switch (kind) {
    case WIRE_MODEL:
        return take_model(server);
    case WIRE_IMAGE:
        return take_image(server);
    case WIRE_WEIGHTS:
        return take_weights_part(server);
    case WIRE_SHARED_WEIGHTS:
        return take_shared_weights(server);
    case WIRE_SAMPLE:
        return take_lease(server);
    case WIRE_HEARTBEAT:
        return STATUS_OK;
    case WIRE_STOP:
        server->stopped = 1;
        return STATUS_OK;
    default:
        return status_fail(STATUS_FORMAT, "a message of kind %d is not for a rollout worker", kind);
    }
}

/* All frames that wait; blocks for the first one only, and only when nothing runs. */
static int take_frames(struct server *server)
{
    int is_busy = server->n_running || server->policy.image.state == IMAGE_IS_CHECKED ||
                  server->policy.image.state == IMAGE_COMPLETE;
    int wait_ms = is_busy ? 0 : IDLE_WAIT_MS;

    for (;;) {
        int status = wire_link_receive(server->link, &server->in, wait_ms);
        if (status == STATUS_TIMEOUT || status == STATUS_INTERRUPTED)
            return STATUS_OK;
        if (status == STATUS_OK)
            status = take_frame(server);
        if (status == STATUS_FORMAT || status == STATUS_VERSION || status == STATUS_NOMEM)
            log_warning("dropped a message: %s", status_reason());
        else if (status < 0)
            return status;
        if (server->stopped)
            return STATUS_OK;
        wait_ms = 0;
    }
}

/* ---- The loop. */

static int keep_in_touch(struct server *server)
{
    uint64_t n_connections = wire_link_connections(server->link);
    int64_t now_ms = clock_ms();

    note_doing(server, now_ms);
    TRY(wire_link_check(server->link, server->options->lost_ms));
    if (wire_link_lost_ms(server->link))
        return STATUS_OK;
    if (n_connections > server->n_greeted) {
        server->n_greeted = n_connections;
        server->heartbeat_ms = now_ms;
        return send_hello(server);
    }
    if (now_ms - server->heartbeat_ms < HEARTBEAT_MS)
        return STATUS_OK;
    return send_heartbeat(server);
}

static int decode(struct server *server)
{
    if (!server->n_running)
        return STATUS_OK;
    int n = rollout_step(server->policy.rollout);
    TRY(n);
    server->n_running = n;
    return send_finished(server);
}

static int run_loop(struct server *server, _Atomic int *stop)
{
    for (;;) {
        pulse("waits for the coordinator");
        if (stop && *stop)
            return status_fail(STATUS_INTERRUPTED, "rollout worker %s was told to stop",
                               server->options->name);
        TRY(keep_in_touch(server));
        TRY(take_frames(server));
        if (server->stopped)
            return STATUS_OK;
        TRY(apply_weights(server));
        TRY(decode(server));
    }
}

int rollout_serve(const struct rollout_options *options, _Atomic int *stop)
{
    struct server server = {.options = options};
    int status;

    arena_init(&server.arena, ARENA_BYTES);
    arena_init(&server.result, GROUP_ARENA_BYTES);
    status = policy_open(&server.policy, options);
    if (status == STATUS_OK)
        status = wire_link_open(&server.link, options->endpoint, options->name, options->keys);
    if (status == STATUS_OK) {
        log_info("rollout on %s, coordinator at %s", ops_name(server.policy.ops),
                 options->endpoint);
        status = run_loop(&server, stop);
    }
    wire_link_close(&server.link);
    policy_close(&server.policy);
    arena_release(&server.arena);
    arena_release(&server.result);
    text_release(&server.in);
    text_release(&server.out);
    return status;
}
