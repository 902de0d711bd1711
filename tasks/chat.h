/*
 * tasks/chat.h - conversations: read from JSON, rendered as a family's template does.
 *
 * A conversation is [system,] user, assistant, user, ... One that ends with a user is a prompt. Of
 * one that ends with an assistant the last answer is the completion; earlier ones are prompt.
 */
#ifndef HONE_TASKS_CHAT_H
#define HONE_TASKS_CHAT_H

#include "common/json.h"
#include "tasks/tasks.h"

enum chat_role { CHAT_SYSTEM, CHAT_USER, CHAT_ASSISTANT };

struct chat_message {
    enum chat_role role;
    const char *text;   /* borrowed */
    size_t bytes;
};

struct chat {
    struct chat_message *messages;
    size_t n;
};

/* `list` is the array under `key`; the last message must have the role `last`. */
int chat_read(struct chat *chat, const json_t *list, const char *key, enum chat_role last,
              const char *where);
void chat_release(struct chat *chat);

/* Appends; `completion` is NULL for a prompt. *n_prefill is the end of the prompt that belongs to
 * the answer. */
int chat_render(const struct chat_template *template, const struct chat *chat, const char *where,
                struct text *prompt, struct text *completion, size_t *n_prefill);

#endif
