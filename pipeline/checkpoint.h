/*
 * pipeline/checkpoint.h - checkpoints: directories that appear whole or not at all. Private.
 *
 * <run>/checkpoints/<stage>/step-000400/ holds config.json, model.safetensors, tokenizer.json,
 * generation_config.json, the learner's state, and manifest.json, written last, with the SHA-256 of
 * each. It is made under a name ending in ".tmp", synced and renamed. Loading verifies the digests.
 */
#ifndef HONE_PIPELINE_CHECKPOINT_H
#define HONE_PIPELINE_CHECKPOINT_H

#include "common/files.h"
#include "learner/learner.h"
#include "model/model.h"

/* `notes` go into config.json and generation_config.json. `learner` may be NULL: weights alone.
 * Fills the manifest's digest in hex. */
int checkpoint_save(const char *directory, const struct model *model,
                    const struct tokenizer *tokenizer, const struct model_notes *notes,
                    const struct learner *learner, char digest_hex[DIGEST_HEX_BYTES]);

/* Puts the notes into a folder's config.json. */
int checkpoint_put_notes(const char *directory, const struct model_notes *notes);

/* Compares every file with the manifest; a damaged or missing one is named. */
int checkpoint_verify(const char *directory);

#endif
