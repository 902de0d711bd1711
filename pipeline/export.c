/* A stage's model as a Hugging Face folder, or what its adapters add as PEFT's. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/json.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"

/* ---- Model. */

static int copy_file(const char *from, const char *to, const char *name, const char *new_name)
{
    char source[FILE_PATH_MAX], target[FILE_PATH_MAX];
    struct file_map map;

    TRY(file_join(source, from, name));
    TRY(file_join(target, to, new_name));
    TRY(file_map_open(&map, source));
    int status = file_write_atomic(target, map.bytes, map.n);
    file_map_close(&map);
    return status;
}

static int copy_if_there(const char *from, const char *to, const char *name)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, from, name));
    return file_exists(path) ? copy_file(from, to, name, name) : STATUS_OK;
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

#define ADAPTER_FILE "adapter.safetensors"   /* of a checkpoint: learner/state.c */

struct model_source {
    const char *run;             /* of a checkpoint's stage; NULL otherwise */
    const char *folder;          /* a checkpoint, or what a user downloaded */
    const char *origin;          /* the folder that its tokenizer's other files lie in, or "" */
    const struct stage *stage;   /* of a checkpoint; NULL otherwise */
    const char *dtype;
};

/* NULL is the dtype that the weights have. */
static int choose_dtype(const struct model_source *source, enum dtype *dtype)
{
    const char *name = source->dtype;

    /* The checkpoint holds float32 masters of what the stage trained as bfloat16. */
    if (!name && source->stage && source->stage->settings.optimizer.bf16) {
        *dtype = DTYPE_BF16;
        return STATUS_OK;
    }
    if (!name)
        return model_folder_dtype(source->folder, dtype);
    if (strcmp(name, "float32") && strcmp(name, "bfloat16"))
        return status_fail(STATUS_CONFIG, "--dtype is \"%s\"; it must be float32 or bfloat16",
                           name);
    *dtype = strcmp(name, "bfloat16") == 0 ? DTYPE_BF16 : DTYPE_F32;
    return STATUS_OK;
}

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
        TRY(copy_if_there(source->origin, directory, names[i]));
    return STATUS_OK;
}

static int write_tokenizer(const struct model_source *source, const char *directory)
{
    if (source->stage)
        TRY(copy_file(source->folder, directory, "tokenizer.json", "tokenizer.json"));
    else
        TRY(copy_if_there(source->folder, directory, "tokenizer.json"));
    if (has_same_template(source))
        return copy_tokenizer_files(source, directory);
    return write_tokenizer_config(source->stage, source->folder, directory);
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

    TRY(choose_dtype(source, &dtype));
    TRY(file_make_directories(directory));
    TRY(model_convert(source->folder, directory, dtype));
    TRY(carry_notes(source->folder, directory));
    TRY(copy_if_there(source->folder, directory, "generation_config.json"));
    TRY(write_tokenizer(source, directory));
    return file_sync_directory(directory);
}

/* What PEFT's adapter_config.json calls the base: what the stage began with. */
static int find_base(const struct model_source *source, char base[FILE_PATH_MAX])
{
    int64_t step;

    if (!strchr(source->stage->from, '/'))
        return locate_checkpoint(source->run, source->stage->from, base, &step);
    snprintf(base, FILE_PATH_MAX, "%s", source->stage->from);
    return STATUS_OK;
}

static int write_adapter_config(const struct model_source *source, const char *directory)
{
    const struct stage_settings *settings = &source->stage->settings;
    const struct model_options options =
        learner_model_options(&settings->optimizer, &settings->lora, 0);
    char base[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct text text = {0};

    TRY(find_base(source, base));
    TRY(file_join(path, directory, "adapter_config.json"));
    model_print_adapter_config(&options.lora, base, &text);
    int status = file_write_atomic(path, text.data, text.length);
    text_release(&text);
    return status;
}

static int write_adapter(const struct model_source *source, const char *directory)
{
    if (!source->stage->settings.lora.r)
        return status_fail(STATUS_CONFIG, "stage %s trained all weights (its lora.r is 0); export "
                           "its model", source->stage->name);
    TRY(file_make_directories(directory));
    TRY(copy_file(source->folder, directory, ADAPTER_FILE, "adapter_model.safetensors"));
    TRY(write_adapter_config(source, directory));
    TRY(write_tokenizer(source, directory));
    return file_sync_directory(directory);
}

/* The folder appears whole or not at all. */
static int write_whole(const struct model_source *source, const char *name,
                       int (*write)(const struct model_source *source, const char *directory))
{
    char temporary[FILE_PATH_MAX];

    if (snprintf(temporary, sizeof(temporary), "%s.tmp", name) >= (int)sizeof(temporary))
        return status_fail(STATUS_CONFIG, "path is too long: %s", name);
    TRY(file_remove_tree(temporary));
    int status = write(source, temporary);
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
    return export_refuse_existing(name);
}

static int export_stage(const char *run, const char *stage_name, int64_t which,
                        const char *dtype, const char *directory,
                        int (*write)(const struct model_source *source, const char *directory))
{
    char checkpoint[FILE_PATH_MAX], name[FILE_PATH_MAX], origin[FILE_PATH_MAX];
    struct model_source source = {
        .run = run, .folder = checkpoint, .origin = origin, .dtype = dtype};
    struct recipe recipe;
    int status;

    TRY(clean_name(name, directory));
    TRY(locate_recipe(&recipe, NULL, run, NULL));
    TRY_OUT(locate_stage(&recipe, stage_name, &source.stage));
    TRY_OUT(locate_checkpoint_of(run, stage_name, which, &recipe.run, checkpoint));
    TRY_OUT(checkpoint_verify(checkpoint, NULL));
    find_origin(&recipe, source.stage, origin);
    status = write_whole(&source, name, write);
out:
    recipe_release(&recipe);
    return status;
}

int pipeline_export_model(const char *run, const char *stage, int64_t which, const char *dtype,
                          const char *directory)
{
    return export_stage(run, stage, which, dtype, directory, write_model);
}

int pipeline_export_adapter(const char *run, const char *stage, int64_t which,
                            const char *directory)
{
    return export_stage(run, stage, which, NULL, directory, write_adapter);
}

int pipeline_export_folder(const char *from, const char *dtype, const char *directory)
{
    const struct model_source source = {.folder = from, .origin = from, .dtype = dtype};
    char name[FILE_PATH_MAX];

    TRY(clean_name(name, directory));
    return write_whole(&source, name, write_model);
}
