#include <math.h>
#include <string.h>

#include "common/status.h"
#include "wire/internal.h"

static const char magic[4] = {'H', 'O', 'N', 'E'};

static void store_u32(unsigned char *out, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        out[i] = (unsigned char)(value >> (8 * i));
}

static uint32_t load_u32(const unsigned char *in)
{
    return (uint32_t)in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
}

/* ---- Writing. */

static void writer_fail(struct writer *writer, const char *what)
{
    if (writer->status == STATUS_OK)
        writer->status = status_fail(STATUS_FORMAT, "message not sent: %s", what);
}

void writer_bytes(struct writer *writer, const void *bytes, size_t n)
{
    if (writer->status < 0)
        return;
    size_t used = writer->out->length - writer->start;
    if (n > WIRE_MAX_FRAME || used > WIRE_MAX_FRAME - n) {
        writer->status = status_fail(STATUS_FORMAT,
                                     "message not sent: over %zu bytes; lower the lengths or send "
                                     "it in parts", WIRE_MAX_FRAME);
        return;
    }
    text_append(writer->out, bytes, n);
    if (writer->out->failed)
        writer->status = status_fail(STATUS_NOMEM, "message not sent: its buffer is full");
}

int writer_begin(struct writer *writer, struct text *out, enum wire_kind kind)
{
    unsigned char header[WIRE_HEADER_BYTES] = {0};

    *writer = (struct writer){.out = out, .start = out->length};
    if (out->failed)
        return writer->status = status_fail(STATUS_NOMEM, "message not sent: its buffer is full");
    memcpy(header, magic, sizeof(magic));
    header[4] = WIRE_VERSION;
    header[5] = (unsigned char)kind;
    writer_bytes(writer, header, sizeof(header));
    return writer->status;
}

int writer_end(struct writer *writer)
{
    struct text *out = writer->out;

    if (writer->status < 0) {
        out->length = writer->start;
        out->failed = 0;
        if (out->data)
            out->data[out->length] = '\0';
        return writer->status;
    }
    size_t body = out->length - writer->start - WIRE_HEADER_BYTES;
    store_u32((unsigned char *)out->data + writer->start + 8, (uint32_t)body);
    return STATUS_OK;
}

void writer_u32(struct writer *writer, uint32_t value)
{
    unsigned char bytes[4];

    store_u32(bytes, value);
    writer_bytes(writer, bytes, sizeof(bytes));
}

void writer_u64(struct writer *writer, uint64_t value)
{
    writer_u32(writer, (uint32_t)value);
    writer_u32(writer, (uint32_t)(value >> 32));
}

void writer_finite(struct writer *writer, float value, const char *what)
{
    uint32_t bits;

    if (!isfinite(value))
        writer_fail(writer, what);
    memcpy(&bits, &value, sizeof(bits));
    writer_u32(writer, bits);
}

void writer_text(struct writer *writer, const struct wire_text *text, const char *what)
{
    if (text->bytes && !text->data) {
        writer_fail(writer, what);
        return;
    }
    writer_u32(writer, text->bytes);
    writer_bytes(writer, text->data, text->bytes);
}

void writer_fixed(struct writer *writer, const char *text, size_t n, const char *what)
{
    static const char nothing[WIRE_DETAIL_BYTES];
    size_t length = strnlen(text, n);

    if (length >= n || n > sizeof(nothing)) {
        writer_fail(writer, what);
        return;
    }
    writer_bytes(writer, text, length);
    writer_bytes(writer, nothing, n - length);
}

void writer_u32s(struct writer *writer, const void *values, uint32_t n, const char *what)
{
    const unsigned char *at = values;

    if (n && !values) {
        writer_fail(writer, what);
        return;
    }
    for (uint32_t i = 0; i < n && writer->status == STATUS_OK; i++) {
        uint32_t value;
        memcpy(&value, at + (size_t)i * 4, sizeof(value));
        writer_u32(writer, value);
    }
}

void writer_count(struct writer *writer, uint32_t n, uint32_t maximum, const char *what)
{
    if (n > maximum)
        writer_fail(writer, what);
    writer_u32(writer, n);
}

/* ---- Reading. */

int wire_kind_of(const void *frame, size_t n, enum wire_kind *kind)
{
    const unsigned char *bytes = frame;

    if (n < WIRE_HEADER_BYTES || n > WIRE_MAX_FRAME || memcmp(bytes, magic, sizeof(magic)))
        return status_fail(STATUS_FORMAT, "%zu bytes that are no message of hone", n);
    if (bytes[4] != WIRE_VERSION)
        return status_fail(STATUS_VERSION,
                           "message of wire version %u, this program speaks %d: run the same "
                           "build of hone on every machine",
                           bytes[4], WIRE_VERSION);
    if (bytes[5] < WIRE_HELLO || bytes[5] > WIRE_SHARED_WEIGHTS || bytes[6] || bytes[7])
        return status_fail(STATUS_FORMAT, "message of unknown kind %u", bytes[5]);
    if (load_u32(bytes + 8) != n - WIRE_HEADER_BYTES)
        return status_fail(STATUS_FORMAT, "message says %u bytes of body and has %zu",
                           load_u32(bytes + 8), n - WIRE_HEADER_BYTES);
    if (bytes[5] == WIRE_STOP && n != WIRE_HEADER_BYTES)
        return status_fail(STATUS_FORMAT, "message of kind %u has a body", bytes[5]);
    *kind = bytes[5];
    return STATUS_OK;
}

void reader_fail(struct reader *reader, const char *what)
{
    if (reader->status == STATUS_OK)
        reader->status = status_fail(STATUS_FORMAT, "malformed message: %s", what);
}

int reader_begin(struct reader *reader, const void *frame, size_t n, struct arena *arena,
                 enum wire_kind kind)
{
    enum wire_kind found = 0;

    *reader = (struct reader){.arena = arena};
    reader->status = wire_kind_of(frame, n, &found);
    if (reader->status == STATUS_OK && found != kind)
        reader->status =
            status_fail(STATUS_FORMAT, "message of kind %d where kind %d was due", found, kind);
    if (reader->status == STATUS_OK) {
        reader->at = (const unsigned char *)frame + WIRE_HEADER_BYTES;
        reader->left = n - WIRE_HEADER_BYTES;
    }
    return reader->status;
}

int reader_end(struct reader *reader)
{
    if (reader->left)
        reader_fail(reader, "bytes left over");
    return reader->status;
}

/* The next n bytes, or NULL. */
static const unsigned char *take(struct reader *reader, size_t n)
{
    const unsigned char *at = reader->at;

    if (reader->status < 0)
        return NULL;
    if (n > reader->left) {
        reader_fail(reader, "it ends too early");
        return NULL;
    }
    reader->at += n;
    reader->left -= n;
    return at;
}

uint32_t reader_u32(struct reader *reader)
{
    const unsigned char *at = take(reader, 4);

    return at ? load_u32(at) : 0;
}

uint64_t reader_u64(struct reader *reader)
{
    uint64_t low = reader_u32(reader);

    return low | (uint64_t)reader_u32(reader) << 32;
}

float reader_finite(struct reader *reader, const char *what)
{
    uint32_t bits = reader_u32(reader);
    float value;

    memcpy(&value, &bits, sizeof(value));
    if (isfinite(value))
        return value;
    reader_fail(reader, what);
    return 0;
}

uint32_t reader_below(struct reader *reader, uint32_t n, const char *what)
{
    uint32_t value = reader_u32(reader);

    if (value < n)
        return value;
    reader_fail(reader, what);
    return 0;
}

void reader_bytes(struct reader *reader, void *out, size_t n)
{
    const unsigned char *at = take(reader, n);

    if (at)
        memcpy(out, at, n);
}

void *reader_alloc(struct reader *reader, uint32_t n, size_t size, size_t align)
{
    if (reader->status < 0 || !n)
        return NULL;
    void *memory = arena_alloc(reader->arena, n, size, align);
    if (!memory)
        reader->status = status_fail(STATUS_NOMEM, "no room for a message: arena of %zu bytes",
                                     reader->arena->maximum);
    return memory;
}

void reader_borrow(struct reader *reader, struct wire_text *text)
{
    uint32_t n = reader_u32(reader);
    const unsigned char *at = take(reader, n);

    *text = at ? (struct wire_text){(const char *)at, n} : (struct wire_text){"", 0};
}

void reader_text(struct reader *reader, struct wire_text *text)
{
    uint32_t n = reader_u32(reader);
    const unsigned char *at = take(reader, n);

    *text = (struct wire_text){"", 0};
    if (!at)
        return;
    char *copy = arena_copy(reader->arena, at, n);
    if (!copy) {
        reader->status = status_fail(STATUS_NOMEM, "no room for a message: arena of %zu bytes",
                                     reader->arena->maximum);
        return;
    }
    *text = (struct wire_text){copy, n};
}

void reader_fixed(struct reader *reader, char *out, size_t n, const char *what)
{
    const unsigned char *at = take(reader, n);

    memset(out, 0, n);
    if (!at)
        return;
    size_t length = strnlen((const char *)at, n);
    if (length == n)
        reader_fail(reader, what);
    else
        memcpy(out, at, length);
}

uint32_t reader_count(struct reader *reader, uint32_t maximum, size_t item_bytes, const char *what)
{
    uint32_t n = reader_u32(reader);

    if (n <= maximum && n <= reader->left / item_bytes)
        return n;
    reader_fail(reader, what);
    return 0;
}

void *reader_u32s(struct reader *reader, uint32_t n)
{
    const unsigned char *at = take(reader, (size_t)n * 4);
    uint32_t *values = at ? reader_alloc(reader, n, sizeof(*values), _Alignof(uint32_t)) : NULL;

    for (uint32_t i = 0; values && i < n; i++)
        values[i] = load_u32(at + (size_t)i * 4);
    return values;
}
