/*
 * Rational functions at random points modulo a random prime: equal functions have equal values, and
 * different ones of degree d agree with a probability of d / prime (Schwartz 1980, Zippel 1979).
 * pi and e are letters here, i is a root of -1.
 */
#include <string.h>

#include "math/algebra_internal.h"

#define TRIES 4   /* points, when a denominator is zero */

static uint64_t multiply(uint64_t a, uint64_t b, uint64_t p)
{
    return (uint64_t)((unsigned __int128)a * b % p);
}

static uint64_t raise(uint64_t base, uint64_t exponent, uint64_t p)
{
    uint64_t result = 1;

    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            result = multiply(result, base, p);
        base = multiply(base, base, p);
    }
    return result;
}

/* Miller and Rabin with the bases that are enough below 2^64 (Sorenson and Webster 2015). */
static int is_prime(uint64_t n)
{
    static const uint64_t bases[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37};
    uint64_t odd = n - 1;
    int twos = 0;

    for (; odd % 2 == 0; odd /= 2)
        twos++;
    for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        uint64_t x = raise(bases[i], odd, n);
        int is_witness = x != 1;
        for (int k = 0; k < twos && is_witness; k++) {
            is_witness = x != n - 1;
            x = multiply(x, x, n);
        }
        if (is_witness)
            return 0;
    }
    return 1;
}

void modular_choose(struct modular_field fields[MODULAR_FIELDS], uint64_t seed)
{
    struct random_stream stream = {.seed = seed};

    for (int i = 0; i < MODULAR_FIELDS; i++) {
        uint64_t p, root;
        do
            p = (random_next(&stream) >> 2) | (UINT64_C(1) << 61) | 3;
        while (!is_prime(p -= 2));
        do   /* a quadratic non-residue to the power (p - 1) / 4 */
            root = raise(random_below(&stream, p), (p - 1) / 4, p);
        while (multiply(root, root, p) != p - 1);
        fields[i] = (struct modular_field){p, root};
    }
}

struct point {
    const struct modular_field *field;
    uint64_t constants, letters;   /* seeds of their values */
    int is_undefined;
};

static uint64_t value_of_letter(const struct node *node, const struct point *point)
{
    uint64_t hash = random_mix(point->letters, node->n_name);

    for (size_t at = 0; at < node->n_name; at += sizeof(hash)) {
        uint64_t piece = 0;
        size_t left = node->n_name - at;
        memcpy(&piece, node->name + at, left < sizeof(piece) ? left : sizeof(piece));
        hash = random_mix(hash, piece);
    }
    return hash % point->field->prime;
}

static uint64_t divide(uint64_t a, uint64_t b, struct point *point)
{
    uint64_t p = point->field->prime;

    point->is_undefined |= b == 0;
    return multiply(a, raise(b, p - 2, p), p);
}

static uint64_t value_of_number(const struct node *node, struct point *point)
{
    uint64_t p = point->field->prime;

    if (node->denominator) {
        uint64_t size = node->numerator < 0 ? -(uint64_t)node->numerator
                                            : (uint64_t)node->numerator;
        uint64_t above = size % p;
        if (node->numerator < 0 && above)
            above = p - above;
        return node->denominator == 1 ? above
                                      : divide(above, (uint64_t)node->denominator % p, point);
    }
    return divide(mpz_fdiv_ui(mpq_numref(node->big), p), mpz_fdiv_ui(mpq_denref(node->big), p),
                  point);
}

static uint64_t value_of_power(uint64_t base, const struct node *exponent, struct point *point)
{
    uint64_t p = point->field->prime;
    mpq_t value;

    mpq_init(value);
    node_number(value, exponent);
    int sign = mpq_sgn(value);
    uint64_t reduced = mpz_fdiv_ui(mpq_numref(value), p - 1);   /* Fermat */
    mpq_clear(value);
    if (base == 0)
        point->is_undefined |= sign <= 0;
    return base ? raise(base, reduced, p) : 0;
}

static uint64_t value_of(const struct node *node, struct point *point)
{
    uint64_t p = point->field->prime, value, other;

    switch (node->kind) {
    case NODE_NUMBER:
        return value_of_number(node, point);
    case NODE_SYMBOL:
        return value_of_letter(node, point);
    case NODE_CONSTANT:
        if (node->which == CONSTANT_I)
            return point->field->imaginary;
        return random_mix(point->constants, (uint64_t)node->which) % p;
    case NODE_POWER:
        return value_of_power(value_of(node->child[0], point), node->child[1], point);
    default:
        break;
    }
    value = value_of(node->child[0], point);
    if (node->kind == NODE_NEGATE)
        return value ? p - value : 0;
    for (int i = 1; i < node->n_children; i++) {
        other = value_of(node->child[i], point);
        if (node->kind == NODE_ADD)
            value = (value + other) % p;
        else if (node->kind == NODE_MULTIPLY)
            value = multiply(value, other, p);
        else
            value = divide(value, other, point);
    }
    return value;
}

/* 1 with both values at a point where both are defined. */
static int evaluate(const struct modular_field *field, const struct node *a, const struct node *b,
                    uint64_t constants, uint64_t seed, uint64_t values[2])
{
    for (uint64_t i = 0; i < TRIES; i++) {
        struct point point = {field, constants, random_mix(seed, i), 0};
        values[0] = value_of(a, &point);
        values[1] = value_of(b, &point);
        if (!point.is_undefined)
            return 1;
    }
    return 0;
}

enum modular modular_compare(const struct modular_field fields[MODULAR_FIELDS],
                             const struct node *a, const struct node *b, int up_to_factor,
                             uint64_t seed)
{
    for (uint64_t i = 0; i < MODULAR_FIELDS; i++) {
        uint64_t p = fields[i].prime, at_one[2], at_other[2];
        uint64_t constants = random_mix(seed, 3 * i);

        if (!evaluate(&fields[i], a, b, constants, random_mix(seed, 3 * i + 1), at_one))
            return MODULAR_UNDEFINED;
        if (!up_to_factor && at_one[0] != at_one[1])
            return MODULAR_DIFFER;
        if (!up_to_factor)
            continue;
        if ((at_one[0] == 0) != (at_one[1] == 0))
            return MODULAR_DIFFER;
        if (!evaluate(&fields[i], a, b, constants, random_mix(seed, 3 * i + 2), at_other))
            return MODULAR_UNDEFINED;
        if (multiply(at_one[0], at_other[1], p) != multiply(at_other[0], at_one[1], p))
            return MODULAR_DIFFER;
    }
    return MODULAR_AGREE;
}
