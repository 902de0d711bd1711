/*
 * Proofs for rational functions: the difference is the polynomial 0. pi, e and i are further
 * generators; what is equal with any number in their place is equal.
 */
#include <math.h>

#include "math/flint.h"

struct size {
    double above, below;   /* terms of numerator and denominator, at most */
    double degree;
};

/* (n + k over k) as a real number. */
static double binomial(double n, double k)
{
    return exp(lgamma(n + k + 1) - lgamma(n + 1) - lgamma(k + 1));
}

static double exponent_of(const struct node *number)
{
    if (number->denominator)
        return fabs((double)number->numerator);
    return INFINITY;
}

static struct size estimate(const struct node *node)
{
    struct size size = {1, 1, node->kind == NODE_NUMBER ? 0 : 1};

    if (node->n_children == 0)
        return size;
    size = estimate(node->child[0]);
    if (node->kind == NODE_POWER) {
        double n = exponent_of(node->child[1]);
        int is_negative = node->child[1]->numerator < 0;
        struct size power = {binomial(size.above - 1, n), binomial(size.below - 1, n),
                             size.degree * n};
        return is_negative ? (struct size){power.below, power.above, power.degree} : power;
    }
    for (int i = 1; i < node->n_children; i++) {
        struct size next = estimate(node->child[i]);
        if (node->kind == NODE_ADD) {
            size.above = size.above * next.below + next.above * size.below;
            size.degree = size.below > 1 || next.below > 1 ? size.degree + next.degree
                                                           : fmax(size.degree, next.degree);
            size.below *= next.below;
        } else {
            int is_product = node->kind == NODE_MULTIPLY;
            size.above *= is_product ? next.above : next.below;
            size.below *= is_product ? next.below : next.above;
            size.degree += next.degree;
        }
    }
    return size;
}

static int is_small(const struct node *node, int n_letters)
{
    struct size size = estimate(node);
    double most = binomial(n_letters + 3, size.degree);   /* monomials up to this degree */

    return size.degree <= MATH_DEGREE && fmin(size.above, most) <= MATH_TERMS &&
           fmin(size.below, most) <= MATH_TERMS;
}

struct ring {
    fmpz_mpoly_ctx_t context;
    slong n_letters;
};

static int build(fmpz_mpoly_q_t out, const struct node *node, struct ring *ring);

static int build_number(fmpz_mpoly_q_t out, const struct node *node, struct ring *ring)
{
    fmpq_t value;

    fmpq_init(value);
    flint_number(value, node);
    fmpz_mpoly_q_set_fmpq(out, value, ring->context);
    fmpq_clear(value);
    return 1;
}

/* Numerator and denominator have no common factor, and so have their powers. */
static int build_power(fmpz_mpoly_q_t out, const struct node *node, struct ring *ring)
{
    int64_t n = node->child[1]->numerator;

    if (!build(out, node->child[0], ring))
        return 0;
    if (fmpz_mpoly_q_is_zero(out, ring->context))
        return n > 0;
    if (n < 0)
        fmpz_mpoly_q_inv(out, out, ring->context);
    ulong size = n < 0 ? -(ulong)n : (ulong)n;
    return fmpz_mpoly_pow_ui(fmpz_mpoly_q_numref(out), fmpz_mpoly_q_numref(out), size,
                             ring->context) &&
           fmpz_mpoly_pow_ui(fmpz_mpoly_q_denref(out), fmpz_mpoly_q_denref(out), size,
                             ring->context);
}

static int build_arithmetic(fmpz_mpoly_q_t out, const struct node *node, struct ring *ring)
{
    int is_done = build(out, node->child[0], ring);
    fmpz_mpoly_q_t next;

    if (node->kind == NODE_NEGATE)
        fmpz_mpoly_q_neg(out, out, ring->context);
    fmpz_mpoly_q_init(next, ring->context);
    for (int i = 1; is_done && i < node->n_children; i++) {
        is_done = build(next, node->child[i], ring);
        if (node->kind == NODE_ADD)
            fmpz_mpoly_q_add(out, out, next, ring->context);
        else if (node->kind == NODE_MULTIPLY)
            fmpz_mpoly_q_mul(out, out, next, ring->context);
        else if (fmpz_mpoly_q_is_zero(next, ring->context))
            is_done = 0;
        else
            fmpz_mpoly_q_div(out, out, next, ring->context);
    }
    fmpz_mpoly_q_clear(next, ring->context);
    return is_done;
}

static int build(fmpz_mpoly_q_t out, const struct node *node, struct ring *ring)
{
    switch (node->kind) {
    case NODE_NUMBER:
        return build_number(out, node, ring);
    case NODE_SYMBOL:
        fmpz_mpoly_q_gen(out, node->which, ring->context);
        return 1;
    case NODE_CONSTANT:   /* pi, e, i */
        fmpz_mpoly_q_gen(out, ring->n_letters + node->which, ring->context);
        return 1;
    case NODE_POWER:
        return build_power(out, node, ring);
    default:
        return build_arithmetic(out, node, ring);
    }
}

/* Whether i^2 + 1 divides it. */
static int is_zero_at_i(const fmpz_mpoly_t value, struct ring *ring)
{
    fmpz_mpoly_t square, quotient;

    fmpz_mpoly_init(square, ring->context);
    fmpz_mpoly_init(quotient, ring->context);
    fmpz_mpoly_gen(square, ring->n_letters + CONSTANT_I, ring->context);
    fmpz_mpoly_mul(square, square, square, ring->context);
    fmpz_mpoly_add_ui(square, square, 1, ring->context);
    int divides = fmpz_mpoly_divides(quotient, value, square, ring->context);
    fmpz_mpoly_clear(square, ring->context);
    fmpz_mpoly_clear(quotient, ring->context);
    return divides;
}

static int has_letters(const fmpz_mpoly_q_t value, struct ring *ring)
{
    int used[QUESTION_LETTERS + 3] = {0};

    fmpz_mpoly_q_used_vars(used, value, ring->context);
    for (slong i = 0; i < ring->n_letters; i++)
        if (used[i])
            return 1;
    return 0;
}

/* a is left as a - b, or as a / b. */
static int is_proved(fmpz_mpoly_q_t a, fmpz_mpoly_q_t b, enum question_kind kind,
                     struct ring *ring)
{
    if (kind == QUESTION_EQUAL) {
        fmpz_mpoly_q_sub(a, a, b, ring->context);
        return fmpz_mpoly_q_is_zero(a, ring->context) ||
               is_zero_at_i(fmpz_mpoly_q_numref(a), ring);
    }
    int is_zero = fmpz_mpoly_q_is_zero(a, ring->context);
    if (is_zero || fmpz_mpoly_q_is_zero(b, ring->context))
        return is_zero && fmpz_mpoly_q_is_zero(b, ring->context);
    fmpz_mpoly_q_div(a, a, b, ring->context);
    return !has_letters(a, ring);
}

enum algebra_answer polynomial_compare(const struct question *question)
{
    struct ring ring = {.n_letters = question->n_letters};
    fmpz_mpoly_q_t a, b;

    if (!is_small(question->a, question->n_letters) || !is_small(question->b, question->n_letters))
        return ALGEBRA_UNKNOWN;
    fmpz_mpoly_ctx_init(ring.context, ring.n_letters + 3, ORD_DEGREVLEX);
    fmpz_mpoly_q_init(a, ring.context);
    fmpz_mpoly_q_init(b, ring.context);
    int holds = build(a, question->a, &ring) && build(b, question->b, &ring) &&
                is_proved(a, b, question->kind, &ring);
    fmpz_mpoly_q_clear(a, ring.context);
    fmpz_mpoly_q_clear(b, ring.context);
    fmpz_mpoly_ctx_clear(ring.context);
    return holds ? ALGEBRA_EQUAL_PROVED : ALGEBRA_UNKNOWN;
}
