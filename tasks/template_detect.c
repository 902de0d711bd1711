/* Which row of the template table a tokenizer's own template is. */
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "tasks/tasks.h"

#define TEMPLATE_MAX_BYTES ((size_t)1 << 20)
#define CONFIG_MAX_BYTES ((size_t)64 << 20)   /* Llama's lists hundreds of reserved tokens */
#define N_MARKS 4

/* SHA-256 of template texts as their makers publish them, without blanks at the end. */
static const struct {
    const char *digest, *name;
} known[] = {
    /* Qwen2.5 Instruct, Qwen3, Qwen3 Instruct 2507 */
    {"55b2f4a26ac9ee719330a61a0c39d9e538b0e9322212f048326318cff4f8674a", "qwen2.5"},
    {"a55ee1b1660128b7098723e0abcd92caa0788061051c62d51cbe87d9cf1974d8", "qwen3"},
    {"64f85b198065d0fba2a81f37e10ed68161ce2c19a754c7100e67e0ca2ee9c326", "chatml"},
    /* Llama 3 Instruct, 3.1 Instruct */
    {"ba03a121d097859c7b5b9cd03af99aafe95275210d2876f642ad9929a150f122", "llama3"},
    {"93c0e9aa3629bbd77e68dbc0f5621f6e6b23aa8d74b932595cdb8d64684526d7", "llama3.1"},
    /* DeepSeek R1 Distill, Qwen and Llama alike */
    {"56a1447ad31926fdc21fb07e56e5642bd9c850c4f52d8c8af7bbe5f079a84f5f", "deepseek_r1"},
};

/* Else by what only this family's text has, and what changes the family's rendering. */
static const struct {
    const char *name;
    const char *has[N_MARKS], *lacks[N_MARKS];
} marks[] = {
    {"qwen2.5", {"<|im_start|>", "You are Qwen, created by Alibaba Cloud. You are a helpful "
                                 "assistant."}, {"<think>", "</think>", "trim"}},
    {"qwen2.5_math", {"<|im_start|>", "Please reason step by step, and put your final answer "
                                      "within \\\\boxed{}."}, {"<think>", "</think>", "trim"}},
    {"qwen2", {"<|im_start|>", "You are a helpful assistant."},
     {"You are Qwen", "<think>", "</think>", "trim"}},
    {"qwen3", {"<|im_start|>", "last_query_index", "'\\n<think>\\n' + reasoning_content.strip(",
               "enable_thinking is false"}, {"You are ", "trim"}},
    {"chatml", {"'<|im_start|>' + message", "<|im_end|>' + '\\n'"},
     {"You are ", "Please ", "think", "trim"}},
    {"llama3", {"<|start_header_id|>", "bos_token", "<|eot_id|>", "trim"},
     {"Cutting Knowledge Date", "You are ", "think"}},
    {"llama3.1", {"<|start_header_id|>", "Cutting Knowledge Date: December 2023\\n", "<|eot_id|>",
                  "set date_string = \"26 Jul 2024\""}, {"strftime_now", "You are ", "think"}},
    /* Llama 3.2: the same but for today's date, where the clock can be asked. A prompt that changes
     * overnight is no prompt to train on: the date is the one that it falls back on. */
    {"llama3.1", {"<|start_header_id|>", "Cutting Knowledge Date: December 2023\\n",
                  "set date_string = strftime_now(\"%d %b %Y\")",
                  "set date_string = \"26 Jul 2024\""}, {"You are ", "think", "if system_message"}},
    {"deepseek_r1", {"{{bos_token}}{{ns.system_prompt}}", "'<｜User｜>' + message['content']",
                     "content.split('</think>')[-1]", "'<｜Assistant｜><think>\\n'"}, {"trim"}},
};

static int has_marks(const char *text, size_t row)
{
    for (size_t i = 0; i < N_MARKS; i++)
        if ((marks[row].has[i] && !strstr(text, marks[row].has[i])) ||
            (marks[row].lacks[i] && strstr(text, marks[row].lacks[i])))
            return 0;
    return 1;
}

/* NULL when none, or more than one, of the families has it. */
static const char *recognise(const char *text, const char *hex)
{
    const char *found = NULL;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(known[i].digest, hex) == 0)
            return known[i].name;
    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        if (!has_marks(text, i))
            continue;
        if (found)
            return NULL;
        found = marks[i].name;
    }
    return found;
}

/* chat_template is a text, or a list of {"name", "template"}: the one named "default" counts. */
static const char *template_of(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template"), *row;
    size_t i;

    if (!json_is_array(value))
        return json_string_value(value);
    json_array_foreach(value, i, row) {
        const char *name = json_string_value(json_object_get(row, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(row, "template"));
    }
    return NULL;
}

static int read_template(const char *directory, struct text *out, char path[FILE_PATH_MAX])
{
    json_t *config;

    TRY(file_join(path, directory, "chat_template.jinja"));
    if (file_exists(path))
        return file_read(path, TEMPLATE_MAX_BYTES, out);
    TRY(file_join(path, directory, "tokenizer_config.json"));
    if (!file_exists(path))
        return STATUS_OK;
    TRY(json_read_file(&config, path, CONFIG_MAX_BYTES));
    const char *text = template_of(config);
    if (text)
        text_append(out, text, strlen(text));
    json_decref(config);
    return STATUS_OK;
}

static int refuse(const char *path, const char *directory, const char *hex)
{
    struct text names = {0};
    const char *name;
    int status;

    for (size_t i = 0; (name = chat_template_name(i)); i++)
        text_print(&names, "%s%s", i ? ", " : "", name);
    if (hex)
        status = status_fail(STATUS_UNSUPPORTED, "%s: its chat template (SHA-256 %.16s...) is none "
                             "that tasks.template_name: auto knows; name the one that renders "
                             "alike (%s), or write a text with {question} in it", path, hex,
                             names.data);
    else
        status = status_fail(STATUS_UNSUPPORTED, "%s has no chat template (tokenizer_config.json, "
                             "chat_template.jinja) for tasks.template_name: auto to choose by; "
                             "name one (%s), or write a text with {question} in it", directory,
                             names.data);
    text_release(&names);
    return status;
}

int chat_template_detect(const char *directory, const char **name)
{
    char path[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES] = "";
    struct text text = {0};
    struct digest digest;
    int status = read_template(directory, &text, path);

    *name = NULL;
    while (text.length && strchr(" \t\r\n", text.data[text.length - 1]))
        text.data[--text.length] = '\0';
    if (status == STATUS_OK && text.length) {
        digest_of(&digest, text.data, text.length);
        digest_hex(&digest, hex);
        *name = recognise(text.data, hex);
    }
    if (status == STATUS_OK && !*name)
        status = refuse(path, directory, hex[0] ? hex : NULL);
    text_release(&text);
    return status;
}
