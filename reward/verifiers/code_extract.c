/* The program in a completion: the last whole fenced block, as CommonMark has them. */
#include <string.h>

#include "reward/answer.h"
#include "reward/verifiers/code.h"
#include "sandbox/sandbox.h"

#define MAX_SOURCE_BYTES ((size_t)64 << 10)
#define MAX_INDENT 3

struct fence {
    size_t n_ticks;
    const char *info;   /* what stands behind the ticks, without blanks around it */
    size_t n_info;
};

static int is_blank(char byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

static struct verifier_text trim(const char *data, size_t n)
{
    while (n && is_blank(data[0]))
        data++, n--;
    while (n && is_blank(data[n - 1]))
        n--;
    return (struct verifier_text){data, n};
}

/* A line of three ticks or more, at most three blanks in. */
static int read_fence(const char *line, size_t n, struct fence *fence)
{
    size_t indent = 0;

    while (indent < n && line[indent] == ' ')
        indent++;
    fence->n_ticks = 0;
    while (indent + fence->n_ticks < n && line[indent + fence->n_ticks] == '`')
        fence->n_ticks++;
    struct verifier_text info = trim(line + indent + fence->n_ticks, n - indent - fence->n_ticks);
    fence->info = info.data;
    fence->n_info = info.length;
    return indent <= MAX_INDENT && fence->n_ticks >= 3 &&
           !memchr(fence->info, '`', fence->n_info);
}

/* "python", "python title=x", "{.python}": the first word is the language's name. */
static int names_language(const struct fence *fence, int language)
{
    const char *name = fence->info;
    size_t n = fence->n_info, end = 0;

    if (n && *name == '{')
        name++, n--;
    if (n && *name == '.')
        name++, n--;
    while (end < n && !is_blank(name[end]) && name[end] != '}' && name[end] != ',')
        end++;
    return end && judge_find_language(name, end) == language;
}

static int find_fenced(struct answer_region region, int language, enum code_extract extract,
                       struct verifier_text *out)
{
    const char *at = region.data, *end = region.data + region.n, *block = NULL;
    struct fence open = {.n_ticks = 0}, fence;
    int found = 0;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        const char *next = stop ? stop + 1 : end;

        if (read_fence(at, (size_t)((stop ? stop : end) - at), &fence)) {
            if (!open.n_ticks) {
                int is_ours = names_language(&fence, language) ||
                              (!fence.n_info && extract != CODE_NAMED);
                open = fence;
                block = is_ours ? next : NULL;
            } else if (fence.n_ticks >= open.n_ticks && !fence.n_info) {
                if (block) {
                    *out = (struct verifier_text){block, (uint64_t)(at - block)};
                    found = 1;
                }
                open.n_ticks = 0;
            }
        }
        at = next;
    }
    return found;
}

const char *code_find_source(const struct verifier_task *task, int language,
                             enum code_extract extract, struct verifier_text *out)
{
    struct answer_region region;
    struct verifier_text text = task->completion;

    if (answer_find_last(task->prefill.data, task->prefill.length, "<think>") &&
        !answer_find_last(task->prefill.data, task->prefill.length, "</think>") &&
        !answer_find_last(text.data, text.length, "</think>"))
        return "the reasoning never ends: no </think>";
    if (answer_find_region(text.data, text.length, &region) < 0)
        return "the reasoning never ends: no </think>";
    if (!find_fenced(region, language, extract, out)) {
        if (extract != CODE_TAGGED)
            return "no fenced block of the language";
        if (!region.has_tag)
            return "no fenced block of the language and no answer tag";
        *out = (struct verifier_text){region.data, region.n};
    }
    if (out->length > MAX_SOURCE_BYTES)
        return "the program is too long";
    return trim(out->data, out->length).length ? NULL : "the program is empty";
}
