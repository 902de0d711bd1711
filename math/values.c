#include "math/compare.h"

#include <string.h>


int node_is_scalar(const struct node *node)
{
    if (!node_is_scalar_kind(node))
        return 0;
    for (int i = 0; i < node->n_children; i++)
        if (!node_is_scalar(node->child[i]))
            return 0;
    return 1;
}

int node_has(const struct node *node, enum node_kind kind, int which)
{
    if (node->kind == kind && (which < 0 || node->which == which))
        return 1;
    for (int i = 0; i < node->n_children; i++)
        if (node_has(node->child[i], kind, which))
            return 1;
    return 0;
}

int infinity_sign(const struct node *node)
{
    if (node->kind == NODE_NEGATE)
        return -infinity_sign(node->child[0]);
    return node->kind == NODE_CONSTANT && node->which == CONSTANT_INFINITY;
}

/* The literal with a decimal point that the node is, perhaps with a minus; NULL when it is none. */
static const struct node *decimal_literal(const struct node *node)
{
    if (node->kind == NODE_NEGATE)
        node = node->child[0];
    return node->kind == NODE_NUMBER && node->significant ? node : NULL;
}

static int is_terminating(mpq_srcptr value)
{
    mpz_t rest;
    int terminating;

    mpz_init_set(rest, mpq_denref(value));
    while (mpz_divisible_ui_p(rest, 2))
        mpz_divexact_ui(rest, rest, 2);
    while (mpz_divisible_ui_p(rest, 5))
        mpz_divexact_ui(rest, rest, 5);
    terminating = mpz_cmp_ui(rest, 1) == 0;
    mpz_clear(rest);
    return terminating;
}

/* P-decimal: a literal of at least 6 digits for a value that no decimal can write. */
static enum algebra_answer compare_decimal(struct comparison *c, const struct node *gold,
                                           const struct node *pred)
{
    const struct node *literal = decimal_literal(gold), *value = pred;
    int terminating = 0;
    mpq_t rational;

    if (!literal) {
        literal = decimal_literal(pred);
        value = gold;
    } else if (decimal_literal(pred)) {
        return ALGEBRA_DIFFERENT;
    }
    if (!literal || literal->significant < 6 || !algebra_is_constant(value))
        return ALGEBRA_DIFFERENT;
    mpq_init(rational);
    if (algebra_rational(rational, value, NULL, NULL) > 0)
        terminating = is_terminating(rational);
    mpq_clear(rational);
    if (terminating)
        return ALGEBRA_DIFFERENT;
    c->path = "decimal";
    return algebra_rounds_to(&c->algebra, value == pred ? gold : pred, value);
}

static enum algebra_answer compare_algebra(struct comparison *c, const struct node *gold,
                                           const struct node *pred)
{
    enum algebra_answer answer;

    if (c->algebra.deadline && deadline_is_over(c->algebra.deadline))
        return ALGEBRA_LIMIT;
    c->path = "algebra";
    answer = algebra_compare(&c->algebra, gold, pred);
    /* \log without a base may be decimal where both sides write it so. */
    if (answer == ALGEBRA_DIFFERENT && node_has(gold, NODE_FUNCTION, FUNCTION_LOG) &&
        node_has(pred, NODE_FUNCTION, FUNCTION_LOG)) {
        c->algebra.log_is_decimal = 1;
        answer = algebra_compare(&c->algebra, gold, pred);
        c->algebra.log_is_decimal = 0;
    }
    return answer;
}

enum algebra_answer compare_scalars(struct comparison *c, const struct node *gold,
                                    const struct node *pred)
{
    int gold_limit = 0, pred_limit = 0, gold_rational, pred_rational;
    enum algebra_answer answer = ALGEBRA_UNKNOWN;
    mpq_t a, b;

    if (node_has(gold, NODE_CONSTANT, CONSTANT_INFINITY) ||
        node_has(pred, NODE_CONSTANT, CONSTANT_INFINITY)) {
        c->path = "infinity";
        return infinity_sign(gold) && infinity_sign(gold) == infinity_sign(pred)
               ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    }
    if (!node_is_scalar(gold) || !node_is_scalar(pred))
        return node_same(gold, pred) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    if (node_same(gold, pred)) {
        int undefined = 0;

        mpq_init(a);
        algebra_rational(a, gold, NULL, &undefined);
        mpq_clear(a);
        c->path = "same";
        return undefined ? ALGEBRA_DIFFERENT : ALGEBRA_EQUAL_EXACT;
    }
    mpq_init(a);
    mpq_init(b);
    gold_rational = algebra_rational(a, gold, &gold_limit, NULL) > 0;
    pred_rational = algebra_rational(b, pred, &pred_limit, NULL) > 0;
    if (gold_rational && pred_rational) {
        c->path = "rational";
        answer = mpq_equal(a, b) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    }
    mpq_clear(a);
    mpq_clear(b);
    if (answer == ALGEBRA_UNKNOWN)
        answer = compare_algebra(c, gold, pred);
    if (answer == ALGEBRA_DIFFERENT)
        answer = compare_decimal(c, gold, pred);
    return answer;
}

int is_value(const struct node *node)
{
    return node_is_scalar_kind(node) || node->kind == NODE_PERCENT ||
           node->kind == NODE_QUANTITY || node->kind == NODE_BASE || node->kind == NODE_RATIO;
}

static const struct node *divide(struct comparison *c, const struct node *node, int64_t by)
{
    return tree_binary(c->tree, NODE_DIVIDE, node, tree_integer(c->tree, by));
}

/* One side has a sign of percent: p%, p and p/100 are alike. */
static enum algebra_answer compare_percent(struct comparison *c, const struct node *percent,
                                           const struct node *other)
{
    const struct node *inner = percent->child[0], *value = divide(c, inner, 100);
    enum algebra_answer answer = compare_scalars(c, inner, other);

    if (answer_is_equal(answer))
        return answer;
    return value ? answer_either(answer, compare_scalars(c, value, other)) : ALGEBRA_LIMIT;
}

/* value * unit in base units */
static const struct node *in_base_units(struct comparison *c, const struct node *value,
                                        const struct unit *unit)
{
    const struct node *factor = divide(c, tree_integer(c->tree, unit->numerator),
                                       unit->denominator);

    if (unit->pi_power)
        factor = tree_binary(c->tree, NODE_MULTIPLY, factor, tree_constant(c->tree, CONSTANT_PI));
    return tree_binary(c->tree, NODE_MULTIPLY, value, factor);
}

static enum algebra_answer compare_quantities(struct comparison *c, const struct node *gold,
                                              const struct node *pred)
{
    const struct node *a = gold->child[0], *b = pred->child[0];
    struct unit gold_unit, pred_unit;

    unit_read(&gold_unit, (struct span){gold->name, gold->n_name});
    unit_read(&pred_unit, (struct span){pred->name, pred->n_name});
    if (!gold_unit.known || !pred_unit.known)
        return compare_scalars(c, a, b);
    c->path = "units";
    for (int i = 0; i < N_UNIT_DIMENSIONS; i++)
        if (gold_unit.power[i] != pred_unit.power[i])
            return ALGEBRA_DIFFERENT;
    if (gold_unit.numerator == pred_unit.numerator &&
        gold_unit.denominator == pred_unit.denominator && gold_unit.pi_power == pred_unit.pi_power)
        return compare_scalars(c, a, b);
    a = in_base_units(c, a, &gold_unit);
    b = in_base_units(c, b, &pred_unit);
    return a && b ? compare_scalars(c, a, b) : ALGEBRA_LIMIT;
}

/* A unit on one side alone is ignored; a degree may also be worth pi/180. */
static enum algebra_answer compare_one_unit(struct comparison *c, const struct node *quantity,
                                            const struct node *other)
{
    enum algebra_answer answer = compare_scalars(c, quantity->child[0], other);
    struct unit unit;

    if (answer_is_equal(answer))
        return answer;
    unit_read(&unit, (struct span){quantity->name, quantity->n_name});
    if (unit.known && unit.pi_power == 1 && unit.power[UNIT_ANGLE] == 1) {
        const struct node *value = in_base_units(c, quantity->child[0], &unit);

        return value ? answer_either(answer, compare_scalars(c, value, other)) : ALGEBRA_LIMIT;
    }
    return answer;
}

/* The digits of a NODE_BASE read in base ten. */
static const struct node *digits_of(struct comparison *c, const struct node *node)
{
    struct span whole = {node->name, node->n_name}, decimals = {"", 0};
    const char *point = memchr(whole.data, '.', whole.length);
    const struct node *value;

    if (point) {
        decimals = (struct span){point + 1, whole.length - (size_t)(point + 1 - whole.data)};
        whole.length = (size_t)(point - whole.data);
    }
    value = number_make(c->tree, whole, decimals, (struct span){"", 0}, 0, 0);
    return node->name[0] == '-' ? tree_unary(c->tree, NODE_NEGATE, value) : value;
}

static enum algebra_answer compare_bases(struct comparison *c, const struct node *gold,
                                         const struct node *pred)
{
    const struct node *digits, *base = NULL;

    c->path = "base";
    if (gold->kind == NODE_BASE && pred->kind == NODE_BASE) {
        if (!node_same(gold->child[0], pred->child[0]))
            return ALGEBRA_DIFFERENT;
        pred = digits_of(c, pred);
        gold = digits_of(c, gold);
        return gold && pred ? compare_scalars(c, gold, pred) : ALGEBRA_LIMIT;
    }
    if (gold->kind == NODE_BASE) {   /* read in the gold's base: the digits must be the same */
        digits = digits_of(c, gold);
        base = pred->kind == NODE_NEGATE ? pred->child[0] : pred;
        if (!digits || base->kind != NODE_NUMBER)
            return digits ? ALGEBRA_DIFFERENT : ALGEBRA_LIMIT;
        return compare_scalars(c, digits, pred);
    }
    base = pred->child[0];
    if (base->numerator != 10 || base->denominator != 1)
        return ALGEBRA_DIFFERENT;
    digits = digits_of(c, pred);
    return digits ? compare_values(c, gold, digits) : ALGEBRA_LIMIT;
}

static int is_zero_literal(const struct node *node)
{
    return node->kind == NODE_NUMBER && node->denominator == 1 && node->numerator == 0;
}

static enum algebra_answer compare_ratios(struct comparison *c, const struct node *gold,
                                          const struct node *pred)
{
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;

    c->path = "ratio";
    if (gold->n_children != pred->n_children)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i < gold->n_children; i++)   /* 12:00 is a time, or nothing */
        if (is_zero_literal(gold->child[i]) || is_zero_literal(pred->child[i]))
            return node_same(gold, pred) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    for (int i = 1; i < gold->n_children; i++) {
        const struct node *a = tree_binary(c->tree, NODE_MULTIPLY, gold->child[i], pred->child[0]);
        const struct node *b = tree_binary(c->tree, NODE_MULTIPLY, pred->child[i], gold->child[0]);

        if (!a || !b)
            return ALGEBRA_LIMIT;
        answer = answer_both(answer, compare_scalars(c, a, b));
    }
    return answer;
}

static enum algebra_answer compare_ratio_with(struct comparison *c, const struct node *ratio,
                                              const struct node *other)
{
    const struct node *quotient;

    if (ratio->n_children != 2 || is_zero_literal(ratio->child[1]) ||
        is_zero_literal(ratio->child[0]))
        return ALGEBRA_DIFFERENT;
    quotient = tree_binary(c->tree, NODE_DIVIDE, ratio->child[0], ratio->child[1]);
    return quotient ? compare_values(c, quotient, other) : ALGEBRA_LIMIT;
}

enum algebra_answer compare_values(struct comparison *c, const struct node *gold,
                                   const struct node *pred)
{
    if (gold->kind == NODE_BASE || pred->kind == NODE_BASE) {
        if (!is_value(gold) || !is_value(pred))
            return ALGEBRA_DIFFERENT;
        return compare_bases(c, gold, pred);
    }
    if (gold->kind == NODE_RATIO && pred->kind == NODE_RATIO)
        return compare_ratios(c, gold, pred);
    if (gold->kind == NODE_RATIO)
        return compare_ratio_with(c, gold, pred);
    if (pred->kind == NODE_RATIO)
        return compare_ratio_with(c, pred, gold);
    if (gold->kind == NODE_PERCENT && pred->kind == NODE_PERCENT)
        return compare_scalars(c, gold->child[0], pred->child[0]);
    if (gold->kind == NODE_QUANTITY && pred->kind == NODE_QUANTITY)
        return compare_quantities(c, gold, pred);
    if (gold->kind == NODE_PERCENT || pred->kind == NODE_PERCENT) {
        const struct node *percent = gold->kind == NODE_PERCENT ? gold : pred;
        const struct node *other = percent == gold ? pred : gold;
        struct unit unit;

        c->path = "percent";
        if (other->kind == NODE_QUANTITY) {
            unit_read(&unit, (struct span){other->name, other->n_name});
            if (unit.known)
                return ALGEBRA_DIFFERENT;
            other = other->child[0];
        }
        return compare_percent(c, percent, other);
    }
    if (gold->kind == NODE_QUANTITY)
        return compare_one_unit(c, gold, pred);
    if (pred->kind == NODE_QUANTITY)
        return compare_one_unit(c, pred, gold);
    return compare_scalars(c, gold, pred);
}
