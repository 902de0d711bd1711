/*
 * GPT-2's alphabet (Radford et al., 2019): a byte that prints in Latin-1 is its own character, the
 * other 68 are U+0100 and on, in the order of the bytes. A blank is U+0120, a line feed U+010A.
 */
#include <string.h>

#include "model/tokenizer_internal.h"

#define FIRST_SHIFTED 256u
#define N_SHIFTED 68u

static int is_printable(unsigned byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* 0..32, 127..160 and 173 are shifted. */
static uint32_t shifted_index(unsigned byte)
{
    return byte <= 32 ? byte : byte <= 160 ? 33 + byte - 127 : 67;
}

static int shifted_byte(uint32_t index)
{
    return (int)(index <= 32 ? index : index <= 66 ? 127 + index - 33 : 173);
}

uint32_t alphabet_of(unsigned char byte)
{
    return is_printable(byte) ? byte : FIRST_SHIFTED + shifted_index(byte);
}

void alphabet_append(struct text *out, unsigned char byte)
{
    utf8_append(out, alphabet_of(byte));
}

static int byte_of(uint32_t code)
{
    if (code >= FIRST_SHIFTED + N_SHIFTED)
        return -1;
    if (code >= FIRST_SHIFTED)
        return shifted_byte(code - FIRST_SHIFTED);
    return is_printable(code) ? (int)code : -1;
}

int alphabet_decode(struct text *out, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;
    size_t n = strlen(text), start = out->length;

    while (n) {
        size_t length = utf8_length(at, n);
        int byte = length ? byte_of(utf8_decode(at, length)) : -1;
        if (byte < 0) {
            out->length = start;
            text_append(out, text, strlen(text));
            return 0;
        }
        text_append(out, &(unsigned char){(unsigned char)byte}, 1);
        at += length;
        n -= length;
    }
    return 1;
}
