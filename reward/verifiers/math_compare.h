/*
 * reward/verifiers/math_compare.h - whether two answers mean the same.
 */
#ifndef HONE_REWARD_VERIFIERS_MATH_COMPARE_H
#define HONE_REWARD_VERIFIERS_MATH_COMPARE_H

#include "common/memory.h"

struct span {
    const char *data;
    size_t n;
};

/*
 * Both folded (fold.h). Numbers are compared exactly; lists, tuples, sets and equations by their
 * members; units, "x =" and percent signs as docs/verifiers.md says; the rest as text. Never true
 * for empty text.
 */
int math_same(struct span gold, struct span answer);

/* math_values.c: one number, with its sign of percent and its unit taken off. 1 when both could be
 * read: then *same is the verdict. */
int math_compare_values(struct span gold, struct span answer, int *same);

struct span span_trim(struct span span);
int span_equal_text(struct span a, struct span b, int any_case);   /* blanks do not count */

#endif
