/*
 * tasks/tasks.h - what is asked: task sets from JSONL, chat templates, text for training, and the
 * toy world that the demo learns.
 *
 * A task file has one JSON object a line: question, reference, verifier, and optionally id, kind,
 * language. A text file has {"text"}. A chat file has {"messages": [{"role", "content"}, ...]}. A
 * bad line is an error that names file:line and the key.
 */
#ifndef HONE_TASKS_TASKS_H
#define HONE_TASKS_TASKS_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/config.h"
#include "wire/wire.h"

struct tasks_config {
    char train[CONFIG_TEXT_BYTES], heldout[CONFIG_TEXT_BYTES];   /* task files */
    char text[CONFIG_TEXT_BYTES];       /* text file: pre-training */
    char general[CONFIG_TEXT_BYTES];    /* chat file: general data mixed into SFT */
    char kinds[CONFIG_TEXT_BYTES];      /* list: only tasks of these kinds; empty: all */
    char template_name[CONFIG_TEXT_BYTES];   /* of the template table, or a text with {question} */
    char language[CONFIG_TEXT_BYTES];   /* of tasks that name none */
};
extern const struct config_section tasks_config_section;   /* section "tasks" */

/* ---- Templates: how a question becomes what the model reads. */
struct chat_template {
    char *before, *after;   /* around the question */
    char *prefill;          /* the end of `after` that already belongs to the answer, or "" */
    /* With a system message, system_before + message + system_after stands in place of `before`;
     * both NULL when the template knows no system message. */
    char *system_before, *system_after;
};
int chat_template_init(struct chat_template *chat, const char *name_or_text);
void chat_template_release(struct chat_template *chat);
const char *chat_template_name(size_t i);   /* the table's rows; NULL at the end */

/* ---- Task sets. All memory is the set's. */
struct task_set;
int task_set_open(struct task_set **out, const char *path, const char *kinds,
                  const struct chat_template *chat, const char *default_language);
void task_set_close(struct task_set **set);
size_t task_set_count(const struct task_set *set);
const struct task *task_set_get(const struct task_set *set, size_t i);
/* Keeps the tasks that is_kept() says 1 for, in their order; returns how many went. */
size_t task_set_keep(struct task_set *set, int (*is_kept)(const struct task *task, void *context),
                     void *context);
void task_set_digest(const struct task_set *set, struct digest *digest);   /* of the file */
/* The task at `position` of an endless stream: each epoch is a permutation drawn from (seed,
 * epoch), so that a resumed run continues with the same tasks. */
const struct task *task_set_pick(const struct task_set *set, uint64_t seed, uint64_t position);

/* ---- Training text. One document or conversation each; memory is the set's. */
struct document {
    struct wire_text prompt;       /* no loss on it; empty for plain text */
    struct wire_text completion;   /* loss on it and on the end-of-text token behind it */
};
struct document_set;
/* A text file ({"text"}) or a chat file ({"messages"}): told by the first line's keys. */
int document_set_open(struct document_set **out, const char *path,
                      const struct chat_template *chat);
/* An empty one to append to: for mixing. */
int document_set_create(struct document_set **out);
int document_set_append(struct document_set *set, const struct document *document);
void document_set_close(struct document_set **set);
size_t document_set_count(const struct document_set *set);
const struct document *document_set_get(const struct document_set *set, size_t i);

/* ---- The toy world: writes into an existing directory tokenizer.json, pretrain.jsonl,
 * train.jsonl, heldout.jsonl, general.jsonl. A function of the options alone. tasks/README.md
 * describes the kinds (chain, search, code, fact) and the habits of the base text. */
struct toy_options {
    uint64_t seed;
    int64_t n_documents;   /* of pre-training text */
    int64_t n_train, n_heldout, n_general;
};
int toy_world_write(const char *directory, const struct toy_options *options);

#endif
