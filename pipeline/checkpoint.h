/*
 * pipeline/checkpoint.h - checkpoints: directories that appear whole or not at all. Private.
 *
 * <run>/checkpoints/<stage>/step-000400/ holds config.json, model.safetensors, tokenizer.json,
 * generation_config.json, the learner's state, and manifest.json, written last, with the SHA-256 of
 * each. It is made under a name ending in ".tmp", synced and renamed. Loading verifies the digests.
 */
#ifndef HONE_PIPELINE_CHECKPOINT_H
#define HONE_PIPELINE_CHECKPOINT_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/files.h"
#include "learner/learner.h"
#include "model/model.h"

/* One checkpoint on its way to the disk. checkpoint_begin() hands everything to the system's cache,
 * and the model may change again; a thread then syncs, digests and renames while the run goes on.
 * checkpoint_end() waits for it and gives its failure; one that was never begun is over. */
struct checkpoint_save {
    char directory[FILE_PATH_MAX], temporary[FILE_PATH_MAX];
    char digest_hex[DIGEST_HEX_BYTES];   /* of the manifest, after checkpoint_end() */
    pthread_t thread;
    int is_going_on;                     /* begun, not ended */
    atomic_int is_over;                  /* the thread has nothing left to do */
    int status;
    char why[1024];
};

/* `notes` go into config.json and generation_config.json. `learner` may be NULL: weights alone. */
int checkpoint_begin(struct checkpoint_save *save, const char *directory, const struct model *model,
                     const struct tokenizer *tokenizer, const struct model_notes *notes,
                     const struct learner *learner);
int checkpoint_is_over(struct checkpoint_save *save);   /* begun; checkpoint_end() will not wait */
int checkpoint_end(struct checkpoint_save *save);

/* Puts the notes into a folder's config.json. */
int checkpoint_put_notes(const char *directory, const struct model_notes *notes);

/* Compares every file with the manifest, and that with its digest in run.db (NULL: not known); a
 * damaged or missing one is STATUS_FORMAT and named. */
int checkpoint_verify(const char *directory, const char *manifest_hex);

#endif
