#include "reward/expression.h"

#include <string.h>

#include "reward/fold.h"

#define MAX_FACTORIAL 2000
#define MAX_INTEGER_DIGITS 15   /* EXPRESSION_INTEGERS */

struct parser {
    const char *text;
    size_t n, at;
    int depth;
    int after_group;   /* the last factor ended in a bracket or a fraction */
    enum expression_mode mode;
    struct expression *expression;
};

void expression_init(struct expression *expression)
{
    memset(expression, 0, sizeof(*expression));
    rational_init(&expression->value);
}

void expression_release(struct expression *expression)
{
    rational_release(&expression->value);
}

static enum expression_outcome from_rational(enum rational_outcome outcome)
{
    return outcome == RATIONAL_OK      ? EXPRESSION_READ
           : outcome == RATIONAL_LIMIT ? EXPRESSION_LIMIT
                                       : EXPRESSION_UNDEFINED;
}

static int is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static int peek_at(const struct parser *p, size_t at)
{
    return at < p->n ? (unsigned char)p->text[at] : -1;
}

static void skip_blanks(struct parser *p)
{
    while (peek_at(p, p->at) == ' ')
        p->at++;
}

static int peek(struct parser *p)
{
    skip_blanks(p);
    return peek_at(p, p->at);
}

static int next_is(struct parser *p, const char *word)
{
    size_t n = strlen(word);

    skip_blanks(p);
    return p->n - p->at >= n && memcmp(p->text + p->at, word, n) == 0;
}

static size_t count_digits(const struct parser *p, size_t at)
{
    size_t n = 0;

    while (is_digit(peek_at(p, at + n)))
        n++;
    return n;
}

static enum expression_outcome parse_sum(struct parser *p, struct rational *out);

static enum expression_outcome read_integer(struct parser *p, struct rational *out)
{
    size_t n = count_digits(p, p->at);
    struct expression *expression = p->expression;
    int64_t value = 0;

    if (n == 0)
        return EXPRESSION_UNREADABLE;
    if (n > MAX_INTEGER_DIGITS || expression->n_numbers == EXPRESSION_MAX_NUMBERS)
        return EXPRESSION_LIMIT;
    for (size_t i = 0; i < n; i++)
        value = value * 10 + (p->text[p->at + i] - '0');
    p->at += n;
    expression->numbers[expression->n_numbers++] = value;
    rational_set_integer(out, value);
    return EXPRESSION_READ;
}

/* Digits of the whole part, thousands groups joined: "1,234" and "1 234", never "32, 349". */
static size_t read_whole(struct parser *p, char *digits)
{
    size_t n = count_digits(p, p->at);
    char mark = (char)peek_at(p, p->at + n);

    memcpy(digits, p->text + p->at, n);
    p->at += n;
    if (n == 0 || n > 3 || digits[0] == '0' || (mark != ',' && mark != ' '))
        return n;
    while (peek_at(p, p->at) == mark && count_digits(p, p->at + 1) == 3) {
        memcpy(digits + n, p->text + p->at + 1, 3);
        n += 3;
        p->at += 4;
    }
    return n;
}

static enum expression_outcome power_of_ten(struct rational *out, int64_t exponent)
{
    rational_set_integer(out, 10);
    return from_rational(rational_raise(out, exponent));
}

/* 0.4\overline{2}: n repeated digits r behind d others add r / (10^n - 1) / 10^d. */
static enum expression_outcome read_repeating(struct parser *p, size_t n_decimals,
                                              struct rational *out)
{
    size_t start = p->at + strlen("\\overline{"), n = count_digits(p, start);
    struct rational part, scale, one;
    enum expression_outcome outcome;

    if (n == 0 || peek_at(p, start + n) != '}')
        return EXPRESSION_UNREADABLE;
    p->at = start + n + 1;
    rational_init(&part);
    rational_init(&scale);
    rational_init(&one);
    rational_set_integer(&one, 1);
    outcome = from_rational(rational_set_digits(&part, p->text + start, n, 0));
    if (outcome == EXPRESSION_READ)
        outcome = power_of_ten(&scale, (int64_t)n);
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_subtract(&scale, &one));
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_divide(&part, &scale));
    if (outcome == EXPRESSION_READ)
        outcome = power_of_ten(&scale, (int64_t)n_decimals);
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_divide(&part, &scale));
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_add(out, &part));
    rational_release(&one);
    rational_release(&scale);
    rational_release(&part);
    return outcome;
}

/* "1.2e3": the e touches the number and a number touches it. */
static enum expression_outcome read_exponent(struct parser *p, struct rational *out)
{
    size_t at = p->at + 1;
    int sign = peek_at(p, at);

    if (sign == '-' || sign == '+')
        at++;
    size_t n = count_digits(p, at);
    if (n == 0)
        return EXPRESSION_UNREADABLE;
    if (n > 5)
        return EXPRESSION_LIMIT;
    int64_t exponent = 0;
    for (size_t i = 0; i < n; i++)
        exponent = exponent * 10 + (p->text[at + i] - '0');
    p->at = at + n;
    struct rational ten;
    rational_init(&ten);
    enum expression_outcome outcome = power_of_ten(&ten, sign == '-' ? -exponent : exponent);
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_multiply(out, &ten));
    rational_release(&ten);
    return outcome;
}

static enum expression_outcome parse_fraction(struct parser *p, struct rational *out);

/* "3\frac12" and "3 1/2" are three and a half. */
static enum expression_outcome read_mixed(struct parser *p, struct rational *out)
{
    struct rational part;
    enum expression_outcome outcome = EXPRESSION_READ;
    size_t start = p->at;

    rational_init(&part);
    if (next_is(p, "\\frac")) {
        outcome = parse_fraction(p, &part);
    } else if (p->at > start) {
        size_t n = count_digits(p, p->at), m = count_digits(p, p->at + n + 1);
        if (n && m && peek_at(p, p->at + n) == '/') {
            struct rational below;
            rational_init(&below);
            outcome = from_rational(rational_set_digits(&part, p->text + p->at, n, 0));
            if (outcome == EXPRESSION_READ)
                outcome = from_rational(rational_set_digits(&below, p->text + p->at + n + 1, m, 0));
            if (outcome == EXPRESSION_READ)
                outcome = from_rational(rational_divide(&part, &below));
            rational_release(&below);
            p->at += n + 1 + m;
        }
    }
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_add(out, &part));
    rational_release(&part);
    return outcome;
}

static enum expression_outcome read_number(struct parser *p, struct rational *out)
{
    char digits[EXPRESSION_MAX_BYTES];
    size_t n_decimals = 0, n;

    if (p->mode == EXPRESSION_INTEGERS)
        return read_integer(p, out);
    n = read_whole(p, digits);
    int whole = 1;
    if (peek_at(p, p->at) == '.') {
        whole = 0;
        n_decimals = count_digits(p, p->at + 1);
        memcpy(digits + n, p->text + p->at + 1, n_decimals);
        n += n_decimals;
        p->at += 1 + n_decimals;
    }
    int repeats = !whole && next_is(p, "\\overline{");
    if (!n && repeats)
        rational_set_integer(out, 0);
    if (n == 0 && !repeats)
        return EXPRESSION_UNREADABLE;
    enum expression_outcome outcome = EXPRESSION_READ;
    if (n)
        outcome = from_rational(rational_set_digits(out, digits, n, n_decimals));
    if (outcome == EXPRESSION_READ && repeats)
        outcome = read_repeating(p, n_decimals, out);
    int after = peek_at(p, p->at);
    if (outcome == EXPRESSION_READ && (after == 'e' || after == 'E'))
        return read_exponent(p, out);
    if (outcome == EXPRESSION_READ && whole)
        outcome = read_mixed(p, out);
    return outcome;
}

static enum expression_outcome parse_brackets(struct parser *p, struct rational *out)
{
    int close = peek(p) == '(' ? ')' : peek(p) == '[' ? ']' : '}';

    p->at++;
    enum expression_outcome outcome = parse_sum(p, out);
    if (outcome != EXPRESSION_READ)
        return outcome;
    if (peek(p) != close)
        return EXPRESSION_UNREADABLE;
    p->at++;
    return EXPRESSION_READ;
}

/* Of \frac and \sqrt: a group, or one digit as TeX reads it. */
static enum expression_outcome parse_argument(struct parser *p, struct rational *out)
{
    int c = peek(p);

    if (c == '{')
        return parse_brackets(p, out);
    if (!is_digit(c) || p->mode == EXPRESSION_INTEGERS)
        return EXPRESSION_UNREADABLE;
    rational_set_integer(out, c - '0');
    p->at++;
    return EXPRESSION_READ;
}

static enum expression_outcome parse_fraction(struct parser *p, struct rational *out)
{
    struct rational below;
    enum expression_outcome outcome;

    p->at += strlen("\\frac");
    rational_init(&below);
    outcome = parse_argument(p, out);
    if (outcome == EXPRESSION_READ)
        outcome = parse_argument(p, &below);
    if (outcome == EXPRESSION_READ)
        outcome = from_rational(rational_divide(out, &below));
    rational_release(&below);
    return outcome;
}

/* Exact roots alone: the rest is no rational number. */
static enum expression_outcome parse_root(struct parser *p, struct rational *out)
{
    enum expression_outcome outcome;

    p->at += strlen("\\sqrt");
    outcome = parse_argument(p, out);
    if (outcome != EXPRESSION_READ)
        return outcome;
    mpz_ptr above = mpq_numref(out->value), below = mpq_denref(out->value);
    if (mpz_sgn(above) < 0 || !mpz_perfect_square_p(above) || !mpz_perfect_square_p(below))
        return EXPRESSION_UNREADABLE;
    mpz_sqrt(above, above);
    mpz_sqrt(below, below);
    return EXPRESSION_READ;
}

static enum expression_outcome parse_primary(struct parser *p, struct rational *out)
{
    int c = peek(p);
    enum expression_outcome outcome = EXPRESSION_UNREADABLE;

    p->after_group = 0;
    if (is_digit(c) || (c == '.' && is_digit(peek_at(p, p->at + 1))))
        return read_number(p, out);
    if (c == '(' || (p->mode == EXPRESSION_EXACT && (c == '[' || c == '{')))
        outcome = parse_brackets(p, out);
    else if (next_is(p, "\\frac"))
        outcome = parse_fraction(p, out);
    else if (p->mode == EXPRESSION_EXACT && next_is(p, "\\sqrt"))
        outcome = parse_root(p, out);
    p->after_group = 1;
    return outcome;
}

static enum expression_outcome apply_factorial(struct rational *out)
{
    int64_t n;

    if (!rational_to_integer(out, &n) || n < 0)
        return EXPRESSION_UNDEFINED;
    if (n > MAX_FACTORIAL)
        return EXPRESSION_LIMIT;
    mpz_fac_ui(mpq_numref(out->value), (unsigned long)n);
    return EXPRESSION_READ;
}

static enum expression_outcome parse_postfix(struct parser *p, struct rational *out)
{
    enum expression_outcome outcome = parse_primary(p, out);

    while (outcome == EXPRESSION_READ && p->mode == EXPRESSION_EXACT) {
        int c = peek(p);
        if (c == '!') {
            outcome = apply_factorial(out);
        } else if (c == '%') {
            struct rational hundred;
            rational_init(&hundred);
            rational_set_integer(&hundred, 100);
            outcome = from_rational(rational_divide(out, &hundred));
            rational_release(&hundred);
        } else {
            break;
        }
        p->at++;
    }
    return outcome;
}

static enum expression_outcome parse_unary(struct parser *p, struct rational *out);

/* The exponent may carry a sign and another power: 2^-1, 2^3^2 = 2^9. */
static enum expression_outcome parse_power(struct parser *p, struct rational *out)
{
    struct rational exponent;
    int64_t power;
    enum expression_outcome outcome = parse_postfix(p, out);

    if (outcome != EXPRESSION_READ || p->mode == EXPRESSION_INTEGERS || peek(p) != '^')
        return outcome;
    p->at++;
    rational_init(&exponent);
    outcome = parse_unary(p, &exponent);
    if (outcome == EXPRESSION_READ)
        outcome = !rational_to_integer(&exponent, &power)
                      ? EXPRESSION_UNREADABLE
                      : from_rational(rational_raise(out, power));
    rational_release(&exponent);
    return outcome;
}

static enum expression_outcome parse_unary(struct parser *p, struct rational *out)
{
    int negative = 0;

    if (p->depth++ >= EXPRESSION_MAX_DEPTH)
        return EXPRESSION_LIMIT;
    for (int c = peek(p); c == '-' || c == '+'; c = peek(p)) {
        negative ^= c == '-';
        p->at++;
    }
    enum expression_outcome outcome = parse_power(p, out);
    if (negative && outcome == EXPRESSION_READ)
        rational_negate(out);
    p->depth--;
    return outcome;
}

/* '*' or '/' when a factor follows, 0 when none does. A bracket may follow without a sign, and a
 * number may follow a bracket: \frac378 is 3/7 * 8. */
static int next_factor(struct parser *p)
{
    int c = peek(p);

    if (c == '*' || c == '/') {
        p->at++;
        return c;
    }
    if (p->mode == EXPRESSION_INTEGERS)
        return 0;
    return c == '(' || c == '{' || (p->after_group && is_digit(c)) || next_is(p, "\\frac") ||
                   next_is(p, "\\sqrt")
               ? '*'
               : 0;
}

static enum expression_outcome parse_product(struct parser *p, struct rational *out)
{
    struct rational factor;
    enum expression_outcome outcome = parse_unary(p, out);

    rational_init(&factor);
    while (outcome == EXPRESSION_READ) {
        int operation = next_factor(p);
        if (!operation)
            break;
        outcome = parse_unary(p, &factor);
        if (outcome == EXPRESSION_READ)
            outcome = from_rational(operation == '*' ? rational_multiply(out, &factor)
                                                     : rational_divide(out, &factor));
    }
    rational_release(&factor);
    return outcome;
}

static enum expression_outcome parse_sum(struct parser *p, struct rational *out)
{
    struct rational term;
    enum expression_outcome outcome = parse_product(p, out);

    rational_init(&term);
    while (outcome == EXPRESSION_READ) {
        int operation = peek(p);
        if (operation != '+' && operation != '-')
            break;
        p->at++;
        outcome = parse_product(p, &term);
        if (outcome == EXPRESSION_READ)
            outcome = from_rational(operation == '+' ? rational_add(out, &term)
                                                     : rational_subtract(out, &term));
    }
    rational_release(&term);
    return outcome;
}

enum expression_outcome expression_read(struct expression *expression, const char *text, size_t n,
                                        enum expression_mode mode)
{
    struct text folded = {.maximum = EXPRESSION_MAX_BYTES};
    enum expression_outcome outcome = EXPRESSION_UNREADABLE;

    expression->n_numbers = 0;
    rational_set_integer(&expression->value, 0);
    if (n > EXPRESSION_MAX_BYTES)
        return EXPRESSION_LIMIT;
    if (fold_math(text, n, &folded) == 0 && folded.length) {
        struct parser p = {.text = folded.data, .n = folded.length, .mode = mode,
                           .expression = expression};
        outcome = parse_sum(&p, &expression->value);
        if (outcome == EXPRESSION_READ && peek(&p) != -1)
            outcome = EXPRESSION_UNREADABLE;
    }
    text_release(&folded);
    return outcome;
}
