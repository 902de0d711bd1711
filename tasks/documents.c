#include <string.h>

#include "common/status.h"
#include "tasks/chat.h"
#include "tasks/columns.h"
#include "tasks/jsonl.h"

#define SET_MAX_BYTES ((size_t)64 << 30)

struct document_set {
    struct arena arena;
    struct document *documents;
    size_t n, capacity;
};

int document_set_create(struct document_set **out)
{
    *out = mem_alloc(1, sizeof(**out));
    arena_init(&(*out)->arena, SET_MAX_BYTES);
    return STATUS_OK;
}

static int append_parts(struct document_set *set, const struct jsonl_part *prompt,
                        const struct jsonl_part *completion, int is_ended)
{
    struct document document = {.is_ended = is_ended};

    TRY(jsonl_join(&set->arena, prompt, 1, &document.prompt));
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

    return append_parts(set, &prompt, &completion, document->is_ended);
}

/* One file being read. */
struct reading {
    struct document_set *set;
    struct jsonl file;
    struct columns columns;
    const struct chat_template *template;
    int is_chat, is_told;   /* which of the two the file is, and whether that is known */
};

static int read_text(struct reading *reading, const json_t *value, const char *place)
{
    const char *where = reading->file.where, *opening = reading->template->opening;
    const struct jsonl_part prompt = {opening, strlen(opening)};
    struct jsonl_part part;

    if (!json_is_string(value))
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" %s; a string is wanted", where, place,
                           value ? "has another type" : "is missing");
    part = (struct jsonl_part){json_string_value(value), json_string_length(value)};
    if (part.bytes == 0)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" is empty: remove the line", where,
                           place);
    return append_parts(reading->set, &prompt, &part, 0);
}

static int read_chat(struct reading *reading, const json_t *value, const char *place)
{
    struct text prompt = {0}, completion = {0};
    size_t n_prefill;
    struct chat chat;
    int status;

    TRY(chat_read(&chat, value, place, CHAT_ASSISTANT, reading->file.where));
    status = chat_render(reading->template, &chat, reading->file.where, &prompt, &completion,
                         &n_prefill);
    if (status == STATUS_OK) {
        const struct jsonl_part before = {prompt.data, prompt.length};
        const struct jsonl_part answer = {completion.data, completion.length};
        status = append_parts(reading->set, &before, &answer,
                              reading->template->closing[0] != '\0');
    }
    text_release(&prompt);
    text_release(&completion);
    chat_release(&chat);
    return status;
}

static int read_row(struct reading *reading, const json_t *row)
{
    const char *text_place, *chat_place;
    const json_t *text = columns_find(&reading->columns, row, COLUMN_TEXT, &text_place);
    const json_t *chat = columns_find(&reading->columns, row, COLUMN_MESSAGES, &chat_place);

    if (!reading->is_told && !chat && !text)
        return status_fail(STATUS_FORMAT,
                           "%s: key \"%s\" or \"%s\" is missing: this is neither a text file "
                           "nor a chat file", reading->file.where, text_place, chat_place);
    if (!reading->is_told)
        reading->is_chat = chat != NULL;
    reading->is_told = 1;
    return reading->is_chat ? read_chat(reading, chat, chat_place)
                            : read_text(reading, text, text_place);
}

static int read_rows(struct reading *reading)
{
    json_t *row = NULL;
    int status;

    while ((status = jsonl_next(&reading->file, &row)) != 0) {
        if (status > 0) {
            status = read_row(reading, row);
            json_decref(row);
        }
        if (status < 0)
            status = jsonl_skip_bad(&reading->file, status);
        if (status < 0)
            return status;
    }
    jsonl_warn_bad(&reading->file);
    return STATUS_OK;
}

int document_set_read(struct document_set **out, const char *path,
                      const struct chat_template *chat, const struct tasks_config *config)
{
    struct reading reading = {.template = chat};
    int status;

    *out = NULL;
    TRY(columns_init(&reading.columns, config));
    TRY(jsonl_open(&reading.file, path, reading.columns.skips_bad));
    TRY(document_set_create(&reading.set));
    status = read_rows(&reading);
    jsonl_close(&reading.file);
    if (status == STATUS_OK && reading.set->n == 0)
        status = status_fail(STATUS_FORMAT, "%s: there is no document in it", path);
    if (status < 0)
        document_set_close(&reading.set);
    *out = reading.set;
    return status;
}

int document_set_open(struct document_set **out, const char *path,
                      const struct chat_template *chat)
{
    return document_set_read(out, path, chat, NULL);
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
