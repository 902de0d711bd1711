/*
 * tasks/tasks.h - what is asked: task sets from JSONL, chat templates, text for training, and the
 * toy world that the demo learns.
 *
 * A task file has one JSON object a line: question, reference, verifier, and optionally id, kind,
 * language. A text file has {"text"}. A chat file has {"messages": [{"role", "content"}, ...]}.
 * Any of them may be gzip or zstd. A bad line is an error that names file:line and the key.
 * docs/data.md has every shape with an example.
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
    int format;                         /* of task files: an enum task_format */
    char columns[CONFIG_TEXT_BYTES];    /* list: "question=problem,reference=extra.answer" */
    char reference_columns[CONFIG_TEXT_BYTES];   /* list: columns that make up the reference */
    char verifier_columns[CONFIG_TEXT_BYTES];    /* list: further ones that verifiers get; "*" */
    int on_bad_record;                  /* 0: fail, 1: skip */
};
extern const struct config_section tasks_config_section;   /* section "tasks" */

/* ---- Templates: how a question becomes what the model reads. */
#define CHAT_TEMPLATE_AUTO "auto"

/* What a family's template does with the reasoning in an assistant's message. */
enum chat_thinking {
    CHAT_THINKING_STAYS,    /* it is content as any other */
    CHAT_THINKING_GOES,     /* DeepSeek R1: gone from earlier turns */
    CHAT_THINKING_FRAMED    /* Qwen3: the same, and the last turn always has <think> blocks */
};

struct chat_template {
    char *before, *after;   /* around the question of the first turn */
    char *prefill;          /* the end of `after` that already belongs to the answer, or "" */
    char *opening;          /* the token that `before` and `system_before` open with, or "" */
    /* With a system message, system_before + message + system_after stands in place of `before`;
     * both NULL when the template knows no system message. */
    char *system_before, *system_after;
    /* A further turn: answer + turn_end + turn_gap + user_before + question + after. NULL:
     * the template knows one turn alone. */
    char *user_before;
    char *turn_end, *turn_gap;   /* behind an answer: its token, and what never is learned */
    char *closing;          /* the token that ends an answer, or "": the end-of-text token does */
    int trims;              /* blanks around a message are left out */
    enum chat_thinking thinking;
};
/* CHAT_TEMPLATE_AUTO is refused: chat_template_detect() turns it into a name. */
int chat_template_init(struct chat_template *chat, const char *name_or_text);
void chat_template_release(struct chat_template *chat);
const char *chat_template_name(size_t i);   /* the table's rows; NULL at the end */

/* Fits the template to a tokenizer: the opening token of its family (Llama 3, DeepSeek) stands in
 * front of every prompt, one that it does not know is left out, and an answer ends with turn_end
 * when that is another token than `eos`. */
void chat_template_bind(struct chat_template *chat,
                        int (*has_token)(const void *context, const char *token),
                        const void *context, const char *eos);

/* The name of the template that the tokenizer in `directory` has: chat_template.jinja, or
 * chat_template of tokenizer_config.json. One that is not known is STATUS_UNSUPPORTED. */
int chat_template_detect(const char *directory, const char **name);

/* ---- Task sets. All memory is the set's. */
struct task_set;
/* `kinds` "": all. Of `config` language, format, the columns and on_bad_record count; NULL: the
 * defaults. */
int task_set_open(struct task_set **out, const char *path, const char *kinds,
                  const struct chat_template *chat, const struct tasks_config *config);
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
    struct wire_text completion;   /* loss on it, and on an end-of-text token behind it */
    int is_ended;                  /* the completion has its own end: no such token */
};
struct document_set;
/* A text file ({"text"}) or a chat file ({"messages"}): told by the first line's keys. Of a
 * conversation the last answer is the completion. */
int document_set_open(struct document_set **out, const char *path,
                      const struct chat_template *chat);
/* The same with columns and on_bad_record of `config`; NULL: defaults. */
int document_set_read(struct document_set **out, const char *path,
                      const struct chat_template *chat, const struct tasks_config *config);
/* An empty one to append to: for mixing. */
int document_set_create(struct document_set **out);
int document_set_append(struct document_set *set, const struct document *document);
void document_set_close(struct document_set **set);
size_t document_set_count(const struct document_set *set);
const struct document *document_set_get(const struct document_set *set, size_t i);

/* Appends the file, expanded when it is gzip or zstd, each line with its newline. */
int task_file_read(const char *path, size_t max_bytes, struct text *out);

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
