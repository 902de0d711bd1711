/*
 * math/tree.h - an answer as a tree, in an arena.
 *
 * The parser makes it, structure.c compares what is no scalar, algebra.h compares scalars. Nodes
 * are never changed once made, so that readings may share them. Scalar kinds come first in the
 * enum: node_is_scalar_kind(). All limits of this folder stand here.
 */
#ifndef HONE_MATH_TREE_H
#define HONE_MATH_TREE_H

#include <gmp.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"

enum math_limit {
    MATH_ANSWER_BYTES = 4096,     /* of an answer after extraction */
    MATH_NODES = 2000,            /* of one tree */
    MATH_DEPTH = 64,
    MATH_DIGITS = 10000,          /* of an integer, a denominator; also |decimal exponent| */
    MATH_POWER_BITS = 100000,     /* exact powers: exponent * bits of the base */
    MATH_FACTORIAL = 2000,        /* argument */
    MATH_BINOMIAL = 10000,        /* upper argument */
    MATH_MEMBERS = 256,           /* of a list, set, tuple, union */
    MATH_PLUS_MINUS = 6,          /* signs in one answer: 64 cases */
    MATH_MATRIX_SIDE = 32,
    MATH_TERMS = 5000,            /* polynomial proof: estimated terms */
    MATH_DEGREE = 200,            /* polynomial proof: degree */
    MATH_ARENA_BYTES = 16 << 20,  /* one verdict: trees and scratch */
};

enum node_kind {
    /* Scalars. `child` has n_children members; ADD and MULTIPLY have at least 2. */
    NODE_NUMBER,       /* exact rational: `numerator/denominator`, or `big` when denominator is 0 */
    NODE_CONSTANT,     /* `which` is a node_constant */
    NODE_SYMBOL,       /* `name`: "x", "x_1", "\alpha"; equal names are equal letters */
    NODE_NEGATE,       /* 1 child */
    NODE_ADD,
    NODE_MULTIPLY,
    NODE_DIVIDE,       /* 2 children */
    NODE_POWER,        /* 2 children */
    NODE_FUNCTION,     /* `which` is a node_function */

    /* Structures: algebra.h never sees them. */
    NODE_PLUS_MINUS,   /* 1 child: the sign before it is + or -; `which` 1 for \mp */
    NODE_PERCENT,      /* 1 child */
    NODE_QUANTITY,     /* child 0 times the unit in `name` (units.c) */
    NODE_BASE,         /* digits in `name`, child 0 the base */
    NODE_RATIO,        /* a : b : ... */
    NODE_LIST,         /* bare: a, b */
    NODE_SET,          /* { } */
    NODE_SET_OF,       /* { x | condition }: child 0 the variable, child 1 the condition */
    NODE_TUPLE,        /* ( , ) or a vector */
    NODE_INTERVAL,     /* 2 children; `which` is a sum of node_interval */
    NODE_UNION, NODE_INTERSECTION, NODE_DIFFERENCE,
    NODE_NUMBER_SET,   /* `which`: 'R' 'Q' 'Z' 'N' 'C', or 0 for the empty set */
    NODE_MATRIX,       /* n_columns; children by rows */
    NODE_RELATION,     /* chain: n children, n - 1 relations in `name`, one node_relation a byte */
    NODE_JOIN,         /* conditions joined; `which` is 'a' (and) or 'o' (or) */
    NODE_TEXT,         /* folded words in `name` */
};

enum node_constant { CONSTANT_PI, CONSTANT_E, CONSTANT_I, CONSTANT_INFINITY };

enum node_relation {
    RELATION_EQUAL = '=', RELATION_LESS = '<', RELATION_GREATER = '>', RELATION_AT_MOST = 'l',
    RELATION_AT_LEAST = 'g', RELATION_NOT_EQUAL = '!', RELATION_IN = 'i', RELATION_NOT_IN = 'n',
    RELATION_ABOUT = '~', RELATION_CONGRUENT = 'c',
};

enum node_interval { INTERVAL_LEFT_CLOSED = 1, INTERVAL_RIGHT_CLOSED = 2 };

/* name in the enum, arguments */
#define NODE_FUNCTION_MAP(X)                                                                       \
    X(SQRT, 1) X(ROOT, 2) /* degree, radicand; real odd roots */                                   \
    X(EXP, 1) X(LN, 1) X(LOG, 1) /* no base written */ X(LOG_BASE, 2) /* base, argument */         \
    X(SIN, 1) X(COS, 1) X(TAN, 1) X(COT, 1) X(SEC, 1) X(CSC, 1)                                    \
    X(ARCSIN, 1) X(ARCCOS, 1) X(ARCTAN, 1) X(ARCCOT, 1) X(ARCSEC, 1) X(ARCCSC, 1)                  \
    X(SINH, 1) X(COSH, 1) X(TANH, 1) X(COTH, 1) X(SECH, 1) X(CSCH, 1)                              \
    X(ARCSINH, 1) X(ARCCOSH, 1) X(ARCTANH, 1) X(ARCCOTH, 1)                                        \
    X(ABS, 1) X(FLOOR, 1) X(CEILING, 1) X(SIGN, 1) X(REAL, 1) X(IMAGINARY, 1) X(CONJUGATE, 1)      \
    X(FACTORIAL, 1) X(DOUBLE_FACTORIAL, 1) X(BINOMIAL, 2) X(PERMUTATIONS, 2) /* n!/(n-k)! */       \
    X(MOD, 2) /* remainder */ X(GCD, 2) X(LCM, 2) X(MAX, 2) X(MIN, 2)

enum node_function {
#define X(name, arguments) FUNCTION_##name,
    NODE_FUNCTION_MAP(X)
#undef X
    N_FUNCTIONS
};

struct node {
    enum node_kind kind;
    int which;                     /* constant, function, bracket kind, ... by kind */
    int n_children, n_columns;
    const struct node *const *child;
    const char *name;              /* n_name bytes, NUL behind them */
    size_t n_name;
    int64_t numerator, denominator;   /* lowest terms, denominator > 0; 0: see big */
    mpq_srcptr big;                /* limbs in the arena: never mpq_clear() it */
    int significant;               /* digits of a literal with a decimal point; else 0 */
    int decimals;                  /* digits behind the point */
};

struct tree {
    struct arena *arena;
    int n_nodes;
    int limit;                     /* set once a limit of this folder was passed */
};

static inline int node_is_scalar_kind(const struct node *node)
{
    return node->kind <= NODE_FUNCTION;
}

/* Constructors. All return NULL when the tree or the arena is full, and take NULL children as a
 * failure made below: check once, at the end. */
const struct node *tree_integer(struct tree *tree, int64_t value);
const struct node *tree_rational(struct tree *tree, mpq_srcptr value);   /* copies into the arena */
const struct node *tree_constant(struct tree *tree, enum node_constant which);
const struct node *tree_name(struct tree *tree, enum node_kind kind, const char *name, size_t n);
const struct node *tree_unary(struct tree *tree, enum node_kind kind, const struct node *a);
const struct node *tree_binary(struct tree *tree, enum node_kind kind, const struct node *a,
                               const struct node *b);
const struct node *tree_many(struct tree *tree, enum node_kind kind,
                             const struct node *const *children, int n);
const struct node *tree_call(struct tree *tree, enum node_function which, const struct node *a,
                             const struct node *b);   /* b NULL for one argument */
struct node *tree_new(struct tree *tree, enum node_kind kind, int n_children);

/* The value of a NODE_NUMBER into an initialised `out`. */
void node_number(mpq_t out, const struct node *number);

/* Same shape, names and numbers: no arithmetic. */
int node_same(const struct node *a, const struct node *b);

#endif
