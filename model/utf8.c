#include <string.h>

#include "model/tokenizer_internal.h"

size_t utf8_length(const unsigned char *bytes, size_t n)
{
    unsigned char first = n ? bytes[0] : 0xFF;
    size_t length = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3
                  : first < 0xF5 ? 4 : 0;

    if (!length || length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xC0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and what lies beyond U+10FFFF. */
    if ((first == 0xE0 && bytes[1] < 0xA0) || (first == 0xED && bytes[1] > 0x9F) ||
        (first == 0xF0 && bytes[1] < 0x90) || (first == 0xF4 && bytes[1] > 0x8F))
        return 0;
    return length;
}

size_t utf8_valid_prefix(const unsigned char *bytes, size_t n)
{
    size_t i = 0, length;

    for (;;) {
        uint64_t eight;
        while (n - i >= sizeof(eight)) {
            memcpy(&eight, bytes + i, sizeof(eight));
            if (eight & 0x8080808080808080u)
                break;
            i += sizeof(eight);
        }
        do {
            length = utf8_length(bytes + i, n - i);
            i += length;
        } while (length > 1);
        if (!length)   /* not valid, or the end */
            return i;
    }
}

size_t utf8_open_end(const unsigned char *bytes, size_t n)
{
    /* With the right bytes behind it the start of a character is one. */
    static const unsigned char seconds[] = {0x80, 0x90, 0xA0};

    for (size_t held = 1; held <= 3 && held <= n; held++) {
        const unsigned char *start = bytes + n - held;
        if ((*start & 0xC0) == 0x80)
            continue;
        size_t wanted = *start < 0xC2 ? 0 : *start < 0xE0 ? 2 : *start < 0xF0 ? 3
                      : *start < 0xF5 ? 4 : 0;
        for (size_t i = 0; i < 3 && held < wanted; i++) {
            unsigned char whole[4] = {0, seconds[i], 0x80, 0x80};
            memcpy(whole, start, held);
            if (utf8_length(whole, wanted))
                return held;
        }
        return 0;
    }
    return 0;
}

uint32_t utf8_decode(const unsigned char *bytes, size_t length)
{
    static const unsigned char mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    uint32_t code = bytes[0] & mask[length];

    for (size_t i = 1; i < length; i++)
        code = code << 6 | (bytes[i] & 0x3F);
    return code;
}

void utf8_append(struct text *out, uint32_t code)
{
    unsigned char bytes[4];
    size_t n;

    if (code < 0x80) {
        bytes[0] = (unsigned char)code;
        n = 1;
    } else if (code < 0x800) {
        bytes[0] = (unsigned char)(0xC0 | code >> 6);
        n = 2;
    } else if (code < 0x10000) {
        bytes[0] = (unsigned char)(0xE0 | code >> 12);
        n = 3;
    } else {
        bytes[0] = (unsigned char)(0xF0 | code >> 18);
        n = 4;
    }
    for (size_t i = 1; i < n; i++)
        bytes[i] = (unsigned char)(0x80 | (code >> (6 * (n - 1 - i)) & 0x3F));
    text_append(out, bytes, n);
}
