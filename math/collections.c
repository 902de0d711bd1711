#include "math/compare.h"

#include <string.h>

int is_collection(const struct node *node)
{
    return node->kind == NODE_LIST || node->kind == NODE_SET || node->kind == NODE_TUPLE;
}

/* ---- plus-minus */

static int count_signs(const struct node *node)
{
    int n = node->kind == NODE_PLUS_MINUS;

    for (int i = 0; i < node->n_children; i++)
        n += count_signs(node->child[i]);
    return n;
}

/* The tree with the signs of `bits`; *next is the sign to use. With a -+ all are one sign. */
static const struct node *choose_signs(struct tree *tree, const struct node *node, unsigned bits,
                                       int linked, int *next)
{
    struct node *copy;

    if (node->kind == NODE_PLUS_MINUS) {
        unsigned bit = linked ? (bits ^ (unsigned)node->which) & 1 : (bits >> *next) & 1;
        const struct node *inner;

        ++*next;
        inner = choose_signs(tree, node->child[0], bits, linked, next);
        return bit ? tree_unary(tree, NODE_NEGATE, inner) : inner;
    }
    if (!count_signs(node))
        return node;
    copy = tree_new(tree, node->kind, node->n_children);
    if (!copy)
        return NULL;
    copy->which = node->which;
    copy->n_columns = node->n_columns;
    copy->name = node->name;
    copy->n_name = node->n_name;
    for (int i = 0; i < node->n_children; i++) {
        const struct node *child = choose_signs(tree, node->child[i], bits, linked, next);

        if (!child)
            return NULL;
        memcpy((void *)&copy->child[i], &child, sizeof(child));
    }
    return copy;
}

const struct node *expand_signs(struct tree *tree, const struct node *node)
{
    const struct node *cases[1 << MATH_PLUS_MINUS];
    int n = count_signs(node), linked = node_has(node, NODE_PLUS_MINUS, 1), n_cases;

    if (!n)
        return node;
    if (n > MATH_PLUS_MINUS) {
        tree->limit = 1;
        return NULL;
    }
    n_cases = linked ? 2 : 1 << n;
    for (int i = 0; i < n_cases; i++) {
        int next = 0;

        cases[i] = choose_signs(tree, node, (unsigned)i, linked, &next);
    }
    return tree_many(tree, NODE_LIST, cases, n_cases);
}

/* ---- members */

struct collection {
    enum node_kind kind;
    int n;
    const struct node *items[MATH_MEMBERS], *names[MATH_MEMBERS];
    int is_named;            /* every item has a name of its own */
    const struct node *name; /* of all: n = 1, 2, 3 */
    int broken;
};

static int add_item(struct collection *out, const struct node *name, const struct node *item)
{
    if (out->n == MATH_MEMBERS)
        return 0;
    out->names[out->n] = name;
    out->items[out->n++] = item;
    return 1;
}

/* Items with signs become their cases, assignments give up their names. */
static int collect(struct comparison *c, const struct node *node, struct collection *out)
{
    for (int i = 0; i < node->n_children; i++) {
        const struct node *name = NULL, *value = node->child[i];
        enum assignment kind = assignment_read(c, value, &name, &value);

        out->broken |= kind == ASSIGN_BROKEN;
        if (out->kind == NODE_TUPLE) {
            if (!add_item(out, name, value))
                return 0;
            continue;
        }
        value = expand_signs(c->tree, value);
        if (!value)
            return 0;
        if (value->kind == NODE_LIST && (value != node->child[i] || name)) {
            for (int k = 0; k < value->n_children; k++)
                if (!add_item(out, name, value->child[k]))
                    return 0;
        } else if (!add_item(out, name, value)) {
            return 0;
        }
    }
    return 1;
}

static int same_name(const struct node *a, const struct node *b)
{
    return a && b && node_same(a, b);
}

/* x = 1, y = 2, x = 3, y = 4: pairs. Returns the length of the pattern of names, 0 for none. */
static int find_pattern(const struct collection *list)
{
    int length = 1;

    while (length < list->n && !same_name(list->names[length], list->names[0]))
        length++;
    if (length == list->n || list->n % length)
        return 0;
    for (int i = 0; i < list->n; i++)
        if (!list->names[i] || !same_name(list->names[i], list->names[i % length]))
            return 0;
    return length;
}

static int group_by_names(struct comparison *c, struct collection *list, int length)
{
    int n = list->n / length;

    for (int i = 0; i < n; i++) {
        list->items[i] = tree_many(c->tree, NODE_TUPLE, list->items + (ptrdiff_t)i * length,
                                   length);
        list->names[i] = NULL;
        if (!list->items[i])
            return 0;
    }
    list->n = n;
    return 1;
}

static int read_collection(struct comparison *c, const struct node *node, struct collection *out)
{
    int n_names = 0, length;

    memset(out, 0, offsetof(struct collection, items));
    out->is_named = out->broken = 0;
    out->name = NULL;
    out->kind = node->kind;
    if (!collect(c, node, out))
        return 0;
    for (int i = 0; i < out->n; i++)
        n_names += out->names[i] != NULL;
    if (!n_names || out->kind == NODE_TUPLE)
        return 1;
    length = n_names == out->n ? find_pattern(out) : 0;
    if (length > 1)
        return group_by_names(c, out, length);
    if (length == 1 || (n_names == 1 && out->names[0])) {   /* n = 1, 2, 3 */
        out->name = out->names[0];
        return 1;
    }
    out->is_named = n_names == out->n;
    return 1;
}

static enum algebra_answer compare_in_order(struct comparison *c, const struct collection *gold,
                                            const struct collection *pred)
{
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;

    if (gold->n != pred->n)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i < gold->n && answer != ALGEBRA_DIFFERENT; i++)
        answer = answer_both(answer, compare_nodes(c, gold->items[i], pred->items[i]));
    return answer;
}

static void drop_repeats(struct comparison *c, struct collection *set)
{
    int kept = 0;

    for (int i = 0; i < set->n; i++) {
        int repeated = 0;

        for (int k = 0; k < kept && !repeated; k++)
            repeated = answer_is_equal(compare_nodes(c, set->items[k], set->items[i]));
        if (!repeated)
            set->items[kept++] = set->items[i];
    }
    set->n = kept;
}

/* Every gold item takes one of the others: the same trees first, which cost nothing. */
static enum algebra_answer compare_unordered(struct comparison *c, struct collection *gold,
                                             struct collection *pred)
{
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;

    if (gold->n != pred->n || gold->kind == NODE_SET || pred->kind == NODE_SET) {
        drop_repeats(c, gold);
        drop_repeats(c, pred);
    }
    if (gold->n != pred->n)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i < gold->n; i++)
        for (int k = 0; k < pred->n; k++)
            if (gold->items[i] && pred->items[k] && node_same(gold->items[i], pred->items[k]))
                gold->items[i] = pred->items[k] = NULL;
    for (int i = 0; i < gold->n; i++) {
        enum algebra_answer found = ALGEBRA_DIFFERENT;

        if (!gold->items[i])
            continue;
        for (int k = 0; k < pred->n && !answer_is_equal(found); k++) {
            if (!pred->items[k])
                continue;
            found = answer_either(found, compare_nodes(c, gold->items[i], pred->items[k]));
            if (answer_is_equal(found))
                pred->items[k] = NULL;
        }
        answer = answer_both(answer, found);
        if (answer == ALGEBRA_DIFFERENT)
            break;
    }
    return answer;
}

/* a = 1, b = 2: each name must be there. */
static enum algebra_answer compare_named(struct comparison *c, const struct collection *gold,
                                         const struct collection *pred)
{
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;

    if (gold->n != pred->n)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i < gold->n; i++) {
        int k = 0;

        while (k < pred->n && !same_name(gold->names[i], pred->names[k]))
            k++;
        if (k == pred->n)
            return ALGEBRA_DIFFERENT;
        answer = answer_both(answer, compare_nodes(c, gold->items[i], pred->items[k]));
    }
    return answer;
}

/* x_1, x_2 for x. */
static int are_indexed(const struct node *name, const struct collection *list)
{
    for (int i = 0; i < list->n; i++) {
        const struct node *other = list->names[i];

        if (other->kind != NODE_SYMBOL || name->kind != NODE_SYMBOL ||
            other->n_name <= name->n_name || other->name[name->n_name] != '_' ||
            memcmp(other->name, name->name, name->n_name) != 0)
            return 0;
    }
    return 1;
}

static enum algebra_answer compare_read(struct comparison *c, struct collection *gold,
                                        struct collection *pred)
{
    c->path = "members";
    if (gold->broken || pred->broken || (gold->name && pred->name &&
                                         !same_name(gold->name, pred->name)))
        return ALGEBRA_DIFFERENT;
    if (gold->is_named && pred->is_named)
        return compare_named(c, gold, pred);
    if ((gold->name && pred->is_named && !are_indexed(gold->name, pred)) ||
        (pred->name && gold->is_named && !are_indexed(pred->name, gold)))
        return ALGEBRA_DIFFERENT;   /* x = 1, x = 2 and x = 1, y = 2 */
    if (gold->is_named && pred->kind != NODE_SET)
        return compare_in_order(c, gold, pred);
    if (gold->kind == NODE_TUPLE || pred->kind == NODE_TUPLE) {
        if (gold->kind == NODE_SET || pred->kind == NODE_SET)
            return ALGEBRA_DIFFERENT;
        return compare_in_order(c, gold, pred);
    }
    return compare_unordered(c, gold, pred);
}

enum algebra_answer compare_collections(struct comparison *c, const struct node *gold,
                                        const struct node *pred)
{
    struct collection *a = ARENA_NEW(c->tree->arena, struct collection, 1);
    struct collection *b = ARENA_NEW(c->tree->arena, struct collection, 1);

    if (!a || !b || !read_collection(c, gold, a) || !read_collection(c, pred, b))
        return ALGEBRA_LIMIT;
    return compare_read(c, a, b);
}
