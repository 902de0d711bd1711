#include "math/extract.h"

#include <ctype.h>
#include <string.h>

static struct span behind(struct span text, size_t at)
{
    return (struct span){text.data + at, text.length - at};
}

int extract_region(struct span text, struct region *out, const char **why)
{
    static const char *const ends[] = {
        "<|im_end|>", "</s>", "<|endoftext|>", "<|im_start|>", "<|eot_id|>", "<|end_of_text|>",
        "<\357\275\234end\342\226\201of\342\226\201sentence\357\275\234>",
    };
    enum { LAST_BYTES = 4 << 20 };   /* of a longer text only its end is seen: time has a bound */
    size_t start = 0, open = 0, answer_from = 0, answer_to = 0;
    int is_open = 0, has_answer = 0, in_answer = 0;

    if (text.length > LAST_BYTES)
        text = behind(text, text.length - LAST_BYTES);
    for (size_t at = 0; at < text.length;) {
        const char *mark = memchr(text.data + at, '<', text.length - at);
        struct span rest;

        if (!mark)
            break;
        at = (size_t)(mark - text.data);
        rest = behind(text, at);
        if (rest.length < 2 || !strchr("t/a|\xef", rest.data[1])) {
            at++;
            continue;
        }
        if (span_starts(rest, "<think>")) {
            is_open = 1;
        } else if (span_starts(rest, "</think>")) {
            start = at + 8;
            is_open = has_answer = in_answer = 0;
        } else if (span_starts(rest, "<answer>")) {
            open = at + 8;
            in_answer = 1;
        } else if (span_starts(rest, "</answer>") && in_answer) {
            answer_from = open;
            answer_to = at;
            has_answer = 1;
            in_answer = 0;
        } else {
            for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
                if (span_starts(rest, ends[i]))
                    text.length = at;
        }
        at++;
    }
    if (is_open) {
        *why = "a thought that never ends";
        return 0;
    }
    out->is_tagged = has_answer;
    out->text = has_answer ? (struct span){text.data + answer_from, answer_to - answer_from}
                           : behind(text, start);
    return 1;
}

/* ---- "the answer is ..." */

static int starts_ignoring_case(struct span text, const char *word)
{
    size_t n = strlen(word);

    return n <= text.length && strncasecmp(text.data, word, n) == 0;
}

/* Behind the word "answer" at `at`: where what it says begins; 0 when it says nothing. */
static size_t read_cue(struct span text, size_t at)
{
    static const char *const chinese[] = {"\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf",
        "\xe7\xad\x94\xe6\xa1\x88\xe4\xb8\xba", "\xe7\xad\x94\xe6\xa1\x88\xef\xbc\x9a",
        "\xe7\xad\x94\xe6\xa1\x88:"};
    struct span rest = behind(text, at);
    int is_final = at >= 6 && starts_ignoring_case(behind(text, at - 6), "final ");

    for (size_t i = 0; i < sizeof(chinese) / sizeof(chinese[0]); i++)
        if (span_starts(rest, chinese[i]))
            return at + strlen(chinese[i]);
    if (!starts_ignoring_case(rest, "answer"))
        return 0;
    at += 6;
    while (at < text.length && strchr("s*_ ", text.data[at]))
        at++;
    rest = behind(text, at);
    if (starts_ignoring_case(rest, "is ") || starts_ignoring_case(rest, "is:") ||
        starts_ignoring_case(rest, "is\n") || starts_ignoring_case(rest, "is$") ||
        starts_ignoring_case(rest, "is*"))
        return at + 2;
    if (starts_ignoring_case(rest, "are ") || starts_ignoring_case(rest, "are:"))
        return at + 3;
    if (span_starts(rest, ":"))
        return at + 1;
    if (span_starts(rest, "\xef\xbc\x9a"))
        return at + 3;
    return is_final && rest.length && rest.data[0] == '\n' ? at + 1 : 0;
}

/* Up to the end of the sentence or line; formulas may hold stops and line ends. */
static struct span take_sentence(struct span text)
{
    size_t i = 0;
    const char *close = NULL;

    while (text.length && strchr(" \n\t:*_=", text.data[0]))
        text = behind(text, 1);
    for (; i < text.length; i++) {
        struct span rest = behind(text, i);
        char next = i + 1 < text.length ? text.data[i + 1] : ' ';

        if (close) {
            if (span_starts(rest, close)) {
                i += strlen(close) - 1;
                close = NULL;
            }
        } else if (span_starts(rest, "\\[") || span_starts(rest, "\\(")) {
            close = rest.data[1] == '[' ? "\\]" : "\\)";
        } else if (text.data[i] == '$' && memchr(rest.data + 1, '$', rest.length - 1)) {
            close = span_starts(rest, "$$") ? "$$" : "$";
            i += strlen(close) - 1;
        } else if (text.data[i] == '\n' || span_starts(rest, "\xe3\x80\x82") ||
                   (strchr(".!?", text.data[i]) && strchr(" \n\t*\"", next) &&
                    !(text.data[i] == '!' && i && isdigit((unsigned char)text.data[i - 1])))) {
            break;
        }
        if (i > 2 * MATH_ANSWER_BYTES)
            break;
    }
    text.length = i < text.length ? i : text.length;
    while (text.length && strchr("* ", text.data[text.length - 1]))
        text.length--;
    return text;
}

static int find_cue(struct span text, struct span *out, const char **why)
{
    static const unsigned char marks[] = {'w', 'W', 0xe7};   /* ans|w|er, and the Chinese word */
    const char *found[3];

    for (int i = 0; i < 3; i++)
        found[i] = memrchr(text.data, marks[i], text.length);
    for (;;) {
        int last = found[1] > found[0];
        size_t at, from;

        last = found[2] > found[last] ? 2 : last;
        if (!found[last])
            return 0;
        at = (size_t)(found[last] - text.data);
        found[last] = memrchr(text.data, marks[last], at);   /* each byte is seen three times */
        at = last == 2 ? at : at >= 3 ? at - 3 : 0;
        from = read_cue(text, at);
        if (!from)
            continue;
        *out = take_sentence(behind(text, from));
        if (starts_ignoring_case(*out, "not ")) {
            *why = "it says what the answer is not";
            return -1;
        }
        if (out->length)
            return 1;
    }
    return 0;
}

/* ---- strict and lenient */

static int find_hashes(struct span text, struct span *out)
{
    size_t before = text.length;

    while (before > 0) {
        const char *mark = memrchr(text.data, '#', before);

        if (!mark)
            return 0;
        before = (size_t)(mark - text.data);
        if (before >= 3 && memcmp(mark - 3, "####", 4) == 0) {
            const char *line = mark + 1;
            const char *end = memchr(line, '\n', text.length - (size_t)(line - text.data));

            *out = (struct span){line, end ? (size_t)(end - line)
                                           : text.length - (size_t)(line - text.data)};
            return 1;
        }
    }
    return 0;
}

/* A sentence: at least three words of two letters outside of formulas, or four letters of a script
 * without blanks. */
static int is_sentence(struct span text)
{
    size_t n = 0;
    int n_words = 0, n_letters = 0, in_formula = 0;

    for (size_t i = 0; i <= text.length && i < MATH_ANSWER_BYTES; i++) {
        char c = i < text.length ? text.data[i] : ' ';

        in_formula ^= c == '$';
        n_letters += !in_formula && (unsigned char)c >= 0xe0;
        if (isalpha((unsigned char)c) && !in_formula) {
            n++;
            continue;
        }
        n_words += n >= 2 && !(i > n && text.data[i - n - 1] == '\\');   /* \frac is no word */
        n = 0;
    }
    return n_words >= 3 || n_letters >= 4;
}

/* Whether no other number stands in the text beside the formula, and nothing is denied. */
static int is_only(struct span text, struct span formula)
{
    if (memmem(text.data, text.length, "not ", 4))
        return 0;
    for (size_t i = 0; i < text.length; i++)
        if (isdigit((unsigned char)text.data[i]) &&
            (text.data + i < formula.data || text.data + i >= formula.data + formula.length))
            return 0;
    return 1;
}

static int has_formula(struct span text)
{
    for (size_t i = 0; i < text.length; i++)
        if (isdigit((unsigned char)text.data[i]) || text.data[i] == '$' || text.data[i] == '\\')
            return 1;
    return 0;
}

static int accept(struct text *answer, struct span span, const char **why)
{
    span = fold_trim(span);
    if (!span.length) {
        *why = "the answer is empty";
        return 0;
    }
    text_append(answer, span.data, span.length);
    return 1;
}

int math_extract(const char *bytes, size_t n, enum math_mode mode, struct text *answer,
                 const char **why)
{
    struct region region;
    struct span found = {bytes, n}, formula;
    int state;

    *why = "";
    if (!extract_region((struct span){bytes, n}, &region, why))
        return 0;
    state = extract_boxes(region.text, answer);
    if (state) {
        *why = state < 0 ? "the last box never closes" : "box";
        return state > 0;
    }
    if (find_hashes(region.text, &found)) {
        *why = "####";
        return accept(answer, found, why);
    }
    state = find_cue(region.text, &found, why);
    if (state < 0)
        return 0;
    if (state > 0) {
        *why = "answer is";
        if (mode == MATH_LENIENT && is_sentence(found) &&
            (has_formula(found) ? extract_last_formula(found, &formula)
                                : extract_first_choice(found, &formula)))
            found = formula;
        return accept(answer, found, why);
    }
    if (region.is_tagged) {
        *why = "answer tag";
        if (is_sentence(region.text) && extract_last_formula(region.text, &formula) &&
            is_only(region.text, formula))
            return accept(answer, formula, why);
        return accept(answer, region.text, why);
    }
    if (mode == MATH_LENIENT && extract_last_formula(region.text, &formula)) {
        *why = "last formula";
        return accept(answer, formula, why);
    }
    *why = "no box, no mark, no \"answer is\"";
    return 0;
}
