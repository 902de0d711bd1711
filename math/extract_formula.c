#include "math/extract.h"

#include <ctype.h>
#include <string.h>

enum { MAX_FORMULA = MATH_ANSWER_BYTES };

/* A formula worth to be an answer: more than one small letter, and no words. */
static int is_worthy(struct span formula)
{
    int n = 0, n_words = 0;

    formula = fold_trim(formula);
    for (size_t i = 0; i < formula.length; i++) {
        if (formula.data[i] == '\\' || formula.data[i] == '{')
            n = -64;   /* names and \text{...} are no words here */
        else if (isalpha((unsigned char)formula.data[i]))
            n++;
        else
            n = 0;
        n_words += n == 3;
    }
    if (n_words > 1)
        return 0;
    return formula.length > 1 || (formula.length == 1 && !islower((unsigned char)*formula.data) &&
                                  !strchr(".,;:!?", *formula.data));
}

/* The last formula between `open` and `close` that ends before `before`. */
static int find_between(struct span text, const char *open, const char *close, struct span *out)
{
    size_t n_open = strlen(open), n_close = strlen(close), before = text.length;

    for (int tries = 0; tries < 16 && before >= n_close; tries++) {
        const char *end = memrchr(text.data, close[n_close - 1], before), *from = NULL;
        size_t at;

        if (!end)
            return 0;
        at = (size_t)(end - text.data) + 1;
        before = at - 1;
        if (at < n_close || memcmp(text.data + at - n_close, close, n_close) != 0)
            continue;
        at -= n_close;
        size_t floor = at > MAX_FORMULA ? at - MAX_FORMULA : 0;
        for (size_t i = at; i > floor && !from; i--)
            if (i >= n_open && memcmp(text.data + i - n_open, open, n_open) == 0)
                from = text.data + i;
        if (!from)
            return 0;
        *out = (struct span){from, at - (size_t)(from - text.data)};
        if (is_worthy(*out))
            return 1;
        before = (size_t)(from - text.data) - n_open;
    }
    return 0;
}

/* Back over \frac{..}{..} and the like, when `at` is inside of one without delimiters. */
static size_t command_start(struct span text, size_t at)
{
    size_t floor = at > 128 ? at - 128 : 0, found = at;

    for (size_t i = at; i > floor; i--) {
        struct span rest = {text.data + i - 1, text.length - i + 1};

        if (text.data[i - 1] == '\n' || text.data[i - 1] == '$')
            break;
        if (span_starts(rest, "\\frac") || span_starts(rest, "\\dfrac") ||
            span_starts(rest, "\\sqrt") || span_starts(rest, "\\tfrac")) {
            found = i - 1;
            break;
        }
    }
    if (found == at)
        return at;
    for (size_t i = found; i < at; i++)
        if (text.data[i] == ' ')
            return at;
    return found;
}

static int find_number(struct span text, struct span *out)
{
    size_t end = text.length, start, close;

    while (end > 0 && !isdigit((unsigned char)text.data[end - 1]))
        end--;
    if (!end)
        return 0;
    start = end;
    while (start > 0 && (isdigit((unsigned char)text.data[start - 1]) ||
                         (strchr(".,/", text.data[start - 1]) && start > 1 &&
                          isdigit((unsigned char)text.data[start - 2]))))
        start--;
    if (start > 0 && text.data[start - 1] == '-' &&
        (start == 1 || strchr(" =(:*\n", text.data[start - 2])))
        start--;
    close = end;
    while (close < text.length && (text.data[close] == '}' || text.data[close] == ')'))
        close++;
    if (close > end && command_start(text, start) < start) {
        start = command_start(text, start);
        end = close;
        while (end > start && text.data[end - 1] == ')')
            end--;
    }
    if (end < text.length && text.data[end] == '%')
        end++;
    else if (end + 1 < text.length && text.data[end] == '\\' && text.data[end + 1] == '%')
        end += 2;
    *out = (struct span){text.data + start, end - start};
    return 1;
}

static int is_choice_at(struct span text, size_t i)
{
    char before = i ? text.data[i - 1] : ' ', after = i + 1 < text.length ? text.data[i + 1] : ' ';

    return text.data[i] >= 'A' && text.data[i] <= 'J' && text.data[i] != 'I' &&
           !isalnum((unsigned char)before) && !isalnum((unsigned char)after) && after != '\'';
}

/* A letter from A to J that stands alone: in front, with a mark behind it, else the last one. "I"
 * is a word. */
static int find_choice(struct span text, struct span *out)
{
    size_t floor = text.length > MAX_FORMULA ? text.length - MAX_FORMULA : 0, first = 0;

    while (first < text.length && strchr(" \n*(", text.data[first]))
        first++;
    if (first + 1 < text.length && is_choice_at(text, first) && text.data[first + 1] != ' ') {
        *out = (struct span){text.data + first, 1};
        return 1;
    }
    for (size_t i = text.length; i > floor; i--)
        if (is_choice_at(text, i - 1)) {
            *out = (struct span){text.data + i - 1, 1};
            return 1;
        }
    return 0;
}

int extract_first_choice(struct span text, struct span *out)
{
    for (size_t i = 0; i < text.length && i < MAX_FORMULA; i++)
        if (is_choice_at(text, i)) {
            *out = (struct span){text.data + i, 1};
            return 1;
        }
    return 0;
}

int extract_last_formula(struct span text, struct span *out)
{
    static const char *const pairs[][2] = {{"$$", "$$"}, {"$", "$"}, {"\\(", "\\)"},
                                           {"\\[", "\\]"}};
    struct span found, best = {text.data, 0};   /* empty: none yet */

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (find_between(text, pairs[i][0], pairs[i][1], &found) &&
            found.data + found.length > best.data + best.length)
            best = found;
    if (find_number(text, &found) &&
        (!best.length || found.data > best.data + best.length))
        best = found;
    if (!best.length && !find_choice(text, &best))
        return 0;
    *out = best;
    return 1;
}
