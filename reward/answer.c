#include "reward/answer.h"

#include <string.h>

#define MAX_BOXES 256

static int is_blank(int c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

const char *answer_find_last(const char *text, size_t n, const char *needle)
{
    size_t length = strlen(needle);

    while (n >= length) {
        const char *at = memrchr(text, needle[0], n - length + 1);
        if (!at)
            return NULL;
        if (memcmp(at, needle, length) == 0)
            return at;
        n = (size_t)(at - text) + length - 1;
    }
    return NULL;
}

static const char *find_first(const char *text, size_t n, const char *needle)
{
    return memmem(text, n, needle, strlen(needle));
}

int answer_find_region(const char *text, size_t n, struct answer_region *region)
{
    static const char *const ends[] = {"<|im_end|>", "</s>", "<|endoftext|>"};

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        const char *end = find_first(text, n, ends[i]);
        if (end)
            n = (size_t)(end - text);
    }
    const char *opened = answer_find_last(text, n, "<think>");
    const char *closed = answer_find_last(text, n, "</think>");
    if (opened && (!closed || opened > closed))
        return -1;
    if (closed) {
        n -= (size_t)(closed - text) + strlen("</think>");
        text = closed + strlen("</think>");
    }
    *region = (struct answer_region){.data = text, .n = n};
    const char *end = answer_find_last(text, n, "</answer>");
    const char *start = end ? answer_find_last(text, (size_t)(end - text), "<answer>") : NULL;
    if (start) {
        region->data = start + strlen("<answer>");
        region->n = (size_t)(end - region->data);
        region->has_tag = 1;
    }
    return 0;
}

struct box {
    const char *start, *content, *end;   /* "\boxed", behind the brace, behind the closing brace */
    size_t n_content;
};

/* Reads a box whose command starts at `at`: 1 read, 0 no box, -1 a box that never closes. */
static int read_box(const char *at, const char *end, struct box *box)
{
    size_t n = (size_t)(end - at);
    size_t command = n >= 6 && memcmp(at, "\\boxed", 6) == 0  ? 6
                     : n >= 5 && memcmp(at, "\\fbox", 5) == 0 ? 5
                                                              : 0;
    const char *brace = at + command;
    size_t depth = 0;

    if (!command)
        return 0;
    while (brace < end && *brace == ' ')
        brace++;
    if (brace < end && brace > at + command && *brace != '{') {   /* "\boxed 7" */
        const char *stop = brace;
        while (stop < end && !is_blank(*stop) && *stop != '$')
            stop++;
        *box = (struct box){at, brace, stop, (size_t)(stop - brace)};
        return 1;
    }
    if (brace == end)
        return -1;
    if (*brace != '{')
        return 0;
    for (const char *i = brace; i < end && i - brace <= ANSWER_MAX_BYTES; i++) {
        if (*i == '\\')
            i++;
        else if (*i == '{')
            depth++;
        else if (*i == '}' && --depth == 0) {
            *box = (struct box){at, brace + 1, i + 1, (size_t)(i - brace) - 1};
            return 1;
        }
    }
    return -1;
}

/* The last box that starts before `before`; as read_box(). */
static int find_box(const char *text, const char *before, const char *end, struct box *box)
{
    size_t n = (size_t)(before - text);

    for (;;) {
        const char *at = memrchr(text, '\\', n);
        if (!at)
            return 0;
        int found = read_box(at, end, box);
        if (found)
            return found;
        n = (size_t)(at - text);
    }
}

static int is_empty(const char *text, size_t n)
{
    while (n && is_blank((unsigned char)*text))
        text++, n--;
    return n == 0;
}

/* Whether only blanks, commas, "$", "and", "or" stand between two boxes. */
static int is_joint(const char *at, const char *end)
{
    static const char *const words[] = {"and", "or", ",", "$", "\\quad", "\\qquad", "\\text{", "}",
                                        "\\ ", "\\)", "\\("};

    while (at < end) {
        size_t n = is_blank((unsigned char)*at) ? 1 : 0;
        for (size_t i = 0; !n && i < sizeof(words) / sizeof(words[0]); i++)
            if ((size_t)(end - at) >= strlen(words[i]) &&
                memcmp(at, words[i], strlen(words[i])) == 0)
                n = strlen(words[i]);
        if (!n)
            return 0;
        at += n;
    }
    return 1;
}

/* Joined boxes in the order of reading, with commas between. 1 found, 0 none, -1 never closes. */
static int find_boxed(const struct answer_region *region, struct text *out)
{
    struct box boxes[MAX_BOXES];
    const char *end = region->data + region->n;
    size_t n = 0;
    int found = find_box(region->data, end, end, &boxes[0]);

    while (found == 1 && is_empty(boxes[0].content, boxes[0].n_content))
        found = find_box(region->data, boxes[0].start, end, &boxes[0]);
    if (found != 1)
        return found;
    for (n = 1; n < MAX_BOXES; n++) {
        struct box *last = &boxes[n - 1], *box = &boxes[n];
        if (find_box(region->data, last->start, end, box) != 1)
            break;
        if (box->end > last->start) {   /* around the last one: that is the whole answer */
            if (n > 1)
                break;
            boxes[0] = *box;
            n = 0;
        } else if (!is_joint(box->end, last->start)) {
            break;
        }
    }
    for (size_t i = n; i-- > 0;) {
        if (is_empty(boxes[i].content, boxes[i].n_content))
            continue;
        if (out->length)
            text_append(out, ", ", 2);
        text_append(out, boxes[i].content, boxes[i].n_content);
    }
    return 1;
}

static int same_letters(const char *text, const char *word, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char c = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] | 32) : text[i];
        if (c != word[i])
            return 0;
    }
    return 1;
}

/* Behind the last of the marks; NULL when there is none, or when "not" follows. */
static const char *find_words(const char *text, size_t n)
{
    static const char *const marks[] = {"answer is", "answer:", "final answer", "答案是",
                                        "答案：", "答案:"};
    static const char *const fillers[] = {" ", "\t", "*", ":", "：", "is ", "$", "equal to ", "="};
    const char *best = NULL, *end = text + n;

    for (size_t at = n; at-- > 0 && !best;)
        for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
            size_t length = strlen(marks[i]);
            if (n - at >= length && same_letters(text + at, marks[i], length))
                best = text + at + length;
        }
    for (int more = best != NULL; more;) {
        more = 0;
        for (size_t i = 0; i < sizeof(fillers) / sizeof(fillers[0]); i++) {
            size_t length = strlen(fillers[i]);
            if ((size_t)(end - best) >= length && memcmp(best, fillers[i], length) == 0) {
                best += length;
                more = 1;
            }
        }
    }
    return best && !(end - best >= 4 && same_letters(best, "not ", 4)) ? best : NULL;
}

/* Up to the end of the sentence or line, without marks of emphasis. */
static void take_sentence(const char *at, const char *end, struct text *out)
{
    const char *stop = at;

    while (stop < end && *stop != '\n' && !(*stop == '.' && (stop + 1 == end || is_blank(stop[1]))))
        stop++;
    while (stop > at && (is_blank((unsigned char)stop[-1]) || strchr("*$.", stop[-1])))
        stop--;
    text_append(out, at, (size_t)(stop - at));
}

static void find_in_region(struct answer *answer, const struct answer_region *region)
{
    const char *end = region->data + region->n;
    int boxed = find_boxed(region, &answer->text);

    if (boxed) {
        answer->source = boxed > 0 ? ANSWER_BOX : ANSWER_NONE;
        answer->why_none = "a box never closes";
        return;
    }
    const char *at = answer_find_last(region->data, region->n, "####");
    if (at) {
        at += strlen("####");
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        text_append(&answer->text, at, (size_t)((stop ? stop : end) - at));
        answer->source = ANSWER_HASHES;
        return;
    }
    at = find_words(region->data, region->n);
    if (at) {
        take_sentence(at, end, &answer->text);
        answer->source = ANSWER_WORDS;
    } else if (region->has_tag) {
        text_append(&answer->text, region->data, region->n);
        answer->source = ANSWER_TAG;
    } else {
        answer->why_none = "no answer tag, box or answer line";
    }
}

/* Cuts blanks at both ends. */
static void trim(struct text *text)
{
    size_t start = 0;

    while (start < text->length && is_blank((unsigned char)text->data[start]))
        start++;
    while (text->length > start && is_blank((unsigned char)text->data[text->length - 1]))
        text->length--;
    text->length -= start;
    if (text->data) {
        memmove(text->data, text->data + start, text->length);
        text->data[text->length] = '\0';
    }
}

void answer_find(struct answer *answer, const struct verifier_task *task)
{
    struct text whole = {0};
    struct answer_region region;
    const char *text = task->completion.data;
    size_t n = task->completion.length;

    memset(answer, 0, sizeof(*answer));
    answer->text.maximum = ANSWER_MAX_BYTES;
    if (task->prefill.length) {
        text_append(&whole, task->prefill.data, task->prefill.length);
        text_append(&whole, text, n);
        text = whole.data;
        n = whole.length;
    }
    if (n == 0) {
        answer->why_none = "empty completion";
    } else if (answer_find_region(text, n, &region) < 0) {
        answer->why_none = "the reasoning never ends: no </think>";
    } else {
        find_in_region(answer, &region);
        trim(&answer->text);
        if (answer->source != ANSWER_NONE && (answer->text.failed || !answer->text.length)) {
            answer->why_none =
                answer->text.failed ? "the answer is too long" : "the answer is empty";
            answer->source = ANSWER_NONE;
        }
    }
    text_release(&whole);
}

void answer_release(struct answer *answer)
{
    text_release(&answer->text);
}
