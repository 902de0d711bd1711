/*
 * Proofs for constants: exact numbers as elements of fields (Johansson, "Calcium: computing in
 * exact real and complex fields", ISSAC 2021). A fresh context for each question.
 */
#include "math/flint.h"

struct calcium {
    ca_ctx_t context;
    int is_undefined;   /* a value is surely no number */
};

/* 0: no number, or not known to be one. */
static int build(ca_t out, const struct node *node, struct calcium *calcium);

static void limit_context(ca_ctx_t context)
{
    context->options[CA_OPT_PREC_LIMIT] = 2048;
    context->options[CA_OPT_QQBAR_DEG_LIMIT] = 60;
    context->options[CA_OPT_LLL_PREC] = 128;
    context->options[CA_OPT_GROEBNER_LENGTH_LIMIT] = 60;
    context->options[CA_OPT_SMOOTH_LIMIT] = 32;
}

/* The real power of a real base: see raise_to_fraction() in ball_flint.c. */
static int raise_to_rational(ca_t x, const fmpq_t exponent, struct calcium *calcium)
{
    ca_ctx_struct *context = calcium->context;

    if (fmpq_sgn(exponent) <= 0) {
        truth_t is_zero = ca_check_is_zero(x, context);
        calcium->is_undefined |= is_zero == T_TRUE;
        if (is_zero != T_FALSE)
            return 0;
    }
    if (fmpz_is_one(fmpq_denref(exponent)) || fmpz_is_even(fmpq_denref(exponent))) {
        ca_pow_fmpq(x, x, exponent, context);
        return 1;
    }
    truth_t is_negative = ca_check_is_negative_real(x, context);
    if (is_negative == T_UNKNOWN)
        return 0;
    if (is_negative == T_TRUE)
        ca_neg(x, x, context);
    ca_pow_fmpq(x, x, exponent, context);
    if (is_negative == T_TRUE && fmpz_is_odd(fmpq_numref(exponent)))
        ca_neg(x, x, context);
    return 1;
}

static int raise_to_node(ca_t x, const struct node *exponent, int is_root, struct calcium *calcium)
{
    ca_ctx_struct *context = calcium->context;
    int is_done = 1;
    fmpq_t fraction;
    ca_t power;

    if (exponent->kind == NODE_NUMBER) {
        fmpq_init(fraction);
        flint_number(fraction, exponent);
        if (is_root && fmpq_is_zero(fraction))
            is_done = 0;
        else if (is_root)
            fmpq_inv(fraction, fraction);
        is_done = is_done && raise_to_rational(x, fraction, calcium);
        fmpq_clear(fraction);
        return is_done;
    }
    ca_init(power, context);
    is_done = build(power, exponent, calcium);
    if (is_root)
        ca_inv(power, power, context);
    if (is_done && ca_check_is_zero(x, context) == T_FALSE)
        ca_pow(x, x, power, context);
    else
        is_done = 0;
    ca_clear(power, context);
    return is_done;
}

static int build_power(ca_t out, const struct node *node, struct calcium *calcium)
{
    const struct node *base = node->child[0];

    if (base->kind == NODE_CONSTANT && base->which == CONSTANT_E) {
        int is_done = build(out, node->child[1], calcium);
        ca_exp(out, out, calcium->context);
        return is_done;
    }
    return build(out, base, calcium) && raise_to_node(out, node->child[1], 0, calcium);
}

static void apply_circular(ca_t x, enum node_function which, ca_ctx_t context)
{
    ca_t sine, cosine;

    ca_init(sine, context);
    ca_init(cosine, context);
    ca_sin_cos(sine, cosine, x, context);
    switch (which) {
    case FUNCTION_SIN:
        ca_set(x, sine, context);
        break;
    case FUNCTION_COS:
        ca_set(x, cosine, context);
        break;
    case FUNCTION_TAN:
        ca_div(x, sine, cosine, context);
        break;
    case FUNCTION_COT:
        ca_div(x, cosine, sine, context);
        break;
    case FUNCTION_SEC:
        ca_inv(x, cosine, context);
        break;
    default:
        ca_inv(x, sine, context);
        break;
    }
    ca_clear(sine, context);
    ca_clear(cosine, context);
}

/* (e^x + e^-x) / 2 and its kin. */
static void apply_hyperbolic(ca_t x, enum node_function which, ca_ctx_t context)
{
    ca_t sine, cosine;

    ca_init(sine, context);
    ca_init(cosine, context);
    ca_exp(x, x, context);
    ca_inv(cosine, x, context);
    ca_sub(sine, x, cosine, context);     /* both twice as large */
    ca_add(cosine, x, cosine, context);
    switch (which) {
    case FUNCTION_SINH:
        ca_div_ui(x, sine, 2, context);
        break;
    case FUNCTION_COSH:
        ca_div_ui(x, cosine, 2, context);
        break;
    case FUNCTION_TANH:
        ca_div(x, sine, cosine, context);
        break;
    case FUNCTION_COTH:
        ca_div(x, cosine, sine, context);
        break;
    case FUNCTION_SECH:
        ca_ui_div(x, 2, cosine, context);
        break;
    default:
        ca_ui_div(x, 2, sine, context);
        break;
    }
    ca_clear(sine, context);
    ca_clear(cosine, context);
}

static void apply_inverse(ca_t x, enum node_function which, ca_ctx_t context)
{
    ca_t quarter;

    if (which == FUNCTION_ARCSEC || which == FUNCTION_ARCCSC)
        ca_inv(x, x, context);
    switch (which) {
    case FUNCTION_ARCSIN: case FUNCTION_ARCCSC:
        ca_asin(x, x, context);
        break;
    case FUNCTION_ARCCOS: case FUNCTION_ARCSEC:
        ca_acos(x, x, context);
        break;
    case FUNCTION_ARCTAN:
        ca_atan(x, x, context);
        break;
    default:
        ca_init(quarter, context);
        ca_pi(quarter, context);
        ca_div_ui(quarter, quarter, 2, context);
        ca_atan(x, x, context);
        ca_sub(x, quarter, x, context);
        ca_clear(quarter, context);
        break;
    }
}

/* ln(x + sqrt(x^2 + 1)), ln(x + sqrt(x^2 - 1)) for x >= 1, ln((1 + x) / (1 - x)) / 2. */
static int apply_area(ca_t x, enum node_function which, ca_ctx_t context)
{
    int is_done = 1;
    ca_t root;

    ca_init(root, context);
    ca_one(root, context);
    if (which == FUNCTION_ARCCOSH && ca_check_ge(x, root, context) != T_TRUE)
        is_done = 0;
    if (which == FUNCTION_ARCTANH || which == FUNCTION_ARCCOTH) {
        if (which == FUNCTION_ARCCOTH)
            ca_inv(x, x, context);
        ca_ui_sub(root, 1, x, context);
        ca_add_ui(x, x, 1, context);
        ca_div(x, x, root, context);
        ca_log(x, x, context);
        ca_div_ui(x, x, 2, context);
    } else {
        ca_mul(root, x, x, context);
        if (which == FUNCTION_ARCSINH)
            ca_add_ui(root, root, 1, context);
        else
            ca_sub_ui(root, root, 1, context);
        ca_sqrt(root, root, context);
        ca_add(x, x, root, context);
        ca_log(x, x, context);
    }
    ca_clear(root, context);
    return is_done;
}

static int apply_real(ca_t x, enum node_function which, ca_ctx_t context)
{
    if (ca_check_is_real(x, context) != T_TRUE)
        return 0;
    if (which == FUNCTION_FLOOR)
        ca_floor(x, x, context);
    else if (which == FUNCTION_CEILING)
        ca_ceil(x, x, context);
    else
        ca_sgn(x, x, context);
    return 1;
}

static int apply_one(ca_t x, enum node_function which, ca_ctx_t context)
{
    switch (which) {
    case FUNCTION_SQRT:
        ca_sqrt(x, x, context);
        return 1;
    case FUNCTION_EXP:
        ca_exp(x, x, context);
        return 1;
    case FUNCTION_LN: case FUNCTION_LOG:
        ca_log(x, x, context);
        return 1;
    case FUNCTION_ABS:
        ca_abs(x, x, context);
        return 1;
    case FUNCTION_FLOOR: case FUNCTION_CEILING: case FUNCTION_SIGN:
        return apply_real(x, which, context);
    case FUNCTION_REAL:
        ca_re(x, x, context);
        return 1;
    case FUNCTION_IMAGINARY:
        ca_im(x, x, context);
        return 1;
    case FUNCTION_CONJUGATE:
        ca_conj(x, x, context);
        return 1;
    case FUNCTION_FACTORIAL:
        ca_add_ui(x, x, 1, context);
        ca_gamma(x, x, context);
        return 1;
    case FUNCTION_DOUBLE_FACTORIAL:
        return 0;
    default:
        break;
    }
    if (which >= FUNCTION_SIN && which <= FUNCTION_CSC)
        apply_circular(x, which, context);
    else if (which >= FUNCTION_SINH && which <= FUNCTION_CSCH)
        apply_hyperbolic(x, which, context);
    else if (which >= FUNCTION_ARCSIN && which <= FUNCTION_ARCCSC)
        apply_inverse(x, which, context);
    else
        return apply_area(x, which, context);
    return 1;
}

static int apply_two(ca_t a, ca_t b, enum node_function which, ca_ctx_t context)
{
    truth_t is_at_least;
    ca_t turns;

    switch (which) {
    case FUNCTION_LOG_BASE:   /* base, argument */
        ca_log(a, a, context);
        ca_log(b, b, context);
        ca_div(a, b, a, context);
        return 1;
    case FUNCTION_MOD:
        ca_init(turns, context);
        ca_div(turns, a, b, context);
        int is_done = apply_real(turns, FUNCTION_FLOOR, context);
        ca_mul(turns, turns, b, context);
        ca_sub(a, a, turns, context);
        ca_clear(turns, context);
        return is_done;
    case FUNCTION_MAX: case FUNCTION_MIN:
        is_at_least = ca_check_ge(a, b, context);
        if (is_at_least == T_UNKNOWN)
            return 0;
        if ((is_at_least == T_TRUE) != (which == FUNCTION_MAX))
            ca_set(a, b, context);
        return 1;
    default:
        return 0;
    }
}

static int build_function(ca_t out, const struct node *node, struct calcium *calcium)
{
    enum node_function which = (enum node_function)node->which;
    ca_t second;

    if (which == FUNCTION_ROOT)
        return build(out, node->child[1], calcium) &&
               raise_to_node(out, node->child[0], 1, calcium);
    if (!build(out, node->child[0], calcium))
        return 0;
    if (node->n_children == 1)
        return apply_one(out, which, calcium->context);
    ca_init(second, calcium->context);
    int is_done = build(second, node->child[1], calcium) &&
                  apply_two(out, second, which, calcium->context);
    ca_clear(second, calcium->context);
    return is_done;
}

static int build_arithmetic(ca_t out, const struct node *node, struct calcium *calcium)
{
    int is_done = build(out, node->child[0], calcium);
    ca_t next;

    if (is_done && node->kind == NODE_NEGATE)
        ca_neg(out, out, calcium->context);
    ca_init(next, calcium->context);
    for (int i = 1; is_done && i < node->n_children; i++) {
        is_done = build(next, node->child[i], calcium);
        if (!is_done)
            break;
        if (node->kind == NODE_ADD)
            ca_add(out, out, next, calcium->context);
        else if (node->kind == NODE_MULTIPLY)
            ca_mul(out, out, next, calcium->context);
        else
            ca_div(out, out, next, calcium->context);
    }
    ca_clear(next, calcium->context);
    return is_done;
}

static int build_leaf(ca_t out, const struct node *node, ca_ctx_t context)
{
    fmpq_t value;

    if (node->kind == NODE_NUMBER) {
        fmpq_init(value);
        flint_number(value, node);
        ca_set_fmpq(out, value, context);
        fmpq_clear(value);
    } else if (node->which == CONSTANT_PI) {
        ca_pi(out, context);
    } else if (node->which == CONSTANT_E) {
        ca_one(out, context);
        ca_exp(out, out, context);
    } else if (node->which == CONSTANT_I) {
        ca_i(out, context);
    } else {
        return 0;
    }
    return 1;
}

static int build(ca_t out, const struct node *node, struct calcium *calcium)
{
    int is_done;

    if (node->kind == NODE_NUMBER || node->kind == NODE_CONSTANT)
        is_done = build_leaf(out, node, calcium->context);
    else if (node->kind == NODE_POWER)
        is_done = build_power(out, node, calcium);
    else if (node->kind == NODE_FUNCTION)
        is_done = build_function(out, node, calcium);
    else
        is_done = build_arithmetic(out, node, calcium);
    /* 1/(1/0) is not 0: what is no number stays none. */
    if (is_done && CA_IS_SPECIAL(out)) {
        calcium->is_undefined |= ca_check_is_number(out, calcium->context) == T_FALSE;
        is_done = 0;
    }
    return is_done;
}

static enum algebra_answer answer_of(truth_t truth)
{
    return truth == T_TRUE    ? ALGEBRA_EQUAL_PROVED
           : truth == T_FALSE ? ALGEBRA_DIFFERENT
                              : ALGEBRA_UNKNOWN;
}

static enum algebra_answer compare(const struct node *a, const struct node *b, int only_zero)
{
    struct calcium calcium = {0};
    enum algebra_answer answer = ALGEBRA_UNKNOWN;
    ca_t x, y;

    ca_ctx_init(calcium.context);
    limit_context(calcium.context);
    ca_init(x, calcium.context);
    ca_init(y, calcium.context);
    int is_known = build(x, a, &calcium);
    is_known &= build(y, b, &calcium);
    if (calcium.is_undefined) {
        answer = ALGEBRA_DIFFERENT;
    } else if (is_known && only_zero) {
        truth_t x_zero = ca_check_is_zero(x, calcium.context);
        truth_t y_zero = ca_check_is_zero(y, calcium.context);
        if (x_zero != T_UNKNOWN && y_zero != T_UNKNOWN)
            answer = answer_of(x_zero == y_zero ? T_TRUE : T_FALSE);
    } else if (is_known) {
        answer = answer_of(ca_check_equal(x, y, calcium.context));
    }
    ca_clear(x, calcium.context);
    ca_clear(y, calcium.context);
    ca_ctx_clear(calcium.context);
    return answer;
}

enum algebra_answer calcium_compare(const struct node *a, const struct node *b)
{
    return compare(a, b, 0);
}

enum algebra_answer calcium_compare_zero(const struct node *a, const struct node *b)
{
    return compare(a, b, 1);
}
