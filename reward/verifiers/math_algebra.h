/*
 * reward/verifiers/math_algebra.h - whether two expressions with letters are the same.
 *
 * Both are worked out modulo the prime 2^61 - 1 at random points (Schwartz 1980, Zippel 1979): what
 * differs there differs, what agrees is the same but for a chance of about degree / 2^61. Roots,
 * powers with letters and functions are taken as unknown functions of their arguments: identities
 * between them are not found, and nothing wrong is found equal.
 */
#ifndef HONE_REWARD_VERIFIERS_MATH_ALGEBRA_H
#define HONE_REWARD_VERIFIERS_MATH_ALGEBRA_H

#include "reward/verifiers/math_compare.h"

/* Both folded. 0 also when one cannot be read. */
int math_same_expression(struct span gold, struct span answer);

/* The same for "left = right": equal but for a constant factor that is not zero. */
int math_same_equation(struct span gold, struct span answer);

#endif
