#include <stddef.h>
#include <string.h>

#include "common/status.h"
#include "tasks/columns.h"

static const char *const on_bad_names[] = {"fail", "skip", NULL};

static const struct config_field fields[] = {
    {"train", CONFIG_STRING, offsetof(struct tasks_config, train), "", 0, 0, NULL,
     "JSONL file of the tasks that training draws from."},
    {"heldout", CONFIG_STRING, offsetof(struct tasks_config, heldout), "", 0, 0, NULL,
     "JSONL file of the tasks that only evaluation sees."},
    {"text", CONFIG_STRING, offsetof(struct tasks_config, text), "", 0, 0, NULL,
     "JSONL file of {\"text\"} documents for pre-training."},
    {"general", CONFIG_STRING, offsetof(struct tasks_config, general), "", 0, 0, NULL,
     "JSONL file of {\"messages\"} conversations that are mixed into fine-tuning."},
    {"kinds", CONFIG_LIST, offsetof(struct tasks_config, kinds), "", 0, 0, NULL,
     "Only tasks of these kinds are used; an empty list means all."},
    {"template_name", CONFIG_STRING, offsetof(struct tasks_config, template_name), "r1_zero_think",
     0, 0, NULL,
     "How a question becomes a prompt: auto (the template of the model's tokenizer), r1_zero, "
     "r1_zero_think, chatml, qwen2, qwen2.5, qwen2.5_math, qwen3, llama3, llama3.1, deepseek_r1, "
     "plain, toy, or a text with {question} in it."},
    {"language", CONFIG_STRING, offsetof(struct tasks_config, language), "en", 0, 0, NULL,
     "Language wanted in the reasoning on tasks that name none: en, zh."},
    {"format", CONFIG_ENUM, offsetof(struct tasks_config, format), "auto", 0, 0, task_format_names,
     "Shape of the task files: auto tells it by the first record; docs/data.md."},
    {"columns", CONFIG_LIST, offsetof(struct tasks_config, columns), "", 0, 0, NULL,
     "Where a record has what is wanted, as question=problem or reference=extra.answer; of "
     "question, reference, verifier, kind, language, id, messages, text."},
    {"reference_columns", CONFIG_LIST, offsetof(struct tasks_config, reference_columns), "", 0, 0,
     NULL, "These columns as one JSON object are the reference that the verifier reads; * is the "
     "whole record; an empty list means the reference column."},
    {"verifier_columns", CONFIG_LIST, offsetof(struct tasks_config, verifier_columns), "*", 0, 0,
     NULL, "Further columns that verifiers get, as a JSON object; * is every one that hone does "
     "not take for itself; an empty list means none."},
    {"on_bad_record", CONFIG_ENUM, offsetof(struct tasks_config, on_bad_record), "fail", 0, 0,
     on_bad_names, "A record that cannot be read: fail names it and ends; skip leaves it out and "
     "warns once."},
    {NULL, CONFIG_INT, 0, NULL, 0, 0, NULL, NULL}};

static int check(const void *config)
{
    const struct tasks_config *tasks = config;
    struct chat_template chat;
    struct columns columns;

    TRY(columns_init(&columns, tasks));
    if (strcmp(tasks->template_name, CHAT_TEMPLATE_AUTO) == 0)
        return STATUS_OK;
    TRY(chat_template_init(&chat, tasks->template_name));
    chat_template_release(&chat);
    return STATUS_OK;
}

const struct config_section tasks_config_section = {
    "tasks", "What is asked: task files, text files and the template of a prompt.", fields, check};
