#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "model/model.h"
#include "rollout/internal.h"

#define IMAGE_MAX_BYTES ((uint64_t)16 << 30)
#define TURN_BYTES ((uint64_t)64 << 20)   /* checked between two looks at the connection */

static const struct digest no_digest;

static uint64_t load_u64(const unsigned char bytes[8])
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

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
    wire_pieces_release(&image->had);
    mem_free(image->is_due);
    image->is_due = NULL;
}

static int refuse(struct image *image, int status)
{
    image_end(image);
    drop_spool(image);
    return status;
}

/* ---- What the policy has already. */

static int is_new(const struct image *image, uint32_t piece)
{
    return !image->is_change ||
           !digest_is_same(&image->had.digests[piece], &image->pieces.digests[piece]);
}

int image_has_changed(const void *context, uint64_t from, uint64_t to)
{
    const struct image *image = context;
    const struct wire_pieces *pieces = &image->pieces;
    uint64_t at = 0;

    for (uint32_t i = 0; i < pieces->n && at < to; at += pieces->bytes[i++])
        if (at + pieces->bytes[i] > from && is_new(image, i))
            return 1;
    return 0;
}

/* The header says where each tensor lies: with another one no piece means what it did. The header
 * itself is known to be right. */
static void compare(struct image *image, const uint64_t *ends)
{
    image->is_change = wire_pieces_are_alike(&image->had, &image->pieces);
    if (image->is_change && image_has_changed(image, 0, ends[0]))
        image->is_change = 0;
}

void image_was_taken(struct image *image)
{
    wire_pieces_release(&image->had);
    wire_pieces_copy(&image->had, &image->pieces);
}

void image_forget_policy(struct image *image)
{
    wire_pieces_release(&image->had);
    image->is_change = 0;
    if (image->state != IMAGE_IS_CHECKED)
        return;
    image->next = 0;   /* of what comes all will be read */
    image->offset = 0;
    memset(image->is_due, 1, image->pieces.n);
}

/* ---- Complete, or not what was announced. */

static int check_digest(struct image *image, const char *how, const char *why)
{
    char wanted[DIGEST_HEX_BYTES], found[DIGEST_HEX_BYTES];
    struct digest digest;

    wire_pieces_digest(&image->pieces, &digest);
    if (digest_is_same(&digest, &image->digest))
        return STATUS_OK;
    digest_hex(&image->digest, wanted);
    digest_hex(&digest, found);
    return status_fail(STATUS_FORMAT, "weights of version %u %s SHA-256 %.16s..., %.16s... was "
                       "announced%s", image->version, how, found, wanted, why);
}

/* What is no safetensors file is for the policy to refuse. */
static void compare_spool(struct image *image)
{
    uint64_t *ends;
    size_t n_ends;

    if (safetensors_ends(image->map.bytes, image->map.n, "weights", &ends, &n_ends) < 0)
        return;
    compare(image, ends);
    mem_free(ends);
}

static int finish_spool(struct image *image)
{
    TRY(check_digest(image, "arrived with", ": they were damaged on the way"));
    TRY(file_sink_view(&image->spool, &image->map));
    compare_spool(image);
    image->held = image->digest;
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

static int open_file(struct image *image, const struct wire_image *message)
{
    int status = file_map_open_same(&image->map, message->path.data, message->device,
                                    message->inode);

    image->wants_bytes = status < 0;
    TRY(status);
    if (image->map.n == image->pieces.total)
        return STATUS_OK;
    return status_fail(STATUS_FORMAT, "weights of version %u: their file has %zu bytes, %llu were "
                       "announced", image->version, image->map.n,
                       (unsigned long long)image->pieces.total);
}

static int check_piece(const struct image *image, uint32_t piece, uint64_t offset)
{
    uint32_t n = image->pieces.bytes[piece];

    file_map_fetch(&image->map, offset, n);
    int is_right = wire_pieces_check(&image->pieces, piece, image->map.bytes + offset);
    file_map_forget_part(&image->map, offset, n);
    if (is_right)
        return STATUS_OK;
    return status_fail(STATUS_FORMAT, "weights of version %u: the %u bytes at %llu of the "
                       "coordinator's file are not those that it announced: they were damaged",
                       image->version, n, (unsigned long long)offset);
}

/* From the first piece up to the end of the header, which its first 8 bytes tell. */
static int check_header(const struct image *image)
{
    const struct wire_pieces *pieces = &image->pieces;
    uint64_t at = 0, end = 1;

    for (uint32_t i = 0; i < pieces->n && at < end; at += pieces->bytes[i++]) {
        TRY(check_piece(image, i, at));
        end = i ? end : 8 + load_u64(image->map.bytes);
    }
    return STATUS_OK;
}

/* Of a tensor that differs in one piece all will be read. */
static void find_due(struct image *image, const uint64_t *ends, size_t n_ends)
{
    const struct wire_pieces *pieces = &image->pieces;

    for (size_t t = 0; t < n_ends; t++) {
        uint64_t from = t ? ends[t - 1] : 0, at = 0;
        if (t && !image_has_changed(image, from, ends[t]))
            continue;
        for (uint32_t i = 0; i < pieces->n && at < ends[t]; at += pieces->bytes[i++])
            image->is_due[i] |= at + pieces->bytes[i] > from;
    }
}

static int choose_due(struct image *image)
{
    uint64_t *ends;
    size_t n_ends;

    memset(image->is_due, 1, image->pieces.n);
    if (!wire_pieces_are_alike(&image->had, &image->pieces) || image->pieces.bytes[0] < 8)
        return STATUS_OK;
    TRY(check_header(image));
    if (safetensors_ends(image->map.bytes, image->map.n, "weights", &ends, &n_ends) < 0)
        return STATUS_OK;   /* all of it is for the policy to refuse */
    compare(image, ends);
    if (image->is_change) {
        memset(image->is_due, 0, image->pieces.n);
        find_due(image, ends, n_ends);
    }
    mem_free(ends);
    return STATUS_OK;
}

static int begin_file(struct image *image, const struct wire_image *message)
{
    struct wire_pieces *pieces = &image->pieces;

    drop_spool(image);
    TRY(begin_pieces(image, message));
    memcpy(pieces->digests, message->digests, pieces->n * sizeof(*pieces->digests));
    memcpy(pieces->sums, message->sums, pieces->n * sizeof(*pieces->sums));
    TRY(check_digest(image, "in a file have pieces that make", ""));
    TRY(open_file(image, message));
    mem_free(image->is_due);
    image->is_due = mem_alloc(pieces->n, sizeof(*image->is_due));
    TRY(choose_due(image));
    image->state = IMAGE_IS_CHECKED;
    return STATUS_OK;
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
    return message->n_follow ? STATUS_OK : finish_spool(image);
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
    image->is_change = 0;
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
    return --image->n_follow ? STATUS_OK : finish_spool(image);
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

int image_check_some(struct image *image)
{
    uint64_t end = image->offset + TURN_BYTES;

    for (; image->next < image->pieces.n && image->offset < end; image->next++) {
        uint32_t n = image->pieces.bytes[image->next];
        if (image->is_due[image->next]) {
            int status = check_piece(image, image->next, image->offset);
            if (status < 0)
                return refuse(image, status);
        } else {
            end += n;
        }
        image->offset += n;
    }
    if (image->next == image->pieces.n)
        image->state = IMAGE_COMPLETE;
    return STATUS_OK;
}
