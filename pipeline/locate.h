/* pipeline/locate.h - what a run has made, found without writing to it. Private to pipeline/. */
#ifndef HONE_PIPELINE_LOCATE_H
#define HONE_PIPELINE_LOCATE_H

#include "pipeline/recipe.h"

/* The newest checkpoint of a stage, whole path, and its step. STATUS_CONFIG names the stages there
 * are when there is none of that name, STATUS_FAILED says that it has no checkpoint. */
int locate_checkpoint(const char *run, const char *stage, char path[FILE_PATH_MAX], int64_t *step);

/* One by its step, or CHECKPOINT_NEWEST, or CHECKPOINT_BEST: of those that are still there the one
 * that config's metric_for_best_model chooses. Else a failure that lists the steps there are. */
int locate_checkpoint_of(const char *run, const char *stage, int64_t which,
                         const struct run_config *config, char path[FILE_PATH_MAX]);

/* The dataset that a stage learnt from: its own, or that of its data_from. */
int locate_dataset(const char *run, const struct stage *stage, char path[FILE_PATH_MAX]);

/* The recipe at `config`, else the run's config.yaml, with overrides. */
int locate_recipe(struct recipe *recipe, const char *config, const char *run,
                  const char *const *overrides);

/* A stage by name, else an error that lists the names. */
int locate_stage(const struct recipe *recipe, const char *name, const struct stage **stage);

#endif
