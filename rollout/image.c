#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "rollout/internal.h"

#define IMAGE_MAX_BYTES ((uint64_t)16 << 30)
#define TURN_BYTES ((uint64_t)64 << 20)   /* hashed between two looks at the connection */

static const struct digest no_digest;

void image_init(struct image *image)
{
    *image = (struct image){.spool.fd = -1};
}

void image_end(struct image *image)
{
    file_map_close(&image->map);
    image->state = IMAGE_NONE;
    image->bytes_taken = 0;
    image->offer.n_regions = 0;
}

static void drop_spool(struct image *image)
{
    if (image->spool.fd >= 0)
        file_sink_map(&image->spool, STATUS_CLOSED, &image->map);
    image->held = no_digest;
}

void image_close(struct image *image)
{
    image_end(image);
    drop_spool(image);
    wire_pieces_release(&image->pieces);
}

static int refuse(struct image *image, int status)
{
    image_end(image);
    drop_spool(image);
    return status;
}

/* ---- Complete, or not what was announced. */

static int check_digest(struct image *image)
{
    char wanted[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    struct digest digest;

    wire_pieces_digest(&image->pieces, &digest);
    if (digest_is_same(&digest, &image->digest))
        return STATUS_OK;
    digest_hex(&image->digest, wanted);
    digest_hex(&digest, found);
    return status_fail(STATUS_FORMAT,
                       "weights of version %u arrived with SHA-256 %.16s..., %.16s... was "
                       "announced: they were damaged on the way",
                       image->version, found, wanted);
}

static int finish(struct image *image)
{
    TRY(check_digest(image));
    if (image->state == IMAGE_ARRIVES) {
        TRY(file_sink_view(&image->spool, &image->map));
        image->held = image->digest;
    }
    image->state = IMAGE_COMPLETE;
    return STATUS_OK;
}

/* ---- The beginning. */

static int begin_pieces(struct image *image, const struct wire_image *message)
{
    wire_pieces_release(&image->pieces);
    TRY(wire_pieces_begin(&image->pieces, message->piece_bytes, message->n_pieces));
    if (image->pieces.total <= IMAGE_MAX_BYTES)
        return STATUS_OK;
    return status_fail(STATUS_FORMAT, "weights of %llu bytes: wanted 1 to %llu",
                       (unsigned long long)image->pieces.total,
                       (unsigned long long)IMAGE_MAX_BYTES);
}

static int begin_file(struct image *image, const struct wire_image *message)
{
    drop_spool(image);
    TRY(begin_pieces(image, message));
    int status = file_map_open_same(&image->map, message->path.data, message->device,
                                    message->inode);
    image->wants_bytes = status < 0;
    TRY(status);
    image->state = IMAGE_IS_HASHED;
    if (image->map.n == image->pieces.total)
        return STATUS_OK;
    return status_fail(STATUS_FORMAT, "weights of version %u: their file has %zu bytes, %llu were "
                       "announced", image->version, image->map.n,
                       (unsigned long long)image->pieces.total);
}

static int begin_whole(struct image *image, const struct wire_image *message)
{
    drop_spool(image);
    TRY(begin_pieces(image, message));
    if (message->n_follow != message->n_pieces)
        return status_fail(STATUS_FORMAT, "weights of version %u: %u of %u pieces are to follow, "
                           "and no image has the others", image->version, message->n_follow,
                           message->n_pieces);
    TRY(file_sink_open_nameless(&image->spool));
    image->state = IMAGE_ARRIVES;
    return STATUS_OK;
}

static int begin_changes(struct image *image, const struct wire_image *message)
{
    const struct wire_pieces *pieces = &image->pieces;

    if (!digest_is_same(&message->base, &image->held) || pieces->n != message->n_pieces ||
        memcmp(pieces->bytes, message->piece_bytes, pieces->n * sizeof(*pieces->bytes)) != 0)
        return status_fail(STATUS_VERSION, "weights of version %u change an image that is not kept "
                           "here", image->version);
    image->held = no_digest;
    image->state = IMAGE_ARRIVES;
    return message->n_follow ? STATUS_OK : finish(image);
}

int image_begin(struct image *image, const struct wire_image *message)
{
    image_end(image);
    image->version = message->version;
    image->digest = message->digest;
    image->n_follow = message->n_follow;
    image->next = 0;
    image->offset = 0;
    image->wants_bytes = 0;
    int status = message->path.bytes ? begin_file(image, message)
                 : digest_is_same(&message->base, &no_digest) ? begin_whole(image, message)
                                                              : begin_changes(image, message);
    return status < 0 ? refuse(image, status) : STATUS_OK;
}

/* ---- The pieces. */

static int add_piece(struct image *image, const struct wire_weights_part *part)
{
    struct wire_pieces *pieces = &image->pieces;

    if (part->version != image->version)
        return status_fail(STATUS_FORMAT, "weights of version %u: a part of version %u came "
                           "between", image->version, part->version);
    if (part->piece < image->next || part->piece >= pieces->n ||
        part->data.bytes != pieces->bytes[part->piece])
        return status_fail(STATUS_FORMAT, "weights of version %u: piece %u of %u bytes came where "
                           "piece %u of %u or a later one was due", image->version, part->piece,
                           part->data.bytes, image->next, pieces->n);
    for (; image->next < part->piece; image->next++)
        image->offset += pieces->bytes[image->next];
    TRY(file_sink_put_at(&image->spool, image->offset, part->data.data, part->data.bytes));
    wire_pieces_hash(pieces, part->piece, part->data.data);
    image->offset += part->data.bytes;
    image->bytes_taken += part->data.bytes;
    image->next++;
    return --image->n_follow ? STATUS_OK : finish(image);
}

int image_add(struct image *image, const struct wire_weights_part *part)
{
    if (image->state != IMAGE_ARRIVES) {
        log_debug("ignored a part of weights %u, of which none is due", part->version);
        return STATUS_OK;
    }
    int status = add_piece(image, part);
    return status < 0 ? refuse(image, status) : STATUS_OK;
}

int image_hash_some(struct image *image)
{
    uint64_t end = image->offset + TURN_BYTES;

    for (; image->next < image->pieces.n && image->offset < end; image->next++) {
        uint32_t n = image->pieces.bytes[image->next];
        file_map_fetch(&image->map, image->offset, n);
        wire_pieces_hash(&image->pieces, image->next, image->map.bytes + image->offset);
        file_map_forget_part(&image->map, image->offset, n);
        image->offset += n;
    }
    if (image->next < image->pieces.n)
        return STATUS_OK;
    int status = finish(image);
    return status < 0 ? refuse(image, status) : STATUS_OK;
}
