/*
 * reward/rational.h - exact fractions with a limit on their size.
 *
 * A completion may ask for 9^9^9: every result here is bounded, and over the bound is an answer
 * (RATIONAL_LIMIT), not a wait.
 */
#ifndef HONE_REWARD_RATIONAL_H
#define HONE_REWARD_RATIONAL_H

#include <gmp.h>
#include <stddef.h>
#include <stdint.h>

#define RATIONAL_MAX_DIGITS 10000
#define RATIONAL_MAX_BITS 33220        /* of numerator or denominator: 10,000 decimal digits */
#define RATIONAL_MAX_POWER_BITS 100000 /* exponent * bits of the base */

enum rational_outcome {
    RATIONAL_OK,
    RATIONAL_LIMIT,      /* too large to be worked out */
    RATIONAL_UNDEFINED   /* division by zero, 0^0, 0^-1 */
};

struct rational {
    mpq_t value;
};

void rational_init(struct rational *r);   /* zero */
void rational_release(struct rational *r);
void rational_copy(struct rational *to, const struct rational *from);
void rational_set_integer(struct rational *r, int64_t value);

/* Decimal digits alone, the last n_decimals of them behind the point. */
enum rational_outcome rational_set_digits(struct rational *r, const char *digits, size_t n,
                                          size_t n_decimals);

/* a = a op b. */
enum rational_outcome rational_add(struct rational *a, const struct rational *b);
enum rational_outcome rational_subtract(struct rational *a, const struct rational *b);
enum rational_outcome rational_multiply(struct rational *a, const struct rational *b);
enum rational_outcome rational_divide(struct rational *a, const struct rational *b);
enum rational_outcome rational_raise(struct rational *a, int64_t exponent);
void rational_negate(struct rational *a);

int rational_equal(const struct rational *a, const struct rational *b);
int rational_is_zero(const struct rational *a);
/* 1 and the value when it is an integer that fits. */
int rational_to_integer(const struct rational *a, int64_t *out);

#endif
