#include <string.h>

#include "common/status.h"
#include "tasks/jsonl.h"
#include "tasks/tasks.h"

#define SET_MAX_BYTES ((size_t)64 << 30)

struct document_set {
    struct arena arena;
    struct document *documents;
    size_t n, capacity;
};

struct messages {
    const char *system, *user, *assistant;   /* system may be NULL */
};

int document_set_create(struct document_set **out)
{
    *out = mem_alloc(1, sizeof(**out));
    arena_init(&(*out)->arena, SET_MAX_BYTES);
    return STATUS_OK;
}

static int append_parts(struct document_set *set, const struct jsonl_part *prompt, size_t n_prompt,
                        const struct jsonl_part *completion)
{
    struct document document;

    TRY(jsonl_join(&set->arena, prompt, n_prompt, &document.prompt));
    TRY(jsonl_join(&set->arena, completion, 1, &document.completion));
    if (set->n == set->capacity) {
        set->capacity = set->capacity ? 2 * set->capacity : 256;
        set->documents = mem_resize(set->documents, set->capacity, sizeof(*set->documents));
    }
    set->documents[set->n++] = document;
    return STATUS_OK;
}

int document_set_append(struct document_set *set, const struct document *document)
{
    const struct jsonl_part prompt = {document->prompt.data, document->prompt.bytes};
    const struct jsonl_part completion = {document->completion.data, document->completion.bytes};

    return append_parts(set, &prompt, 1, &completion);
}

static int read_text(struct document_set *set, const json_t *row, const char *where)
{
    const char *text;
    struct jsonl_part part;

    TRY(json_get_text(row, "text", where, &text));
    part = (struct jsonl_part){text, strlen(text)};
    if (part.bytes == 0)
        return status_fail(STATUS_FORMAT, "%s: key \"text\" is empty: remove the line", where);
    return append_parts(set, NULL, 0, &part);
}

/* One user and one assistant message, with a system message before them or not. */
static int read_messages(const json_t *row, const char *where, struct messages *out)
{
    const json_t *list = json_object_get(row, "messages");
    size_t n = json_array_size(list), i = 0;
    const char *const roles[] = {"system", "user", "assistant"};
    const char **const contents[] = {&out->system, &out->user, &out->assistant};

    memset(out, 0, sizeof(*out));
    if (!json_is_array(list))
        return status_fail(STATUS_FORMAT, "%s: key \"messages\" must be an array", where);
    for (size_t wanted = 0; wanted < 3; wanted++) {
        const json_t *message = json_array_get(list, i);
        const char *role = NULL;

        if (message && !json_is_object(message))
            return status_fail(STATUS_FORMAT, "%s: messages[%zu] must be an object", where, i);
        if (message)
            TRY(json_get_text(message, "role", where, &role));
        if (role && strcmp(role, roles[wanted]) == 0) {
            TRY(json_get_text(message, "content", where, contents[wanted]));
            i++;
        } else if (wanted > 0) {
            return status_fail(STATUS_FORMAT, "%s: messages[%zu] %s%s; \"%s\" is wanted", where, i,
                               role ? "has the role " : "is missing", role ? role : "",
                               roles[wanted]);
        }
    }
    if (i != n)
        return status_fail(STATUS_FORMAT,
                           "%s: %zu messages; wanted are [system,] user, assistant: make a "
                           "longer conversation several lines", where, n);
    return STATUS_OK;
}

static int read_chat(struct document_set *set, const json_t *row, const char *where,
                     const struct chat_template *chat)
{
    struct messages messages;
    struct jsonl_part prompt[5], completion;
    size_t n = 0, n_prefill = strlen(chat->prefill);

    TRY(read_messages(row, where, &messages));
    if (messages.system && !chat->system_before)
        return status_fail(STATUS_FORMAT,
                           "%s: the template knows no system message: remove it or take another "
                           "tasks.template_name", where);
    if (messages.system) {
        prompt[n++] = (struct jsonl_part){chat->system_before, strlen(chat->system_before)};
        prompt[n++] = (struct jsonl_part){messages.system, strlen(messages.system)};
        prompt[n++] = (struct jsonl_part){chat->system_after, strlen(chat->system_after)};
    } else {
        prompt[n++] = (struct jsonl_part){chat->before, strlen(chat->before)};
    }
    prompt[n++] = (struct jsonl_part){messages.user, strlen(messages.user)};
    prompt[n++] = (struct jsonl_part){chat->after, strlen(chat->after)};
    completion = (struct jsonl_part){messages.assistant, strlen(messages.assistant)};
    if (n_prefill && strncmp(messages.assistant, chat->prefill, n_prefill) == 0) {
        completion.data += n_prefill;
        completion.bytes -= n_prefill;
    }
    if (completion.bytes == 0)
        return status_fail(STATUS_FORMAT, "%s: the assistant's message is empty", where);
    return append_parts(set, prompt, n, &completion);
}

static int read_row(struct document_set *set, const json_t *row, const struct jsonl *file,
                    const struct chat_template *chat, int *is_chat)
{
    if (file->row == 0) {
        *is_chat = json_object_get(row, "messages") != NULL;
        if (!*is_chat && !json_object_get(row, "text"))
            return status_fail(STATUS_FORMAT,
                               "%s: key \"text\" or \"messages\" is missing: this is neither a "
                               "text file nor a chat file", file->where);
    }
    return *is_chat ? read_chat(set, row, file->where, chat) : read_text(set, row, file->where);
}

int document_set_open(struct document_set **out, const char *path,
                      const struct chat_template *chat)
{
    struct document_set *set;
    struct jsonl file;
    json_t *row = NULL;
    int status, is_chat = 0;

    *out = NULL;
    TRY(jsonl_open(&file, path));
    status = document_set_create(&set);
    while (status >= 0 && (status = jsonl_next(&file, &row)) > 0) {
        status = read_row(set, row, &file, chat, &is_chat);
        json_decref(row);
    }
    jsonl_close(&file);
    if (status == STATUS_OK && set->n == 0)
        status = status_fail(STATUS_FORMAT, "%s: there is no document in it", path);
    if (status < 0)
        document_set_close(&set);
    *out = set;
    return status;
}

void document_set_close(struct document_set **set)
{
    if (!*set)
        return;
    arena_release(&(*set)->arena);
    mem_free((*set)->documents);
    mem_free(*set);
    *set = NULL;
}

size_t document_set_count(const struct document_set *set)
{
    return set->n;
}

const struct document *document_set_get(const struct document_set *set, size_t i)
{
    if (i >= set->n)
        BUG("document %zu of %zu", i, set->n);
    return &set->documents[i];
}
