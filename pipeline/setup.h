/* pipeline/setup.h - what is looked at before a run starts. Private to pipeline/. */
#ifndef HONE_PIPELINE_SETUP_H
#define HONE_PIPELINE_SETUP_H

#include "pipeline/internal.h"

/* Hashes of every file that the recipe's sections name, and of the templates. */
int setup_hash_data(const struct recipe *recipe, char hex[DIGEST_HEX_BYTES]);
int setup_hash_templates(const struct recipe *recipe, char hex[DIGEST_HEX_BYTES]);

/* An ipc:// endpoint `name` in the run directory, or in /tmp when the path is too long for a
 * socket. */
int setup_endpoint(const char *run, const char *name, char out[FILE_PATH_MAX]);

/* The keys of a tcp:// endpoint, made when they are missing, and the file of the one that local
 * workers take; both are empty for ipc://. */
int setup_keys(const struct run_config *config, const char *run, const char *endpoint,
               struct wire_keys *keys, char worker_key[FILE_PATH_MAX]);

/* Files, models, verifiers and sandbox that the wanted stages need: before hours are spent. */
int setup_check(const struct recipe *recipe, const char *only, const char *kind);

/* Raises the limit of open files where that is allowed; refuses one that is too small. */
int setup_check_limits(const struct recipe *recipe);

/* The stages that this one comes from must be done, and their checkpoints there. */
int setup_check_parents(struct pipeline *pipeline, const struct stage *stage);

#endif
