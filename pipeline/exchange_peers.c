#include "pipeline/exchange_work.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"

#define SEND_MS 30000
#define BEAT_MS 1000
#define HELLO_ARENA_BYTES ((size_t)1 << 20)

int exchange_create(struct exchange **out, const struct exchange_config *config)
{
    struct exchange *exchange = mem_alloc(1, sizeof(*exchange));
    int status;

    exchange->config = *config;
    exchange->frame.maximum = exchange->inbox.maximum = WIRE_MAX_FRAME + 4096;
    /* The caller's text may go; the hub knows its own endpoint. */
    exchange->config.endpoint = exchange->config.worker_key = NULL;
    exchange->config.keys = NULL;
    exchange->config.directory = NULL;
    snprintf(exchange->worker_key, sizeof(exchange->worker_key), "%s",
             config->worker_key ? config->worker_key : "");
    status = wire_hub_open(&exchange->hub, config->endpoint, config->keys);
    exchange->idle_since_ms = clock_ms();
    snprintf(exchange->directory, sizeof(exchange->directory), "%s",
             config->directory ? config->directory : "");
    if (status < 0)
        exchange_destroy(&exchange);
    else if (exchange->worker_key[0])
        log_info("workers on other machines connect to %s with --key and a copy of %s",
                 wire_hub_endpoint(exchange->hub), exchange->worker_key);
    *out = exchange;
    return status;
}

static void say_stop(struct exchange *exchange)
{
    struct text frame = {0};

    if (exchange->hub && wire_encode_empty(WIRE_STOP, &frame) == STATUS_OK)
        for (int i = 0; i < exchange->n_peers; i++)
            wire_hub_send(exchange->hub, exchange->peers[i]->name, &frame, 100);
    text_release(&frame);
}

void exchange_destroy(struct exchange **exchange)
{
    struct exchange *old = *exchange;

    *exchange = NULL;
    if (!old)
        return;
    say_stop(old);
    state_remove(old);
    workers_destroy(&old->workers);
    wire_hub_close(&old->hub);
    for (int i = 0; i < old->n_peers; i++)
        mem_free(old->peers[i]);
    text_release(&old->frame);
    text_release(&old->inbox);
    weights_release(old);
    mem_free(old);
}

/* The peers of the workers that were just ended are gone; their names come back with HELLO. */
static void forget_local_peers(struct exchange *exchange)
{
    for (int i = 0; i < exchange->n_peers; i++)
        exchange->peers[i]->is_ready = 0;
}

int exchange_set_workers(struct exchange *exchange, const char *stage, const char *settings_hash,
                         int n_rollout, int n_reward)
{
    if (exchange->workers && strcmp(exchange->settings_hash, settings_hash) != 0) {
        workers_destroy(&exchange->workers);
        forget_local_peers(exchange);
    }
    if (!exchange->workers) {
        const struct worker_command command = {exchange->config.program,
                                               wire_hub_endpoint(exchange->hub),
                                               exchange->config.config, stage,
                                               exchange->worker_key};
        TRY(workers_create(&exchange->workers, &command));
        snprintf(exchange->settings_hash, sizeof(exchange->settings_hash), "%s", settings_hash);
    }
    exchange->n_wanted[WORKER_ROLLOUT] = n_rollout;
    exchange->n_wanted[WORKER_REWARD] = n_reward;
    TRY(workers_set_count(exchange->workers, WORKER_ROLLOUT, n_rollout));
    TRY(workers_set_count(exchange->workers, WORKER_REWARD, n_reward));
    for (int i = 0; i < exchange->n_peers; i++)   /* too many for this stage: no lease for them */
        if (workers_has_ended(exchange->workers, exchange->peers[i]->name))
            exchange->peers[i]->is_ready = 0;
    return STATUS_OK;
}

struct peer *peer_find(struct exchange *exchange, const char *name)
{
    for (int i = 0; i < exchange->n_peers; i++)
        if (strcmp(exchange->peers[i]->name, name) == 0)
            return exchange->peers[i];
    return NULL;
}

int peer_hello(struct exchange *exchange, const char *name, const struct text *frame)
{
    struct peer *peer = peer_find(exchange, name);
    struct wire_hello hello;
    char host[WIRE_NAME_BYTES * 2];
    struct arena arena;

    arena_init(&arena, HELLO_ARENA_BYTES);
    int status = wire_decode_hello(frame->data, frame->length, &arena, &hello);
    uint64_t pid = status < 0 ? 0 : hello.pid;
    int shares_files = status == STATUS_OK && hello.host.bytes &&
                       strcmp(hello.host.data, wire_host_id(host)) == 0;
    int role = status < 0 ? -1
               : strcmp(hello.role, "rollout") == 0 ? WORKER_ROLLOUT
               : strcmp(hello.role, "reward") == 0  ? WORKER_REWARD
                                                    : -1;
    arena_release(&arena);
    if (role < 0 || (!peer && exchange->n_peers == MAX_PEERS)) {
        log_warning("a stranger named %s is not let in: %s", name,
                    status < 0 ? status_reason() : "it has no known role, or there are too many");
        return STATUS_OK;
    }
    if (!peer) {
        peer = mem_alloc(1, sizeof(*peer));
        snprintf(peer->name, sizeof(peer->name), "%s", name);
        exchange->peers[exchange->n_peers++] = peer;
    }
    peer->role = (enum worker_role)role;
    peer->pid = pid;
    peer->is_ready = 1;
    peer->n_leases = 0;
    peer->model_serial = 0;
    peer_forget_weights(peer);
    peer->held = hello.held;
    peer->shares_files = shares_files;
    peer->n_refusals = 0;
    snprintf(peer->place, sizeof(peer->place), "%s", hello.place);
    peer->is_reading = peer->refuses_offers = 0;
    peer->is_alone = 0;
    memset(&peer->beat, 0, sizeof(peer->beat));
    peer->heard_ms = peer->beat_ms = clock_ms();
    message_note(exchange, 0, name, WIRE_HELLO, 0);
    log_debug("%s says hello", name);
    return STATUS_OK;
}

void peer_is_back(struct peer *peer)
{
    peer->is_ready = 1;
    peer->model_serial = 0;
    peer_forget_weights(peer);
}

int peer_heartbeat(struct exchange *exchange, struct peer *peer, const struct text *frame)
{
    struct wire_heartbeat beat;
    struct arena arena;

    (void)exchange;
    arena_init(&arena, HELLO_ARENA_BYTES);
    if (wire_decode_heartbeat(frame->data, frame->length, &arena, &beat) < 0) {
        log_warning("a message from %s is dropped: %s", peer->name, status_reason());
    } else {
        peer->beat = beat;
        peer->beat_ms = clock_ms();
    }
    arena_release(&arena);
    return STATUS_OK;
}

int peers_beat(struct exchange *exchange, const char *doing, int64_t since_ms)
{
    struct wire_heartbeat beat = {.since_ms = (uint64_t)since_ms,
                                  .weight_version = exchange->version};

    if (clock_ms() - exchange->beat_ms < BEAT_MS)
        return STATUS_OK;
    exchange->beat_ms = clock_ms();
    snprintf(beat.doing, sizeof(beat.doing), "%s", doing);
    text_clear(&exchange->frame);
    TRY(wire_encode_heartbeat(&beat, &exchange->frame));
    for (int i = 0; i < exchange->n_peers; i++) {
        struct peer *peer = exchange->peers[i];
        if (!peer->is_ready)
            continue;
        int status = wire_hub_send(exchange->hub, peer->name, &exchange->frame, 0);
        if (status == STATUS_CLOSED)
            peer->is_ready = 0;   /* its leases go back by silence, reaping or its return */
        else if (status < 0 && status != STATUS_TIMEOUT && status != STATUS_INTERRUPTED)
            return status;
    }
    return STATUS_OK;
}

struct peer *peer_least_loaded(struct exchange *exchange, enum worker_role role, int most)
{
    struct peer *best = NULL;

    for (int i = 0; i < exchange->n_peers; i++) {
        struct peer *peer = exchange->peers[i];
        if (peer->role == role && peer->is_ready && !peer->is_alone && !peer->is_receiving &&
            peer->n_leases < most && (!best || peer->n_leases < best->n_leases))
            best = peer;
    }
    return best;
}

int peer_send(struct exchange *exchange, struct peer *peer, const struct text *frame)
{
    return wire_hub_send(exchange->hub, peer->name, frame, SEND_MS);
}

void peer_begin_wait(struct exchange *exchange)
{
    exchange->wait_started_ms = clock_ms();
}

static int is_present(const struct exchange *exchange, enum worker_role role, int64_t since)
{
    for (int i = 0; i < exchange->n_peers; i++)
        if (exchange->peers[i]->role == role &&
            (exchange->peers[i]->is_ready || exchange->peers[i]->heard_ms > since))
            return 1;
    return 0;
}

int peer_check_presence(struct exchange *exchange, int needs_reward)
{
    int64_t now = clock_ms();
    int64_t since = now - exchange->config.connect_ms;

    if (since < exchange->wait_started_ms)
        return STATUS_OK;
    for (int role = WORKER_ROLLOUT; role <= WORKER_REWARD; role++)
        if ((role == WORKER_ROLLOUT || needs_reward) &&
            !is_present(exchange, (enum worker_role)role, since))
            return status_fail(STATUS_TIMEOUT, "no %s worker at %s for %lld ms (run.connect_ms); "
                               "start one with `hone worker %s --connect %s`",
                               worker_role_name((enum worker_role)role),
                               wire_hub_endpoint(exchange->hub),
                               (long long)exchange->config.connect_ms,
                               worker_role_name((enum worker_role)role),
                               wire_hub_endpoint(exchange->hub));
    return STATUS_OK;
}

void peer_forget_leases(struct exchange *exchange)
{
    for (int i = 0; i < exchange->n_peers; i++) {
        exchange->peers[i]->n_leases = exchange->peers[i]->is_alone = 0;
        exchange->peers[i]->out = (struct slot_list){NULL, NULL};
    }
}
