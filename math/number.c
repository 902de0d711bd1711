#include <limits.h>
#include <stdlib.h>

#include "math/read.h"

/* Digits after another, without blanks and separators, into a buffer with a NUL. */
static size_t copy_digits(char *out, struct span digits)
{
    size_t n = 0;

    for (size_t i = 0; i < digits.length; i++)
        if (digits.data[i] >= '0' && digits.data[i] <= '9')
            out[n++] = digits.data[i];
    out[n] = 0;
    return n;
}

static int count_significant(const char *digits)
{
    size_t n = 0;

    while (*digits == '0')
        digits++;
    while (digits[n])
        n++;
    return n > INT_MAX ? INT_MAX : (int)n;
}

/* value = all / 10^decimals, or with r repeating digits (all - without) / (10^(d+r) - 10^d). */
static void set_value(mpq_t value, const char *all, size_t n_decimals, size_t n_repeating,
                      const char *without)
{
    mpz_t power;

    mpz_init(power);
    mpz_set_str(mpq_numref(value), all, 10);
    mpz_ui_pow_ui(mpq_denref(value), 10, n_decimals + n_repeating);
    if (n_repeating) {
        mpz_set_str(power, without, 10);
        mpz_sub(mpq_numref(value), mpq_numref(value), power);
        mpz_ui_pow_ui(power, 10, n_decimals);
        mpz_sub(mpq_denref(value), mpq_denref(value), power);
    }
    mpq_canonicalize(value);
    mpz_clear(power);
}

static void scale(mpq_t value, long exponent)
{
    mpz_t power;

    mpz_init(power);
    mpz_ui_pow_ui(power, 10, (unsigned long)labs(exponent));
    if (exponent > 0)
        mpz_mul(mpq_numref(value), mpq_numref(value), power);
    else
        mpz_mul(mpq_denref(value), mpq_denref(value), power);
    mpq_canonicalize(value);
    mpz_clear(power);
}

const struct node *number_make(struct tree *tree, struct span whole, struct span decimals,
                               struct span repeating, int has_point, long exponent)
{
    size_t n = whole.length + decimals.length + repeating.length;
    char *all = arena_alloc(tree->arena, 2, n + 2, 1), *without = all ? all + n + 2 : NULL;
    size_t n_whole, n_decimals, n_repeating, n_without;
    const struct node *node;
    mpq_t value;

    if (!all || n > MATH_DIGITS || labs(exponent) > MATH_DIGITS) {
        tree->limit = 1;
        return NULL;
    }
    all[0] = '0';
    n_whole = copy_digits(all + 1, whole);
    n_decimals = copy_digits(all + 1 + n_whole, decimals);
    without[0] = '0';
    n_without = copy_digits(without + 1, whole);
    copy_digits(without + 1 + n_without, decimals);
    n_repeating = copy_digits(all + 1 + n_whole + n_decimals, repeating);
    mpq_init(value);
    set_value(value, all, n_decimals, n_repeating, without);
    if (exponent)
        scale(value, exponent);
    node = tree_rational(tree, value);
    mpq_clear(value);
    if (node && has_point && !n_repeating) {
        struct node *literal = (struct node *)node;

        literal->significant = count_significant(all);
        literal->decimals = (int)n_decimals - (int)exponent;
    }
    return node;
}
