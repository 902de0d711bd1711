#include "math/compare.h"

#include <string.h>

/* A point set of the line as pieces in order, apart from one another. */
enum { MAX_PIECES = 64 };
struct end {
    const struct node *at;
    int infinite, closed;    /* infinite: -1, 1 */
};
struct piece {
    struct end low, high;
};
struct pieces {
    struct piece items[MAX_PIECES];
    int n;
    enum algebra_answer failure;   /* EQUAL_EXACT while all is well */
};

int is_point_set(const struct node *node)
{
    switch (node->kind) {
    case NODE_INTERVAL: case NODE_UNION: case NODE_INTERSECTION: case NODE_DIFFERENCE:
    case NODE_SET_OF: case NODE_NUMBER_SET:
        return 1;
    default:
        return 0;
    }
}

static void fail(struct pieces *set, enum algebra_answer why)
{
    if (set->failure == ALGEBRA_EQUAL_EXACT)
        set->failure = why;
}

static struct end make_end(const struct node *at, int closed)
{
    struct end end = {at, infinity_sign(at), closed};

    if (end.infinite)
        end.closed = 0;
    return end;
}

/* -1, 0, 1; what cannot be ordered fails the set. */
static int order(struct comparison *c, struct pieces *set, const struct end *a, const struct end *b)
{
    enum algebra_answer answer;
    int sign = 0;

    if (a->infinite || b->infinite)
        return a->infinite == b->infinite ? 0 : a->infinite < b->infinite ? -1 : 1;
    if (!node_is_scalar(a->at) || !node_is_scalar(b->at) || !algebra_is_constant(a->at) ||
        !algebra_is_constant(b->at)) {
        fail(set, ALGEBRA_DIFFERENT);
        return 0;
    }
    if (node_same(a->at, b->at))
        return 0;
    answer = algebra_order(&c->algebra, a->at, b->at, &sign);
    if (answer == ALGEBRA_UNKNOWN || answer == ALGEBRA_LIMIT)
        fail(set, answer);
    return sign;
}

static void add_piece(struct comparison *c, struct pieces *set, struct end low, struct end high)
{
    int at = set->n, sign;

    if (set->n == MAX_PIECES) {
        fail(set, ALGEBRA_LIMIT);
        return;
    }
    sign = order(c, set, &low, &high);
    if (set->failure != ALGEBRA_EQUAL_EXACT || sign > 0 ||
        (sign == 0 && !(low.closed && high.closed)))
        return;   /* nothing in it */
    while (at > 0 && order(c, set, &low, &set->items[at - 1].low) < 0) {
        set->items[at] = set->items[at - 1];
        at--;
    }
    set->items[at] = (struct piece){low, high};
    set->n++;
}

/* Pieces that touch or overlap become one. */
static void merge(struct comparison *c, struct pieces *set)
{
    int kept = 0;

    for (int i = 1; i < set->n && set->failure == ALGEBRA_EQUAL_EXACT; i++) {
        struct piece *last = &set->items[kept], *next = &set->items[i];
        int gap = order(c, set, &last->high, &next->low);

        if (order(c, set, &last->low, &next->low) == 0)
            last->low.closed |= next->low.closed;
        if (gap < 0 || (gap == 0 && !last->high.closed && !next->low.closed)) {
            set->items[++kept] = *next;
            continue;
        }
        int sign = order(c, set, &last->high, &next->high);
        if (sign < 0)
            last->high = next->high;
        else if (sign == 0)
            last->high.closed |= next->high.closed;
    }
    if (set->n)
        set->n = kept + 1;
}

/* All that is not in the set, which is merged. */
static void complement(struct pieces *set)
{
    struct pieces out = {.failure = set->failure};
    struct end low = {NULL, -1, 0};

    for (int i = 0; i < set->n; i++) {
        struct end high = set->items[i].low;

        if (high.infinite != -1) {
            high.closed = !high.closed && !high.infinite;
            out.items[out.n++] = (struct piece){low, high};
        }
        low = set->items[i].high;
        low.closed = !low.closed && !low.infinite;
    }
    if (low.infinite != 1) {
        if (out.n == MAX_PIECES)
            fail(&out, ALGEBRA_LIMIT);
        else
            out.items[out.n++] = (struct piece){low, {NULL, 1, 0}};
    }
    *set = out;
}

static void add_all(struct comparison *c, struct pieces *set, const struct pieces *more)
{
    fail(set, more->failure);
    for (int i = 0; i < more->n; i++)
        add_piece(c, set, more->items[i].low, more->items[i].high);
    merge(c, set);
}

static void read_set(struct comparison *c, const struct node *node, struct pieces *out);

static void read_points(struct comparison *c, const struct node *node, struct pieces *out)
{
    for (int i = 0; i < node->n_children; i++)
        add_piece(c, out, make_end(node->child[i], 1), make_end(node->child[i], 1));
    merge(c, out);
}

static void read_pair(struct comparison *c, const struct node *node, struct pieces *out)
{
    struct pieces *right = ARENA_NEW(c->tree->arena, struct pieces, 1);

    if (!right) {
        fail(out, ALGEBRA_LIMIT);
        return;
    }
    read_set(c, node->child[0], out);
    read_set(c, node->child[1], right);
    if (node->kind == NODE_UNION) {
        add_all(c, out, right);
        return;
    }
    /* A and B = not (not A or not B); A without B = not (not A or B) */
    complement(out);
    if (node->kind == NODE_INTERSECTION)
        complement(right);
    add_all(c, out, right);
    complement(out);
}

static void read_set(struct comparison *c, const struct node *node, struct pieces *out)
{
    const struct node *variable, *solved;

    switch (node->kind) {
    case NODE_TUPLE:
        if (node->n_children == 2)
            add_piece(c, out, make_end(node->child[0], 0), make_end(node->child[1], 0));
        else
            fail(out, ALGEBRA_DIFFERENT);
        break;
    case NODE_INTERVAL:
        add_piece(c, out, make_end(node->child[0], (node->which & INTERVAL_LEFT_CLOSED) != 0),
                  make_end(node->child[1], (node->which & INTERVAL_RIGHT_CLOSED) != 0));
        break;
    case NODE_UNION: case NODE_INTERSECTION: case NODE_DIFFERENCE:
        read_pair(c, node, out);
        break;
    case NODE_SET:
        read_points(c, node, out);
        break;
    case NODE_NUMBER_SET:
        if (node->which == 'R')
            add_piece(c, out, (struct end){NULL, -1, 0}, (struct end){NULL, 1, 0});
        else if (node->which)
            fail(out, ALGEBRA_DIFFERENT);
        break;
    case NODE_SET_OF:
        solved = solved_set(c, node->child[1], &variable);
        if (solved)
            read_set(c, solved, out);
        else
            fail(out, ALGEBRA_DIFFERENT);
        break;
    default:
        fail(out, ALGEBRA_DIFFERENT);
    }
}

static enum algebra_answer compare_ends(struct comparison *c, const struct end *a,
                                        const struct end *b)
{
    if (a->infinite || b->infinite)
        return a->infinite == b->infinite ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    return a->closed == b->closed ? compare_nodes(c, a->at, b->at) : ALGEBRA_DIFFERENT;
}

/* Two intervals end by end, whatever the ends are: they may have letters. */
static enum algebra_answer compare_plain(struct comparison *c, const struct node *gold,
                                         const struct node *pred)
{
    int a = gold->kind == NODE_INTERVAL ? gold->which : 0;
    int b = pred->kind == NODE_INTERVAL ? pred->which : 0;

    for (int i = 0; i < 2; i++) {
        if (infinity_sign(gold->child[i]))
            a &= i ? ~INTERVAL_RIGHT_CLOSED : ~INTERVAL_LEFT_CLOSED;
        if (infinity_sign(pred->child[i]))
            b &= i ? ~INTERVAL_RIGHT_CLOSED : ~INTERVAL_LEFT_CLOSED;
    }
    if (a != b)
        return ALGEBRA_DIFFERENT;
    return answer_both(compare_nodes(c, gold->child[0], pred->child[0]),
                       compare_nodes(c, gold->child[1], pred->child[1]));
}

static int is_plain_interval(const struct node *node)
{
    return node->kind == NODE_INTERVAL || (node->kind == NODE_TUPLE && node->n_children == 2);
}

enum algebra_answer compare_point_sets(struct comparison *c, const struct node *gold,
                                       const struct node *pred)
{
    struct pieces *a, *b;
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;

    c->path = "interval";
    if (is_plain_interval(gold) && is_plain_interval(pred))
        return compare_plain(c, gold, pred);
    a = ARENA_NEW(c->tree->arena, struct pieces, 1);
    b = ARENA_NEW(c->tree->arena, struct pieces, 1);
    if (!a || !b)
        return ALGEBRA_LIMIT;
    read_set(c, gold, a);
    read_set(c, pred, b);
    if (a->failure != ALGEBRA_EQUAL_EXACT || b->failure != ALGEBRA_EQUAL_EXACT) {
        if (node_same(gold, pred))
            return ALGEBRA_EQUAL_EXACT;
        return a->failure > b->failure ? a->failure : b->failure;
    }
    if (a->n != b->n)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i < a->n && answer != ALGEBRA_DIFFERENT; i++)
        answer = answer_both(answer,
                             answer_both(compare_ends(c, &a->items[i].low, &b->items[i].low),
                                         compare_ends(c, &a->items[i].high, &b->items[i].high)));
    return answer;
}

/* ---- solved inequalities */

/* x, or f(x); -x is given as its letter with *negative set. */
static const struct node *variable_of(const struct node *node, int *negative)
{
    *negative = 0;
    if (node->kind == NODE_NEGATE) {
        *negative = 1;
        node = node->child[0];
    }
    if (node->kind == NODE_SYMBOL)
        return node;
    if (node->kind == NODE_MULTIPLY && node->n_children == 2 && !*negative &&
        node->child[0]->kind == NODE_SYMBOL && node->child[1]->kind == NODE_SYMBOL &&
        strchr("fgh", node->child[0]->name[0]))
        return node;
    return NULL;
}

static int is_bound(const struct node *node)
{
    return infinity_sign(node) || (node_is_scalar(node) && algebra_is_constant(node));
}

static const struct node *make_interval(struct comparison *c, const struct node *low,
                                        const struct node *high, int which)
{
    struct node *node = (struct node *)tree_binary(c->tree, NODE_INTERVAL, low, high);

    if (node)
        node->which = which;
    return node;
}

/* All x with x <sign> bound. */
static const struct node *half_line(struct comparison *c, char sign, const struct node *bound)
{
    const struct node *infinity = tree_constant(c->tree, CONSTANT_INFINITY);
    const struct node *minus = tree_unary(c->tree, NODE_NEGATE, infinity);
    const struct node *line;

    switch (sign) {
    case RELATION_LESS: return make_interval(c, minus, bound, 0);
    case RELATION_AT_MOST: return make_interval(c, minus, bound, INTERVAL_RIGHT_CLOSED);
    case RELATION_GREATER: return make_interval(c, bound, infinity, 0);
    case RELATION_AT_LEAST: return make_interval(c, bound, infinity, INTERVAL_LEFT_CLOSED);
    case RELATION_NOT_EQUAL:
        line = make_interval(c, minus, infinity, 0);
        return tree_binary(c->tree, NODE_DIFFERENCE, line,
                           tree_many(c->tree, NODE_SET, &bound, 1));
    default: return NULL;
    }
}

static char turned(char sign)
{
    switch (sign) {
    case RELATION_LESS: return RELATION_GREATER;
    case RELATION_GREATER: return RELATION_LESS;
    case RELATION_AT_MOST: return RELATION_AT_LEAST;
    case RELATION_AT_LEAST: return RELATION_AT_MOST;
    default: return sign;
    }
}

/* One or two bounds around a variable. */
static const struct node *solved_relation(struct comparison *c, const struct node *node,
                                          const struct node **variable)
{
    int negative, at = -1;
    const struct node *left, *right;

    if (node->n_children == 2 && node->name[0] == RELATION_IN &&
        (is_point_set(node->child[1]) || is_collection(node->child[1]))) {
        *variable = variable_of(node->child[0], &negative);
        return *variable && !negative ? node->child[1] : NULL;
    }
    for (int i = 0; i < node->n_children; i++)
        if (variable_of(node->child[i], &negative))
            at = at < 0 ? i : node->n_children;
    if (at < 0 || at >= node->n_children || node->n_children > 3 ||
        (node->n_children == 3 && at != 1))
        return NULL;
    for (int i = 0; i < node->n_children; i++)
        if (i != at && !is_bound(node->child[i]))
            return NULL;
    *variable = variable_of(node->child[at], &negative);
    left = at > 0 ? half_line(c, negative ? node->name[at - 1] : turned(node->name[at - 1]),
                              negative ? tree_unary(c->tree, NODE_NEGATE, node->child[at - 1])
                                       : node->child[at - 1]) : NULL;
    right = at + 1 < node->n_children
            ? half_line(c, negative ? turned(node->name[at]) : node->name[at],
                        negative ? tree_unary(c->tree, NODE_NEGATE, node->child[at + 1])
                                 : node->child[at + 1]) : NULL;
    if (node->n_children == 2)
        return left ? left : right;
    return tree_binary(c->tree, NODE_INTERSECTION, left, right);
}

static int is_empty(struct comparison *c, const struct node *set)
{
    struct pieces *pieces = ARENA_NEW(c->tree->arena, struct pieces, 1);

    if (!pieces)
        return 0;
    read_set(c, set, pieces);
    return pieces->failure == ALGEBRA_EQUAL_EXACT && !pieces->n;
}

/* x < 1 or x > 2; x > 0, x < 5; x != 1, 2. A comma means "and", unless nothing is left. */
static const struct node *solved_list(struct comparison *c, const struct node *node,
                                      const struct node **variable)
{
    const struct node *set = NULL, *both = NULL;
    int is_or = node->which == 'o';

    for (int i = 0; i < node->n_children; i++) {
        const struct node *name = *variable, *next, *item = node->child[i];

        if (item->kind == NODE_RELATION)
            next = solved_set(c, item, &name);
        else if (i && node->child[0]->kind == NODE_RELATION &&
                 node->child[0]->name[0] == RELATION_NOT_EQUAL && is_bound(item))
            next = half_line(c, RELATION_NOT_EQUAL, item);
        else
            return NULL;
        if (!next || (i && !node_same(name, *variable)))
            return NULL;
        *variable = name;
        both = both ? tree_binary(c->tree, NODE_INTERSECTION, both, next) : next;
        set = set ? tree_binary(c->tree, NODE_UNION, set, next) : next;
    }
    if (is_or || !both)
        return set;
    return node->which == ',' && is_empty(c, both) ? set : both;
}

const struct node *solved_set(struct comparison *c, const struct node *node,
                              const struct node **variable)
{
    if (node->kind == NODE_RELATION)
        return solved_relation(c, node, variable);
    if ((node->kind == NODE_LIST || node->kind == NODE_JOIN) && node->n_children > 1 &&
        node->n_children <= MAX_PIECES && node->child[0]->kind == NODE_RELATION) {
        *variable = NULL;
        return solved_list(c, node, variable);
    }
    return NULL;
}
