/*
 * math/compare.h - whether two trees mean the same. Answers are those of algebra.h: the worst of
 * the members' for a structure.
 */
#ifndef HONE_MATH_COMPARE_H
#define HONE_MATH_COMPARE_H

#include "math/algebra.h"
#include "math/read.h"

struct comparison {
    struct algebra_context algebra;
    struct tree *tree;      /* for the nodes that a comparison makes */
    int depth;
    const char *path;       /* the step that decided last */
};

static inline int answer_is_equal(enum algebra_answer answer)
{
    return answer <= ALGEBRA_EQUAL_NUMERIC;
}

/* Both must hold: a certain difference wins, then what is not known, then the weaker proof. */
static inline enum algebra_answer answer_both(enum algebra_answer a, enum algebra_answer b)
{
    if (a == ALGEBRA_DIFFERENT || b == ALGEBRA_DIFFERENT)
        return ALGEBRA_DIFFERENT;
    return a > b ? a : b;
}

/* One of them is enough. */
static inline enum algebra_answer answer_either(enum algebra_answer a, enum algebra_answer b)
{
    if (answer_is_equal(a) || answer_is_equal(b))
        return a < b ? a : b;
    return a == ALGEBRA_DIFFERENT ? b : a;
}

/* compare.c: any two trees. */
enum algebra_answer compare_nodes(struct comparison *c, const struct node *gold,
                                  const struct node *pred);

/* values.c: scalars, with percent, units, bases, ratios. */
int is_value(const struct node *node);
enum algebra_answer compare_scalars(struct comparison *c, const struct node *gold,
                                    const struct node *pred);
enum algebra_answer compare_values(struct comparison *c, const struct node *gold,
                                   const struct node *pred);
int infinity_sign(const struct node *node);    /* 1, -1; 0 for another value */

/* collections.c: lists, sets, tuples. */
int is_collection(const struct node *node);
enum algebra_answer compare_collections(struct comparison *c, const struct node *gold,
                                        const struct node *pred);
/* A tree with +- as the list of its cases; the tree itself when it has none; NULL: a limit. */
const struct node *expand_signs(struct tree *tree, const struct node *node);

/* relations.c */
enum assignment { ASSIGN_NONE, ASSIGN_VALUE, ASSIGN_BROKEN };
/* name = value, out of a chain of equal parts without its "about". BROKEN: the chain contradicts
 * itself. `name` is NULL for 1 + 1 = 2. */
enum assignment assignment_read(struct comparison *c, const struct node *node,
                                const struct node **name, const struct node **value);
enum algebra_answer compare_relations(struct comparison *c, const struct node *gold,
                                      const struct node *pred);

/* sets.c: point sets of the line. */
int is_point_set(const struct node *node);
/* The set of a solved inequality and its variable, or of x in S; NULL when it is not solved. */
const struct node *solved_set(struct comparison *c, const struct node *node,
                              const struct node **variable);
enum algebra_answer compare_point_sets(struct comparison *c, const struct node *gold,
                                       const struct node *pred);

/* matrix.c */
int has_matrix(const struct node *node);
enum algebra_answer compare_matrices(struct comparison *c, const struct node *gold,
                                     const struct node *pred);

int node_is_scalar(const struct node *node);      /* all the way down */
int node_has(const struct node *node, enum node_kind kind, int which);   /* which -1: any */

#endif
