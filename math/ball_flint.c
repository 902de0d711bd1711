/*
 * Balls: an interval of reals (or a square of complex numbers) that surely holds the value
 * (Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic", 2017).
 * Balls that do not touch refute; nothing here proves equality.
 */
#include "math/flint.h"

#define SQUARING_BITS 256 /* of an exponent */

struct ball {
    struct ball_point *point;
    slong bits;
};

/* A value on the way: finite, real when it must be. */
static int accept(const acb_t x, struct ball_point *point)
{
    const arf_struct *re = arb_midref(acb_realref(x)), *im = arb_midref(acb_imagref(x));

    if (!acb_is_finite(x) || (point->is_real && !ball_is_real(x)))
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
    if (ball_is_real(x) && fmpz_is_odd(fmpq_denref(exponent)) && arb_is_negative(base)) {
        arb_neg(base, base);
        arb_pow_fmpq(base, base, exponent, bits);
        if (fmpz_is_odd(fmpq_numref(exponent)))
            arb_neg(base, base);
    } else if (ball_is_real(x) && arb_is_positive(base)) {
        arb_pow_fmpq(base, base, exponent, bits);
    } else if (fmpz_equal_ui(fmpq_denref(exponent), 2)) {
        acb_sqrt(x, x, bits);
        acb_pow_fmpz(x, x, fmpq_numref(exponent), bits);
    } else {
        acb_t power;
        if (acb_contains_zero(x) ||
            (fmpz_is_odd(fmpq_denref(exponent)) && !ball_is_real(x) &&
             arb_contains_zero(acb_imagref(x)) && !arb_is_positive(base)))
            return 0;   /* which root is not known */
        acb_init(power);
        arb_set_fmpq(acb_realref(power), exponent, bits);
        acb_pow(x, x, power, bits);
        acb_clear(power);
    }
    return 1;
}

/* Repeated squaring takes time with the square of the exponent's bits: large ones go by the
 * logarithm of a real base. */
static int raise_to_whole(acb_t x, const fmpz_t exponent, slong bits)
{
    arb_ptr base = acb_realref(x);

    if (acb_is_zero(x))
        return fmpz_sgn(exponent) > 0;
    if (fmpz_bits(exponent) <= SQUARING_BITS) {
        acb_pow_fmpz(x, x, exponent, bits);
        return 1;
    }
    if (!ball_is_real(x) || arb_contains_zero(base))
        return 0;
    int is_negative = arb_is_negative(base) && fmpz_is_odd(exponent);
    arb_abs(base, base);
    arb_log(base, base, bits);
    arb_mul_fmpz(base, base, exponent, bits);
    arb_exp(base, base, bits);
    if (is_negative)
        arb_neg(base, base);
    return 1;
}

static int raise_to_rational(acb_t x, const fmpq_t exponent, slong bits)
{
    return fmpz_is_one(fmpq_denref(exponent))
               ? raise_to_whole(x, fmpq_numref(exponent), bits)
               : raise_to_fraction(x, exponent, bits);
}

static int raise_to_ball(acb_t x, acb_t exponent, slong bits)
{
    int is_done = 1;
    fmpz_t whole;

    fmpz_init(whole);
    if (ball_is_whole(whole, exponent)) {
        is_done = raise_to_whole(x, whole, bits);
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
        return ball_apply_one(out, which, ball->bits);
    acb_init(second);
    int is_done = ball_evaluate(second, node->child[1], ball->point, ball->bits) &&
                  ball_apply_two(out, second, which, ball->bits);
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
