#include <string.h>

#include "reward/expression.h"
#include "reward/verifiers/math_compare.h"

#define MIN_ROUNDED_DIGITS 6   /* significant digits of a decimal that stands for a fraction */

/* Units that may touch their number; other nouns need a blank and three letters. */
static const char *const units[] = {
    "mm",  "cm",    "dm",  "km",   "kg",  "mg",    "ml",   "mL",  "ft",  "in",    "inch", "inches",
    "feet", "yd",   "mi",  "lb",   "lbs", "oz",    "sec",  "min", "hr",  "hrs",   "mph",  "kmh",
    "deg", "degree", "degrees", "cents", "dollars", "USD", "sq",  "units", "Hz",  "rad",  "am",
    "pm"};

struct quantity {
    struct expression number;
    struct span literal;   /* the number as written */
    struct span unit;
    int percent;
};

static int is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int is_unit(struct span word, int blank_before)
{
    size_t letters = 0;

    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (strlen(units[i]) == word.n && memcmp(units[i], word.data, word.n) == 0)
            return 1;
    while (letters < word.n && is_letter(word.data[letters]))
        letters++;
    return blank_before && letters == word.n && letters >= 3 &&
           !(word.n == 3 && (memcmp(word.data, "and", 3) == 0 || memcmp(word.data, "not", 3) == 0));
}

/* Whether a whole tail is a unit: words, "^2", "/" between them, "^\circ". */
static int is_unit_text(struct span tail, int blank_before)
{
    static const char degree[] = "^\\circ", braced[] = "^{\\circ}";
    int first = 1;

    if ((tail.n == sizeof(degree) - 1 && memcmp(tail.data, degree, tail.n) == 0) ||
        (tail.n == sizeof(braced) - 1 && memcmp(tail.data, braced, tail.n) == 0))
        return 1;
    for (size_t at = 0; at < tail.n; first = 0) {
        size_t n = 0;
        while (at + n < tail.n && is_letter(tail.data[at + n]))
            n++;
        if (!n || !is_unit((struct span){tail.data + at, n}, first ? blank_before : 1))
            return 0;
        at += n;
        if (tail.n - at >= 2 && tail.data[at] == '^' && strchr("23", tail.data[at + 1]))
            at += 2;
        while (at < tail.n && strchr(" ./", tail.data[at]))
            at++;
    }
    return !first;
}

static int read_exact(struct expression *number, struct span text)
{
    return text.n && expression_read(number, text.data, text.n, EXPRESSION_EXACT) ==
                         EXPRESSION_READ;
}

/* "percent" and "%" at the end. */
static int take_percent(struct span *text)
{
    static const char word[] = "percent";
    size_t n = sizeof(word) - 1;

    if (text->n && text->data[text->n - 1] == '%')
        n = 1;
    else if (text->n <= n || memcmp(text->data + text->n - n, word, n) != 0)
        return 0;
    *text = span_trim((struct span){text->data, text->n - n});
    return 1;
}

static int read_quantity(struct quantity *quantity, struct span text)
{
    quantity->unit = (struct span){"", 0};
    quantity->percent = take_percent(&text);
    quantity->literal = text;
    if (read_exact(&quantity->number, text))
        return 1;
    for (size_t at = 1; at < text.n; at++) {
        struct span tail = {text.data + at, text.n - at};
        int starts = is_letter(tail.data[0]) ? !is_letter(tail.data[-1]) : tail.data[0] == '^';
        if (!starts || tail.data[-1] == '\\')
            continue;
        struct span head = span_trim((struct span){text.data, at});
        if (!is_unit_text(tail, tail.data[-1] == ' '))
            continue;
        quantity->literal = head;
        quantity->unit = tail;
        return read_exact(&quantity->number, head);
    }
    return 0;
}

/* Places behind the point of a plain decimal, and its significant digits; 0 when it is none. */
static int read_decimal(struct span text, size_t *n_places, size_t *n_significant)
{
    int point = 0;

    *n_places = *n_significant = 0;
    for (size_t i = 0; i < text.n; i++) {
        char c = text.data[i];
        if (c == '.' && !point)
            point = 1;
        else if (c >= '0' && c <= '9') {
            *n_places += (size_t)point;
            *n_significant += *n_significant || c != '0';
        } else if (i || c != '-') {
            return 0;
        }
    }
    return point;
}

static int ends_in_decimals(const struct rational *r)
{
    mpz_t rest, factor;
    mpz_init_set(rest, mpq_denref(r->value));
    mpz_init_set_ui(factor, 2);
    mpz_remove(rest, rest, factor);
    mpz_set_ui(factor, 5);
    mpz_remove(rest, rest, factor);
    int ends = mpz_cmp_ui(rest, 1) == 0;
    mpz_clear(rest);
    mpz_clear(factor);
    return ends;
}

/* A decimal of enough digits stands for a fraction that it is rounded or cut from. */
static int is_rounded(const struct quantity *decimal, const struct quantity *exact)
{
    size_t n_places, n_significant;
    struct rational distance, step;
    int near = 0;

    if (!read_decimal(decimal->literal, &n_places, &n_significant) ||
        n_significant < MIN_ROUNDED_DIGITS || ends_in_decimals(&exact->number.value))
        return 0;
    rational_init(&distance);
    rational_init(&step);
    rational_copy(&distance, &exact->number.value);
    rational_set_integer(&step, 10);
    if (rational_subtract(&distance, &decimal->number.value) == RATIONAL_OK &&
        rational_raise(&step, -(int64_t)n_places) == RATIONAL_OK) {
        mpq_abs(distance.value, distance.value);
        near = mpq_cmp(distance.value, step.value) < 0;
    }
    rational_release(&distance);
    rational_release(&step);
    return near;
}

static int is_hundredth(const struct rational *small, const struct rational *large)
{
    struct rational scaled, hundred;
    int same;

    rational_init(&scaled);
    rational_init(&hundred);
    rational_copy(&scaled, small);
    rational_set_integer(&hundred, 100);
    same = rational_multiply(&scaled, &hundred) == RATIONAL_OK && rational_equal(&scaled, large);
    rational_release(&scaled);
    rational_release(&hundred);
    return same;
}

static int same_quantity(const struct quantity *gold, const struct quantity *answer)
{
    const struct rational *a = &gold->number.value, *b = &answer->number.value;

    if (gold->unit.n && answer->unit.n && !span_equal_text(gold->unit, answer->unit, 1))
        return 0;
    if (rational_equal(a, b))
        return 1;
    /* A factor of 100 is forgiven only where a sign says percent. */
    if (gold->percent && !answer->percent)
        return is_hundredth(b, a);
    if (answer->percent && !gold->percent)
        return is_hundredth(a, b);
    return is_rounded(answer, gold) || is_rounded(gold, answer);
}

int math_compare_values(struct span gold, struct span answer, int *same)
{
    struct quantity a, b;

    expression_init(&a.number);
    expression_init(&b.number);
    int both = read_quantity(&a, gold) && read_quantity(&b, answer);
    if (both)
        *same = same_quantity(&a, &b);
    expression_release(&a.number);
    expression_release(&b.number);
    return both;
}
