/*
 * Exact rationals with a bound on every size: 9^9^9 is an answer (EXACT_TOO_LARGE), not a wait.
 */
#include "math/algebra_internal.h"

#define VALUE_BITS (2 * MATH_POWER_BITS)
#define LOG_BITS 1024   /* of base and argument together */

static size_t bits_of(mpq_srcptr q)
{
    return mpz_sizeinbase(mpq_numref(q), 2) + mpz_sizeinbase(mpq_denref(q), 2);
}

static int is_integer(mpq_srcptr q)
{
    return mpz_cmp_ui(mpq_denref(q), 1) == 0;
}

/* Before a + b, a * b, a / b: a product and, for fractions, a greatest common divisor. */
static enum exact charge(struct exact_budget *budget, mpq_srcptr a, mpq_srcptr b)
{
    int64_t limbs_a = (int64_t)(bits_of(a) / 64 + 1), limbs_b = (int64_t)(bits_of(b) / 64 + 1);

    budget->work -= is_integer(a) && is_integer(b) ? limbs_a * limbs_b
                                                   : (limbs_a + limbs_b) * (limbs_a + limbs_b);
    if (budget->work < 0)
        return EXACT_LIMIT;
    return bits_of(a) + bits_of(b) > VALUE_BITS ? EXACT_TOO_LARGE : EXACT_OK;
}

static enum exact multiply(mpq_t a, mpq_srcptr b, struct exact_budget *budget)
{
    enum exact state = charge(budget, a, b);

    if (state == EXACT_OK)
        mpq_mul(a, a, b);
    return state;
}

static enum exact divide(mpq_t a, mpq_srcptr b, struct exact_budget *budget)
{
    if (mpq_sgn(b) == 0)
        return EXACT_UNDEFINED;
    enum exact state = charge(budget, a, b);
    if (state == EXACT_OK)
        mpq_div(a, a, b);
    return state;
}

/* The base is not 0. */
static enum exact raise_to_integer(mpq_t base, mpz_srcptr exponent)
{
    size_t above = mpz_sizeinbase(mpq_numref(base), 2), below = mpz_sizeinbase(mpq_denref(base), 2);
    size_t bits = above > below ? above : below;

    if (is_integer(base) && mpz_cmpabs_ui(mpq_numref(base), 1) == 0) {
        if (mpz_even_p(exponent))
            mpz_abs(mpq_numref(base), mpq_numref(base));
        return EXACT_OK;
    }
    if (mpz_cmpabs_ui(exponent, MATH_POWER_BITS) > 0 ||
        mpz_get_ui(exponent) * bits > MATH_POWER_BITS)
        return EXACT_TOO_LARGE;
    unsigned long n = mpz_get_ui(exponent);   /* of the absolute value */
    mpz_pow_ui(mpq_numref(base), mpq_numref(base), n);
    mpz_pow_ui(mpq_denref(base), mpq_denref(base), n);
    if (mpz_sgn(exponent) < 0)
        mpq_inv(base, base);
    return EXACT_OK;
}

/* A real root, of odd degree when negative. */
static enum exact take_root(mpq_t value, mpz_srcptr degree)
{
    if (mpq_sgn(value) < 0 && mpz_even_p(degree))
        return EXACT_NOT;
    if (is_integer(value) && mpz_cmpabs_ui(mpq_numref(value), 1) == 0)
        return EXACT_OK;
    if (mpz_cmp_ui(degree, bits_of(value)) > 0)
        return EXACT_NOT;
    unsigned long n = mpz_get_ui(degree);
    mpz_t root;
    mpz_init(root);
    enum exact state = EXACT_NOT;
    if (mpz_root(root, mpq_denref(value), n)) {
        mpz_set(mpq_denref(value), root);
        if (mpz_root(root, mpq_numref(value), n)) {
            mpz_set(mpq_numref(value), root);
            state = EXACT_OK;
        }
    }
    mpz_clear(root);
    return state;
}

static enum exact raise(mpq_t base, mpq_srcptr exponent)
{
    if (mpq_sgn(base) == 0)
        return mpq_sgn(exponent) > 0 ? EXACT_OK : EXACT_UNDEFINED;
    if (!is_integer(exponent)) {
        enum exact state = take_root(base, mpq_denref(exponent));
        if (state != EXACT_OK)
            return state;
    }
    return raise_to_integer(base, mpq_numref(exponent));
}

/* x = b^k r with 1 <= r < b, for b > 1: leaves r. */
static enum exact divide_out(mpq_t x, mpq_srcptr b, unsigned long *k, struct exact_budget *budget)
{
    for (*k = 0; mpq_cmp(x, b) >= 0; ++*k) {
        enum exact state = divide(x, b, budget);
        if (state != EXACT_OK)
            return state;
        if (bits_of(x) > LOG_BITS)
            return EXACT_NOT;
    }
    return EXACT_OK;
}

/* The next convergent of a continued fraction. */
static void add_term(mpz_t last, mpz_t before, unsigned long term)
{
    mpz_addmul_ui(before, last, term);
    mpz_swap(last, before);
}

/* log_b x by Euclid's algorithm on exponents: x = b^k r, and log_b x = k + 1 / log_r b. Ends with
 * r = 1 when both are powers of one number; else the fractions grow over LOG_BITS. */
static enum exact divide_exponents(mpq_t out, mpq_t b, mpq_t x, struct exact_budget *budget)
{
    enum exact state = EXACT_OK;
    mpz_t above, above_before, below, below_before;
    unsigned long k = 0;

    mpz_inits(above, above_before, below, below_before, NULL);
    mpz_set_ui(above, 1);
    mpz_set_ui(below_before, 1);
    for (;;) {
        state = divide_out(x, b, &k, budget);
        if (state != EXACT_OK)
            break;
        add_term(above, above_before, k);
        add_term(below, below_before, k);
        if (mpq_cmp_ui(x, 1, 1) == 0) {
            mpz_set(mpq_numref(out), above);
            mpz_set(mpq_denref(out), below);
            break;
        }
        mpq_swap(x, b);
    }
    mpz_clears(above, above_before, below, below_before, NULL);
    return state;
}

static enum exact find_logarithm(mpq_t out, mpq_srcptr base, mpq_srcptr argument,
                                 struct exact_budget *budget)
{
    enum exact state = EXACT_NOT;
    mpq_t b, x;
    int is_negative = 0;

    if (mpq_sgn(base) <= 0 || mpq_cmp_ui(base, 1, 1) == 0 || mpq_sgn(argument) == 0)
        return EXACT_UNDEFINED;
    if (mpq_sgn(argument) < 0 || bits_of(base) + bits_of(argument) > LOG_BITS)
        return EXACT_NOT;
    mpq_inits(b, x, NULL);
    mpq_set(b, base);
    mpq_set(x, argument);
    if (mpq_cmp_ui(b, 1, 1) < 0) {
        mpq_inv(b, b);
        is_negative ^= 1;
    }
    if (mpq_cmp_ui(x, 1, 1) < 0) {
        mpq_inv(x, x);
        is_negative ^= 1;
    }
    state = divide_exponents(out, b, x, budget);
    if (state == EXACT_OK && is_negative)
        mpq_neg(out, out);
    mpq_clears(b, x, NULL);
    return state;
}

/* f(0) = 0, f(0) = 1, f(1) = 0, or a pole at 0; the only rational values at rational arguments. */
static enum exact apply_transcendental(mpq_t x, enum node_function which)
{
    int is_zero = mpq_sgn(x) == 0, is_one = mpq_cmp_ui(x, 1, 1) == 0;
    int is_unit = is_one || mpq_cmp_si(x, -1, 1) == 0;

    switch (which) {
    case FUNCTION_SIN: case FUNCTION_TAN: case FUNCTION_ARCSIN: case FUNCTION_ARCTAN:
    case FUNCTION_SINH: case FUNCTION_TANH: case FUNCTION_ARCSINH:
        return is_zero ? EXACT_OK : EXACT_NOT;
    case FUNCTION_ARCTANH:
        return is_unit ? EXACT_UNDEFINED : is_zero ? EXACT_OK : EXACT_NOT;
    case FUNCTION_EXP: case FUNCTION_COS: case FUNCTION_SEC: case FUNCTION_COSH:
    case FUNCTION_SECH:
        if (is_zero)
            mpq_set_ui(x, 1, 1);
        return is_zero ? EXACT_OK : EXACT_NOT;
    case FUNCTION_COT: case FUNCTION_CSC: case FUNCTION_COTH: case FUNCTION_CSCH:
    case FUNCTION_ARCCSC:
        return is_zero ? EXACT_UNDEFINED : EXACT_NOT;
    case FUNCTION_ARCCOTH:
        return is_unit ? EXACT_UNDEFINED : EXACT_NOT;
    case FUNCTION_LN: case FUNCTION_LOG: case FUNCTION_ARCSEC:
        if (is_zero)
            return EXACT_UNDEFINED;
        break;
    case FUNCTION_ARCCOS: case FUNCTION_ARCCOSH:
        break;
    default:
        return EXACT_NOT;
    }
    if (is_one)
        mpq_set_ui(x, 0, 1);
    return is_one ? EXACT_OK : EXACT_NOT;
}

static void set_integer(mpq_t q, mpz_srcptr value)
{
    mpz_set(mpq_numref(q), value);
    mpz_set_ui(mpq_denref(q), 1);
}

static enum exact apply_factorial(mpq_t x, int is_double)
{
    mpz_ptr n = mpq_numref(x);

    if (!is_integer(x))
        return EXACT_NOT;
    if (is_double && mpz_cmp_si(n, -1) == 0)
        mpz_set_ui(n, 1);
    if (mpz_sgn(n) < 0)
        return EXACT_UNDEFINED;
    if (mpz_cmp_ui(n, MATH_FACTORIAL) > 0)
        return EXACT_LIMIT;
    if (is_double)
        mpz_2fac_ui(n, mpz_get_ui(n));
    else
        mpz_fac_ui(n, mpz_get_ui(n));
    return EXACT_OK;
}

static enum exact apply_binomial(mpq_t n, mpq_srcptr k, int is_ordered)
{
    if (!is_integer(n) || !is_integer(k))
        return EXACT_NOT;
    if (is_ordered && (mpq_sgn(n) < 0 || mpq_sgn(k) < 0))
        return EXACT_UNDEFINED;
    if (mpq_sgn(k) < 0 || (mpq_sgn(n) >= 0 && mpq_cmp(k, n) > 0)) {
        mpq_set_ui(n, 0, 1);
        return EXACT_OK;
    }
    if (mpz_cmpabs_ui(mpq_numref(n), MATH_BINOMIAL) > 0 ||
        mpz_cmp_ui(mpq_numref(k), MATH_BINOMIAL) > 0)
        return EXACT_LIMIT;
    unsigned long below = mpz_get_ui(mpq_numref(k));
    mpz_bin_ui(mpq_numref(n), mpq_numref(n), below);
    if (is_ordered) {
        mpz_t orders;
        mpz_init(orders);
        mpz_fac_ui(orders, below);
        mpz_mul(mpq_numref(n), mpq_numref(n), orders);
        mpz_clear(orders);
    }
    return EXACT_OK;
}

static enum exact apply_mod(mpq_t a, mpq_srcptr b, struct exact_budget *budget)
{
    mpq_t turns;

    if (mpq_sgn(b) == 0)
        return EXACT_UNDEFINED;
    enum exact state = charge(budget, a, b);
    if (state != EXACT_OK)
        return state;
    mpq_init(turns);
    mpq_div(turns, a, b);
    mpz_fdiv_q(mpq_numref(turns), mpq_numref(turns), mpq_denref(turns));
    mpz_set_ui(mpq_denref(turns), 1);
    mpq_mul(turns, turns, b);
    mpq_sub(a, a, turns);
    mpq_clear(turns);
    return EXACT_OK;
}

static enum exact apply_rounding(mpq_t x, int up)
{
    mpz_t whole;

    mpz_init(whole);
    (up ? mpz_cdiv_q : mpz_fdiv_q)(whole, mpq_numref(x), mpq_denref(x));
    set_integer(x, whole);
    mpz_clear(whole);
    return EXACT_OK;
}

static enum exact apply_one(mpq_t x, enum node_function which)
{
    mpq_t half;
    enum exact state;

    switch (which) {
    case FUNCTION_SQRT:
        mpq_init(half);
        mpq_set_ui(half, 1, 2);
        state = raise(x, half);
        mpq_clear(half);
        return state;
    case FUNCTION_ABS:
        mpq_abs(x, x);
        return EXACT_OK;
    case FUNCTION_FLOOR: case FUNCTION_CEILING:
        return apply_rounding(x, which == FUNCTION_CEILING);
    case FUNCTION_SIGN:
        mpq_set_si(x, mpq_sgn(x), 1);
        return EXACT_OK;
    case FUNCTION_REAL: case FUNCTION_CONJUGATE:
        return EXACT_OK;
    case FUNCTION_IMAGINARY:
        mpq_set_ui(x, 0, 1);
        return EXACT_OK;
    case FUNCTION_FACTORIAL: case FUNCTION_DOUBLE_FACTORIAL:
        return apply_factorial(x, which == FUNCTION_DOUBLE_FACTORIAL);
    default:
        return apply_transcendental(x, which);
    }
}

static enum exact apply_two(mpq_t a, mpq_t b, enum node_function which,
                            struct exact_budget *budget)
{
    mpz_t result;

    switch (which) {
    case FUNCTION_ROOT:   /* degree, radicand */
        if (mpq_sgn(a) == 0)
            return EXACT_UNDEFINED;
        mpq_inv(a, a);
        mpq_swap(a, b);
        return raise(a, b);
    case FUNCTION_LOG_BASE:
        mpq_swap(a, b);
        return find_logarithm(a, b, a, budget);
    case FUNCTION_BINOMIAL: case FUNCTION_PERMUTATIONS:
        return apply_binomial(a, b, which == FUNCTION_PERMUTATIONS);
    case FUNCTION_MOD:
        return apply_mod(a, b, budget);
    case FUNCTION_GCD: case FUNCTION_LCM:
        if (!is_integer(a) || !is_integer(b))
            return EXACT_UNDEFINED;
        mpz_init(result);
        (which == FUNCTION_GCD ? mpz_gcd : mpz_lcm)(result, mpq_numref(a), mpq_numref(b));
        set_integer(a, result);
        mpz_clear(result);
        return charge(budget, a, b);
    case FUNCTION_MAX: case FUNCTION_MIN:
        if ((mpq_cmp(a, b) < 0) == (which == FUNCTION_MAX))
            mpq_set(a, b);
        return EXACT_OK;
    default:
        return EXACT_NOT;
    }
}

enum exact exact_apply(mpq_t a, mpq_t b, const struct node *node, struct exact_budget *budget)
{
    enum exact state;

    switch (node->kind) {
    case NODE_NEGATE:
        mpq_neg(a, a);
        return EXACT_OK;
    case NODE_ADD:
        state = charge(budget, a, b);
        if (state == EXACT_OK)
            mpq_add(a, a, b);
        return state;
    case NODE_MULTIPLY:
        return multiply(a, b, budget);
    case NODE_DIVIDE:
        return divide(a, b, budget);
    case NODE_POWER:
        return raise(a, b);
    case NODE_FUNCTION:
        return node->n_children == 1 ? apply_one(a, (enum node_function)node->which)
                                     : apply_two(a, b, (enum node_function)node->which, budget);
    default:
        return EXACT_NOT;
    }
}

static enum exact value_of_leaf(mpq_t out, const struct node *node)
{
    if (node->kind == NODE_CONSTANT && node->which == CONSTANT_INFINITY)
        return EXACT_UNDEFINED;
    if (node->kind != NODE_NUMBER)
        return EXACT_NOT;
    node_number(out, node);
    return EXACT_OK;
}

enum exact exact_value(mpq_t out, const struct node *node, struct exact_budget *budget)
{
    enum exact worst = EXACT_OK;
    mpq_t b;

    if (--budget->n_visits < 0)
        return EXACT_LIMIT;
    if (node->n_children == 0)
        return value_of_leaf(out, node);
    mpq_init(b);
    for (int i = 0; i < node->n_children; i++) {
        enum exact state = exact_value(i ? b : out, node->child[i], budget);
        if (state == EXACT_OK && worst == EXACT_OK && (i || node->n_children == 1))
            state = exact_apply(out, b, node, budget);
        worst = state > worst ? state : worst;
    }
    mpq_clear(b);
    return worst;
}

int algebra_rational(mpq_t out, const struct node *node, int *limit, int *undefined)
{
    struct exact_budget budget = EXACT_BUDGET;
    enum exact state = exact_value(out, node, &budget);

    if (limit)
        *limit = state == EXACT_LIMIT || state == EXACT_TOO_LARGE ? ALGEBRA_LIMIT : 0;
    if (undefined)
        *undefined = state == EXACT_UNDEFINED;
    return state == EXACT_OK;
}
