/* math/verdict.h - the steps of a verdict that need no tree. */
#ifndef HONE_MATH_VERDICT_H
#define HONE_MATH_VERDICT_H

#include "math/math.h"
#include "math/read.h"

/* fast.c: two plain numbers, without memory. 1 equal, 0 different, -1 not for this step. */
int fast_compare(struct span gold, struct span pred);

/* choice.c: the letters of a multiple choice as bits from A; 0 when it is none. A gold is letters
 * alone, or "(D) text"; a prediction may be written in more ways. */
unsigned choice_of_gold(struct span gold);
unsigned choice_of_prediction(struct span pred);

#endif
