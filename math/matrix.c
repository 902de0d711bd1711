#include "math/compare.h"

/* Entries are trees; sums, products and powers of matrices are worked out on them. */
struct matrix {
    int n_rows, n_columns;
    const struct node **cells;
};

int has_matrix(const struct node *node)
{
    return node_has(node, NODE_MATRIX, -1);
}

static int make(struct comparison *c, struct matrix *out, int n_rows, int n_columns)
{
    out->n_rows = n_rows;
    out->n_columns = n_columns;
    out->cells = ARENA_NEW(c->tree->arena, const struct node *, n_rows * n_columns);
    return out->cells != NULL;
}

static int is_scalar_one(const struct matrix *m)
{
    return m->n_rows == 0;   /* cells[0] is a scalar */
}

static int evaluate(struct comparison *c, const struct node *node, struct matrix *out);

static int add(struct comparison *c, const struct matrix *a, const struct matrix *b,
               struct matrix *out)
{
    if (is_scalar_one(a) || is_scalar_one(b) || a->n_rows != b->n_rows ||
        a->n_columns != b->n_columns || !make(c, out, a->n_rows, a->n_columns))
        return 0;
    for (int i = 0; i < a->n_rows * a->n_columns; i++) {
        out->cells[i] = tree_binary(c->tree, NODE_ADD, a->cells[i], b->cells[i]);
        if (!out->cells[i])
            return 0;
    }
    return 1;
}

static int scale(struct comparison *c, const struct node *factor, const struct matrix *a,
                 struct matrix *out)
{
    if (!make(c, out, a->n_rows, a->n_columns))
        return 0;
    for (int i = 0; i < a->n_rows * a->n_columns; i++) {
        out->cells[i] = tree_binary(c->tree, NODE_MULTIPLY, factor, a->cells[i]);
        if (!out->cells[i])
            return 0;
    }
    return 1;
}

static int multiply(struct comparison *c, const struct matrix *a, const struct matrix *b,
                    struct matrix *out)
{
    const struct node *terms[MATH_MATRIX_SIDE];

    if (is_scalar_one(a) && is_scalar_one(b))
        return 0;
    if (is_scalar_one(a) || is_scalar_one(b))
        return is_scalar_one(a) ? scale(c, a->cells[0], b, out) : scale(c, b->cells[0], a, out);
    if (a->n_columns != b->n_rows || !make(c, out, a->n_rows, b->n_columns))
        return 0;
    for (int i = 0; i < a->n_rows; i++)
        for (int j = 0; j < b->n_columns; j++) {
            for (int k = 0; k < a->n_columns; k++) {
                terms[k] = tree_binary(c->tree, NODE_MULTIPLY, a->cells[i * a->n_columns + k],
                                       b->cells[k * b->n_columns + j]);
                if (!terms[k])
                    return 0;
            }
            out->cells[i * b->n_columns + j] =
                a->n_columns == 1 ? terms[0] : tree_many(c->tree, NODE_ADD, terms, a->n_columns);
            if (!out->cells[i * b->n_columns + j])
                return 0;
        }
    return 1;
}

/* By the first row; four rows at most: 24 products. */
static const struct node *determinant(struct comparison *c, const struct matrix *m)
{
    const struct node *terms[4];
    struct matrix minor;
    int n = m->n_rows;

    if (n != m->n_columns || n > 4 || n < 1)
        return NULL;
    if (n == 1)
        return m->cells[0];
    for (int j = 0; j < n; j++) {
        if (!make(c, &minor, n - 1, n - 1))
            return NULL;
        for (int i = 1; i < n; i++)
            for (int k = 0; k < n; k++)
                if (k != j)
                    minor.cells[(i - 1) * (n - 1) + k - (k > j)] = m->cells[i * n + k];
        terms[j] = tree_binary(c->tree, NODE_MULTIPLY, m->cells[j], determinant(c, &minor));
        if (j % 2)
            terms[j] = tree_unary(c->tree, NODE_NEGATE, terms[j]);
        if (!terms[j])
            return NULL;
    }
    return tree_many(c->tree, NODE_ADD, terms, n);
}

static int scalar(struct comparison *c, const struct node *node, struct matrix *out)
{
    if (!node || !node_is_scalar(node) || !make(c, out, 1, 1))
        return 0;
    out->cells[0] = node;
    out->n_rows = 0;
    return 1;
}

static int fold(struct comparison *c, const struct node *node, struct matrix *out)
{
    struct matrix left, right;

    if (!evaluate(c, node->child[0], &left))
        return 0;
    for (int i = 1; i < node->n_children; i++) {
        if (!evaluate(c, node->child[i], &right))
            return 0;
        if (node->kind == NODE_MULTIPLY && is_scalar_one(&left) && is_scalar_one(&right)) {
            if (!scalar(c, tree_binary(c->tree, NODE_MULTIPLY, left.cells[0], right.cells[0]), out))
                return 0;
        } else if (!(node->kind == NODE_ADD ? add : multiply)(c, &left, &right, out)) {
            return 0;
        }
        left = *out;
    }
    *out = left;
    return 1;
}

static int raise(struct comparison *c, const struct node *node, struct matrix *out)
{
    struct matrix base, product;
    int64_t power = node->child[1]->kind == NODE_NUMBER && node->child[1]->denominator == 1
                    ? node->child[1]->numerator : 0;

    if (power < 1 || power > 8 || !evaluate(c, node->child[0], &base))
        return 0;
    *out = base;
    while (--power > 0) {
        if (!multiply(c, out, &base, &product))
            return 0;
        *out = product;
    }
    return 1;
}

static int evaluate(struct comparison *c, const struct node *node, struct matrix *out)
{
    struct matrix inner;

    if (!has_matrix(node))
        return scalar(c, node, out);
    switch (node->kind) {
    case NODE_MATRIX:
        if (!make(c, out, node->n_children / node->n_columns, node->n_columns))
            return 0;
        for (int i = 0; i < node->n_children; i++)
            out->cells[i] = node->child[i];
        return 1;
    case NODE_NEGATE:
        return evaluate(c, node->child[0], &inner) &&
               multiply(c, &(struct matrix){0, 0, (const struct node *[]){
                        tree_integer(c->tree, -1)}}, &inner, out);
    case NODE_ADD: case NODE_MULTIPLY:
        return fold(c, node, out);
    case NODE_DIVIDE:
        return !has_matrix(node->child[1]) && evaluate(c, node->child[0], &inner) &&
               !is_scalar_one(&inner) &&
               scale(c, tree_binary(c->tree, NODE_DIVIDE, tree_integer(c->tree, 1),
                                    node->child[1]), &inner, out);
    case NODE_POWER:
        return raise(c, node, out);
    case NODE_FUNCTION:
        return node->which == FUNCTION_ABS && evaluate(c, node->child[0], &inner) &&
               scalar(c, determinant(c, &inner), out);
    default:
        return 0;
    }
}

enum algebra_answer compare_matrices(struct comparison *c, const struct node *gold,
                                     const struct node *pred)
{
    enum algebra_answer answer = ALGEBRA_EQUAL_EXACT;
    struct matrix a, b;

    c->path = "matrix";
    if (!evaluate(c, gold, &a) || !evaluate(c, pred, &b)) {
        if (c->tree->limit)
            return ALGEBRA_LIMIT;
        return node_same(gold, pred) ? ALGEBRA_EQUAL_EXACT : ALGEBRA_DIFFERENT;
    }
    if (is_scalar_one(&a) && is_scalar_one(&b))
        return compare_scalars(c, a.cells[0], b.cells[0]);
    if (a.n_rows != b.n_rows || a.n_columns != b.n_columns)
        return ALGEBRA_DIFFERENT;
    for (int i = 0; i < a.n_rows * a.n_columns && answer != ALGEBRA_DIFFERENT; i++)
        answer = answer_both(answer, compare_scalars(c, a.cells[i], b.cells[i]));
    return answer;
}
