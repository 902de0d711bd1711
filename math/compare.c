#include "math/compare.h"

#include <string.h>


static int is_text(const struct node *node)
{
    return node->kind == NODE_TEXT;
}

static enum algebra_answer compare_texts(struct comparison *c, const struct node *gold,
                                         const struct node *pred)
{
    struct text a = {.maximum = MATH_ANSWER_BYTES}, b = {.maximum = MATH_ANSWER_BYTES};
    int equal;

    c->path = "text";
    fold_words(&a, (struct span){gold->name, gold->n_name});
    fold_words(&b, (struct span){pred->name, pred->n_name});
    equal = pred->n_name && a.length == b.length && a.length &&
            memcmp(a.data, b.data, a.length) == 0;
    text_release(&a);
    text_release(&b);
    return equal ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
}

/* A set or list of one is its member. */
static const struct node *unwrap(const struct node *node)
{
    while (is_collection(node) && node->n_children == 1 && !is_point_set(node->child[0]) &&
           node->child[0]->kind != NODE_SET)
        node = node->child[0];
    return node;
}

static int is_relation(const struct node *node)
{
    return node->kind == NODE_RELATION;
}

/* Solved inequalities against each other or against a set; UNKNOWN when they are none. */
static enum algebra_answer compare_solved(struct comparison *c, const struct node *gold,
                                          const struct node *pred)
{
    const struct node *gold_variable = NULL, *pred_variable = NULL;
    const struct node *a = solved_set(c, gold, &gold_variable);
    const struct node *b = solved_set(c, pred, &pred_variable);

    if (!a && !b)
        return ALGEBRA_UNKNOWN;
    if (a && b) {
        if (!node_same(gold_variable, pred_variable))
            return ALGEBRA_DIFFERENT;
    } else if (is_relation(a ? pred : gold)) {
        return ALGEBRA_DIFFERENT;   /* one is solved, one is not */
    }
    a = a ? a : gold;
    b = b ? b : pred;
    if (is_collection(a) && is_collection(b) && a->kind != NODE_TUPLE && b->kind != NODE_TUPLE)
        return compare_nodes(c, a, b);
    if (!is_point_set(a) && !is_point_set(b))
        return compare_nodes(c, a, b);
    return compare_point_sets(c, a, b);
}

static enum algebra_answer compare_kinds(struct comparison *c, const struct node *gold,
                                         const struct node *pred)
{
    enum algebra_answer solved;

    if (is_text(gold) && is_text(pred))
        return compare_texts(c, gold, pred);
    solved = compare_solved(c, gold, pred);
    if (solved != ALGEBRA_UNKNOWN)
        return solved;
    if (is_relation(gold) || is_relation(pred))
        return compare_relations(c, gold, pred);
    if (is_text(gold) || is_text(pred))
        return ALGEBRA_DIFFERENT;
    if (is_point_set(gold) || is_point_set(pred)) {
        /* A bare list or a number is no set of the line, a set of numbers is. */
        if (is_value(gold) || is_value(pred) || gold->kind == NODE_LIST || pred->kind == NODE_LIST)
            return ALGEBRA_DIFFERENT;
        return compare_point_sets(c, gold, pred);
    }
    if (has_matrix(gold) || has_matrix(pred)) {
        if (is_collection(gold) || is_collection(pred))
            return is_collection(gold) && is_collection(pred) ? compare_collections(c, gold, pred)
                                                              : ALGEBRA_DIFFERENT;
        return compare_matrices(c, gold, pred);
    }
    if (is_collection(gold) && is_collection(pred))
        return compare_collections(c, gold, pred);
    if (is_value(gold) && is_value(pred)) {
        c->tree->n_nodes = 0;   /* each pair of values may make nodes of its own */
        return compare_values(c, gold, pred);
    }
    return ALGEBRA_DIFFERENT;
}

enum algebra_answer compare_nodes(struct comparison *c, const struct node *gold,
                                  const struct node *pred)
{
    enum algebra_answer answer;
    const struct node *a = gold, *b = pred;

    if (c->algebra.deadline && deadline_is_over(c->algebra.deadline))
        c->tree->limit = 1;   /* also for all that would follow */
    if (++c->depth > MATH_DEPTH || c->tree->limit) {
        c->depth--;
        return ALGEBRA_LIMIT;
    }
    if (!is_collection(a))
        a = expand_signs(c->tree, a);
    if (!is_collection(b))
        b = expand_signs(c->tree, b);
    if (!a || !b) {
        c->depth--;
        return ALGEBRA_LIMIT;
    }
    /* A relation with both signs, x = 1 +- 2, is the list of its values. */
    if (a != gold && is_relation(gold)) {
        const struct node *name, *value;

        if (assignment_read(c, gold, &name, &value) == ASSIGN_VALUE && !is_relation(pred))
            a = expand_signs(c->tree, value);
    }
    answer = compare_kinds(c, unwrap(a), unwrap(b));
    c->depth--;
    return answer;
}
