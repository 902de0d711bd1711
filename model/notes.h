/*
 * model/notes.h - what a model's folder says beside its weights: which ids end a completion, and
 * the keys of config.json and generation_config.json that hone does not use but hands on.
 *
 * Part of model/'s face (model.h includes it). Both files come from outside: ids are checked.
 */
#ifndef HONE_MODEL_NOTES_H
#define HONE_MODEL_NOTES_H

#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

#define MODEL_MAX_STOPS 64

struct model_notes {                 /* all 0: a model that was made here */
    struct text config, generation;  /* the files; empty where there is none */
    int32_t stop_ids[MODEL_MAX_STOPS];
    int n_stops;
    int is_bf16;                     /* "torch_dtype": the weights are meant to be bfloat16 */
};

/* "eos_token_id" of generation_config.json, else that of config.json, an id or a list of them, is
 * the beginning of stop_ids. The second file may be absent. */
int model_notes_read(struct model_notes *notes, const char *directory);
int model_notes_parse(struct model_notes *notes, const char *config, size_t n_config,
                      const char *generation, size_t n_generation, const char *where);
void model_notes_release(struct model_notes *notes);

/* One more, unless it is there; a negative one is none. */
int model_notes_add_stop(struct model_notes *notes, int32_t id);

/* `printed` is config.json as model_shape_print() writes it: gets the notes' "bos_token_id" and
 * "eos_token_id", and their keys that it lacks. Those which name what it says in another way, or
 * code that is not handed on, stay behind. */
int model_notes_put_config(const struct model_notes *notes, struct text *printed);
/* Appends generation_config.json: the notes' own with stop_ids as its "eos_token_id". */
int model_notes_print_generation(const struct model_notes *notes, struct text *out);

#endif
