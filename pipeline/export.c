/* A stage's model as a Hugging Face folder, its dataset as the JSONL that trainers read. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"

#define DATASET_MAX_BYTES ((size_t)4 << 30)

static int refuse_existing(const char *path)
{
    if (!file_exists(path))
        return STATUS_OK;
    return status_fail(STATUS_CONFIG, "%s exists already and is left as it is; give another --out",
                       path);
}

/* ---- Model. */

static int copy_file(const char *from, const char *to, const char *name, int may_be_absent)
{
    char source[FILE_PATH_MAX], target[FILE_PATH_MAX];
    struct file_map map;

    TRY(file_join(source, from, name));
    TRY(file_join(target, to, name));
    if (may_be_absent && !file_exists(source))
        return STATUS_OK;
    TRY(file_map_open(&map, source));
    int status = file_write_atomic(target, map.bytes, map.n);
    file_map_close(&map);
    return status;
}

static void append_jinja(struct text *out, const char *text)
{
    text_append(out, "'", 1);
    for (; *text; text++) {
        if (*text == '\'' || *text == '\\')
            text_print(out, "\\%c", *text);
        else if (*text == '\n')
            text_append(out, "\\n", 2);
        else
            text_append(out, text, 1);
    }
    text_append(out, "'", 1);
}

/* What opens a turn behind an answer. */
static void append_next_start(struct text *out, const struct chat_template *chat)
{
    struct text start = {0};

    text_print(&start, "%s%s", chat->user_before ? chat->turn_gap : "",
               chat->user_before ? chat->user_before : chat->before);
    append_jinja(out, start.data);
    text_release(&start);
}

/* Each user message opens a turn: before + question + after. The prefill, with which every answer
 * begins, is part of the assistant's message and of the generation prompt. */
static void print_chat_template(struct text *out, const struct chat_template *chat)
{
    size_t n_after = strlen(chat->after) - strlen(chat->prefill);
    struct text after = {0};

    text_append(&after, chat->after, n_after);
    text_print(out, "{%% set ns = namespace(start=");
    append_jinja(out, chat->before);
    text_print(out, ") %%}{%% for message in messages %%}");
    if (chat->system_before) {
        text_print(out, "{%% if message['role'] == 'system' %%}{%% set ns.start = ");
        append_jinja(out, chat->system_before);
        text_print(out, " + message['content'] + ");
        append_jinja(out, chat->system_after);
        text_print(out, " %%}{%% endif %%}");
    }
    text_print(out, "{%% if message['role'] == 'user' %%}{{ ns.start + message['content'] + ");
    append_jinja(out, after.data ? after.data : "");
    text_print(out, " }}{%% set ns.start = ");
    append_next_start(out, chat);
    text_print(out, " %%}{%% elif message['role'] == 'assistant' %%}"
                    "{{ message['content'] + eos_token }}{%% endif %%}{%% endfor %%}");
    if (chat->prefill[0]) {
        text_print(out, "{%% if add_generation_prompt %%}{{ ");
        append_jinja(out, chat->prefill);
        text_print(out, " }}{%% endif %%}");
    }
    text_release(&after);
}

static int has_token(const void *tokenizer, const char *token)
{
    return tokenizer_find(tokenizer, token) >= 0;
}

static void print_token(struct text *out, const char *key, const char *token)
{
    text_print(out, "  \"%s\": ", key);
    json_append_string(out, token, strlen(token));
    text_print(out, ",\n");
}

/* The token that ends an answer is the tokenizer's eos_token; the end of text pads. */
static void print_tokenizer_config(struct text *out, const struct tokenizer *tokenizer,
                                   struct chat_template *chat)
{
    struct text jinja = {0}, eos = {0};
    int32_t id = tokenizer_eos(tokenizer);

    if (id >= 0)
        tokenizer_decode(tokenizer, &id, 1, 0, &eos);
    print_chat_template(&jinja, chat);
    chat_template_bind(chat, has_token, tokenizer, eos.data ? eos.data : "");
    text_print(out, "{\n  \"tokenizer_class\": \"PreTrainedTokenizerFast\",\n"
                    "  \"model_input_names\": [\"input_ids\", \"attention_mask\"],\n");
    if (chat->closing[0] || eos.length)
        print_token(out, "eos_token", chat->closing[0] ? chat->closing : eos.data);
    if (chat->closing[0] || eos.length)
        print_token(out, "pad_token", eos.length ? eos.data : chat->closing);
    text_print(out, "  \"clean_up_tokenization_spaces\": false,\n  \"chat_template\": ");
    json_append_string(out, jinja.data, jinja.length);
    text_print(out, "\n}\n");
    text_release(&jinja);
    text_release(&eos);
}

static int write_tokenizer_config(const struct stage *stage, const char *checkpoint,
                                  const char *directory)
{
    struct tokenizer *tokenizer;
    struct chat_template chat;
    struct text out = {0};
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, "tokenizer_config.json"));
    TRY(chat_template_init(&chat, stage->settings.tasks.template_name));
    int status = tokenizer_load(&tokenizer, checkpoint);
    if (status == STATUS_OK) {
        print_tokenizer_config(&out, tokenizer, &chat);
        status = file_write_atomic(path, out.data, out.length);
        tokenizer_destroy(&tokenizer);
    }
    chat_template_release(&chat);
    text_release(&out);
    return status;
}

/* NULL is the dtype that the weights have. */
static int choose_dtype(const char *name, const char *from, enum dtype *dtype)
{
    if (!name)
        return model_folder_dtype(from, dtype);
    if (strcmp(name, "float32") && strcmp(name, "bfloat16"))
        return status_fail(STATUS_CONFIG, "--dtype is \"%s\"; it must be float32 or bfloat16",
                           name);
    *dtype = strcmp(name, "bfloat16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    return STATUS_OK;
}

struct model_source {
    const char *folder;          /* a checkpoint, or what a user downloaded */
    const char *origin;          /* the folder that its tokenizer's other files lie in, or "" */
    const struct stage *stage;   /* of a checkpoint; NULL otherwise */
    const char *dtype;
};

/* The folder that the stage's first model came from; "" for one that was made here. */
static void find_origin(const struct recipe *recipe, const struct stage *stage,
                        char origin[FILE_PATH_MAX])
{
    const struct stage *parent = stage;

    for (size_t i = 0; i <= recipe->n_stages && parent; i++) {
        snprintf(origin, FILE_PATH_MAX, "%s", parent->from);
        parent = recipe_find(recipe, parent->from);
    }
}

/* The origin's files hold when the stage used the template that they describe. */
static int has_same_template(const struct model_source *source)
{
    const char *name;

    if (!source->stage)
        return 1;
    if (!source->origin[0] || chat_template_detect(source->origin, &name) < 0)
        return 0;
    return strcmp(name, source->stage->settings.tasks.template_name) == 0;
}

static int copy_tokenizer_files(const struct model_source *source, const char *directory)
{
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json", "chat_template.jinja", "vocab.json",
                                        "merges.txt"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        TRY(copy_file(source->origin, directory, names[i], 1));
    return STATUS_OK;
}

/* Of config.json what conversion leaves behind. */
static int carry_notes(const char *from, const char *to)
{
    struct model_notes notes;

    TRY(model_notes_read(&notes, from));
    int status = checkpoint_put_notes(to, &notes);
    model_notes_release(&notes);
    return status;
}

static int write_model(const struct model_source *source, const char *directory)
{
    enum dtype dtype;

    TRY(choose_dtype(source->dtype, source->folder, &dtype));
    TRY(file_make_directories(directory));
    TRY(model_convert(source->folder, directory, dtype));
    TRY(carry_notes(source->folder, directory));
    TRY(copy_file(source->folder, directory, "generation_config.json", 1));
    TRY(copy_file(source->folder, directory, "tokenizer.json", source->stage == NULL));
    if (has_same_template(source))
        TRY(copy_tokenizer_files(source, directory));
    else
        TRY(write_tokenizer_config(source->stage, source->folder, directory));
    return file_sync_directory(directory);
}

/* The folder appears whole or not at all. */
static int write_whole(const struct model_source *source, const char *name)
{
    char temporary[FILE_PATH_MAX];

    if (snprintf(temporary, sizeof(temporary), "%s.tmp", name) >= (int)sizeof(temporary))
        return status_fail(STATUS_CONFIG, "path is too long: %s", name);
    TRY(file_remove_tree(temporary));
    int status = write_model(source, temporary);
    if (status == STATUS_OK && rename(temporary, name))
        status = status_fail(STATUS_IO, "cannot rename %s to %s: %s", temporary, name,
                             strerror(errno));
    if (status < 0) {
        char why[512];
        snprintf(why, sizeof(why), "%s", status_reason());
        file_remove_tree(temporary);
        status_fail(status, "%s is not written: %s", name, why);
    }
    return status;
}

static int clean_name(char name[FILE_PATH_MAX], const char *directory)
{
    size_t n = strlen(directory);

    while (n > 1 && directory[n - 1] == '/')
        n--;
    if (n >= FILE_PATH_MAX)
        return status_fail(STATUS_CONFIG, "path is too long: %s", directory);
    snprintf(name, FILE_PATH_MAX, "%.*s", (int)n, directory);
    return refuse_existing(name);
}

int pipeline_export_model(const char *run, const char *stage_name, const char *dtype,
                          const char *directory)
{
    char checkpoint[FILE_PATH_MAX], name[FILE_PATH_MAX], origin[FILE_PATH_MAX];
    struct model_source source = {.folder = checkpoint, .origin = origin, .dtype = dtype};
    struct recipe recipe;
    int64_t step;
    int status;

    TRY(clean_name(name, directory));
    TRY(locate_recipe(&recipe, NULL, run, NULL));
    TRY_OUT(locate_stage(&recipe, stage_name, &source.stage));
    TRY_OUT(locate_checkpoint(run, stage_name, checkpoint, &step));
    TRY_OUT(checkpoint_verify(checkpoint));
    find_origin(&recipe, source.stage, origin);
    status = write_whole(&source, name);
out:
    recipe_release(&recipe);
    return status;
}

int pipeline_export_folder(const char *from, const char *dtype, const char *directory)
{
    const struct model_source source = {.folder = from, .origin = from, .dtype = dtype};
    char name[FILE_PATH_MAX];

    TRY(clean_name(name, directory));
    return write_whole(&source, name);
}

/* ---- Dataset. */

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
    TRY(refuse_existing(path));
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
