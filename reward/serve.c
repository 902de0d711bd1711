/*
 * The reward process: leases in, judged groups out.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "common/version.h"
#include "reward/internal.h"

#define HEARTBEAT_MS 1000
#define RECEIVE_MS 200
#define SEND_MS 5000
#define LEASE_BYTES ((size_t)1 << 30)   /* a decoded group and its scores */

struct server {
    const struct reward_options *options;
    struct wire_link *link;
    struct reward *reward;
    struct arena arena;
    struct text frame, reply;
    int64_t beat_ms;       /* of the last heartbeat */
    uint32_t is_judging;
    uint64_t task_id;      /* of the group in hand */
    int64_t doing_since_ms;
    uint64_t n_greeted;    /* connections that got a HELLO */
};

static int send_hello(struct server *server)
{
    struct wire_hello hello = {.pid = (uint64_t)getpid(),
                               .version = {hone_version, (uint32_t)strlen(hone_version)}};

    snprintf(hello.role, sizeof(hello.role), "reward");
    snprintf(hello.name, sizeof(hello.name), "%s", server->options->name);
    text_clear(&server->reply);
    TRY(wire_encode_hello(&hello, &server->reply));
    return wire_link_send(server->link, &server->reply, SEND_MS);
}

/* Nothing is lost with a heartbeat: the next one comes in a second. */
static void beat(void *context)
{
    struct server *server = context;
    struct wire_heartbeat message = {.n_leases = server->is_judging};
    struct text frame = {0};
    int64_t now = clock_ms();

    if (now - server->beat_ms < HEARTBEAT_MS)
        return;
    server->beat_ms = now;
    message.since_ms = (uint64_t)(now - server->doing_since_ms);
    if (server->is_judging)
        snprintf(message.doing, sizeof(message.doing), "judges task %llu",
                 (unsigned long long)server->task_id);
    else
        snprintf(message.doing, sizeof(message.doing), "waits for JUDGE of the coordinator");
    if (wire_encode_heartbeat(&message, &frame) < 0 ||
        wire_link_send(server->link, &frame, 0) < 0)
        log_debug("heartbeat: %s", status_reason());
    text_release(&frame);
}

static int send_failed(struct server *server, uint64_t lease)
{
    const char *reason = status_reason();
    struct wire_failed failed = {.lease = lease, .reason = {reason, (uint32_t)strlen(reason)}};

    log_warning("lease %llu: %s", (unsigned long long)lease, reason);
    text_clear(&server->reply);
    TRY(wire_encode_failed(&failed, &server->reply));
    return wire_link_send(server->link, &server->reply, SEND_MS);
}

static void note_doing(struct server *server, int is_judging, uint64_t task_id)
{
    server->is_judging = (uint32_t)is_judging;
    server->task_id = task_id;
    server->doing_since_ms = clock_ms();
}

static int judge(struct server *server)
{
    struct wire_judge_lease lease;

    if (wire_decode_judge_lease(server->frame.data, server->frame.length, &server->arena, &lease) <
        0) {
        log_warning("a lease is dropped: %s", status_reason());
        return STATUS_OK;
    }
    note_doing(server, 1, lease.group.task.id);
    int judged = judge_group(server->reward, &lease.group, &server->arena, beat, server);
    note_doing(server, 0, 0);
    if (judged < 0)
        return send_failed(server, lease.lease);
    struct wire_group group = {.lease = lease.lease, .group = lease.group};
    text_clear(&server->reply);
    if (wire_encode_group(&group, &server->reply) < 0)
        return send_failed(server, lease.lease);
    return wire_link_send(server->link, &server->reply, SEND_MS);
}

/* A reply that a full queue did not take is lost, and leased again when its time is up. Any other
 * failure ends the worker: that is noticed at once. */
static int answer_lease(struct server *server)
{
    int status = judge(server);

    if (status != STATUS_TIMEOUT && status != STATUS_INTERRUPTED)
        return status;
    log_warning("a reply is lost: %s", status_reason());
    return STATUS_OK;
}

/* 1: the hub says stop. */
static int handle_frame(struct server *server)
{
    enum wire_kind kind;

    arena_rewind(&server->arena);
    if (wire_kind_of(server->frame.data, server->frame.length, &kind) < 0) {
        log_warning("a frame is dropped: %s", status_reason());
        return 0;
    }
    switch (kind) {
    case WIRE_STOP:
        return 1;
    case WIRE_JUDGE:
        return answer_lease(server);
    case WIRE_HEARTBEAT:
        return 0;
    default:
        log_warning("a frame of kind %d is dropped: this is a reward worker", (int)kind);
        return 0;
    }
}

/* Says hello after every connection: a hub that came back may be another process. */
static int watch_hub(struct server *server)
{
    TRY(wire_link_check(server->link, server->options->lost_ms));
    uint64_t n_connections = wire_link_connections(server->link);
    if (wire_link_lost_ms(server->link) || n_connections == server->n_greeted)
        return STATUS_OK;
    int status = send_hello(server);
    if (status == STATUS_TIMEOUT || status == STATUS_INTERRUPTED) {
        log_warning("hello: %s", status_reason());
        return STATUS_OK;   /* once more, the next time */
    }
    server->n_greeted = n_connections;
    return status;
}

static int serve(struct server *server, const _Atomic int *stop)
{
    note_doing(server, 0, 0);
    for (;;) {
        if (stop && *stop)
            return status_fail(STATUS_INTERRUPTED, "%s was asked to stop", server->options->name);
        TRY(watch_hub(server));
        if (server->n_greeted)
            beat(server);
        int status = wire_link_receive(server->link, &server->frame, RECEIVE_MS);
        if (status == STATUS_TIMEOUT)
            continue;
        if (status == STATUS_OK) {
            int handled = handle_frame(server);
            if (handled)
                return handled < 0 ? handled : STATUS_OK;
        } else if (status != STATUS_FORMAT) {
            return status;
        } else {
            log_warning("a frame is dropped: %s", status_reason());
        }
    }
}

int reward_serve(const struct reward_options *options, _Atomic int *stop)
{
    struct server server = {.options = options};
    int status;

    /* Before the link, whose library starts threads: plugins are forked here. */
    TRY(reward_create(&server.reward, options->config, options->sandbox));
    arena_init(&server.arena, LEASE_BYTES);
    TRY_OUT(reward_check_names(server.reward, options->config));
    TRY_OUT(reward_check_lengths(server.reward, options->config));
    TRY_OUT(wire_link_open(&server.link, options->endpoint, options->name, options->keys));
    status = serve(&server, stop);
out:
    wire_link_close(&server.link);
    reward_destroy(&server.reward);
    arena_release(&server.arena);
    text_release(&server.frame);
    text_release(&server.reply);
    return status;
}
