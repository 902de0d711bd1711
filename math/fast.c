#include "math/verdict.h"

#include <ctype.h>

/* Digits that an int64 surely holds. */
enum { FAST_DIGITS = 18, DECIMAL_DIGITS = 6 };

struct fraction {
    int64_t above, below;
    int significant;     /* of a literal with a decimal point; else 0 */
};

/* Digits at *at; how many, 0 when too many for the total. */
static int read_digits(struct span text, size_t *at, int64_t *value, int *n_digits)
{
    int n = 0;

    while (*at < text.length && isdigit((unsigned char)text.data[*at])) {
        if (++*n_digits > FAST_DIGITS)
            return 0;
        *value = *value * 10 + (text.data[*at] - '0');
        ++*at;
        n++;
    }
    return n;
}

/* Whether ",ddd" stands at `at`, with no fourth digit. */
static int is_group(struct span text, size_t at)
{
    return at + 3 < text.length && text.data[at] == ',' &&
           isdigit((unsigned char)text.data[at + 1]) &&
           isdigit((unsigned char)text.data[at + 2]) &&
           isdigit((unsigned char)text.data[at + 3]) &&
           !(at + 4 < text.length && isdigit((unsigned char)text.data[at + 4]));
}

/* 1234, 1,234, 12.5, .5 */
static int read_decimal(struct span text, size_t *at, struct fraction *out)
{
    int n_digits = 0, n_whole, n = 0;
    size_t start = *at;

    *out = (struct fraction){0, 1, 0};
    n_whole = read_digits(text, at, &out->above, &n_digits);
    if (n_whole && n_whole <= 3 && text.data[start] != '0')
        while (is_group(text, *at)) {
            ++*at;
            if (!read_digits(text, at, &out->above, &n_digits))
                return 0;
        }
    if (*at < text.length && text.data[*at] == '.') {
        ++*at;

        n = read_digits(text, at, &out->above, &n_digits);
        if (!n)
            return 0;
        for (int i = 0; i < n; i++)
            out->below *= 10;
        for (size_t i = start; i < *at; i++)   /* leading zeros do not count */
            if (text.data[i] > '0' || (out->significant && text.data[i] == '0'))
                out->significant++;
        out->significant += !out->significant;
    }
    return n_whole + n > 0;
}

static int starts(struct span text, size_t at, const char *word)
{
    return span_starts((struct span){text.data + at, text.length - at}, word);
}

/* \frac{a}{b} */
static int read_frac(struct span text, size_t *at, struct fraction *out)
{
    int n_digits = 0;

    *at += starts(text, *at, "\\frac{") ? 6 : 7;
    *out = (struct fraction){0, 0, 0};
    if (!read_digits(text, at, &out->above, &n_digits) || !starts(text, *at, "}{"))
        return 0;
    *at += 2;
    n_digits = 0;
    if (!read_digits(text, at, &out->below, &n_digits) || !starts(text, *at, "}"))
        return 0;
    ++*at;
    return 1;
}

static int read_number(struct span text, struct fraction *out)
{
    size_t at = 0;
    int negative = 0;

    while (text.length && (text.data[0] == ' ' || text.data[0] == '\n'))
        text = (struct span){text.data + 1, text.length - 1};
    while (text.length && (text.data[text.length - 1] == ' ' || text.data[text.length - 1] == '\n'))
        text.length--;
    if (text.length > 2 && text.data[0] == '$' && text.data[text.length - 1] == '$')
        text = (struct span){text.data + 1, text.length - 2};
    if (text.length && text.data[0] == '-') {
        negative = 1;
        at++;
    }
    if (starts(text, at, "\\frac{") || starts(text, at, "\\dfrac{") ||
        starts(text, at, "\\tfrac{")) {
        if (!read_frac(text, &at, out))
            return 0;
    } else {
        if (!read_decimal(text, &at, out))
            return 0;
        if (at < text.length && text.data[at] == '/' && out->below == 1) {
            int n_digits = 0;

            out->below = 0;
            at++;
            if (!read_digits(text, &at, &out->below, &n_digits))
                return 0;
        }
    }
    if (negative)
        out->above = -out->above;
    return at == text.length && out->below != 0;
}

int fast_compare(struct span gold, struct span pred)
{
    struct fraction a, b;

    if (!read_number(gold, &a) || !read_number(pred, &b))
        return -1;
    if ((__int128)a.above * b.below == (__int128)b.above * a.below)
        return 1;
    if (!a.significant != !b.significant &&
        (a.significant >= DECIMAL_DIGITS || b.significant >= DECIMAL_DIGITS))
        return -1;   /* it may stand for a value that does not end */
    return 0;
}
