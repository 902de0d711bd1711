#include <string.h>

#include "model/tokenizer_internal.h"

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
