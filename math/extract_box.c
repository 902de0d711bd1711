#include "math/extract.h"

#include <ctype.h>
#include <string.h>

enum { MAX_GAP = 96, MAX_NESTING = 8, MAX_BOXES = 64, LOOK_BACK = 2 * MATH_ANSWER_BYTES };

struct box {
    size_t start, end;       /* of the command, behind its close */
    struct span content;
    int is_open;             /* it never closes */
};

static int read_box(struct span text, size_t at, struct box *out)
{
    size_t i = at, stop = text.length;
    int depth = 0;

    if (span_starts((struct span){text.data + at, text.length - at}, "\\boxed"))
        i += 6;
    else if (span_starts((struct span){text.data + at, text.length - at}, "\\fbox"))
        i += 5;
    else
        return 0;
    if (i < text.length && isalpha((unsigned char)text.data[i]))
        return 0;   /* \boxedminipage */
    *out = (struct box){.start = at};
    while (i < text.length && text.data[i] == ' ')
        i++;
    if (i == text.length || text.data[i] != '{') {   /* \boxed 5 */
        size_t from = i;

        while (i < text.length && !strchr(" \n\t$", text.data[i]))
            i++;
        out->content = (struct span){text.data + from, i - from};
        out->end = i;
        return 1;
    }
    if (stop > i + 2 * LOOK_BACK)
        stop = i + 2 * LOOK_BACK;   /* longer than any answer may be: as if it went on for ever */
    for (size_t from = i + 1; i < stop; i++) {
        if (text.data[i] == '\\')
            i++;
        else if (text.data[i] == '{')
            depth++;
        else if (text.data[i] == '}' && --depth == 0) {
            out->content = (struct span){text.data + from, i - from};
            out->end = i + 1;
            return 1;
        }
    }
    out->is_open = 1;
    out->end = text.length;
    return 1;
}

/* The last box that starts in text[floor, before). */
static int find_box(struct span text, size_t floor, size_t before, struct box *out)
{
    while (before > floor) {
        const char *slash = memrchr(text.data + floor, '\\', before - floor);

        if (!slash)
            return 0;
        before = (size_t)(slash - text.data);
        if (read_box(text, before, out))
            return 1;
    }
    return 0;
}

/* The box around this one, if another begins before and ends behind it. */
static void widen(struct span text, struct box *box)
{
    size_t floor = box->start > LOOK_BACK ? box->start - LOOK_BACK : 0, before = box->start;
    struct box outer;

    for (int n = 0; n < MAX_NESTING && find_box(text, floor, before, &outer); n++) {
        if (!outer.is_open && outer.end >= box->end && outer.end > box->start)
            *box = outer;
        before = outer.start;
    }
}

static int is_blank(struct span span)
{
    for (size_t i = 0; i < span.length; i++)
        if (!strchr(" \n\t\r~", span.data[i]))
            return 0;
    return 1;
}

/* Whether only blanks, commas, $, "and", "or" and their TeX forms stand here. */
static int is_gap(struct span gap)
{
    static const char *const parts[] = {
        "and", "or", "\\text{and}", "\\text{or}", "\\text{ and }", "\\text{ or }", "\\quad",
        "\\qquad", "\\text", "\\mbox", "\\(", "\\)", "\\[", "\\]", "\\,", "\\;", "\\ ", ",", "$",
        ";", "{", "}", " ", "\n", "\t", "\r", "~", "&", "\xe5\x92\x8c", "\xe6\x88\x96",
        "\xe3\x80\x81", "\xef\xbc\x8c",
    };
    size_t at = 0;

    if (gap.length > MAX_GAP)
        return 0;
    while (at < gap.length) {
        size_t step = 0;

        for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !step; i++)
            if (span_starts((struct span){gap.data + at, gap.length - at}, parts[i]))
                step = strlen(parts[i]);
        if (!step)
            return 0;
        at += step;
    }
    return 1;
}

int extract_boxes(struct span text, struct text *answer)
{
    struct box boxes[MAX_BOXES];
    int n = 0;

    if (!find_box(text, 0, text.length, &boxes[0]))
        return 0;
    if (boxes[0].is_open)
        return -1;
    while (is_blank(boxes[0].content))
        if (!find_box(text, 0, boxes[0].start, &boxes[0]) || boxes[0].is_open)
            return 0;
    widen(text, &boxes[0]);
    for (n = 1; n < MAX_BOXES; n++) {
        struct box *next = &boxes[n - 1], *box = &boxes[n];
        size_t floor = next->start > LOOK_BACK ? next->start - LOOK_BACK : 0;

        if (!find_box(text, floor, next->start, box) || box->is_open || box->end > next->start ||
            is_blank(box->content) ||
            !is_gap((struct span){text.data + box->end, next->start - box->end}))
            break;
    }
    while (n-- > 0) {
        text_append(answer, boxes[n].content.data, boxes[n].content.length);
        if (n)
            text_append(answer, ", ", 2);
    }
    return 1;
}
