#include "reward/verifiers/math_algebra.h"

#include <stdint.h>
#include <string.h>

#include "reward/expression.h"

#define PRIME (((uint64_t)1 << 61) - 1)
#define MAX_DEPTH 64
#define MAX_EXPONENT 10000
#define MAX_ROOT 100000000

struct algebra {
    const char *text;
    size_t n, at;
    int depth;
    int failed;          /* unreadable, or a division by zero */
    uint64_t seed;
};

static const char *const greek[] = {
    "alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu",  "pi",  "rho", "sigma",
    "tau",   "phi",  "omega", "infty", "kappa",   "nu",    "xi",     "psi", "eta", "zeta"};
static const char *const functions[] = {"sin",    "cos",    "tan",    "cot",  "sec",  "csc", "ln",
                                        "log",    "exp",    "arcsin", "arccos", "arctan", "sinh",
                                        "cosh",   "tanh"};

static uint64_t multiply(uint64_t a, uint64_t b)
{
    return (uint64_t)((unsigned __int128)a * b % PRIME);
}

static uint64_t add(uint64_t a, uint64_t b)
{
    return (a + b) % PRIME;
}

static uint64_t negate(uint64_t a)
{
    return a ? PRIME - a : 0;
}

static uint64_t raise(uint64_t base, uint64_t exponent)
{
    uint64_t result = 1;

    for (; exponent; exponent >>= 1) {
        if (exponent & 1)
            result = multiply(result, base);
        base = multiply(base, base);
    }
    return result;
}

static uint64_t invert(struct algebra *a, uint64_t value)
{
    if (value == 0)
        a->failed = 1;
    return raise(value, PRIME - 2);
}

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
    const unsigned char *at = bytes;

    for (size_t i = 0; i < n; i++) {
        hash = (hash ^ at[i]) * 0x9E3779B97F4A7C15u;
        hash ^= hash >> 31;
    }
    hash *= 0xBF58476D1CE4E5B9u;
    return hash ^ hash >> 29;
}

/* A random element that depends on the name and the arguments alone. */
static uint64_t apply(struct algebra *a, const char *name, size_t n, uint64_t x, uint64_t y)
{
    uint64_t hash = mix(a->seed, name, n);

    hash = mix(hash, &x, sizeof(x));
    return mix(hash, &y, sizeof(y)) % PRIME;
}

static int peek(struct algebra *a)
{
    while (a->at < a->n && a->text[a->at] == ' ')
        a->at++;
    return a->at < a->n ? (unsigned char)a->text[a->at] : -1;
}

static int is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static int is_letter(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static uint64_t fail(struct algebra *a)
{
    a->failed = 1;
    return 0;
}

static uint64_t parse_sum(struct algebra *a);

static uint64_t read_number(struct algebra *a)
{
    uint64_t value = 0, scale = 1;
    int point = 0;

    for (; a->at < a->n; a->at++) {
        char c = a->text[a->at];
        if (c == '.' && !point) {
            point = 1;
            continue;
        }
        if (!is_digit(c))
            break;
        value = add(multiply(value, 10), (uint64_t)(c - '0'));
        if (point)
            scale = multiply(scale, 10);
    }
    return multiply(value, invert(a, scale));
}

static uint64_t read_group(struct algebra *a)
{
    int open = peek(a), close = open == '(' ? ')' : open == '[' ? ']' : '}';

    a->at++;
    uint64_t value = parse_sum(a);
    if (peek(a) != close)
        return fail(a);
    a->at++;
    return value;
}

/* A group, or one number or letter. */
static uint64_t read_argument(struct algebra *a)
{
    if (peek(a) != '{')
        return fail(a);
    return read_group(a);
}

/* "_1", "_{12}": part of the name. */
static void skip_subscript(struct algebra *a)
{
    if (a->at >= a->n || a->text[a->at] != '_')
        return;
    a->at++;
    if (a->at < a->n && a->text[a->at] == '{') {
        const char *close = memchr(a->text + a->at, '}', a->n - a->at);
        if (!close)
            a->failed = 1;
        else
            a->at = (size_t)(close - a->text) + 1;
    } else if (a->at < a->n) {
        a->at++;
    }
}

static uint64_t read_variable(struct algebra *a, size_t start)
{
    skip_subscript(a);
    return apply(a, a->text + start, a->at - start, 0, 0);
}

/* sqrt(n) = s sqrt(m) with n = s^2 m: the square part of a whole number comes out. */
static uint64_t take_root(struct algebra *a, struct span inside, uint64_t value)
{
    struct expression number;
    int64_t whole = 0, outside = 1;
    uint64_t half = invert(a, 2);

    expression_init(&number);
    int is_whole = expression_read(&number, inside.data, inside.n, EXPRESSION_EXACT) ==
                       EXPRESSION_READ &&
                   rational_to_integer(&number.value, &whole);
    expression_release(&number);
    if (!is_whole || whole <= 0 || whole > MAX_ROOT)
        return apply(a, "^", 1, value, half);
    for (int64_t f = 2; f * f <= whole; f++)
        while (whole % (f * f) == 0) {
            whole /= f * f;
            outside *= f;
        }
    uint64_t rest = whole == 1 ? 1 : apply(a, "^", 1, (uint64_t)whole, half);
    return multiply((uint64_t)outside, rest);
}

static uint64_t read_root(struct algebra *a)
{
    uint64_t degree = 2;

    if (peek(a) == '[')
        degree = read_group(a);
    peek(a);
    size_t start = a->at;
    uint64_t value = read_argument(a);
    if (a->failed)
        return 0;
    if (degree == 2)
        return take_root(a, (struct span){a->text + start, a->at - start}, value);
    return apply(a, "^", 1, value, invert(a, degree));
}

static int find_name(const char *name, size_t n, const char *const *names, size_t n_names)
{
    for (size_t i = 0; i < n_names; i++)
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0)
            return 1;
    return 0;
}

static uint64_t parse_factor(struct algebra *a);

static uint64_t read_named(struct algebra *a, size_t start, size_t name)
{
    size_t n = 0;

    while (name + n < a->n && is_letter(a->text[name + n]))
        n++;
    const char *text = a->text + name;
    a->at = name + n;
    if (n == 4 && memcmp(text, "frac", 4) == 0) {
        uint64_t above = read_argument(a);
        return multiply(above, invert(a, read_argument(a)));
    }
    if (n == 4 && memcmp(text, "sqrt", 4) == 0)
        return peek(a) == '(' ? take_root(a, (struct span){"", 0}, read_group(a)) : read_root(a);
    if (find_name(text, n, functions, sizeof(functions) / sizeof(functions[0])))
        return peek(a) == '^' ? fail(a) : apply(a, text, n, parse_factor(a), 1);
    if (find_name(text, n, greek, sizeof(greek) / sizeof(greek[0])))
        return apply(a, text, n, 0, 0);
    if (start != name || n > 2)
        return fail(a);   /* an unknown command, or a word */
    a->at = start + 1;
    return read_variable(a, start);
}

static uint64_t parse_primary(struct algebra *a)
{
    int c = peek(a);

    if (is_digit(c) || c == '.')
        return read_number(a);
    if (c == '(' || c == '{' || c == '[')
        return read_group(a);
    if (c == '\\')
        return read_named(a, a->at, a->at + 1);
    if (is_letter(c))
        return read_named(a, a->at, a->at);
    return fail(a);
}

/* The exponent's value, and its integer when it is a small one. */
static uint64_t parse_exponent(struct algebra *a, int64_t *integer, int *is_integer)
{
    struct expression number;
    uint64_t value;

    peek(a);
    size_t start = a->at;
    if (peek(a) == '-') {
        a->at++;
        value = negate(parse_primary(a));
    } else {
        value = parse_primary(a);
    }
    expression_init(&number);
    *is_integer = !a->failed &&
                  expression_read(&number, a->text + start, a->at - start, EXPRESSION_EXACT) ==
                      EXPRESSION_READ &&
                  rational_to_integer(&number.value, integer) && *integer <= MAX_EXPONENT &&
                  *integer >= -MAX_EXPONENT;
    expression_release(&number);
    return value;
}

static uint64_t parse_factor(struct algebra *a)
{
    int64_t power = 0;
    int is_integer = 0;

    if (a->depth >= MAX_DEPTH || a->failed)
        return fail(a);
    a->depth++;
    uint64_t value = parse_primary(a);
    while (!a->failed && peek(a) == '!') {
        a->at++;
        value = apply(a, "!", 1, value, 0);
    }
    if (!a->failed && peek(a) == '^') {
        a->at++;
        uint64_t exponent = parse_exponent(a, &power, &is_integer);
        if (!is_integer)
            value = apply(a, "^", 1, value, exponent);
        else if (power < 0)
            value = invert(a, raise(value, (uint64_t)-power));
        else
            value = raise(value, (uint64_t)power);
    }
    a->depth--;
    return value;
}

static uint64_t parse_product(struct algebra *a)
{
    int negative = 0;

    for (int c = peek(a); c == '-' || c == '+'; c = peek(a)) {
        negative ^= c == '-';
        a->at++;
    }
    uint64_t value = parse_factor(a);
    while (!a->failed) {
        int c = peek(a);
        if (c == '*' || c == '/')
            a->at++;
        else if (!(is_letter(c) || c == '(' || c == '{' || c == '\\'))
            break;
        int minus = (c == '*' || c == '/') && peek(a) == '-';
        a->at += (size_t)minus;
        uint64_t factor = parse_factor(a);
        factor = minus ? negate(factor) : factor;
        value = multiply(value, c == '/' ? invert(a, factor) : factor);
    }
    return negative ? negate(value) : value;
}

static uint64_t parse_sum(struct algebra *a)
{
    if (a->depth >= MAX_DEPTH || a->failed)
        return fail(a);
    a->depth++;
    uint64_t value = parse_product(a);
    for (int c = peek(a); !a->failed && (c == '+' || c == '-'); c = peek(a))
        value = add(value, parse_product(a));   /* the sign is the product's own */
    a->depth--;
    return value;
}

/* 1 and the value of the whole text at the point that `seed` names. */
static int evaluate(struct span text, uint64_t seed, uint64_t *value)
{
    struct algebra a = {.text = text.data, .n = text.n, .seed = seed};

    *value = parse_sum(&a);
    return !a.failed && peek(&a) == -1;
}

int math_same_expression(struct span gold, struct span answer)
{
    /* Points that the answer cannot know. */
    uint64_t seed = mix(0x5851F42D4C957F2Du, gold.data, gold.n), a, b;

    for (int i = 0; i < 2; i++)
        if (!evaluate(gold, seed + (uint64_t)i, &a) || !evaluate(answer, seed + (uint64_t)i, &b) ||
            a != b)
            return 0;
    return 1;
}

/* left - right of an equation with one sign. */
static int evaluate_equation(struct span text, uint64_t seed, uint64_t *value)
{
    const char *sign = memchr(text.data, '=', text.n);
    uint64_t left, right;

    if (!sign || memchr(sign + 1, '=', text.n - (size_t)(sign + 1 - text.data)))
        return 0;
    struct span before = {text.data, (size_t)(sign - text.data)};
    struct span behind = {sign + 1, text.n - before.n - 1};
    if (!evaluate(before, seed, &left) || !evaluate(behind, seed, &right))
        return 0;
    *value = add(left, negate(right));
    return 1;
}

int math_same_equation(struct span gold, struct span answer)
{
    uint64_t seed = mix(0x5851F42D4C957F2Du, gold.data, gold.n), a[3], b[3];

    for (int i = 0; i < 3; i++)
        if (!evaluate_equation(gold, seed + (uint64_t)i, &a[i]) ||
            !evaluate_equation(answer, seed + (uint64_t)i, &b[i]) || a[i] == 0 || b[i] == 0)
            return 0;
    return multiply(a[0], b[1]) == multiply(a[1], b[0]) &&
           multiply(a[0], b[2]) == multiply(a[2], b[0]);
}
