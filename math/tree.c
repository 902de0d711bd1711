#include "math/tree.h"

#include <string.h>

struct node *tree_new(struct tree *tree, enum node_kind kind, int n_children)
{
    struct node *node;

    if (tree->n_nodes >= MATH_NODES || n_children > MATH_NODES) {
        tree->limit = 1;
        return NULL;
    }
    node = ARENA_NEW(tree->arena, struct node, 1);
    if (!node) {
        tree->limit = 1;
        return NULL;
    }
    if (n_children) {
        node->child = ARENA_NEW(tree->arena, const struct node *, n_children);
        if (!node->child) {
            tree->limit = 1;
            return NULL;
        }
    }
    tree->n_nodes++;
    node->kind = kind;
    node->n_children = n_children;
    return node;
}

const struct node *tree_integer(struct tree *tree, int64_t value)
{
    struct node *node = tree_new(tree, NODE_NUMBER, 0);

    if (node) {
        node->numerator = value;
        node->denominator = 1;
    }
    return node;
}

/* An mpz whose limbs lie in the arena. */
static int copy_limbs(struct arena *arena, mpz_ptr out, mpz_srcptr in)
{
    size_t n = mpz_size(in);
    mp_limb_t *limbs = ARENA_NEW(arena, mp_limb_t, n ? n : 1);

    if (!limbs)
        return 0;
    if (n)
        memcpy(limbs, mpz_limbs_read(in), n * sizeof(*limbs));
    mpz_roinit_n(out, limbs, mpz_sgn(in) < 0 ? -(mp_size_t)n : (mp_size_t)n);
    return 1;
}

const struct node *tree_rational(struct tree *tree, mpq_srcptr value)
{
    struct node *node = tree_new(tree, NODE_NUMBER, 0);
    mpq_ptr big;

    if (!node)
        return NULL;
    if (mpz_fits_slong_p(mpq_numref(value)) && mpz_fits_slong_p(mpq_denref(value)) &&
        mpz_cmp_si(mpq_numref(value), INT64_MIN) != 0) {
        node->numerator = mpz_get_si(mpq_numref(value));
        node->denominator = mpz_get_si(mpq_denref(value));
        return node;
    }
    big = arena_alloc(tree->arena, 1, sizeof(*big), _Alignof(__mpq_struct));
    if (!big || !copy_limbs(tree->arena, mpq_numref(big), mpq_numref(value)) ||
        !copy_limbs(tree->arena, mpq_denref(big), mpq_denref(value))) {
        tree->limit = 1;
        return NULL;
    }
    node->big = big;
    return node;
}

const struct node *tree_constant(struct tree *tree, enum node_constant which)
{
    struct node *node = tree_new(tree, NODE_CONSTANT, 0);

    if (node)
        node->which = which;
    return node;
}

const struct node *tree_name(struct tree *tree, enum node_kind kind, const char *name, size_t n)
{
    struct node *node = tree_new(tree, kind, 0);

    if (!node)
        return NULL;
    node->name = arena_copy(tree->arena, name, n);
    node->n_name = n;
    if (!node->name)
        tree->limit = 1;
    return node->name ? node : NULL;
}

const struct node *tree_many(struct tree *tree, enum node_kind kind,
                             const struct node *const *children, int n)
{
    struct node *node;

    for (int i = 0; i < n; i++)
        if (!children[i])
            return NULL;
    node = tree_new(tree, kind, n);
    if (node && n)
        memcpy((void *)node->child, children, (size_t)n * sizeof(*children));
    return node;
}

const struct node *tree_unary(struct tree *tree, enum node_kind kind, const struct node *a)
{
    return tree_many(tree, kind, &a, 1);
}

const struct node *tree_binary(struct tree *tree, enum node_kind kind, const struct node *a,
                               const struct node *b)
{
    const struct node *children[] = {a, b};

    return tree_many(tree, kind, children, 2);
}

const struct node *tree_call(struct tree *tree, enum node_function which, const struct node *a,
                             const struct node *b)
{
    const struct node *children[] = {a, b};
    const struct node *node = tree_many(tree, NODE_FUNCTION, children, b ? 2 : 1);

    if (node)
        ((struct node *)node)->which = (int)which;
    return node;
}

void node_number(mpq_t out, const struct node *number)
{
    if (number->denominator)
        mpq_set_si(out, number->numerator, (unsigned long)number->denominator);
    else
        mpq_set(out, number->big);
}

static int same_number(const struct node *a, const struct node *b)
{
    if (a->denominator || b->denominator)
        return a->denominator == b->denominator && a->numerator == b->numerator;
    return mpq_equal(a->big, b->big);
}

int node_same(const struct node *a, const struct node *b)
{
    if (a == b)
        return 1;
    if (a->kind != b->kind || a->which != b->which || a->n_children != b->n_children ||
        a->n_columns != b->n_columns || a->n_name != b->n_name ||
        (a->n_name && memcmp(a->name, b->name, a->n_name) != 0))
        return 0;
    if (a->kind == NODE_NUMBER && !same_number(a, b))
        return 0;
    for (int i = 0; i < a->n_children; i++)
        if (!node_same(a->child[i], b->child[i]))
            return 0;
    return 1;
}
