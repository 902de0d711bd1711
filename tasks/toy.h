/*
 * tasks/toy.h - what the kinds of the toy world share.
 *
 * A kind draws a question with its reference, and writes an answer to it in one of three styles.
 * toy.c chooses kinds and styles, puts the tags (more or less well) and writes the files.
 */
#ifndef HONE_TASKS_TOY_H
#define HONE_TASKS_TOY_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"
#include "common/random.h"

#define TOY_QUESTION_BYTES 96
#define TOY_REFERENCE_BYTES 512
#define TOY_MAX_NUMBERS 6

/* What each kind's answer starts from; a kind uses the fields it needs. */
struct toy_task {
    char question[TOY_QUESTION_BYTES];
    char key[TOY_QUESTION_BYTES];   /* equal for tasks that are the same to a held-out set */
    char reference[TOY_REFERENCE_BYTES];
    int n_numbers;
    int numbers[TOY_MAX_NUMBERS];
    char operators[TOY_MAX_NUMBERS];   /* operators[i] stands before numbers[i + 1] */
    int target;
    int row;                           /* of the kind's own table */
};

enum toy_style {
    TOY_STEPS,   /* reasons step by step; every step is right */
    TOY_GUESS,   /* answers at once, mostly wrong */
    TOY_ATOM     /* one skill alone, answered at once and right */
};

enum toy_language { TOY_MIXED, TOY_ENGLISH };

struct toy_kind {
    const char *name, *verifier;
    int pretrain_percent, train_percent;      /* share among the kinds; each column sums to 100 */
    int atom_percent, guess_percent;          /* of pre-training documents; the rest: steps */
    /* `heldout`: the task is for heldout.jsonl alone (kinds whose questions are a closed list). */
    void (*draw_task)(struct toy_task *task, struct random_stream *stream, int heldout);
    void (*draw_atom)(struct toy_task *task, struct random_stream *stream);
    /* `think` stays empty unless the style is TOY_STEPS. */
    void (*write_answer)(const struct toy_task *task, struct random_stream *stream,
                         enum toy_style style, enum toy_language language, struct text *think,
                         struct text *answer);
};

void toy_chain_draw_task(struct toy_task *task, struct random_stream *stream, int heldout);
void toy_chain_draw_atom(struct toy_task *task, struct random_stream *stream);
void toy_chain_write_answer(const struct toy_task *task, struct random_stream *stream,
                            enum toy_style style, enum toy_language language, struct text *think,
                            struct text *answer);

void toy_search_draw_task(struct toy_task *task, struct random_stream *stream, int heldout);
void toy_search_draw_atom(struct toy_task *task, struct random_stream *stream);
void toy_search_write_answer(const struct toy_task *task, struct random_stream *stream,
                             enum toy_style style, enum toy_language language, struct text *think,
                             struct text *answer);

void toy_code_draw_task(struct toy_task *task, struct random_stream *stream, int heldout);
void toy_code_draw_atom(struct toy_task *task, struct random_stream *stream);
void toy_code_write_answer(const struct toy_task *task, struct random_stream *stream,
                           enum toy_style style, enum toy_language language, struct text *think,
                           struct text *answer);

void toy_fact_draw_task(struct toy_task *task, struct random_stream *stream, int heldout);
void toy_fact_write_answer(const struct toy_task *task, struct random_stream *stream,
                           enum toy_style style, enum toy_language language, struct text *think,
                           struct text *answer);

/* Shared small things. */
int toy_chance(struct random_stream *stream, int percent);
int toy_between(struct random_stream *stream, int low, int high);   /* both included */
/* A connecting word with a blank on both sides: " then ", or of the other language. */
void toy_append_link(struct text *out, struct random_stream *stream, enum toy_language language);

/* The tokenizer.json of the toy world. */
void toy_tokenizer_write(struct text *out);

#endif
