/*
 * tests/unit/test_math_algebra.h - scalars from text for the tests of algebra: + - * / ^ and
 * parentheses, numbers, pi e i, letters, functions by the names of NODE_FUNCTION_MAP in small
 * letters. Nothing is implied: 2*x, not 2x. The maths parser has tests of its own.
 */
#ifndef TEST_MATH_ALGEBRA_H
#define TEST_MATH_ALGEBRA_H

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "math/algebra.h"

struct formula {
    const char *at;
    struct tree tree;
};

static const struct node *formula_sum(struct formula *formula);

static int formula_skip(struct formula *formula, char c)
{
    while (*formula->at == ' ')
        formula->at++;
    if (*formula->at != c)
        return 0;
    formula->at++;
    return 1;
}

static const struct node *formula_number(struct formula *formula)
{
    char digits[8192];
    int n = 0, decimals = 0, has_point = 0, significant = 0;
    mpq_t value;

    for (; isdigit((unsigned char)*formula->at) || *formula->at == '.'; formula->at++) {
        if (*formula->at == '.') {
            has_point = 1;
            continue;
        }
        decimals += has_point;
        significant += significant || *formula->at != '0';
        digits[n++] = *formula->at;
    }
    digits[n] = '\0';
    mpq_init(value);
    mpz_set_str(mpq_numref(value), digits, 10);
    mpz_ui_pow_ui(mpq_denref(value), 10, (unsigned long)decimals);
    mpq_canonicalize(value);
    struct node *node = (struct node *)tree_rational(&formula->tree, value);
    mpq_clear(value);
    if (has_point) {
        node->decimals = decimals;
        node->significant = significant;
    }
    return node;
}

static const struct node *formula_call(struct formula *formula, const char *name, size_t n)
{
    static const struct { const char *name; int arguments; } functions[] = {
#define X(name, arguments) {#name, arguments},
        NODE_FUNCTION_MAP(X)
#undef X
    };

    for (int i = 0; i < N_FUNCTIONS; i++)
        if (strlen(functions[i].name) == n && !strncasecmp(functions[i].name, name, n)) {
            const struct node *a = formula_sum(formula), *b = NULL;
            if (functions[i].arguments == 2) {
                formula_skip(formula, ',');
                b = formula_sum(formula);
            }
            formula_skip(formula, ')');
            return tree_call(&formula->tree, (enum node_function)i, a, b);
        }
    abort();
}

static const struct node *formula_word(struct formula *formula)
{
    static const char *const constants[] = {"pi", "e", "i", "infinity"};
    const char *from = formula->at;

    while (isalpha((unsigned char)*formula->at) || *formula->at == '_')
        formula->at++;
    size_t n = (size_t)(formula->at - from);
    if (formula_skip(formula, '('))
        return formula_call(formula, from, n);
    for (int i = 0; i < 4; i++)
        if (strlen(constants[i]) == n && !strncmp(constants[i], from, n))
            return tree_constant(&formula->tree, (enum node_constant)i);
    return tree_name(&formula->tree, NODE_SYMBOL, from, n);
}

static const struct node *formula_atom(struct formula *formula)
{
    if (formula_skip(formula, '(')) {
        const struct node *inside = formula_sum(formula);
        formula_skip(formula, ')');
        return inside;
    }
    if (isdigit((unsigned char)*formula->at))
        return formula_number(formula);
    return formula_word(formula);
}

static const struct node *formula_power(struct formula *formula)
{
    if (formula_skip(formula, '-'))
        return tree_unary(&formula->tree, NODE_NEGATE, formula_power(formula));
    const struct node *base = formula_atom(formula);
    if (!formula_skip(formula, '^'))
        return base;
    return tree_binary(&formula->tree, NODE_POWER, base, formula_power(formula));
}

static const struct node *formula_product(struct formula *formula)
{
    const struct node *a = formula_power(formula);

    for (;;) {
        if (formula_skip(formula, '*'))
            a = tree_binary(&formula->tree, NODE_MULTIPLY, a, formula_power(formula));
        else if (formula_skip(formula, '/'))
            a = tree_binary(&formula->tree, NODE_DIVIDE, a, formula_power(formula));
        else
            return a;
    }
}

static const struct node *formula_sum(struct formula *formula)
{
    const struct node *a = formula_product(formula);

    for (;;) {
        if (formula_skip(formula, '+')) {
            a = tree_binary(&formula->tree, NODE_ADD, a, formula_product(formula));
        } else if (formula_skip(formula, '-')) {
            const struct node *b = formula_product(formula);
            a = tree_binary(&formula->tree, NODE_ADD, a,
                            tree_unary(&formula->tree, NODE_NEGATE, b));
        } else {
            return a;
        }
    }
}

/* NULL when it is larger than a tree may be. */
static const struct node *formula_read(struct arena *arena, const char *text)
{
    struct formula formula = {.at = text, .tree = {.arena = arena}};
    const struct node *node = formula_sum(&formula);

    if (*formula.at)
        abort();
    return node;
}

#endif
