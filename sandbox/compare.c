#include "sandbox/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

#define MAX_NUMBER_BYTES 400       /* longer ones compare as bytes */
#define MAX_INTEGER_DIGITS 15      /* a double holds any of them */
#define VALUE_EPSILON 1e-9

int compare_read(struct compare *compare, const char *text)
{
    static const char *const names[] = {"tokens", "exact", "lines"};
    static const char prefix[] = "float:";

    *compare = (struct compare){COMPARE_TOKENS, VALUE_EPSILON, 0};
    if (!text)
        return STATUS_OK;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(text, names[i]) == 0) {
            compare->mode = (enum compare_mode)i;
            if (compare->mode == COMPARE_EXACT)
                compare->epsilon = 0;
            return STATUS_OK;
        }
    if (strncmp(text, prefix, sizeof(prefix) - 1) == 0) {
        char *end;
        const char *digits = text + sizeof(prefix) - 1;

        compare->mode = COMPARE_FLOAT;
        compare->epsilon = strtod(digits, &end);
        if (end != digits && !*end && compare->epsilon >= 0 && compare->epsilon < 1)
            return STATUS_OK;
    }
    return status_fail(STATUS_FORMAT, "compare \"%.40s\" is not known: write tokens, exact, lines "
                       "or float:1e-6 (0 to 1)", text);
}

static int is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

struct token {
    const char *data;
    size_t n;
};

/* The next token in *at .. end; 0 when there is none. */
static int next_token(const char **at, const char *end, struct token *token)
{
    while (*at < end && is_blank(**at))
        (*at)++;
    token->data = *at;
    while (*at < end && !is_blank(**at))
        (*at)++;
    token->n = (size_t)(*at - token->data);
    return token->n > 0;
}

/* Sign, digits with at most one point, exponent: nothing else, so no NaN, no hexadecimal. */
static int read_decimal(struct token token, double *out)
{
    char text[MAX_NUMBER_BYTES + 1];
    size_t at = 0, n_digits = 0, n_points = 0;

    if (token.n > MAX_NUMBER_BYTES)
        return 0;
    if (token.data[0] == '+' || token.data[0] == '-')
        at++;
    for (; at < token.n && (is_digit(token.data[at]) || (token.data[at] == '.' && !n_points)); at++)
        if (is_digit(token.data[at]))
            n_digits++;
        else
            n_points++;
    if (!n_digits || (at == token.n && !n_points && n_digits > MAX_INTEGER_DIGITS))
        return 0;
    if (at < token.n && (token.data[at] == 'e' || token.data[at] == 'E')) {
        size_t exponent_digits = 0;

        at++;
        if (at < token.n && (token.data[at] == '+' || token.data[at] == '-'))
            at++;
        for (; at < token.n && is_digit(token.data[at]); at++)
            exponent_digits++;
        if (!exponent_digits)
            return 0;
    }
    if (at != token.n)
        return 0;
    memcpy(text, token.data, token.n);
    text[token.n] = '\0';
    *out = strtod(text, NULL);
    return isfinite(*out);
}

static int same_token(const struct compare *compare, struct token got, struct token want)
{
    double a, b;

    if (got.n == want.n && memcmp(got.data, want.data, got.n) == 0)
        return 1;
    if (compare->mode != COMPARE_FLOAT || !read_decimal(got, &a) || !read_decimal(want, &b))
        return 0;
    return fabs(a - b) <= compare->epsilon * fmax(1, fabs(b));
}

static int same_tokens(const struct compare *compare, const char *got, const char *got_end,
                       const char *want, const char *want_end)
{
    struct token a, b;

    for (;;) {
        int has_a = next_token(&got, got_end, &a), has_b = next_token(&want, want_end, &b);

        if (!has_a || !has_b)
            return has_a == has_b;
        if (!same_token(compare, a, b))
            return 0;
    }
}

/* The end of the line at `at`, and the end of what counts of it. */
static const char *line_end(const char *at, const char *end, const char **kept)
{
    const char *stop = memchr(at, '\n', (size_t)(end - at));

    stop = stop ? stop : end;
    for (*kept = stop; *kept > at && is_blank((*kept)[-1]); (*kept)--)
        ;
    return stop;
}

static const char *without_blank_end(const char *data, size_t n)
{
    while (n && is_blank(data[n - 1]))
        n--;
    return data + n;
}

static int same_lines(const char *got, size_t n_got, const char *want, size_t n_want)
{
    const char *got_end = without_blank_end(got, n_got);
    const char *want_end = without_blank_end(want, n_want);

    while (got < got_end && want < want_end) {
        const char *got_kept, *want_kept;
        const char *got_stop = line_end(got, got_end, &got_kept);
        const char *want_stop = line_end(want, want_end, &want_kept);
        size_t n = (size_t)(got_kept - got);

        if (n != (size_t)(want_kept - want) || memcmp(got, want, n) != 0)
            return 0;
        got = got_stop < got_end ? got_stop + 1 : got_end;
        want = want_stop < want_end ? want_stop + 1 : want_end;
    }
    return got == got_end && want == want_end;
}

int compare_output(const struct compare *compare, const char *got, size_t n_got, const char *want,
                   size_t n_want)
{
    got = got ? got : "";
    want = want ? want : "";
    switch (compare->mode) {
    case COMPARE_EXACT:
        return n_got == n_want && memcmp(got, want, n_got) == 0;
    case COMPARE_LINES:
        return same_lines(got, n_got, want, n_want);
    case COMPARE_TOKENS:
    case COMPARE_FLOAT:
        return same_tokens(compare, got, got + n_got, want, want + n_want);
    }
    return 0;
}
