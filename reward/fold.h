/*
 * reward/fold.h - one spelling for mathematics written in TeX, Unicode or plain text.
 *
 * "\left( 3 \times \dfrac12 \right)" and "(3×\frac12)" fold to the same bytes. Folding twice
 * changes nothing. Only the spelling changes: no arithmetic, no reordering.
 */
#ifndef HONE_REWARD_FOLD_H
#define HONE_REWARD_FOLD_H

#include <stddef.h>

#include "common/memory.h"

/* Appends the folded text. 0, or -1 when it cannot be folded: NUL or control bytes, invalid UTF-8,
 * invisible marks (zero width, text direction), or text over out->maximum. */
int fold_math(const char *text, size_t n, struct text *out);

/* Bytes of the UTF-8 character at text[0..n) and its code point; 0 when it is not one. */
size_t fold_utf8(const char *text, size_t n, unsigned *code);

#endif
