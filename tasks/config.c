#include <stddef.h>

#include "common/status.h"
#include "tasks/tasks.h"

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
     "How a question becomes a prompt: r1_zero, r1_zero_think, chatml, llama3, plain, toy, or a "
     "text with {question} in it."},
    {"language", CONFIG_STRING, offsetof(struct tasks_config, language), "en", 0, 0, NULL,
     "Language wanted in the reasoning on tasks that name none: en, zh."},
    {NULL, CONFIG_INT, 0, NULL, 0, 0, NULL, NULL}};

static int check(const void *config)
{
    const struct tasks_config *tasks = config;
    struct chat_template chat;

    TRY(chat_template_init(&chat, tasks->template_name));
    chat_template_release(&chat);
    return STATUS_OK;
}

const struct config_section tasks_config_section = {
    "tasks", "What is asked: task files, text files and the template of a prompt.", fields, check};
