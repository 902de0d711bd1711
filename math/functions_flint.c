/*
 * Functions of balls, other than powers.
 */
#include "math/flint.h"

#define WHOLE_BITS 4096   /* of an integer worth keeping exactly */

int ball_is_whole(fmpz_t out, const acb_t x)
{
    const arf_struct *middle = arb_midref(acb_realref(x));

    if (!ball_is_real(x) || !mag_is_zero(arb_radref(acb_realref(x))) || !arf_is_int(middle) ||
        arf_cmpabs_2exp_si(middle, WHOLE_BITS) > 0)
        return 0;
    arf_get_fmpz(out, middle, ARF_RND_DOWN);
    return 1;
}

/* 1 when done: inverse functions keep to the reals where they are real. */
static int apply_real_area(arb_t x, enum node_function which, slong bits)
{
    int is_inside = 1;
    arb_t one, size;

    arb_init(one);
    arb_init(size);
    arb_one(one);
    arb_abs(size, x);
    if (which == FUNCTION_ARCSINH)
        arb_asinh(x, x, bits);
    else if (which == FUNCTION_ARCCOSH && arb_ge(x, one))
        arb_acosh(x, x, bits);
    else if (which != FUNCTION_ARCCOSH && arb_lt(size, one))
        arb_atanh(x, x, bits);
    else
        is_inside = 0;
    arb_clear(one);
    arb_clear(size);
    return is_inside;
}

static void apply_area(acb_t x, enum node_function which, slong bits)
{
    if (ball_is_real(x) && apply_real_area(acb_realref(x), which, bits))
        return;
    if (which == FUNCTION_ARCSINH)
        acb_asinh(x, x, bits);
    else if (which == FUNCTION_ARCCOSH)
        acb_acosh(x, x, bits);
    else
        acb_atanh(x, x, bits);
}

static void apply_inverse(acb_t x, enum node_function which, slong bits)
{
    acb_t quarter;

    if (which == FUNCTION_ARCSEC || which == FUNCTION_ARCCSC || which == FUNCTION_ARCCOTH)
        acb_inv(x, x, bits);
    switch (which) {
    case FUNCTION_ARCSIN: case FUNCTION_ARCCSC:
        acb_asin(x, x, bits);
        break;
    case FUNCTION_ARCCOS: case FUNCTION_ARCSEC:
        acb_acos(x, x, bits);
        break;
    case FUNCTION_ARCTAN:
        acb_atan(x, x, bits);
        break;
    case FUNCTION_ARCCOT:   /* in (0, pi) */
        acb_init(quarter);
        acb_const_pi(quarter, bits);
        acb_mul_2exp_si(quarter, quarter, -1);
        acb_atan(x, x, bits);
        acb_sub(x, quarter, x, bits);
        acb_clear(quarter);
        break;
    default:
        apply_area(x, which, bits);
        break;
    }
}

static void apply_circular(acb_t x, enum node_function which, slong bits)
{
    int is_hyperbolic = which >= FUNCTION_SINH;
    acb_t sine, cosine;

    acb_init(sine);
    acb_init(cosine);
    if (is_hyperbolic)
        acb_sinh_cosh(sine, cosine, x, bits);
    else
        acb_sin_cos(sine, cosine, x, bits);
    switch (which) {
    case FUNCTION_SIN: case FUNCTION_SINH:
        acb_set(x, sine);
        break;
    case FUNCTION_COS: case FUNCTION_COSH:
        acb_set(x, cosine);
        break;
    case FUNCTION_TAN: case FUNCTION_TANH:
        acb_div(x, sine, cosine, bits);
        break;
    case FUNCTION_COT: case FUNCTION_COTH:
        acb_div(x, cosine, sine, bits);
        break;
    case FUNCTION_SEC: case FUNCTION_SECH:
        acb_inv(x, cosine, bits);
        break;
    default:
        acb_inv(x, sine, bits);
        break;
    }
    acb_clear(sine);
    acb_clear(cosine);
}

/* n!! = 2^(n/2) (n/2)! for even n, sqrt(2/pi) 2^(n/2) (n/2)! for odd n from -1. */
static int apply_double_factorial(acb_t x, slong bits)
{
    int is_done, is_odd;
    arb_t pi, half;
    fmpz_t n;

    fmpz_init(n);
    is_done = ball_is_whole(n, x) && fmpz_cmp_si(n, -1) >= 0 && fmpz_bits(n) < 40;
    is_odd = fmpz_is_odd(n);
    fmpz_clear(n);
    if (!is_done)
        return 0;
    arb_init(pi);
    arb_init(half);
    arb_mul_2exp_si(half, acb_realref(x), -1);
    arb_set_ui(acb_realref(x), 2);
    arb_pow(acb_realref(x), acb_realref(x), half, bits);
    arb_add_ui(half, half, 1, bits);
    arb_gamma(half, half, bits);
    arb_mul(acb_realref(x), acb_realref(x), half, bits);
    if (is_odd) {
        arb_const_pi(pi, bits);
        arb_mul_2exp_si(pi, pi, -1);
        arb_rsqrt(pi, pi, bits);
        arb_mul(acb_realref(x), acb_realref(x), pi, bits);
    }
    arb_clear(pi);
    arb_clear(half);
    return 1;
}

static int apply_real(arb_t x, enum node_function which, slong bits)
{
    switch (which) {
    case FUNCTION_FLOOR:
        arb_floor(x, x, bits);
        return 1;
    case FUNCTION_CEILING:
        arb_ceil(x, x, bits);
        return 1;
    default:
        arb_sgn(x, x);
        return 1;
    }
}

int ball_apply_one(acb_t x, enum node_function which, slong bits)
{
    switch (which) {
    case FUNCTION_SQRT:
        acb_sqrt(x, x, bits);
        return 1;
    case FUNCTION_EXP:
        acb_exp(x, x, bits);
        return 1;
    case FUNCTION_LN: case FUNCTION_LOG:
        acb_log(x, x, bits);
        return 1;
    case FUNCTION_ABS:
        acb_abs(acb_realref(x), x, bits);
        arb_zero(acb_imagref(x));
        return 1;
    case FUNCTION_FLOOR: case FUNCTION_CEILING: case FUNCTION_SIGN:
        return ball_is_real(x) && apply_real(acb_realref(x), which, bits);
    case FUNCTION_REAL:
        arb_zero(acb_imagref(x));
        return 1;
    case FUNCTION_IMAGINARY:
        arb_swap(acb_realref(x), acb_imagref(x));
        arb_zero(acb_imagref(x));
        return 1;
    case FUNCTION_CONJUGATE:
        acb_conj(x, x);
        return 1;
    case FUNCTION_FACTORIAL:
        acb_add_ui(x, x, 1, bits);
        acb_gamma(x, x, bits);
        return 1;
    case FUNCTION_DOUBLE_FACTORIAL:
        return apply_double_factorial(x, bits);
    default:
        if (which >= FUNCTION_ARCSIN && which <= FUNCTION_ARCCSC)
            apply_inverse(x, which, bits);
        else if (which >= FUNCTION_ARCSINH && which <= FUNCTION_ARCCOTH)
            apply_inverse(x, which, bits);
        else
            apply_circular(x, which, bits);
        return 1;
    }
}

/* n! / (n - k)!, and over k!; 0 where n - k is a negative integer. */
static int apply_binomial(acb_t n, acb_t k, int is_ordered, slong bits)
{
    acb_t rest, divisor;
    int is_known = !arb_is_negative(acb_realref(n)) &&
                   !(is_ordered && arb_is_negative(acb_realref(k)));

    acb_init(rest);
    acb_init(divisor);
    acb_sub(rest, n, k, bits);
    acb_add_ui(rest, rest, 1, bits);
    acb_rgamma(rest, rest, bits);
    acb_add_ui(n, n, 1, bits);
    acb_gamma(n, n, bits);
    acb_mul(n, n, rest, bits);
    if (!is_ordered) {
        acb_add_ui(divisor, k, 1, bits);
        acb_rgamma(divisor, divisor, bits);
        acb_mul(n, n, divisor, bits);
    }
    acb_clear(rest);
    acb_clear(divisor);
    return is_known;
}

static int apply_whole(acb_t a, const acb_t b, enum node_function which)
{
    fmpz_t x, y;

    fmpz_init(x);
    fmpz_init(y);
    int is_done = ball_is_whole(x, a) && ball_is_whole(y, b) &&
                  (which != FUNCTION_MOD || !fmpz_is_zero(y));
    if (is_done && which == FUNCTION_GCD)
        fmpz_gcd(x, x, y);
    else if (is_done && which == FUNCTION_LCM)
        fmpz_lcm(x, x, y);
    else if (is_done)
        fmpz_fdiv_r(x, x, y);
    if (is_done)
        acb_set_fmpz(a, x);
    fmpz_clear(x);
    fmpz_clear(y);
    return is_done;
}

static int apply_mod(acb_t a, const acb_t b, slong bits)
{
    arb_t turns;

    if (apply_whole(a, b, FUNCTION_MOD))
        return 1;
    if (!ball_is_real(a) || !ball_is_real(b))
        return 0;
    arb_init(turns);
    arb_div(turns, acb_realref(a), acb_realref(b), bits);
    arb_floor(turns, turns, bits);
    arb_submul(acb_realref(a), turns, acb_realref(b), bits);
    arb_clear(turns);
    return 1;
}

int ball_apply_two(acb_t a, acb_t b, enum node_function which, slong bits)
{
    switch (which) {
    case FUNCTION_LOG_BASE:   /* base, argument */
        acb_log(a, a, bits);
        acb_log(b, b, bits);
        acb_div(a, b, a, bits);
        return 1;
    case FUNCTION_BINOMIAL: case FUNCTION_PERMUTATIONS:
        return apply_binomial(a, b, which == FUNCTION_PERMUTATIONS, bits);
    case FUNCTION_MOD:
        return apply_mod(a, b, bits);
    case FUNCTION_GCD: case FUNCTION_LCM:
        return apply_whole(a, b, which);
    default:
        if (!ball_is_real(a) || !ball_is_real(b))
            return 0;
        (which == FUNCTION_MAX ? arb_max : arb_min)(acb_realref(a), acb_realref(a), acb_realref(b),
                                                    bits);
        return 1;
    }
}
