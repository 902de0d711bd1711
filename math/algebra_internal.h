/*
 * math/algebra_internal.h - what the algebra_*.c share.
 *
 * algebra.c        the steps of a question, cheapest first, in the caller's thread
 * algebra_exact.c  rationals
 * algebra_fold.c   a tree with its rational parts worked out; what it is made of
 * algebra_modular.c  rational functions of letters, pi, e and i at random points modulo a prime
 * algebra_question.c  a question as bytes, for the child
 * algebra_flint.c  the child's answers: constants_flint.c by balls (Arb: ball_flint.c,
 *                  functions_flint.c), calcium_flint.c, polynomial_flint.c, points_flint.c
 *                  (functions of letters); algebra_absent.c instead of all
 */
#ifndef HONE_MATH_ALGEBRA_INTERNAL_H
#define HONE_MATH_ALGEBRA_INTERNAL_H

#include "common/memory.h"
#include "common/random.h"
#include "math/algebra.h"

/* ---- algebra_exact.c. In the order in which one wins when operands differ. */
enum exact {
    EXACT_OK,
    EXACT_NOT,         /* not rational, or not known to be */
    EXACT_TOO_LARGE,   /* not worked out; Calcium may know without */
    EXACT_LIMIT,       /* a limit of tree.h */
    EXACT_UNDEFINED,
};
struct exact_budget {
    int64_t work;      /* products of limbs left */
    int n_visits;      /* nodes left */
};
#define EXACT_BUDGET {.work = 20000000, .n_visits = 4 * MATH_NODES}

/* The value of a node without letters, into an initialised `out`. */
enum exact exact_value(mpq_t out, const struct node *node, struct exact_budget *budget);

/* a = a op b by the node's operation; b is used up, and ignored when there is one operand. */
enum exact exact_apply(mpq_t a, mpq_t b, const struct node *node, struct exact_budget *budget);

/* ---- algebra_fold.c. The same tree with rational parts worked out and FUNCTION_LOG replaced by
 * what `log_is_decimal` says. *state: EXACT_OK for a number, EXACT_NOT, TOO_LARGE (a part is left
 * as it was), or LIMIT and UNDEFINED, where NULL is returned. */
const struct node *exact_fold(struct tree *tree, const struct node *node, int log_is_decimal,
                              struct exact_budget *budget, enum exact *state);

/* ---- What a tree is made of. */
enum node_trait {
    TRAIT_LETTERS = 1,
    TRAIT_PI = 2, TRAIT_E = 4, TRAIT_I = 8,
    TRAIT_ROOTS = 16,       /* anything beyond + - * / and integer powers */
    TRAIT_INTEGERS = 32,    /* ! binomials mod of letters: letters are integers */
    TRAIT_COMPLEX = 64,     /* conjugates, real parts of letters: letters are complex */
};
/* Of a folded tree. */
int node_traits(const struct node *node);

/* ---- algebra_modular.c. For folded trees without TRAIT_ROOTS. */
enum modular_size { MODULAR_FIELDS = 3 };
struct modular_field {
    uint64_t prime;            /* of 62 bits, 1 modulo 4 */
    uint64_t imaginary;        /* a root of -1 */
};
void modular_choose(struct modular_field fields[MODULAR_FIELDS], uint64_t seed);

enum modular {
    MODULAR_AGREE,
    MODULAR_DIFFER,      /* certain */
    MODULAR_UNDEFINED,   /* a denominator is zero everywhere */
};
enum modular modular_compare(const struct modular_field fields[MODULAR_FIELDS],
                             const struct node *a, const struct node *b, int up_to_factor,
                             uint64_t seed);

/* ---- algebra_question.c, and the child's side. */
enum question_kind {
    QUESTION_EQUAL = 1, QUESTION_PROPORTIONAL, QUESTION_ORDER, QUESTION_ROUNDS,
};
enum question_limit { QUESTION_LETTERS = 32 };
struct question {
    enum question_kind kind;
    uint64_t seed;
    const struct node *a, *b;
    int decimals;                  /* ROUNDS: of the literal a */
    int n_letters;                 /* NODE_SYMBOL: `which` is its index */
};
struct answer {
    int32_t answer;                /* an algebra_answer */
    int32_t order;
};

/* 0 when there are too many letters or bytes. */
int question_write(const struct question *question, struct text *out);
int question_read(const struct text *bytes, struct arena *arena, struct question *out);

/* 0 in a build that has none: no question can be answered. */
extern const int deep_is_there;
void deep_answer(const struct question *question, struct arena *arena, struct answer *answer);

#endif
