/*
 * math/algebra.h - what two scalars have to do with each other.
 *
 * Scalars are trees of the kinds up to NODE_FUNCTION (tree.h). Rationals and random evaluation
 * modulo a prime are done in the caller's thread. The rest is the Makefile's choice: *_flint.c
 * proves with Calcium and fmpz_mpoly_q in a child process and refutes with Arb; algebra_absent.c
 * knows nothing. Everything not real and defined, 1/0, 0/0, inf - inf, is equal to nothing:
 * ALGEBRA_DIFFERENT.
 *
 * A lone `infinity` or `-infinity` never comes here, structure.c has them.
 */
#ifndef HONE_MATH_ALGEBRA_H
#define HONE_MATH_ALGEBRA_H

#include "math/deadline.h"
#include "math/tree.h"

enum algebra_answer {
    ALGEBRA_EQUAL_EXACT,     /* rationals, or the same tree */
    ALGEBRA_EQUAL_PROVED,    /* Calcium or polynomial identity */
    ALGEBRA_EQUAL_NUMERIC,   /* agree wherever they were evaluated, no proof */
    ALGEBRA_DIFFERENT,
    ALGEBRA_UNKNOWN,         /* this build or these limits cannot say */
    ALGEBRA_LIMIT,           /* a limit of tree.h, or the child was killed twice */
};

struct algebra;   /* the child process, the random state; one per thread */

/* `seed` is the run's: random primes and points come from it. The child is forked here, best before
 * other threads run, and again after it was killed. */
int algebra_create(struct algebra **out, uint64_t seed);
void algebra_destroy(struct algebra **algebra);

int algebra_child_pid(const struct algebra *algebra);   /* 0: none now; for tests */

struct algebra_context {
    struct algebra *algebra;
    struct arena *arena;     /* scratch and new nodes; the caller rewinds it */
    int log_is_decimal;      /* FUNCTION_LOG means base 10, else natural */
    struct deadline *deadline;   /* of the whole verdict: then LIMIT; NULL: each question has one */
};

/* Equal wherever both are real and defined (P-integer-variable), or as complex constants. */
enum algebra_answer algebra_compare(const struct algebra_context *context, const struct node *a,
                                    const struct node *b);

/* Whether a = c b for a constant c that is not 0 (letters in a or b, or not). */
enum algebra_answer algebra_proportional(const struct algebra_context *context,
                                         const struct node *a, const struct node *b);

/* Order of two real constants. The sign of a - b in *order (-1, 0, 1) with an EQUAL_* answer for 0
 * and ALGEBRA_DIFFERENT for the others; UNKNOWN and LIMIT set nothing. */
enum algebra_answer algebra_order(const struct algebra_context *context, const struct node *a,
                                  const struct node *b, int *order);

/* P-decimal: whether the literal (a NODE_NUMBER, or NEGATE of one, with `significant`) is the real
 * constant `value` rounded or cut at its last digit. EQUAL_PROVED (the digits are certain) or
 * DIFFERENT. The caller has seen to the 6 digits and to a value that does not terminate. */
enum algebra_answer algebra_rounds_to(const struct algebra_context *context,
                                      const struct node *literal, const struct node *value);

/* 1 and the value in an initialised `out` when the constant is rational by exact arithmetic alone
 * (+ - * / ^ ! binomials, mod, floor, perfect roots ...); 0 when not, ALGEBRA_LIMIT in *limit
 * when a limit was the reason, and *undefined for 1/0 and its kin. Both pointers may be NULL. */
int algebra_rational(mpq_t out, const struct node *node, int *limit, int *undefined);

/* 1 when the scalar has no letters. */
int algebra_is_constant(const struct node *node);

#endif
