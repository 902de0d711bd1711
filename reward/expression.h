/*
 * reward/expression.h - arithmetic as people and models write it, worked out exactly.
 *
 * One recursive parser: + - * / ^ ( ) [ ] { }, unary signs, implied products of brackets, \frac,
 * \times, \cdot, \div and their Unicode forms, decimals, thousands commas, mixed numbers, percent.
 * Letters are unreadable. Depth, length and size are bounded, so hostile text costs microseconds.
 */
#ifndef HONE_REWARD_EXPRESSION_H
#define HONE_REWARD_EXPRESSION_H

#include <stddef.h>

#include "reward/rational.h"

#define EXPRESSION_MAX_BYTES 4096
#define EXPRESSION_MAX_DEPTH 64
#define EXPRESSION_MAX_NUMBERS 64

enum expression_mode {
    EXPRESSION_EXACT,      /* everything above */
    EXPRESSION_INTEGERS    /* digits and + - * / ( ) only; the integers used are collected */
};

enum expression_outcome {
    EXPRESSION_READ,
    EXPRESSION_UNREADABLE,
    EXPRESSION_LIMIT,
    EXPRESSION_UNDEFINED   /* divides by zero */
};

struct expression {
    struct rational value;                    /* when READ */
    int64_t numbers[EXPRESSION_MAX_NUMBERS];  /* in the order of writing; EXPRESSION_INTEGERS */
    size_t n_numbers;
};

void expression_init(struct expression *expression);
void expression_release(struct expression *expression);
enum expression_outcome expression_read(struct expression *expression, const char *text, size_t n,
                                        enum expression_mode mode);

#endif
