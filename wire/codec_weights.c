/* The messages of the weights; docs/wire.md draws them. */
#include <string.h>

#include "common/status.h"
#include "wire/internal.h"

#define MARK_BYTES (32 + 16)   /* of a piece: SHA-256 and sum */

static void put_marks(struct writer *writer, const struct wire_image *message)
{
    if (message->n_pieces && (!message->digests || !message->sums))
        BUG("an image in a file without the marks of its pieces");
    for (uint32_t i = 0; i < message->n_pieces; i++) {
        writer_bytes(writer, message->digests[i].bytes, sizeof(message->digests[i].bytes));
        writer_u64(writer, message->sums[i].low);
        writer_u64(writer, message->sums[i].high);
    }
}

static void take_marks(struct reader *reader, struct wire_image *message)
{
    uint32_t n = message->n_pieces;

    message->digests = reader_alloc(reader, n, sizeof(*message->digests), _Alignof(struct digest));
    message->sums = reader_alloc(reader, n, sizeof(*message->sums), _Alignof(struct wire_sum));
    for (uint32_t i = 0; i < n && reader->status == STATUS_OK; i++) {
        reader_bytes(reader, message->digests[i].bytes, sizeof(message->digests[i].bytes));
        message->sums[i].low = reader_u64(reader);
        message->sums[i].high = reader_u64(reader);
    }
}

int wire_encode_image(const struct wire_image *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_IMAGE));
    writer_u32(&writer, message->version);
    writer_bytes(&writer, message->digest.bytes, sizeof(message->digest.bytes));
    writer_bytes(&writer, message->base.bytes, sizeof(message->base.bytes));
    writer_u32(&writer, message->n_follow);
    writer_u64(&writer, message->device);
    writer_u64(&writer, message->inode);
    writer_text(&writer, &message->path, "image.path is missing");
    writer_count(&writer, message->n_pieces, WIRE_MAX_PIECES, "image.n_pieces is too large");
    writer_u32s(&writer, message->piece_bytes, message->n_pieces, "image.piece_bytes is missing");
    if (message->path.bytes)
        put_marks(&writer, message);
    return writer_end(&writer);
}

int wire_decode_image(const void *frame, size_t n, struct arena *arena, struct wire_image *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_IMAGE));
    message->version = reader_u32(&reader);
    reader_bytes(&reader, message->digest.bytes, sizeof(message->digest.bytes));
    reader_bytes(&reader, message->base.bytes, sizeof(message->base.bytes));
    message->n_follow = reader_u32(&reader);
    message->device = reader_u64(&reader);
    message->inode = reader_u64(&reader);
    reader_text(&reader, &message->path);
    message->n_pieces = reader_count(&reader, WIRE_MAX_PIECES,
                                     message->path.bytes ? 4 + MARK_BYTES : 4,
                                     "image.n_pieces is too large");
    message->piece_bytes = reader_u32s(&reader, message->n_pieces);
    if (message->path.bytes)
        take_marks(&reader, message);
    if (message->n_follow > message->n_pieces)
        reader_fail(&reader, "more weights follow than the image has pieces");
    return reader_end(&reader);
}

int wire_encode_weights_part(const struct wire_weights_part *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_WEIGHTS));
    writer_u32(&writer, message->version);
    writer_u32(&writer, message->piece);
    writer_text(&writer, &message->data, "weights_part.data is missing");
    return writer_end(&writer);
}

int wire_decode_weights_part(const void *frame, size_t n, struct arena *arena,
                             struct wire_weights_part *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_WEIGHTS));
    message->version = reader_u32(&reader);
    message->piece = reader_u32(&reader);
    reader_borrow(&reader, &message->data);
    return reader_end(&reader);
}

int wire_encode_shared_weights(const struct wire_shared_weights *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_SHARED_WEIGHTS));
    writer_u32(&writer, message->version);
    writer_count(&writer, message->is_bf16, 1, "shared_weights.is_bf16 is neither 0 nor 1");
    writer_bytes(&writer, message->digest.bytes, sizeof(message->digest.bytes));
    writer_count(&writer, message->n_regions, WIRE_MAX_REGIONS,
                 "shared_weights.n_regions is over the maximum");
    for (uint32_t i = 0; i < message->n_regions && i < WIRE_MAX_REGIONS; i++) {
        writer_u64(&writer, message->regions[i].bytes);
        writer_bytes(&writer, message->regions[i].handle, WIRE_HANDLE_BYTES);
    }
    return writer_end(&writer);
}

int wire_decode_shared_weights(const void *frame, size_t n, struct arena *arena,
                               struct wire_shared_weights *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_SHARED_WEIGHTS));
    message->version = reader_u32(&reader);
    message->is_bf16 = reader_below(&reader, 2, "shared_weights.is_bf16 is neither 0 nor 1");
    reader_bytes(&reader, message->digest.bytes, sizeof(message->digest.bytes));
    message->n_regions = reader_count(&reader, WIRE_MAX_REGIONS, 8 + WIRE_HANDLE_BYTES,
                                      "shared_weights.n_regions is over the maximum");
    for (uint32_t i = 0; i < message->n_regions; i++) {
        message->regions[i].bytes = reader_u64(&reader);
        reader_bytes(&reader, message->regions[i].handle, WIRE_HANDLE_BYTES);
    }
    return reader_end(&reader);
}

int wire_encode_weights_state(const struct wire_weights_state *message, struct text *out)
{
    struct writer writer;

    TRY(writer_begin(&writer, out, WIRE_WEIGHTS_STATE));
    writer_u32(&writer, message->version);
    writer_count(&writer, message->accepted, 1, "weights_state.accepted is neither 0 nor 1");
    writer_count(&writer, message->wants_bytes, 1, "weights_state.wants_bytes is neither 0 nor 1");
    writer_bytes(&writer, message->digest.bytes, sizeof(message->digest.bytes));
    writer_text(&writer, &message->reason, "weights_state.reason is missing");
    return writer_end(&writer);
}

int wire_decode_weights_state(const void *frame, size_t n, struct arena *arena,
                              struct wire_weights_state *message)
{
    struct reader reader;

    memset(message, 0, sizeof(*message));
    TRY(reader_begin(&reader, frame, n, arena, WIRE_WEIGHTS_STATE));
    message->version = reader_u32(&reader);
    message->accepted = reader_below(&reader, 2, "weights_state.accepted is neither 0 nor 1");
    message->wants_bytes =
        reader_below(&reader, 2, "weights_state.wants_bytes is neither 0 nor 1");
    reader_bytes(&reader, message->digest.bytes, sizeof(message->digest.bytes));
    reader_text(&reader, &message->reason);
    return reader_end(&reader);
}
