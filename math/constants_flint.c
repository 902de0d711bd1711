/*
 * Constants by balls of growing precision.
 */
#include "math/flint.h"

static const slong ladder[] = {BALL_BITS_LEAST, BALL_BITS, BALL_BITS_MOST};
#define N_LADDER (sizeof(ladder) / sizeof(ladder[0]))

/* Half of the bits below a unit are known to be equal. */
static int is_close(const acb_t difference)
{
    mag_t size;

    mag_init(size);
    acb_get_mag(size, difference);
    int is_small = mag_cmp_2exp_si(size, -BALL_BITS_MOST / 2) <= 0;
    mag_clear(size);
    return is_small;
}

/* a - b, by the precision that decides or the last. UNKNOWN: not even a ball. */
static enum algebra_answer subtract(acb_t difference, const struct node *a, const struct node *b)
{
    struct ball_point point = {0};
    enum algebra_answer answer = ALGEBRA_UNKNOWN;
    acb_t x, y;

    acb_init(x);
    acb_init(y);
    for (size_t i = 0; i < N_LADDER && answer != ALGEBRA_DIFFERENT; i++) {
        point.is_extreme = 0;
        answer = ALGEBRA_UNKNOWN;
        if (!ball_evaluate(x, a, &point, ladder[i]) || !ball_evaluate(y, b, &point, ladder[i]))
            continue;
        acb_sub(difference, x, y, ladder[i]);
        if (!acb_contains_zero(difference))
            answer = ALGEBRA_DIFFERENT;
        else if (!point.is_extreme && is_close(difference))
            answer = ALGEBRA_EQUAL_NUMERIC;
    }
    acb_clear(x);
    acb_clear(y);
    return answer;
}

enum algebra_answer ball_compare(const struct node *a, const struct node *b)
{
    acb_t difference;

    acb_init(difference);
    enum algebra_answer answer = subtract(difference, a, b);
    acb_clear(difference);
    return answer;
}

enum algebra_answer ball_order(const struct node *a, const struct node *b, int *order)
{
    acb_t difference;

    acb_init(difference);
    enum algebra_answer answer = subtract(difference, a, b);
    if (answer == ALGEBRA_DIFFERENT) {
        *order = arb_is_positive(acb_realref(difference))   ? 1
                 : arb_is_negative(acb_realref(difference)) ? -1
                                                            : 0;
        /* Complex numbers have no order. */
        if (*order == 0 || !arb_contains_zero(acb_imagref(difference)))
            answer = ALGEBRA_UNKNOWN;
    }
    acb_clear(difference);
    return answer;
}

/* (|value| - |literal|) 10^decimals: in [-1/2, 1) it is rounded or cut. -1 no, 1 yes, 0 unknown. */
static int test_digits(const arb_t value, const fmpq_t literal, int decimals, slong bits)
{
    int verdict = 0;
    arb_t rest, step, half;

    if (fmpq_sgn(literal) > 0 ? arb_is_negative(value) : arb_is_positive(value))
        return -1;
    arb_init(rest);
    arb_init(step);
    arb_init(half);
    arb_set_fmpq(rest, literal, bits);
    arb_abs(rest, rest);
    arb_abs(step, value);
    arb_sub(rest, step, rest, bits);
    arb_set_ui(step, 10);
    arb_pow_ui(step, step, (ulong)(decimals < 0 ? -decimals : decimals), bits);
    if (decimals < 0)
        arb_div(rest, rest, step, bits);
    else
        arb_mul(rest, rest, step, bits);
    arb_set_d(half, -0.5);
    arb_one(step);
    if (arb_ge(rest, half) && arb_lt(rest, step))
        verdict = 1;
    else if (arb_lt(rest, half) || arb_ge(rest, step))
        verdict = -1;
    arb_clear(rest);
    arb_clear(step);
    arb_clear(half);
    return verdict;
}

enum algebra_answer ball_rounds_to(const struct node *literal, const struct node *value,
                                   int decimals)
{
    struct ball_point point = {0};
    fmpq_t digits;
    acb_t x;
    int verdict = 0;

    fmpq_init(digits);
    acb_init(x);
    flint_number(digits, literal);
    for (size_t i = 0; i < N_LADDER && verdict == 0; i++) {
        if (!ball_evaluate(x, value, &point, ladder[i]))
            continue;
        if (!arb_contains_zero(acb_imagref(x)))
            verdict = -1;
        else if (arb_is_zero(acb_imagref(x)) || i + 1 == N_LADDER)
            verdict = test_digits(acb_realref(x), digits, decimals, ladder[i]);
    }
    fmpq_clear(digits);
    acb_clear(x);
    return verdict > 0 ? ALGEBRA_EQUAL_PROVED : verdict < 0 ? ALGEBRA_DIFFERENT : ALGEBRA_UNKNOWN;
}
