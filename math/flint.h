/*
 * math/flint.h - what the *_flint.c share: only they include FLINT, and only the child runs them.
 *
 * Both FLINT generations have the same names here; the Makefile's FLINT_CPPFLAGS finds the headers
 * of either. FLINT 3 headers do not include one another: name all.
 */
#ifndef HONE_MATH_FLINT_H
#define HONE_MATH_FLINT_H

#include <gmp.h>

#include <flint.h>
#include <fmpz.h>
#include <fmpq.h>
#include <fmpq_vec.h>
#include <fmpz_mpoly.h>
#include <arb.h>
#include <acb.h>
#include <ca.h>
#include <fmpz_mpoly_q.h>

#include "math/algebra_internal.h"

enum flint_limit {
    BALL_BITS_LEAST = 64, BALL_BITS = 256, BALL_BITS_MOST = 1024,
    BALL_EXTREME_BITS = 512,   /* values beyond 2^+-512 are not trusted to agree */
};

void flint_number(fmpq_t out, const struct node *number);

/* ---- ball_flint.c: a tree as a ball that holds its value. */
struct ball_point {
    acb_srcptr letters;   /* by index; NULL for a constant */
    int is_real;          /* values that are not real are undefined */
    int is_extreme;       /* set when a value on the way was very large or very small */
};
/* 0: undefined there, or not certain at this precision. */
int ball_evaluate(acb_t out, const struct node *node, struct ball_point *point, slong bits);

/* ---- functions_flint.c: x = f(x), a = f(a, b), which is used up. 0: undefined, or not certain. */
int ball_apply_one(acb_t x, enum node_function which, slong bits);
int ball_apply_two(acb_t a, acb_t b, enum node_function which, slong bits);
/* 1 and the integer when the ball is that integer exactly, and no giant. */
int ball_is_whole(fmpz_t out, const acb_t x);
static inline int ball_is_real(const acb_t x)
{
    return arb_is_zero(acb_imagref(x));
}

/* ---- constants_flint.c: by balls of 64, 256, 1024 bits.
 * Two constants: DIFFERENT (certain), EQUAL_NUMERIC when they agree to the last of the bits, else
 * UNKNOWN. */
enum algebra_answer ball_compare(const struct node *a, const struct node *b);
/* Sign of a - b: DIFFERENT with *order, or as ball_compare(). */
enum algebra_answer ball_order(const struct node *a, const struct node *b, int *order);
enum algebra_answer ball_rounds_to(const struct node *literal, const struct node *value,
                                   int decimals);

/* ---- calcium_flint.c: EQUAL_PROVED, DIFFERENT, UNKNOWN for two constants. */
enum algebra_answer calcium_compare(const struct node *a, const struct node *b);
/* EQUAL_PROVED when both are 0 or both are not. */
enum algebra_answer calcium_compare_zero(const struct node *a, const struct node *b);

/* ---- polynomial_flint.c: a proof for rational functions, or UNKNOWN when they are too large. */
enum algebra_answer polynomial_compare(const struct question *question);

/* ---- points_flint.c: other functions of letters at random points. */
enum algebra_answer points_compare(const struct question *question, struct arena *arena);

#endif
