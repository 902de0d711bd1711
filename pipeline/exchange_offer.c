/* Weights in device memory: who is offered them, and when nobody reads them any more. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "common/watchdog.h"
#include "pipeline/exchange_work.h"

#define POLL_MS 20
#define SETTLE_ARENA_BYTES (4 * WIRE_MAX_FRAME)

int exchange_publish_offer(struct exchange *exchange, const struct exchange_offer *offer)
{
    const struct wire_shared_weights *before = &exchange->offer.weights, *now = &offer->weights;
    int is_same = before->n_regions && now->version == exchange->version &&
                  digest_is_same(&before->digest, &now->digest);

    exchange->offer = *offer;
    if (is_same)
        return STATUS_OK;   /* the same weights elsewhere: who has them has these */
    file_map_close(&exchange->image);
    weights_begin_version(exchange, now->version);
    return STATUS_OK;
}

void exchange_forget(struct exchange *exchange)
{
    file_map_close(&exchange->image);
    memset(&exchange->offer, 0, sizeof(exchange->offer));
    weights_begin_version(exchange, exchange->version);
}

int exchange_need_image(struct exchange *exchange)
{
    const struct exchange_offer *offer = &exchange->offer;
    struct file_map image;

    if (!offer->weights.n_regions || exchange->image.n)
        return STATUS_OK;
    TRY(offer->make_image(offer->source, &image));
    int status = weights_set_image(exchange, &image);
    file_map_close(&image);
    return status;
}

int peer_takes_offers(const struct exchange *exchange, const struct peer *peer)
{
    const struct exchange_offer *offer = &exchange->offer;

    if (!offer->weights.n_regions)
        return 0;
    return offer->is_forced ||
           (!peer->refuses_offers && strcmp(peer->place, offer->place) == 0);
}

int peer_send_offer(struct exchange *exchange, struct peer *peer)
{
    if (peer->has_version && peer->version_sent == exchange->version)
        return STATUS_OK;   /* it has them, or its answer is on the way */
    text_clear(&exchange->frame);
    TRY(wire_encode_shared_weights(&exchange->offer.weights, &exchange->frame));
    TRY(peer_send(exchange, peer, &exchange->frame));
    message_note(exchange, 1, peer->name, WIRE_SHARED_WEIGHTS, exchange->version);
    peer->version_sent = peer->version_offered = exchange->version;
    peer->has_version = peer->is_offered = peer->is_reading = peer->is_receiving = 1;
    peer->has_acked = peer->takes_file = 0;
    return STATUS_OK;
}

void peer_took_offer(struct peer *peer)
{
    if (!peer->is_told)
        log_info("%s takes weights from the learner's memory (rollout.weights: ipc)", peer->name);
    peer->is_told = 1;
    peer->is_receiving = 0;
}

int peer_falls_back(const struct exchange *exchange, struct peer *peer)
{
    if (!peer->is_offered || exchange->offer.is_forced)
        return 0;
    peer->refuses_offers = 1;
    return 1;
}

const struct digest *peer_digest(const struct exchange *exchange, const struct peer *peer)
{
    return peer->is_offered ? &exchange->offer.weights.digest : &exchange->images[0].digest;
}

static const struct peer *find_reader(const struct exchange *exchange, uint32_t version)
{
    for (int i = 0; i < exchange->n_peers; i++) {
        const struct peer *peer = exchange->peers[i];
        if (peer->is_ready && peer->is_reading && peer->version_offered == version)
            return peer;
    }
    return NULL;
}

int exchange_settle(struct exchange *exchange, uint32_t version, int64_t settle_ms)
{
    int64_t deadline_ms = clock_ms() + settle_ms;
    const struct peer *reader;
    char name[WIRE_NAME_BYTES];
    struct arena arena;
    struct exchange_job job = {.arena = &arena};
    struct work work = {.exchange = exchange, .job = &job};
    int status = STATUS_OK;

    arena_init(&arena, SETTLE_ARENA_BYTES);
    while (status == STATUS_OK && (reader = find_reader(exchange, version)) != NULL) {
        pulse("waits for weights to be taken over");
        if (exchange->config.stop && *exchange->config.stop) {
            status = status_fail(STATUS_INTERRUPTED, "stopped while %s takes weights %u over",
                                 reader->name, version);
        } else if (clock_ms() >= deadline_ms) {
            log_warning("%s has not answered weights %u for %lld ms; their memory is used again",
                        reader->name, version, (long long)settle_ms);
            break;
        } else {
            status = wire_hub_receive(exchange->hub, name, &exchange->inbox, POLL_MS);
            if (status == STATUS_OK)
                status = work_take_frame(&work, name, &exchange->inbox);
            else if (status == STATUS_TIMEOUT || status == STATUS_INTERRUPTED)
                status = STATUS_OK;
            arena_rewind(&arena);
        }
    }
    arena_release(&arena);
    return status;
}
