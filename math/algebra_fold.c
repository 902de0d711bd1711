/*
 * Trees with their rational parts worked out, and what a tree is made of.
 */
#include "math/algebra_internal.h"

/* A power with a whole exponent is no more than products. */
static int is_whole(const struct node *node)
{
    return node->kind == NODE_NUMBER &&
           (node->denominator ? node->denominator == 1
                              : mpz_cmp_ui(mpq_denref(node->big), 1) == 0);
}

static int is_zero(const struct node *node)
{
    return node->kind == NODE_NUMBER && node->denominator && node->numerator == 0;
}

/* (n over k) is 0 up to k, whatever else it is. */
static int is_giant_binomial(const struct node *node)
{
    if (node->kind != NODE_FUNCTION ||
        (node->which != FUNCTION_BINOMIAL && node->which != FUNCTION_PERMUTATIONS))
        return 0;
    const struct node *k = node->child[1];
    return k->kind == NODE_NUMBER && (k->denominator == 0 ||
                                      k->numerator / k->denominator > MATH_BINOMIAL);
}

static int traits_of_function(const struct node *node, int inside)
{
    switch (node->which) {
    case FUNCTION_FACTORIAL: case FUNCTION_DOUBLE_FACTORIAL: case FUNCTION_BINOMIAL:
    case FUNCTION_PERMUTATIONS: case FUNCTION_MOD: case FUNCTION_GCD: case FUNCTION_LCM:
        return TRAIT_ROOTS | (inside & TRAIT_LETTERS ? TRAIT_INTEGERS : 0);
    case FUNCTION_REAL: case FUNCTION_IMAGINARY: case FUNCTION_CONJUGATE:
        return TRAIT_ROOTS | (inside & TRAIT_LETTERS ? TRAIT_COMPLEX : 0);
    default:
        return TRAIT_ROOTS;
    }
}

int node_traits(const struct node *node)
{
    int traits = 0;

    if (node->kind == NODE_SYMBOL)
        return TRAIT_LETTERS;
    if (node->kind == NODE_CONSTANT)
        return node->which == CONSTANT_PI  ? TRAIT_PI
               : node->which == CONSTANT_E ? TRAIT_E
               : node->which == CONSTANT_I ? TRAIT_I
                                           : TRAIT_ROOTS;
    if (node->kind == NODE_POWER && is_whole(node->child[1]))
        return node_traits(node->child[0]);
    for (int i = 0; i < node->n_children; i++)
        traits |= node_traits(node->child[i]);
    if (node->kind == NODE_FUNCTION)
        traits |= traits_of_function(node, traits);
    if (node->kind == NODE_POWER)
        traits |= TRAIT_ROOTS;
    return traits;
}

int algebra_is_constant(const struct node *node)
{
    if (node->kind == NODE_SYMBOL)
        return 0;
    for (int i = 0; i < node->n_children; i++)
        if (!algebra_is_constant(node->child[i]))
            return 0;
    return 1;
}

static const struct node *fold_operation(struct tree *tree, const struct node *node,
                                         struct exact_budget *budget, enum exact *state)
{
    const struct node *folded = node;
    mpq_t a, b;

    mpq_inits(a, b, NULL);
    node_number(a, node->child[0]);
    *state = EXACT_OK;
    for (int i = 1; i < node->n_children && *state == EXACT_OK; i++) {
        node_number(b, node->child[i]);
        *state = exact_apply(a, b, node, budget);
    }
    if (node->n_children == 1)
        *state = exact_apply(a, b, node, budget);
    if (*state == EXACT_OK)
        folded = tree_rational(tree, a);
    mpq_clears(a, b, NULL);
    return folded;
}

static const struct node *choose_logarithm(struct tree *tree, const struct node *argument,
                                           int log_is_decimal)
{
    if (log_is_decimal)
        return tree_call(tree, FUNCTION_LOG_BASE, tree_integer(tree, 10), argument);
    return tree_call(tree, FUNCTION_LN, argument, NULL);
}

static const struct node *fold_node(struct tree *tree, const struct node *node, int log_is_decimal,
                                    struct exact_budget *budget, enum exact *worst)
{
    enum exact state = EXACT_OK;
    int n_numbers = 0;
    mpq_t none;

    if (--budget->n_visits < 0) {
        *worst = EXACT_LIMIT;
        return NULL;
    }
    if (node->n_children == 0) {
        mpq_init(none);
        state = exact_value(none, node, budget);
        mpq_clear(none);
        *worst = state > *worst ? state : *worst;
        return state == EXACT_UNDEFINED ? NULL : node;
    }
    struct node *copy = tree_new(tree, node->kind, node->n_children);
    if (copy)
        copy->which = node->which;
    for (int i = 0; copy && i < node->n_children; i++) {
        const struct node *child =
            fold_node(tree, node->child[i], log_is_decimal, budget, worst);
        if (!child)
            return NULL;
        ((const struct node **)copy->child)[i] = child;
        n_numbers += child->kind == NODE_NUMBER;
    }
    const struct node *folded = copy;
    if (copy && copy->kind == NODE_FUNCTION && copy->which == FUNCTION_LOG)
        folded = choose_logarithm(tree, copy->child[0], log_is_decimal);
    if (folded && n_numbers == copy->n_children)
        folded = fold_operation(tree, folded, budget, &state);
    if (!folded)
        state = EXACT_LIMIT;
    else if (folded->kind == NODE_DIVIDE && is_zero(folded->child[1]))
        state = EXACT_UNDEFINED;
    else if (is_giant_binomial(folded))
        state = EXACT_LIMIT;
    *worst = state > *worst ? state : *worst;
    return state >= EXACT_LIMIT ? NULL : folded;
}

const struct node *exact_fold(struct tree *tree, const struct node *node, int log_is_decimal,
                              struct exact_budget *budget, enum exact *state)
{
    *state = EXACT_OK;
    const struct node *folded = fold_node(tree, node, log_is_decimal, budget, state);
    if (folded)
        *state = folded->kind == NODE_NUMBER ? EXACT_OK
                 : *state == EXACT_OK        ? EXACT_NOT
                                             : *state;
    return folded;
}
