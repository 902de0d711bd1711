/* base64, zlib, one pickled string: how LiveCodeBench keeps its private tests. Nothing is executed:
 * of pickle only the opcodes that a string needs are read. */
#include <string.h>
#include <zlib.h>

#include "common/status.h"
#include "tasks/code_records.h"

#define MAX_EXPANDED_BYTES ((size_t)1 << 30)

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;

    return at ? (int)(at - digits) : -1;
}

static int decode_base64(const char *base64, size_t n, struct text *out)
{
    unsigned bits = 0;
    int n_bits = 0;

    for (size_t i = 0; i < n && base64[i] != '='; i++) {
        int digit = digit_of(base64[i]);

        if (digit < 0)
            return 0;
        bits = bits << 6 | (unsigned)digit;
        n_bits += 6;
        if (n_bits >= 8) {
            unsigned char byte = (unsigned char)(bits >> (n_bits -= 8));
            text_append(out, &byte, 1);
        }
        bits &= (1u << n_bits) - 1;
    }
    return !out->failed;
}

static int expand(const struct text *packed, struct text *out)
{
    unsigned char buffer[65536];
    z_stream stream = {.next_in = (Bytef *)packed->data, .avail_in = (uInt)packed->length};
    int status = inflateInit(&stream);

    while (status == Z_OK) {
        stream.next_out = buffer;
        stream.avail_out = sizeof(buffer);
        status = inflate(&stream, Z_NO_FLUSH);
        if (status == Z_OK || status == Z_STREAM_END)
            text_append(out, buffer, sizeof(buffer) - stream.avail_out);
        if (out->length > MAX_EXPANDED_BYTES)
            status = Z_BUF_ERROR;
    }
    inflateEnd(&stream);
    return status == Z_STREAM_END && !out->failed;
}

static size_t little_endian(const unsigned char *bytes, size_t n)
{
    size_t value = 0;

    for (size_t i = n; i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

/* PROTO, FRAME and one of the three opcodes for text. */
static int find_string(const struct text *pickle, const char **start, size_t *n)
{
    const unsigned char *bytes = (const unsigned char *)pickle->data;
    size_t length = pickle->length, at = 0, n_size;

    if (length > 2 && bytes[0] == 0x80)
        at = 2;
    if (at + 9 <= length && bytes[at] == 0x95)
        at += 9;
    if (at >= length)
        return 0;
    n_size = bytes[at] == 0x8c ? 1 : bytes[at] == 'X' ? 4 : bytes[at] == 0x8d ? 8 : 0;
    if (!n_size || length - at - 1 < n_size)
        return 0;
    *n = little_endian(bytes + at + 1, n_size);
    at += 1 + n_size;
    *start = pickle->data + at;
    return *n <= length - at;
}

int code_archive_read(const char *base64, size_t n, const char *where, struct text *out)
{
    struct text packed = {0}, pickle = {0};
    const char *start = NULL;
    size_t length = 0;
    int is_good = decode_base64(base64, n, &packed) && expand(&packed, &pickle) &&
                  find_string(&pickle, &start, &length);

    if (is_good)
        text_append(out, start, length);
    text_release(&packed);
    text_release(&pickle);
    return is_good ? STATUS_OK
                   : status_fail(STATUS_FORMAT, "%s: key \"private_test_cases\" is neither JSON "
                                 "nor base64 of zlib of a pickled string", where);
}
