/*
 * Balls: an interval of reals (or a square of complex numbers) that surely holds the value
 * (Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", 2017).
 * Balls that do not touch refute; nothing here proves equality.
 */
#include "math/flint.h"

#define WHOLE_BITS 4096   /* of an integer worth keeping exactly */

struct ball {
    struct ball_point *point;
    slong bits;
};

static int is_exactly_real(const acb_t x)
{
    return arb_is_zero(acb_imagref(x));
}

/* A value on the way: finite, real when it must be. */
static int accept(const acb_t x, struct ball_point *point)
{
    const arf_struct *re = arb_midref(acb_realref(x)), *im = arb_midref(acb_imagref(x));

    if (!acb_is_finite(x) || (point->is_real && !is_exactly_real(x)))
        return 0;
    if (arf_cmpabs_2exp_si(re, BALL_EXTREME_BITS) > 0 ||
        arf_cmpabs_2exp_si(im, BALL_EXTREME_BITS) > 0 ||
        (arf_cmpabs_2exp_si(re, -BALL_EXTREME_BITS) < 0 &&
         arf_cmpabs_2exp_si(im, -BALL_EXTREME_BITS) < 0 && !acb_contains_zero(x)))
        point->is_extreme = 1;
    return 1;
}

/* The real power of a real base with the exponent p/q: for a negative base, q is odd and the root
 * is the real one. */
static int raise_to_fraction(acb_t x, const fmpq_t exponent, slong bits)
{
    arb_ptr base = acb_realref(x);

    if (acb_is_zero(x))
        return fmpq_sgn(exponent) > 0;
    if (is_exactly_real(x) && fmpz_is_odd(fmpq_denref(exponent)) && arb_is_negative(base)) {
        arb_neg(base, base);
        arb_pow_fmpq(base, base, exponent, bits);
        if (fmpz_is_odd(fmpq_numref(exponent)))
            arb_neg(base, base);
    } else if (is_exactly_real(x) && arb_is_positive(base)) {
        arb_pow_fmpq(base, base, exponent, bits);
    } else if (fmpz_equal_ui(fmpq_denref(exponent), 2)) {
        acb_sqrt(x, x, bits);
        acb_pow_fmpz(x, x, fmpq_numref(exponent), bits);
    } else {
        acb_t power;
        if (acb_contains_zero(x) ||
            (fmpz_is_odd(fmpq_denref(exponent)) && !is_exactly_real(x) &&
             arb_contains_zero(acb_imagref(x)) && !arb_is_positive(base)))
            return 0;   /* which root is not known */
        acb_init(power);
        arb_set_fmpq(acb_realref(power), exponent, bits);
        acb_pow(x, x, power, bits);
        acb_clear(power);
    }
    return 1;
}

static int raise_to_rational(acb_t x, const fmpq_t exponent, slong bits)
{
    if (!fmpz_is_one(fmpq_denref(exponent)))
        return raise_to_fraction(x, exponent, bits);
    if (acb_is_zero(x) && fmpq_sgn(exponent) <= 0)
        return 0;
    acb_pow_fmpz(x, x, fmpq_numref(exponent), bits);
    return 1;
}

/* 1 and the integer when the ball is that integer exactly, and no giant. */
static int exact_integer(fmpz_t out, const acb_t x)
{
    const arf_struct *middle = arb_midref(acb_realref(x));

    if (!is_exactly_real(x) || !mag_is_zero(arb_radref(acb_realref(x))) || !arf_is_int(middle) ||
        arf_cmpabs_2exp_si(middle, WHOLE_BITS) > 0)
        return 0;
    arf_get_fmpz(out, middle, ARF_RND_DOWN);
    return 1;
}

static int raise_to_ball(acb_t x, acb_t exponent, slong bits)
{
    int is_done = 1;
    fmpz_t whole;

    fmpz_init(whole);
    if (exact_integer(whole, exponent)) {
        is_done = !acb_is_zero(x) || fmpz_sgn(whole) > 0;
        acb_pow_fmpz(x, x, whole, bits);
    } else if (acb_is_zero(x)) {
        is_done = arb_is_positive(acb_realref(exponent));
    } else {
        acb_pow(x, x, exponent, bits);
    }
    fmpz_clear(whole);
    return is_done;
}

static int take_power(acb_t x, const struct node *base, const struct node *exponent,
                      struct ball *ball)
{
    fmpq_t fraction;
    acb_t power;
    int is_done;

    if (base->kind == NODE_CONSTANT && base->which == CONSTANT_E) {
        is_done = ball_evaluate(x, exponent, ball->point, ball->bits);
        acb_exp(x, x, ball->bits);
        return is_done;
    }
    if (!ball_evaluate(x, base, ball->point, ball->bits))
        return 0;
    if (exponent->kind == NODE_NUMBER) {
        fmpq_init(fraction);
        flint_number(fraction, exponent);
        is_done = raise_to_rational(x, fraction, ball->bits);
        fmpq_clear(fraction);
        return is_done;
    }
    acb_init(power);
    is_done = ball_evaluate(power, exponent, ball->point, ball->bits) &&
              raise_to_ball(x, power, ball->bits);
    acb_clear(power);
    return is_done;
}

static int take_root(acb_t x, const struct node *degree, struct ball *ball)
{
    fmpq_t fraction;
    acb_t power;
    int is_done;

    if (degree->kind == NODE_NUMBER) {
        fmpq_init(fraction);
        flint_number(fraction, degree);
        is_done = !fmpq_is_zero(fraction);
        if (is_done) {
            fmpq_inv(fraction, fraction);
            is_done = raise_to_rational(x, fraction, ball->bits);
        }
        fmpq_clear(fraction);
        return is_done;
    }
    acb_init(power);
    is_done = ball_evaluate(power, degree, ball->point, ball->bits);
    acb_inv(power, power, ball->bits);
    is_done = is_done && raise_to_ball(x, power, ball->bits);
    acb_clear(power);
    return is_done;
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
    if (is_exactly_real(x) && apply_real_area(acb_realref(x), which, bits))
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
    is_done = exact_integer(n, x) && fmpz_cmp_si(n, -1) >= 0 && fmpz_bits(n) < 40;
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

static int apply_one(acb_t x, enum node_function which, slong bits)
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
        return is_exactly_real(x) && apply_real(acb_realref(x), which, bits);
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
    int is_done = exact_integer(x, a) && exact_integer(y, b) &&
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
    if (!is_exactly_real(a) || !is_exactly_real(b))
        return 0;
    arb_init(turns);
    arb_div(turns, acb_realref(a), acb_realref(b), bits);
    arb_floor(turns, turns, bits);
    arb_submul(acb_realref(a), turns, acb_realref(b), bits);
    arb_clear(turns);
    return 1;
}

static int apply_two(acb_t a, acb_t b, enum node_function which, slong bits)
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
        if (!is_exactly_real(a) || !is_exactly_real(b))
            return 0;
        (which == FUNCTION_MAX ? arb_max : arb_min)(acb_realref(a), acb_realref(a), acb_realref(b),
                                                    bits);
        return 1;
    }
}

static int apply_function(acb_t out, const struct node *node, struct ball *ball)
{
    enum node_function which = (enum node_function)node->which;
    acb_t second;

    if (which == FUNCTION_ROOT)
        return ball_evaluate(out, node->child[1], ball->point, ball->bits) &&
               take_root(out, node->child[0], ball);
    if (!ball_evaluate(out, node->child[0], ball->point, ball->bits))
        return 0;
    if (node->n_children == 1)
        return apply_one(out, which, ball->bits);
    acb_init(second);
    int is_done = ball_evaluate(second, node->child[1], ball->point, ball->bits) &&
                  apply_two(out, second, which, ball->bits);
    acb_clear(second);
    return is_done;
}

static int apply_arithmetic(acb_t out, const struct node *node, struct ball *ball)
{
    acb_t next;
    int is_done = ball_evaluate(out, node->child[0], ball->point, ball->bits);

    if (node->kind == NODE_NEGATE)
        acb_neg(out, out);
    acb_init(next);
    for (int i = 1; is_done && i < node->n_children; i++) {
        is_done = ball_evaluate(next, node->child[i], ball->point, ball->bits);
        if (node->kind == NODE_ADD)
            acb_add(out, out, next, ball->bits);
        else if (node->kind == NODE_MULTIPLY)
            acb_mul(out, out, next, ball->bits);
        else
            acb_div(out, out, next, ball->bits);
    }
    acb_clear(next);
    return is_done;
}

static void set_constant(acb_t out, enum node_constant which, slong bits)
{
    acb_zero(out);
    if (which == CONSTANT_PI)
        arb_const_pi(acb_realref(out), bits);
    else if (which == CONSTANT_E)
        arb_const_e(acb_realref(out), bits);
    else if (which == CONSTANT_I)
        acb_onei(out);
    else
        acb_indeterminate(out);
}

int ball_evaluate(acb_t out, const struct node *node, struct ball_point *point, slong bits)
{
    struct ball ball = {point, bits};
    fmpq_t fraction;
    int is_done = 1;

    switch (node->kind) {
    case NODE_NUMBER:
        fmpq_init(fraction);
        flint_number(fraction, node);
        acb_set_fmpq(out, fraction, bits);
        fmpq_clear(fraction);
        break;
    case NODE_SYMBOL:
        if (!point->letters)
            return 0;
        acb_set(out, point->letters + node->which);
        break;
    case NODE_CONSTANT:
        set_constant(out, (enum node_constant)node->which, bits);
        break;
    case NODE_POWER:
        is_done = take_power(out, node->child[0], node->child[1], &ball);
        break;
    case NODE_FUNCTION:
        is_done = apply_function(out, node, &ball);
        break;
    default:
        is_done = apply_arithmetic(out, node, &ball);
        break;
    }
    return is_done && accept(out, point);
}
