#include "reward/verifiers/math_compare.h"

#include <string.h>

#include "reward/verifiers/math_algebra.h"

#define MAX_DEPTH 8
#define MAX_MEMBERS 256

struct list {
    char open, close;   /* '(' ')' ...; '{' '}' for sets; 0 for a bare list, also unordered */
    size_t n;
    struct span members[MAX_MEMBERS];
};

struct span span_trim(struct span span)
{
    while (span.n && span.data[0] == ' ')
        span.data++, span.n--;
    while (span.n && span.data[span.n - 1] == ' ')
        span.n--;
    return span;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 32) : c;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int span_equal_text(struct span a, struct span b, int any_case)
{
    size_t i = 0, k = 0;

    for (;;) {
        size_t from_i = i, from_k = k;
        while (i < a.n && a.data[i] == ' ')
            i++;
        while (k < b.n && b.data[k] == ' ')
            k++;
        if (i == a.n || k == b.n)
            return i == a.n && k == b.n;
        /* "4 2" is not 42. */
        if ((i > from_i) != (k > from_k) && from_i && is_digit(a.data[from_i - 1]) &&
            is_digit(a.data[i]))
            return 0;
        if (any_case ? lower(a.data[i]) != lower(b.data[k]) : a.data[i] != b.data[k])
            return 0;
        i++;
        k++;
    }
}

static int is_word_letter(char c)
{
    return (lower(c) >= 'a' && lower(c) <= 'z') || (unsigned char)c >= 0x80;
}

/* Prose has two letters in a row outside of TeX commands: case means nothing there. */
static int is_prose(struct span text)
{
    size_t run = 0;
    int command = 0;

    for (size_t i = 0; i < text.n; i++) {
        if (text.data[i] == '\\')
            command = 1;
        else if (!is_word_letter(text.data[i]))
            command = 0;
        run = is_word_letter(text.data[i]) && !command ? run + 1 : 0;
        if (run >= 2)
            return 1;
    }
    return 0;
}

static int same_text(struct span a, struct span b)
{
    return span_equal_text(a, b, is_prose(a) && is_prose(b));
}

/* Depth change of the bracket at text[i]; a backslash belongs to what follows it. */
static int bracket_step(char c)
{
    return strchr("([{", c) && c ? 1 : strchr(")]}", c) && c ? -1 : 0;
}

/* Offset of `word` outside of all brackets, from `from` on; n when it is not there. */
static size_t find_outside(struct span text, size_t from, const char *word)
{
    size_t length = strlen(word);
    int depth = 0;

    for (size_t i = 0; i < text.n; i++) {
        depth += bracket_step(text.data[i]);
        if (i >= from && depth == 0 && text.n - i >= length &&
            memcmp(text.data + i, word, length) == 0)
            return i;
    }
    return text.n;
}

/* Nearest separator of a list; its length in *length. A comma in "1,234" is met earlier, as part of
 * a number. */
static size_t find_separator(struct span text, size_t from, size_t *length)
{
    static const char *const words[] = {",", ";", " and ", " or "};
    size_t best = text.n;

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        size_t at = find_outside(text, from, words[i]);
        if (at < best) {
            best = at;
            *length = strlen(words[i]);
        }
    }
    return best;
}

/* Takes an outer pair of brackets off when it holds the whole text. */
static void take_brackets(struct span *text, struct list *list)
{
    struct span inner = *text;
    int depth = 0;

    list->open = list->close = 0;
    if (text->n >= 4 && memcmp(text->data, "\\{", 2) == 0 &&
        memcmp(text->data + text->n - 2, "\\}", 2) == 0) {
        list->open = '{';
        list->close = '}';
        *text = span_trim((struct span){text->data + 2, text->n - 4});
        return;
    }
    if (text->n < 2 || !strchr("([{", text->data[0]) || !strchr(")]}", text->data[text->n - 1]))
        return;
    for (size_t i = 0; i + 1 < text->n; i++) {
        depth += bracket_step(text->data[i]);
        if (depth == 0)
            return;   /* "(1) + (2)" */
    }
    if (inner.data[0] != '{') {   /* TeX does not show plain braces */
        list->open = inner.data[0];
        list->close = inner.data[inner.n - 1];
    }
    *text = span_trim((struct span){inner.data + 1, inner.n - 2});
}

/* 0 when there are too many members or an empty one. */
static int split_list(struct span text, struct list *list)
{
    size_t at = 0, length = 0;

    list->n = 0;
    take_brackets(&text, list);
    for (;;) {
        size_t end = find_separator(text, at, &length);
        struct span member = span_trim((struct span){text.data + at, end - at});
        /* "1, 2, and 3" */
        if (member.n == 0 && end < text.n && list->n && length > 1) {
            at = end + length;
            continue;
        }
        if (member.n == 0 || list->n == MAX_MEMBERS)
            return 0;
        list->members[list->n++] = member;
        if (end == text.n)
            return 1;
        at = end + length;
        if (text.n - at > 4 && memcmp(text.data + at, " and ", 5) == 0)
            at += 4;
    }
}

static int same(struct span gold, struct span answer, int depth);

static int same_unordered(const struct list *a, const struct list *b, int depth)
{
    char used[MAX_MEMBERS] = {0};

    for (size_t i = 0; i < a->n; i++) {
        size_t k = 0;
        while (k < b->n && (used[k] || !same(a->members[i], b->members[k], depth + 1)))
            k++;
        if (k == b->n)
            return 0;
        used[k] = 1;
    }
    return 1;
}

static int is_unordered(const struct list *list)
{
    return list->open == 0 || list->open == '{';
}

static int has_names(const struct list *list)
{
    for (size_t i = 0; i < list->n; i++)
        if (memchr(list->members[i].data, '=', list->members[i].n))
            return 1;
    return 0;
}

static int same_list(const struct list *a, const struct list *b, int depth)
{
    if (a->n != b->n || a->n < 1)
        return 0;
    /* "m=4, n=7" and "4, 7" are told apart from "7, 4" by their order alone. */
    if (is_unordered(a) && is_unordered(b) && has_names(a) == has_names(b))
        return same_unordered(a, b, depth);
    if (a->open && b->open && (a->open != b->open || a->close != b->close))
        return 0;
    for (size_t i = 0; i < a->n; i++)
        if (!same(a->members[i], b->members[i], depth + 1))
            return 0;
    return 1;
}

/* A name that a value is given to: x, x_1, \theta, f(x), (p, q). */
static int is_name(struct span text)
{
    size_t letters = 0, i = 0;

    text = span_trim(text);
    if (text.n > 2 && text.data[0] == '(' && text.data[text.n - 1] == ')') {
        for (i = 1; i + 1 < text.n && (is_word_letter(text.data[i]) || strchr(", ", text.data[i]));)
            i++;
        return i + 1 == text.n;
    }
    if (text.n == 0 || text.n > 16 || !(text.data[0] == '\\' || is_word_letter(text.data[0])))
        return 0;
    if (text.n > 5 && (memcmp(text.data, "\\frac", 5) == 0 || memcmp(text.data, "\\sqrt", 5) == 0))
        return 0;
    for (; i < text.n; i++) {
        if (strchr("+-*/^=<>,!|", text.data[i]))
            return 0;
        letters += is_word_letter(text.data[i]) != 0;
    }
    return text.data[0] == '\\' || letters <= 3;
}

/* "x = E" as name and value; a chain "E = F" must agree with itself. 0 when it does not. */
static int take_assignment(struct span *text, struct span *name, int depth)
{
    size_t approx = find_outside(*text, 0, "\\approx");
    struct span first;

    *name = (struct span){"", 0};
    if (approx < text->n && approx > 0 && is_name((struct span){text->data, approx})) {
        *name = (struct span){text->data, approx};
        *text = span_trim((struct span){text->data + approx + 7, text->n - approx - 7});
        return 1;
    }
    if (approx < text->n && approx > 0)
        *text = span_trim((struct span){text->data, approx});
    size_t at = find_outside(*text, 0, "\\in");
    if (at > 0 && at + 3 < text->n && !is_word_letter(text->data[at + 3]) &&
        is_name((struct span){text->data, at})) {
        *name = span_trim((struct span){text->data, at});
        *text = span_trim((struct span){text->data + at + 3, text->n - at - 3});
        return 1;
    }
    at = find_outside(*text, 0, "=");
    if (at == text->n || at == 0)
        return 1;
    first = span_trim((struct span){text->data, at});
    struct span rest = span_trim((struct span){text->data + at + 1, text->n - at - 1});
    if (is_name(first)) {
        *name = first;
        *text = rest;
        return depth < MAX_DEPTH && take_assignment(text, &first, depth + 1);
    }
    if (depth < MAX_DEPTH && take_assignment(&rest, name, depth + 1) &&
        same(first, rest, depth + 1)) {
        *text = first;
        return 1;
    }
    return 0;
}

/* Letters A to J name choices: "(C)", "C.", "C) because", "Option C". */
static int read_choice(struct span text, int strict, char *out)
{
    static const char *const heads[] = {"option ", "choice ", "answer "};

    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]) && !strict; i++)
        if (text.n > strlen(heads[i]) &&
            span_equal_text((struct span){text.data, strlen(heads[i])},
                            (struct span){heads[i], strlen(heads[i])}, 1))
            text =
                span_trim((struct span){text.data + strlen(heads[i]), text.n - strlen(heads[i])});
    int bracket = text.n > 1 && text.data[0] == '(';
    if (bracket)
        text.data++, text.n--;
    if (text.n == 0 || lower(text.data[0]) < 'a' || lower(text.data[0]) > 'j')
        return 0;
    if (strict && lower(text.data[0]) == text.data[0])
        return 0;
    *out = lower(text.data[0]);
    if (text.n == 1)
        return !bracket;
    if (bracket && text.data[1] != ')')
        return 0;
    return text.n == 2 || !strict ? strchr(").:", text.data[1]) != NULL : 0;
}

/* 1 when the gold names a choice: then *verdict holds. */
static int compare_choices(struct span gold, struct span answer, int *verdict)
{
    char wanted, got;

    if (!read_choice(gold, 1, &wanted))
        return 0;
    *verdict = read_choice(answer, 0, &got) && got == wanted;
    return 1;
}

/* Both without a list at their top: "x = E" on one side or both, or one expression. */
static int same_single(struct span gold, struct span answer, int depth)
{
    struct span gold_name, answer_name, gold_value = gold, answer_value = answer;

    if (math_same_equation(gold, answer))
        return 1;
    if (!take_assignment(&gold_value, &gold_name, depth) ||
        !take_assignment(&answer_value, &answer_name, depth))
        return 0;
    if (gold_value.n == gold.n && answer_value.n == answer.n)
        return math_same_expression(gold, answer);
    if (gold_name.n && answer_name.n && !span_equal_text(gold_name, answer_name, 0))
        return 0;
    return same(gold_value, answer_value, depth + 1);
}

static int same(struct span gold, struct span answer, int depth)
{
    struct list a, b;
    int verdict;

    gold = span_trim(gold);
    answer = span_trim(answer);
    if (!gold.n || !answer.n || depth > MAX_DEPTH)
        return 0;
    if (same_text(gold, answer))
        return 1;
    if (math_compare_values(gold, answer, &verdict))
        return verdict;
    if (compare_choices(gold, answer, &verdict))
        return verdict;
    if (!split_list(gold, &a) || !split_list(answer, &b))
        return 0;
    if (a.n == 1 && b.n == 1 && !a.open && !b.open &&
        a.members[0].n == gold.n && b.members[0].n == answer.n)
        return same_single(gold, answer, depth);
    if (a.n > 1 && b.n > 1)
        return same_list(&a, &b, depth);
    /* One of them may be "(p, q) = (3, 2)". */
    return (a.n == 1 && b.n == 1 && same_list(&a, &b, depth)) || same_single(gold, answer, depth);
}

int math_same(struct span gold, struct span answer)
{
    return same(gold, answer, 0);
}
