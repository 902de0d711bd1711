/* The weights on their way to the workers. An image is cut into pieces where its tensors end. One
 * that keeps an earlier image gets the pieces that differ; one of this host gets the file. */
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "model/model.h"
#include "pipeline/exchange_peers.h"

#define MAX_REFUSALS 3
#define STATE_ARENA_BYTES ((size_t)1 << 20)
#define LEAST_WINDOW (2 * WIRE_WEIGHTS_REPORT)
#define MOST_IN_FLIGHT ((uint64_t)128 << 20)   /* to all workers; above it, LEAST_WINDOW to each */

static const struct digest no_digest;

/* ---- Publishing. */

int exchange_set_model(struct exchange *exchange, const struct wire_model *model)
{
    struct text frame = {.maximum = WIRE_MAX_FRAME + 4096};
    int status = wire_encode_model(model, &frame);

    if (status < 0 || (frame.length == exchange->model.length &&
                       memcmp(frame.data, exchange->model.data, frame.length) == 0)) {
        text_release(&frame);
        return status;   /* the workers have it */
    }
    text_release(&exchange->model);
    exchange->model = frame;
    exchange->model_serial++;
    return STATUS_OK;
}

static int cut(struct wire_pieces *pieces, const uint64_t *ends, size_t n_ends)
{
    uint64_t total = ends[n_ends - 1];
    uint32_t *bytes = mem_alloc(n_ends + total / WIRE_PIECE_BYTES + 1, sizeof(*bytes)), n = 0;
    uint64_t at = 0;

    for (size_t i = 0; i < n_ends; i++)
        for (uint64_t left; (left = ends[i] - at) > 0; at += bytes[n++])
            bytes[n] = (uint32_t)(left < WIRE_PIECE_BYTES ? left : WIRE_PIECE_BYTES);
    int status = wire_pieces_begin(pieces, bytes, n);
    mem_free(bytes);
    return status;
}

/* Where the tensors end, so that one that stays the same shares no piece with one that changes;
 * what is not safetensors is for the workers to refuse. */
static int cut_image(struct wire_pieces *pieces, const struct file_map *image)
{
    uint64_t *ends, whole = image->n;
    size_t n_ends;

    if (safetensors_ends(image->bytes, image->n, "weights", &ends, &n_ends) < 0)
        return cut(pieces, &whole, 1);
    int status = cut(pieces, ends, n_ends);
    mem_free(ends);
    return status;
}

static int make_pieces(const struct exchange *exchange, struct image_pieces *made,
                       const struct file_map *image)
{
    const struct wire_pieces *before = &exchange->images[0].pieces;

    TRY(cut_image(&made->pieces, image));
    wire_pieces_hash_map(&made->pieces, image,
                         wire_pieces_are_alike(before, &made->pieces) ? before : NULL);
    wire_pieces_digest(&made->pieces, &made->digest);
    return STATUS_OK;
}

static void take_image(struct exchange *exchange, struct file_map *image,
                       const struct image_pieces *made)
{
    file_map_close(&exchange->image);
    exchange->image = *image;
    *image = (struct file_map){0};
    wire_pieces_release(&exchange->images[N_IMAGES - 1].pieces);
    memmove(exchange->images + 1, exchange->images, (N_IMAGES - 1) * sizeof(*made));
    exchange->images[0] = *made;
}

int weights_set_image(struct exchange *exchange, struct file_map *image)
{
    struct image_pieces made;

    TRY(make_pieces(exchange, &made, image));
    take_image(exchange, image, &made);
    return STATUS_OK;
}

void weights_begin_version(struct exchange *exchange, uint32_t version)
{
    exchange->version = version;
    for (int i = 0; i < exchange->n_peers; i++) {
        struct peer *peer = exchange->peers[i];
        peer->n_refusals = 0;
        peer->has_version = peer->has_acked = peer->is_receiving = 0;
    }
}

int exchange_publish(struct exchange *exchange, uint32_t version, struct file_map *image)
{
    struct image_pieces made;

    TRY(make_pieces(exchange, &made, image));
    if (version == exchange->version && exchange->image.n && !exchange->offer.weights.n_regions &&
        digest_is_same(&made.digest, &exchange->images[0].digest)) {
        wire_pieces_release(&made.pieces);
        file_map_close(image);
        return STATUS_OK;   /* it is what the workers have or are getting */
    }
    take_image(exchange, image, &made);
    memset(&exchange->offer, 0, sizeof(exchange->offer));
    weights_begin_version(exchange, version);
    return STATUS_OK;
}

void weights_release(struct exchange *exchange)
{
    text_release(&exchange->model);
    file_map_close(&exchange->image);
    for (int i = 0; i < N_IMAGES; i++)
        wire_pieces_release(&exchange->images[i].pieces);
}

/* ---- Sending. */

int peer_has_weights(const struct exchange *exchange, const struct peer *peer)
{
    return peer->has_acked && peer->version_acked == exchange->version;
}

/* The image that it keeps outlives the model that it was read into. */
static void forget_sent(struct peer *peer)
{
    peer->has_version = peer->has_acked = peer->is_receiving = peer->takes_file = 0;
    peer->is_offered = 0;
}

void peer_forget_weights(struct peer *peer)
{
    forget_sent(peer);
    peer->held = no_digest;
}

static int send_model(struct exchange *exchange, struct peer *peer)
{
    TRY(peer_send(exchange, peer, &exchange->model));
    message_note(exchange, 1, peer->name, WIRE_MODEL, exchange->model_serial);
    peer->model_serial = exchange->model_serial;
    forget_sent(peer);
    return STATUS_OK;
}

static const struct wire_pieces *find_base(const struct exchange *exchange, const struct peer *peer)
{
    const struct wire_pieces *now = &exchange->images[0].pieces;

    for (int i = 0; i < N_IMAGES && !digest_is_same(&peer->held, &no_digest); i++) {
        const struct wire_pieces *then = &exchange->images[i].pieces;
        if (digest_is_same(&exchange->images[i].digest, &peer->held) &&
            wire_pieces_are_alike(then, now))
            return then;
    }
    return NULL;
}

static int has_piece(const struct exchange *exchange, const struct peer *peer, uint32_t piece)
{
    return peer->base && digest_is_same(&peer->base->digests[piece],
                                        &exchange->images[0].pieces.digests[piece]);
}

static int announce_image(struct exchange *exchange, struct peer *peer)
{
    const struct wire_pieces *pieces = &exchange->images[0].pieces;
    struct wire_image message = {.version = exchange->version, .path = {"", 0},
                                 .digest = exchange->images[0].digest, .n_pieces = pieces->n,
                                 .piece_bytes = pieces->bytes};
    char path[64];

    peer->takes_file = peer->shares_files && file_map_name(&exchange->image, path, &message.device,
                                                           &message.inode) == STATUS_OK;
    if (peer->takes_file) {
        message.path = (struct wire_text){path, (uint32_t)strlen(path)};
        message.digests = pieces->digests;
        message.sums = pieces->sums;
    } else if ((peer->base = find_base(exchange, peer))) {
        message.base = peer->held;
    }
    for (uint32_t i = 0; i < pieces->n && !peer->takes_file; i++)
        message.n_follow += !has_piece(exchange, peer, i);
    text_clear(&exchange->frame);
    TRY(wire_encode_image(&message, &exchange->frame));
    TRY(peer_send(exchange, peer, &exchange->frame));
    message_note(exchange, 1, peer->name, WIRE_IMAGE, exchange->version);
    peer->version_sent = exchange->version;
    peer->has_version = peer->is_receiving = 1;
    peer->has_acked = peer->is_offered = 0;
    peer->held = no_digest;
    peer->next_piece = 0;
    peer->offset = peer->bytes_sent = peer->beat.weights_bytes = 0;
    return STATUS_OK;
}

static int send_piece(struct exchange *exchange, struct peer *peer)
{
    uint32_t n = exchange->images[0].pieces.bytes[peer->next_piece];
    const struct wire_weights_part part = {
        exchange->version, peer->next_piece,
        {(const char *)exchange->image.bytes + peer->offset, n}};

    if (!has_piece(exchange, peer, peer->next_piece)) {
        text_clear(&exchange->frame);
        TRY(wire_encode_weights_part(&part, &exchange->frame));
        file_map_forget_part(&exchange->image, peer->offset, n);
        TRY(peer_send(exchange, peer, &exchange->frame));
        peer->bytes_sent += n;
        exchange->weights_bytes += n;
    }
    peer->next_piece++;
    peer->offset += n;
    return STATUS_OK;
}

/* What is on its way to all of them is this process's memory. */
static uint64_t window_of_each(const struct exchange *exchange)
{
    uint64_t n = 0;

    for (int i = 0; i < exchange->n_peers; i++)
        n += exchange->peers[i]->is_receiving && !exchange->peers[i]->takes_file &&
             !exchange->peers[i]->is_offered;
    uint64_t window = MOST_IN_FLIGHT / (n ? n : 1);
    return window < LEAST_WINDOW          ? LEAST_WINDOW
           : window < WIRE_WEIGHTS_WINDOW ? window
                                          : WIRE_WEIGHTS_WINDOW;
}

static int send_weights(struct exchange *exchange, struct peer *peer)
{
    if (peer_takes_offers(exchange, peer))
        return peer_send_offer(exchange, peer);
    TRY(exchange_need_image(exchange));
    if (!peer->has_version || peer->version_sent != exchange->version)
        TRY(announce_image(exchange, peer));
    if (!peer->is_receiving || peer->takes_file)
        return STATUS_OK;   /* the file's taker says when it has it */
    uint64_t most = peer->beat.weights_bytes + window_of_each(exchange);
    while (peer->next_piece < exchange->images[0].pieces.n && peer->bytes_sent < most)
        TRY(send_piece(exchange, peer));
    if (peer->next_piece == exchange->images[0].pieces.n) {
        message_note(exchange, 1, peer->name, WIRE_WEIGHTS, exchange->version);
        peer->is_receiving = 0;
    }
    return STATUS_OK;
}

int peer_bring_up_to_date(struct exchange *exchange, struct peer *peer)
{
    int status = STATUS_OK;

    if (peer->model_serial != exchange->model_serial)
        status = send_model(exchange, peer);
    if (status == STATUS_OK)
        status = send_weights(exchange, peer);
    if (status == STATUS_CLOSED || status == STATUS_TIMEOUT) {
        peer->is_ready = 0;   /* reaping or its return will tell */
        return STATUS_OK;
    }
    return status;
}

/* ---- The answers. */

static int take_refusal(struct peer *peer, const struct wire_weights_state *message)
{
    log_warning("%s refused weights %u: %.*s; they are sent again", peer->name, message->version,
                (int)message->reason.bytes, message->reason.data);
    peer_forget_weights(peer);
    if (++peer->n_refusals < MAX_REFUSALS)
        return STATUS_OK;
    return status_fail(STATUS_FAILED, "%s refused weights %u %d times: %.*s", peer->name,
                       message->version, MAX_REFUSALS, (int)message->reason.bytes,
                       message->reason.data);
}

static int take_answer(struct exchange *exchange, struct peer *peer,
                       const struct wire_weights_state *message)
{
    int is_right = message->version == exchange->version &&
                   digest_is_same(&message->digest, peer_digest(exchange, peer));

    if (message->version == peer->version_offered)
        peer->is_reading = 0;
    if (message->accepted && is_right) {
        peer->n_refusals = 0;
        peer->has_acked = 1;
        peer->version_acked = message->version;
        if (peer->is_offered) {
            peer_took_offer(peer);
            return STATUS_OK;
        }
        peer->held = peer->takes_file ? no_digest : message->digest;
        peer->is_receiving = peer->is_receiving && !peer->takes_file;
    } else if (message->accepted) {
        log_warning("%s has taken over weights %u that are not those of the run: they do not count",
                    peer->name, message->version);
        peer_forget_weights(peer);
    } else if (message->wants_bytes && is_right && peer->takes_file) {
        log_info("%s gets the weights over its connection: %.*s", peer->name,
                 (int)message->reason.bytes, message->reason.data);
        peer->shares_files = 0;
        peer_forget_weights(peer);
    } else if (is_right && peer_falls_back(exchange, peer)) {
        log_warning("%s gets weights as files from now on, it could not take those in device "
                    "memory: %.*s", peer->name, (int)message->reason.bytes, message->reason.data);
        forget_sent(peer);
    } else if (message->version == exchange->version && !message->wants_bytes) {
        return take_refusal(peer, message);
    }
    return STATUS_OK;
}

int peer_weights_state(struct exchange *exchange, struct peer *peer, const struct text *frame)
{
    struct wire_weights_state message;
    struct arena arena;

    arena_init(&arena, STATE_ARENA_BYTES);
    int status = wire_decode_weights_state(frame->data, frame->length, &arena, &message);
    if (status == STATUS_OK) {
        message_note(exchange, 0, peer->name, WIRE_WEIGHTS_STATE, message.version);
        status = take_answer(exchange, peer, &message);
    } else {
        log_warning("a message from %s is dropped: %s", peer->name, status_reason());
        status = STATUS_OK;
    }
    arena_release(&arena);
    return status;
}
