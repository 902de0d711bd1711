/*
 * reward/arithmetic.h - integers, + - * / and brackets, worked out exactly: for countdown.
 *
 * Also read: "×" "·" "÷" "−" "–" "∕" for the operators, \times \cdot \div \left \right and
 * \frac{..}{..} of TeX, "$" around. No power, no "//", no decimals. At most ARITHMETIC_MAX_BYTES.
 */
#ifndef HONE_REWARD_ARITHMETIC_H
#define HONE_REWARD_ARITHMETIC_H

#include <stddef.h>
#include <stdint.h>

#define ARITHMETIC_MAX_BYTES 1024
#define ARITHMETIC_MAX_NUMBERS 64

struct fraction {            /* lowest terms, den > 0 */
    int64_t num, den;
};

enum arithmetic_outcome {
    ARITHMETIC_READ,
    ARITHMETIC_UNREADABLE,   /* not of this form, too long, too deep */
    ARITHMETIC_UNDEFINED     /* divides by zero, or leaves 64 bits */
};

struct arithmetic {
    struct fraction value;
    int64_t numbers[ARITHMETIC_MAX_NUMBERS];   /* as written, in their order */
    size_t n_numbers;
    int has_tail;                              /* "= value" stood behind it */
    struct fraction tail;
};

/* An expression, and behind it at most one "= expression": the numbers are those of the first. */
enum arithmetic_outcome arithmetic_read(struct arithmetic *arithmetic, const char *text, size_t n);

int fraction_equal(struct fraction a, struct fraction b);

#endif
