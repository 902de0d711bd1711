/* A stage's dataset as the JSONL that trainers read. */
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"

#define DATASET_MAX_BYTES ((size_t)4 << 30)

int export_refuse_existing(const char *path)
{
    if (!file_exists(path))
        return STATUS_OK;
    return status_fail(STATUS_CONFIG, "%s exists already and is left as it is; give another --out",
                       path);
}

/* The messages of one line; other keys (task_id, kind, source) stay behind. */
static int append_chat_row(struct text *out, const char *line, size_t n, const char *where)
{
    json_t *row;

    TRY(json_parse(&row, line, n, where));
    text_print(out, "{\"messages\":");
    json_append(out, json_object_get(row, "messages"));
    text_print(out, "}\n");
    json_decref(row);
    return STATUS_OK;
}

static int append_chat(struct text *out, const char *path)
{
    struct text file = {0};
    size_t number = 0;
    int status = file_read(path, DATASET_MAX_BYTES, &file);

    for (size_t at = 0; at < file.length && status == STATUS_OK;) {
        char where[FILE_PATH_MAX + 32];
        const char *newline = memchr(file.data + at, '\n', file.length - at);
        size_t n = newline ? (size_t)(newline - file.data) - at : file.length - at;
        snprintf(where, sizeof(where), "%s:%zu", path, ++number);
        if (n && file.data[at] != '\r')
            status = append_chat_row(out, file.data + at, n, where);
        at += n + 1;
    }
    text_release(&file);
    return status;
}

static void append_prompts(struct text *out, const struct document_set *set)
{
    for (size_t i = 0; i < document_set_count(set); i++) {
        const struct document *document = document_set_get(set, i);
        text_print(out, "{\"prompt\":");
        json_append_string(out, document->prompt.data, document->prompt.bytes);
        text_print(out, ",\"completion\":");
        json_append_string(out, document->completion.data, document->completion.bytes);
        text_print(out, "}\n");
    }
}

static int convert(struct text *out, const struct stage *stage, const char *source, int as_chat)
{
    struct document_set *set = NULL;
    struct chat_template chat;

    TRY(chat_template_init(&chat, stage->settings.tasks.template_name));
    int status = document_set_open(&set, source, &chat);   /* checks every line */
    if (status == STATUS_OK && as_chat)
        status = append_chat(out, source);
    else if (status == STATUS_OK)
        append_prompts(out, set);
    document_set_close(&set);
    chat_template_release(&chat);
    if (status == STATUS_OK && out->failed)
        status = status_fail(STATUS_NOMEM, "the dataset is larger than %zu bytes", out->maximum);
    return status;
}

int pipeline_export_dataset(const char *run, const char *stage_name, const char *format,
                            const char *path)
{
    struct text out = {.maximum = 2 * DATASET_MAX_BYTES};
    char source[FILE_PATH_MAX];
    const struct stage *stage;
    struct recipe recipe;
    int status;

    if (strcmp(format, "chat") && strcmp(format, "prompt"))
        return status_fail(STATUS_CONFIG, "--format is \"%s\"; it must be chat or prompt", format);
    TRY(export_refuse_existing(path));
    TRY(locate_recipe(&recipe, NULL, run, NULL));
    TRY_OUT(locate_stage(&recipe, stage_name, &stage));
    TRY_OUT(locate_dataset(run, stage, source));
    TRY_OUT(convert(&out, stage, source, strcmp(format, "chat") == 0));
    status = file_write_atomic(path, out.data, out.length);
out:
    text_release(&out);
    recipe_release(&recipe);
    return status;
}
