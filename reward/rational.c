#include "reward/rational.h"

#include <string.h>

void rational_init(struct rational *r)
{
    mpq_init(r->value);
}

void rational_release(struct rational *r)
{
    mpq_clear(r->value);
}

void rational_copy(struct rational *to, const struct rational *from)
{
    mpq_set(to->value, from->value);
}

void rational_set_integer(struct rational *r, int64_t value)
{
    mpq_set_si(r->value, (long)value, 1);
}

enum rational_outcome rational_set_digits(struct rational *r, const char *digits, size_t n,
                                          size_t n_decimals)
{
    char text[RATIONAL_MAX_DIGITS + 1];

    if (n == 0 || n > RATIONAL_MAX_DIGITS || n_decimals > n)
        return RATIONAL_LIMIT;
    memcpy(text, digits, n);
    text[n] = '\0';
    if (mpz_set_str(mpq_numref(r->value), text, 10) != 0)
        return RATIONAL_LIMIT;
    mpz_ui_pow_ui(mpq_denref(r->value), 10, n_decimals);
    mpq_canonicalize(r->value);
    return RATIONAL_OK;
}

static size_t count_bits(const struct rational *r)
{
    size_t numerator = mpz_sizeinbase(mpq_numref(r->value), 2);
    size_t denominator = mpz_sizeinbase(mpq_denref(r->value), 2);

    return numerator > denominator ? numerator : denominator;
}

static enum rational_outcome check_size(const struct rational *r)
{
    return count_bits(r) > RATIONAL_MAX_BITS ? RATIONAL_LIMIT : RATIONAL_OK;
}

enum rational_outcome rational_add(struct rational *a, const struct rational *b)
{
    mpq_add(a->value, a->value, b->value);
    return check_size(a);
}

enum rational_outcome rational_subtract(struct rational *a, const struct rational *b)
{
    mpq_sub(a->value, a->value, b->value);
    return check_size(a);
}

enum rational_outcome rational_multiply(struct rational *a, const struct rational *b)
{
    mpq_mul(a->value, a->value, b->value);
    return check_size(a);
}

enum rational_outcome rational_divide(struct rational *a, const struct rational *b)
{
    if (rational_is_zero(b))
        return RATIONAL_UNDEFINED;
    mpq_div(a->value, a->value, b->value);
    return check_size(a);
}

enum rational_outcome rational_raise(struct rational *a, int64_t exponent)
{
    uint64_t power = exponent < 0 ? 0 - (uint64_t)exponent : (uint64_t)exponent;

    if (rational_is_zero(a) && exponent <= 0)
        return RATIONAL_UNDEFINED;
    if (power > RATIONAL_MAX_POWER_BITS || power * count_bits(a) > RATIONAL_MAX_POWER_BITS)
        return RATIONAL_LIMIT;
    mpz_pow_ui(mpq_numref(a->value), mpq_numref(a->value), (unsigned long)power);
    mpz_pow_ui(mpq_denref(a->value), mpq_denref(a->value), (unsigned long)power);
    if (exponent < 0)
        mpq_inv(a->value, a->value);
    return check_size(a);
}

void rational_negate(struct rational *a)
{
    mpq_neg(a->value, a->value);
}

int rational_equal(const struct rational *a, const struct rational *b)
{
    return mpq_equal(a->value, b->value) != 0;
}

int rational_is_zero(const struct rational *a)
{
    return mpq_sgn(a->value) == 0;
}

int rational_to_integer(const struct rational *a, int64_t *out)
{
    if (mpz_cmp_ui(mpq_denref(a->value), 1) != 0 || !mpz_fits_slong_p(mpq_numref(a->value)))
        return 0;
    *out = mpz_get_si(mpq_numref(a->value));
    return 1;
}
