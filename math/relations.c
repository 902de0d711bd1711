#include "math/compare.h"

#include <string.h>

/* f, g', P_1 ...: names that are applied to what follows. */
static int is_function_name(const struct node *node)
{
    return node->kind == NODE_SYMBOL && strchr("fghpqrFGHPEATSVWu", node->name[0]);
}

/* Whether the left side of an equation only names something: x, f(x), (u, v), |AB|, NO/BO, P(A). */
static int is_name(const struct node *node)
{
    switch (node->kind) {
    case NODE_SYMBOL:
        return 1;
    case NODE_POWER:   /* f^{-1} */
        return is_function_name(node->child[0]) && node->child[1]->kind == NODE_NEGATE;
    case NODE_FUNCTION:
        return node->n_children == 1 && node->which != FUNCTION_SQRT &&
               node->which != FUNCTION_FACTORIAL && is_name(node->child[0]);
    case NODE_MULTIPLY: {
        int applied = is_function_name(node->child[0]) ||
                      (node->child[0]->kind == NODE_POWER && is_name(node->child[0]));

        for (int i = 0; i < node->n_children; i++)
            if (!is_name(node->child[i]) && !(applied && i == 1))
                return 0;
        return 1;
    }
    case NODE_DIVIDE: case NODE_RATIO: case NODE_TUPLE:
        for (int i = 0; i < node->n_children; i++)
            if (!is_name(node->child[i]))
                return 0;
        return 1;
    default:
        return 0;
    }
}

/* The number of parts before the first "about" when all signs before it are =; 0 when not. */
static int count_equal_parts(const struct node *node)
{
    size_t n = 0;

    if (node->kind != NODE_RELATION)
        return 0;
    while (n < node->n_name && node->name[n] == RELATION_EQUAL)
        n++;
    return n == node->n_name || node->name[n] == RELATION_ABOUT ? (int)n + 1 : 0;
}

static int is_constant_value(const struct node *node)
{
    return is_value(node) && node->kind != NODE_RATIO && node->kind != NODE_BASE &&
           node_is_scalar(node->kind == NODE_PERCENT || node->kind == NODE_QUANTITY
                          ? node->child[0] : node) &&
           algebra_is_constant(node->kind == NODE_PERCENT || node->kind == NODE_QUANTITY
                               ? node->child[0] : node);
}

/* Constants that follow one another in a chain must be equal. */
static int is_consistent(struct comparison *c, const struct node *node, int n)
{
    for (int i = 0; i + 1 < n; i++)
        if (is_constant_value(node->child[i]) && is_constant_value(node->child[i + 1]) &&
            !answer_is_equal(compare_values(c, node->child[i], node->child[i + 1])))
            return 0;
    return 1;
}

enum assignment assignment_read(struct comparison *c, const struct node *node,
                                const struct node **name, const struct node **value)
{
    int n = count_equal_parts(node);

    if (!n)
        return ASSIGN_NONE;
    if (n == 1) {   /* E ~ 3.14: the tail is ignored; x ~ 11 has nothing else */
        int only_tail = is_name(node->child[0]) && node->n_children == 2;

        *name = only_tail ? node->child[0] : NULL;
        *value = node->child[only_tail];
        return ASSIGN_VALUE;
    }
    if (!is_consistent(c, node, n))
        return ASSIGN_BROKEN;
    if (is_name(node->child[0])) {
        *name = node->child[0];
        *value = node->child[n - 1];
        return ASSIGN_VALUE;
    }
    if (is_constant_value(node->child[0]) && n == 2 && is_name(node->child[1])) {
        *name = node->child[1];
        *value = node->child[0];
        return ASSIGN_VALUE;
    }
    if (is_constant_value(node->child[0]) && is_constant_value(node->child[n - 1])) {
        *name = NULL;
        *value = node->child[n - 1];
        return ASSIGN_VALUE;
    }
    return ASSIGN_NONE;
}

static const struct node *difference(struct comparison *c, const struct node *a,
                                     const struct node *b)
{
    return tree_binary(c->tree, NODE_ADD, a, tree_unary(c->tree, NODE_NEGATE, b));
}

static enum algebra_answer compare_equations(struct comparison *c, const struct node *gold,
                                             const struct node *pred)
{
    const struct node *a, *b;

    c->path = "equation";
    for (int i = 0; i < 2; i++)
        if (!node_is_scalar(gold->child[i]) || !node_is_scalar(pred->child[i]))
            return node_same(gold, pred) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    a = difference(c, gold->child[0], gold->child[1]);
    b = difference(c, pred->child[0], pred->child[1]);
    return a && b ? algebra_proportional(&c->algebra, a, b) : ALGEBRA_LIMIT;
}

static char reversed(char sign)
{
    switch (sign) {
    case RELATION_LESS: return RELATION_GREATER;
    case RELATION_GREATER: return RELATION_LESS;
    case RELATION_AT_MOST: return RELATION_AT_LEAST;
    case RELATION_AT_LEAST: return RELATION_AT_MOST;
    default: return sign;
    }
}

/* The same chain, from the left or from the right. */
static enum algebra_answer compare_chains(struct comparison *c, const struct node *gold,
                                          const struct node *pred, int backwards)
{
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;
    int n = gold->n_children;

    if (n != pred->n_children)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i + 1 < n; i++) {
        char sign = backwards ? reversed(pred->name[n - 2 - i]) : pred->name[i];

        if (gold->name[i] != sign || (backwards && strchr("inm", sign)))
            return ALGEBRA_DIFFERENT;
    }
    for (int i = 0; i < n && answer != ALGEBRA_DIFFERENT; i++)
        answer = answer_both(answer, compare_nodes(c, gold->child[i],
                                                   pred->child[backwards ? n - 1 - i : i]));
    return answer;
}

static int is_order(char sign)
{
    return sign && strchr("<>lg", sign) != NULL;
}

/* a < b and c > d, all moved to one side: the same, perhaps with both signs turned. */
static enum algebra_answer compare_inequalities(struct comparison *c, const struct node *gold,
                                                const struct node *pred)
{
    enum algebra_answer answer = compare_chains(c, gold, pred, 0);

    if (answer == ALGEBRA_DIFFERENT)
        answer = compare_chains(c, gold, pred, 1);
    if (answer != ALGEBRA_DIFFERENT || gold->n_children != 2 || pred->n_children != 2)
        return answer;
    for (int i = 0; i < 2; i++)
        if (!node_is_scalar(gold->child[i]) || !node_is_scalar(pred->child[i]))
            return ALGEBRA_DIFFERENT;
    if (gold->name[0] == pred->name[0] && is_order(gold->name[0])) {
        const struct node *a = difference(c, gold->child[0], gold->child[1]);
        const struct node *b = difference(c, pred->child[0], pred->child[1]);

        return a && b ? compare_scalars(c, a, b) : ALGEBRA_LIMIT;
    }
    if (gold->name[0] == reversed(pred->name[0]) && is_order(gold->name[0])) {
        const struct node *a = difference(c, gold->child[0], gold->child[1]);
        const struct node *b = difference(c, pred->child[1], pred->child[0]);

        return a && b ? compare_scalars(c, a, b) : ALGEBRA_LIMIT;
    }
    return ALGEBRA_DIFFERENT;
}

static int is_equation(const struct node *node)
{
    return node->kind == NODE_RELATION && node->n_children == 2 &&
           node->name[0] == RELATION_EQUAL;
}

/* Both or one a relation that no solved set could be made of. */
enum algebra_answer compare_relations(struct comparison *c, const struct node *gold,
                                      const struct node *pred)
{
    const struct node *gold_name = NULL, *pred_name = NULL, *a = gold, *b = pred;
    enum assignment gold_kind = assignment_read(c, gold, &gold_name, &a);
    enum assignment pred_kind = assignment_read(c, pred, &pred_name, &b);

    c->path = "relation";
    if (gold_kind == ASSIGN_BROKEN || pred_kind == ASSIGN_BROKEN)
        return ALGEBRA_DIFFERENT;
    if (gold_kind == ASSIGN_VALUE && pred_kind == ASSIGN_VALUE) {
        if (gold_name && pred_name && !node_same(gold_name, pred_name))
            return ALGEBRA_DIFFERENT;
        return compare_nodes(c, a, b);
    }
    if (pred->kind != NODE_RELATION)
        return gold_kind == ASSIGN_VALUE ? compare_nodes(c, a, pred) : ALGEBRA_DIFFERENT;
    if (gold->kind != NODE_RELATION)
        return pred_kind == ASSIGN_VALUE ? compare_nodes(c, gold, b) : ALGEBRA_DIFFERENT;
    if (is_equation(gold) && is_equation(pred)) {
        if ((gold_kind == ASSIGN_VALUE && is_constant_value(a)) ||
            (pred_kind == ASSIGN_VALUE && is_constant_value(b)))
            return ALGEBRA_DIFFERENT;   /* x = 3 and 2x = 6: one is not solved */
        return compare_equations(c, gold, pred);
    }
    if (gold_kind == ASSIGN_VALUE || pred_kind == ASSIGN_VALUE)
        return ALGEBRA_DIFFERENT;
    return compare_inequalities(c, gold, pred);
}
