#include <ctype.h>
#include <string.h>

#include "math/read.h"

static int is_blank(char c)
{
    return c == ' ' || c == '~';
}

/* The `}` for the `{` at `open`; the length when none. */
static size_t find_close(struct span span, size_t open)
{
    int depth = 0;

    for (size_t i = open; i < span.length; i++) {
        if (span.data[i] == '\\')
            i++;
        else if (span.data[i] == '{')
            depth++;
        else if (span.data[i] == '}' && --depth == 0)
            return i;
    }
    return span.length;
}

static struct span drop(struct span span, size_t front, size_t back)
{
    return (struct span){span.data + front, span.length - front - back};
}

static struct span trim_blanks(struct span span)
{
    static const char *const spaces[] = {"\\,", "\\;", "\\:", "\\!", "\\ ", "\\quad", "\\qquad"};
    size_t before;

    do {
        before = span.length;
        while (span.length && is_blank(span.data[0]))
            span = drop(span, 1, 0);
        while (span.length && is_blank(span.data[span.length - 1]) &&
               !(span.length > 1 && span.data[span.length - 2] == '\\'))
            span = drop(span, 0, 1);
        for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
            size_t n = strlen(spaces[i]);

            if (span_starts(span, spaces[i]) &&
                !(n > 2 && span.length > n && isalpha((unsigned char)span.data[n])))
                span = drop(span, n, 0);
            if (span.length >= n && memcmp(span.data + span.length - n, spaces[i], n) == 0 &&
                !(span.length > n && span.data[span.length - n - 1] == '\\'))
                span = drop(span, 0, n);
        }
    } while (span.length != before);
    return span;
}

/* Whether the span is open + something without either + close. */
static int is_wrapped(struct span span, const char *open, const char *close)
{
    size_t a = strlen(open), b = strlen(close);
    struct span inner;

    if (span.length <= a + b || !span_starts(span, open) ||
        memcmp(span.data + span.length - b, close, b) != 0)
        return 0;
    inner = drop(span, a, b);
    return !memmem(inner.data, inner.length, open, a) &&
           !memmem(inner.data, inner.length, close, b);
}

static struct span unwrap_once(struct span span)
{
    static const char *const pairs[][2] = {
        {"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"}, {"\\[", "\\]"}, {"\"", "\""}, {"``", "''"},
        {"**", "**"}, {"*", "*"}, {"`", "`"}, {"__", "__"},
    };
    static const char *const boxes[] = {"\\boxed{", "\\fbox{", "\\mathbf{", "\\bold{",
                                        "\\displaystyle{", "\\bm{", "\\boldsymbol{"};

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (is_wrapped(span, pairs[i][0], pairs[i][1]))
            return drop(span, strlen(pairs[i][0]), strlen(pairs[i][1]));
    for (size_t i = 0; i < sizeof(boxes) / sizeof(boxes[0]); i++) {
        size_t n = strlen(boxes[i]);

        if (span_starts(span, boxes[i]) && find_close(span, n - 1) + 1 == span.length)
            return drop(span, n, 1);
    }
    return span;
}

/* The final stop, a lone backslash at the end. */
static struct span trim_stop(struct span span)
{
    while (span.length > 1) {
        char c = span.data[span.length - 1], before = span.data[span.length - 2];

        if ((c == '.' && before != '.' && before != '\\') || ((c == ',' || c == ';' || c == ':') &&
            before != '\\') || (c == '\\' && before != '\\'))
            span = drop(span, 0, 1);
        else
            break;
        while (span.length && is_blank(span.data[span.length - 1]))
            span = drop(span, 0, 1);
    }
    return span;
}

struct span fold_trim(struct span span)
{
    size_t before;

    do {
        before = span.length;
        span = trim_blanks(span);
        span = trim_stop(span);
        span = unwrap_once(span);
    } while (span.length != before);
    return span;
}

void fold_plain(struct text *out, struct span span)
{
    for (size_t i = 0; i < span.length; i++) {
        char c = span.data[i];
        char last = out->length ? out->data[out->length - 1] : 0;

        if (c == '$' && !(i && span.data[i - 1] == '\\'))
            continue;
        if (is_blank(c)) {
            size_t next = i + 1;

            while (next < span.length && is_blank(span.data[next]))
                next++;
            i = next - 1;
            if (next < span.length && isdigit((unsigned char)span.data[next]) &&
                (isdigit((unsigned char)last) || last == ','))
                text_append(out, " ", 1);
            continue;
        }
        text_append(out, &c, 1);
    }
}

/* Length of a command of mark-up at the front that a text answer does not count as words. */
static size_t markup_length(struct span rest)
{
    static const char *const commands[] = {
        "\\textbf", "\\textit", "\\textrm", "\\textsf", "\\texttt", "\\textnormal", "\\text",
        "\\mbox", "\\mathrm", "\\mathbf", "\\mathit", "\\operatorname", "\\quad", "\\left",
        "\\right", "\\emph", "\\displaystyle", "\\,", "\\;", "\\!", "\\:", "\\ ", "\\$",
    };

    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        size_t n = strlen(commands[i]);

        if (span_starts(rest, commands[i]) &&
            (n == 2 || n == rest.length || !isalpha((unsigned char)rest.data[n])))
            return n;
    }
    return 0;
}

void fold_words(struct text *out, struct span span)
{
    for (size_t i = 0; i < span.length;) {
        char c = span.data[i];
        size_t n = markup_length(drop(span, i, 0));

        if (n) {
            i += n;
            continue;
        }
        i++;
        if (is_blank(c) && i < span.length && isdigit((unsigned char)span.data[i]) && out->length &&
            isdigit((unsigned char)out->data[out->length - 1]))
            text_append(out, " ", 1);   /* 4 2 is not 42 */
        if (is_blank(c) || c == '{' || c == '}' || c == '$' || c == '"')
            continue;
        if ((c == '.' || c == '\'') && (i == span.length))
            continue;
        c = (char)tolower((unsigned char)c);
        text_append(out, &c, 1);
    }
    while (out->length && out->data[out->length - 1] == '.')
        out->data[--out->length] = 0;
}
