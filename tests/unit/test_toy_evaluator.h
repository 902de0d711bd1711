/*
 * An evaluator of toy questions and steps that shares nothing with the generator.
 */
#ifndef HONE_TESTS_TOY_EVALUATOR_H
#define HONE_TESTS_TOY_EVALUATOR_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Products first, from the left. No brackets. */
static inline const char *read_product(const char *at, int *value)
{
    char *end;

    *value = (int)strtol(at, &end, 10);
    while (*end == '*' || *end == '/') {
        char operator = *end;
        int right = (int)strtol(end + 1, &end, 10);

        if (operator == '/')
            assert_int_equal(*value % right, 0);
        *value = operator == '*' ? *value * right : *value / right;
    }
    return end;
}

static inline const char *read_sum(const char *at, int *value)
{
    at = read_product(at, value);
    while (*at == '+' || *at == '-') {
        int right, sign = *at == '+' ? 1 : -1;

        at = read_product(at + 1, &right);
        *value += sign * right;
    }
    return at;
}

static inline int modulo_10(int value)
{
    return (value % 10 + 10) % 10;
}

/* The one function x+c, x-c or x*c with these examples: its operator and c. */
struct function {
    char operator;
    int constant;
};

static inline int value_at(struct function f, int x)
{
    return f.operator == '+' ? x + f.constant : f.operator == '-' ? x - f.constant
                                                                  : x * f.constant;
}

static inline struct function find_function(const char *question, int arguments[3])
{
    struct function found = {0, 0};
    int values[3], n = 0, n_found = 0;

    for (const char *at = question; (at = strstr(at, "f(")); at++, n++) {
        assert_in_range(n, 0, 2);
        assert_int_equal(sscanf(at, "f(%d)=%d", &arguments[n], &values[n]), 2);
    }
    assert_int_equal(n, 3);
    for (int i = 0; i < 3 * 20; i++) {
        struct function f = {"+-*"[i / 20], i % 20};
        int fits = f.constant > 0;

        for (int j = 0; j < 3; j++)
            fits = fits && value_at(f, arguments[j]) == values[j];
        if (fits) {
            found = f;
            n_found++;
        }
    }
    assert_int_equal(n_found, 1);
    return found;
}

#endif
