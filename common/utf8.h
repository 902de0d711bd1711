/* common/utf8.h - the characters of UTF-8. */
#ifndef HONE_COMMON_UTF8_H
#define HONE_COMMON_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the valid character that starts at bytes[0..n); 0 when none does: overlong forms,
 * surrogates and what lies beyond U+10FFFF are none (RFC 3629). */
size_t utf8_length(const unsigned char *bytes, size_t n);

/* The code point of the valid character of `length` bytes at `bytes`. */
uint32_t utf8_decode(const unsigned char *bytes, size_t length);

#endif
