#include "tasks/chat.h"

#include <string.h>

#include "common/status.h"

#define THINK "<think>"
#define THINK_END "</think>"

static const char *const role_names[] = {"system", "user", "assistant"};

struct span {
    const char *data;
    size_t n;
};

/* ---- Reading. */

static int role_of(const char *name, enum chat_role *out)
{
    for (int i = CHAT_SYSTEM; i <= CHAT_ASSISTANT; i++)
        if (strcmp(name, role_names[i]) == 0) {
            *out = (enum chat_role)i;
            return 1;
        }
    return 0;
}

static int read_message(struct chat *chat, const json_t *message, const char *key,
                        const char *where)
{
    size_t i = chat->n;
    enum chat_role wanted = i > 0 && chat->messages[i - 1].role == CHAT_USER ? CHAT_ASSISTANT
                                                                             : CHAT_USER;
    struct chat_message *out = &chat->messages[i];
    const char *name;

    if (!json_is_object(message))
        return status_fail(STATUS_FORMAT, "%s: %s[%zu] must be an object", where, key, i);
    TRY(json_get_text(message, "role", where, &name));
    if (!role_of(name, &out->role) || (out->role != wanted && (i > 0 || out->role != CHAT_SYSTEM)))
        return status_fail(STATUS_FORMAT, "%s: %s[%zu] has the role %s; \"%s\" is wanted", where,
                           key, i, name, role_names[wanted]);
    TRY(json_get_text(message, "content", where, &out->text));
    out->bytes = strlen(out->text);
    chat->n++;
    return STATUS_OK;
}

int chat_read(struct chat *chat, const json_t *list, const char *key, enum chat_role last,
              const char *where)
{
    size_t n = json_array_size(list);
    int status = STATUS_OK;

    memset(chat, 0, sizeof(*chat));
    if (!json_is_array(list))
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" must be an array", where, key);
    chat->messages = mem_alloc(n + 1, sizeof(*chat->messages));
    for (size_t i = 0; i < n && status == STATUS_OK; i++)
        status = read_message(chat, json_array_get(list, i), key, where);
    if (status == STATUS_OK && (n == 0 || chat->messages[n - 1].role != last))
        status = status_fail(STATUS_FORMAT, "%s: %s[%zu] is missing; \"%s\" is wanted", where, key,
                             n, role_names[n == 0 || chat->messages[n - 1].role != CHAT_USER
                                               ? CHAT_USER
                                               : CHAT_ASSISTANT]);
    if (status < 0)
        chat_release(chat);
    return status;
}

void chat_release(struct chat *chat)
{
    mem_free(chat->messages);
    memset(chat, 0, sizeof(*chat));
}

/* ---- Content as the family's template shows it. */

/* Bytes of the blank that s begins with, 0 when it is none: what Python's str.strip() takes, and so
 * Jinja's trim. */
static size_t blank_at(const char *s, size_t n)
{
    static const char *const wide[] = {
        "\xC2\x85", "\xC2\xA0", "\xE1\x9A\x80", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF",
        "\xE2\x81\x9F", "\xE3\x80\x80", NULL};
    unsigned char first = (unsigned char)s[0];

    if (first == ' ' || (first >= '\t' && first <= '\r') || (first >= 0x1C && first <= 0x1F))
        return 1;
    for (size_t i = 0; wide[i]; i++)
        if (n >= strlen(wide[i]) && memcmp(s, wide[i], strlen(wide[i])) == 0)
            return strlen(wide[i]);
    if (n >= 3 && memcmp(s, "\xE2\x80", 2) == 0 && (unsigned char)s[2] >= 0x80 &&
        (unsigned char)s[2] <= 0x8A)
        return 3;
    return 0;
}

static struct span trim(struct span span)
{
    size_t blank;

    while (span.n && (blank = blank_at(span.data, span.n)) > 0) {
        span.data += blank;
        span.n -= blank;
    }
    for (int found = 1; found;) {
        found = 0;
        for (size_t width = 1; width <= 3 && width <= span.n && !found; width++)
            if (blank_at(span.data + span.n - width, width) == width) {
                span.n -= width;
                found = 1;
            }
    }
    return span;
}

static struct span trim_newlines(struct span span, int at_start, int at_end)
{
    while (at_start && span.n && span.data[0] == '\n') {
        span.data++;
        span.n--;
    }
    while (at_end && span.n && span.data[span.n - 1] == '\n')
        span.n--;
    return span;
}

static struct span content_of(const struct chat_template *template,
                              const struct chat_message *message)
{
    const struct span span = {message->text, message->bytes};

    return template->trims ? trim(span) : span;
}

/* The first (or last) place of `mark` in the span, or NULL. */
static const char *find_mark(struct span span, const char *mark, int last)
{
    size_t n = strlen(mark);
    const char *found = NULL;

    for (size_t i = 0; i + n <= span.n && (last || !found); i++)
        if (memcmp(span.data + i, mark, n) == 0)
            found = span.data + i;
    return found;
}

static struct span behind(struct span span, const char *place, const char *mark)
{
    const char *start = place + strlen(mark);

    return (struct span){start, (size_t)(span.data + span.n - start)};
}

/* What stands behind the last </think>; all of it when there is none. */
static struct span drop_thinking(const struct chat_template *template, struct span content)
{
    const char *end = find_mark(content, THINK_END, 1);

    if (template->thinking == CHAT_THINKING_STAYS || !end)
        return content;
    content = behind(content, end, THINK_END);
    return template->thinking == CHAT_THINKING_FRAMED ? trim_newlines(content, 1, 0) : content;
}

/* Qwen3: "<think>\n" reasoning "\n</think>\n\n" answer, also where there is no reasoning. */
static void append_framed(struct text *out, struct span content)
{
    const char *end = find_mark(content, THINK_END, 0);
    struct span thinking = {content.data, 0}, answer = content;

    if (end) {
        thinking.n = (size_t)(end - content.data);
        const char *start = find_mark(thinking, THINK, 1);
        if (start)
            thinking = behind(thinking, start, THINK);
        answer = behind(content, find_mark(content, THINK_END, 1), THINK_END);
    }
    thinking = trim_newlines(thinking, 1, 1);
    answer = trim_newlines(answer, 1, 0);
    text_append(out, THINK "\n", strlen(THINK "\n"));
    text_append(out, thinking.data, thinking.n);
    text_append(out, "\n" THINK_END "\n\n", strlen("\n" THINK_END "\n\n"));
    text_append(out, answer.data, answer.n);
}

/* ---- Rendering. */

static void append_span(struct text *out, struct span span)
{
    text_append(out, span.data, span.n);
}

static void append_string(struct text *out, const char *string)
{
    text_append(out, string, strlen(string));
}

/* The last answer. *has_prefill says whether the prompt ends with the template's prefill. */
static int append_answer(const struct chat_template *template, const struct chat_message *message,
                         const char *where, struct text *out, int *has_prefill)
{
    struct span content = content_of(template, message);
    size_t n = strlen(template->prefill), before = out->length;

    *has_prefill = 1;
    if (template->thinking == CHAT_THINKING_GOES) {
        /* A prompt that asks for an answer ends with "<think>\n"; a whole conversation whose
         * answer has no reasoning does not. */
        *has_prefill = find_mark(content, THINK_END, 0) != NULL;
        if (content.n >= strlen(THINK) && memcmp(content.data, THINK, strlen(THINK)) == 0) {
            *has_prefill = 1;
            content = behind(content, content.data, THINK);
            if (content.n && content.data[0] == '\n')
                content = (struct span){content.data + 1, content.n - 1};
        }
        append_span(out, content);
    } else if (template->thinking == CHAT_THINKING_FRAMED && content.n) {
        append_framed(out, content);
    } else {
        if (n && content.n >= n && memcmp(content.data, template->prefill, n) == 0)
            content = (struct span){content.data + n, content.n - n};
        append_span(out, content);
    }
    if (out->length == before)
        return status_fail(STATUS_FORMAT, "%s: the assistant's message is empty", where);
    append_string(out, template->closing);
    return STATUS_OK;
}

static int check_known(const struct chat_template *template, const struct chat *chat,
                       const char *where)
{
    int has_system = chat->messages[0].role == CHAT_SYSTEM;

    if (has_system && !template->system_before)
        return status_fail(STATUS_FORMAT,
                           "%s: the template knows no system message: remove it or take another "
                           "tasks.template_name", where);
    if (chat->n > (size_t)has_system + 2 && !template->user_before)
        return status_fail(STATUS_FORMAT,
                           "%s: %zu messages, and the template knows no second turn: make them "
                           "several lines or take another tasks.template_name", where, chat->n);
    return STATUS_OK;
}

int chat_render(const struct chat_template *template, const struct chat *chat, const char *where,
                struct text *prompt, struct text *completion, size_t *n_prefill)
{
    size_t n_after = strlen(template->after) - strlen(template->prefill), i = 0;
    int has_prefill = 1;

    TRY(check_known(template, chat, where));
    if (completion)
        TRY(append_answer(template, &chat->messages[chat->n - 1], where, completion,
                          &has_prefill));
    if (chat->messages[0].role == CHAT_SYSTEM) {
        append_string(prompt, template->system_before);
        append_span(prompt, content_of(template, &chat->messages[i++]));
        append_string(prompt, template->system_after);
    } else {
        append_string(prompt, template->before);
    }
    for (; i < chat->n - (completion != NULL); i++) {
        struct span content = content_of(template, &chat->messages[i]);
        if (chat->messages[i].role == CHAT_USER) {
            append_span(prompt, content);
            text_append(prompt, template->after, n_after);
        } else {
            append_span(prompt, drop_thinking(template, content));
            append_string(prompt, template->turn_end);
            append_string(prompt, template->turn_gap);
            append_string(prompt, template->user_before);
        }
    }
    *n_prefill = has_prefill ? strlen(template->prefill) : 0;
    text_append(prompt, template->prefill, *n_prefill);
    return STATUS_OK;
}
