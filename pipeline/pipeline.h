/*
 * pipeline/pipeline.h - the order of things: a recipe's stages, one after another, into a run.
 *
 * A run is a directory: run.db (SQLite), config.yaml (resolved), checkpoints/<stage>/step-000400/
 * (Hugging Face layout, optimizer state, a manifest with digests), datasets/<stage>.jsonl,
 * tensorboard/<stage>/, curves.svg. pipeline_run() goes on where the directory says it stopped.
 */
#ifndef HONE_PIPELINE_PIPELINE_H
#define HONE_PIPELINE_PIPELINE_H

#include "common/memory.h"
#include "pipeline/recipe.h"
#include "pipeline/report.h"
#include "pipeline/run_store.h"

struct pipeline_options {
    const char *config;              /* recipe; NULL: <run>/config.yaml of an earlier call */
    const char *run;                 /* directory; made when absent */
    const char *const *overrides;    /* "section.key=value", NULL-ended; may be NULL */
    const char *only;                /* one stage by name; NULL: all */
    const char *kind;                /* all stages of one kind; NULL: any */
    const char *program;             /* executable for worker processes */
    int accept_changes;              /* go on though the recipe is not the run's */
    int skip_damaged;                /* leave damaged checkpoints behind, go on from whole ones */
    int64_t until_step;              /* stop behind this step of the stage; 0: at its end */
    _Atomic int *stop;              /* set by a signal handler */
    struct ranks *ranks;             /* of which this is rank 0; NULL: alone */
    const char *rank_key;            /* text of a worker's key; NULL: in the folder of keys */
    int is_replay;                   /* nothing may be written into the run */
};
/* What the environment says of ranks, and the others found; *ranks stays NULL when this process is
 * alone. Before pipeline_run() or pipeline_replay(), which rank 0 calls; ranks_close() in any
 * case. */
int pipeline_join_ranks(const struct pipeline_options *options, struct ranks **ranks);
int pipeline_run(const struct pipeline_options *options);

/* The graph with settings, sizes and memory, before anything runs; checks files and models. */
int pipeline_plan(struct text *out, const struct pipeline_options *options, int as_json);

/* Evaluates the newest checkpoint of options->only, or the model folder `model`, on held-out tasks
 * and appends the figures. Nothing is stored. */
int pipeline_eval(struct text *out, const struct pipeline_options *options, const char *model,
                  int as_json);

/* `hone replay`: runs steps first..last of the stage options->only again, from the checkpoint
 * before them and beside the run, and appends a line for each thing compared. STATUS_FAILED names
 * the first difference. Nothing in the run directory changes; no other hone may work in it. As many
 * ranks as recorded it; options->ranks end with this. */
int pipeline_replay(struct text *out, const struct pipeline_options *options, int64_t first,
                    int64_t last);

/* A checkpoint of a stage as a Hugging Face folder that other programs load: of step `which`, the
 * newest, or the one that run.metric_for_best_model has kept. dtype is "float32", "bfloat16", or
 * NULL: as it is. */
enum { CHECKPOINT_NEWEST = -1, CHECKPOINT_BEST = -2 };
int pipeline_export_model(const char *run, const char *stage, int64_t which, const char *dtype,
                          const char *directory);
/* The adapters of a stage that trained them, as a folder that PEFT loads. */
int pipeline_export_adapter(const char *run, const char *stage, int64_t which,
                            const char *directory);
/* The same of a model folder: shards become one file, the dtype another. */
int pipeline_export_folder(const char *from, const char *dtype, const char *directory);
/* The dataset of a stage: "chat" ({"messages"}) or "prompt" ({"prompt", "completion"}) JSONL. */
int pipeline_export_dataset(const char *run, const char *stage, const char *format,
                            const char *path);

/* The settings that a worker process of a stage needs, from the run's config.yaml, and those of the
 * run; verifiers draw their random numbers from the run's seed. */
int pipeline_worker_settings(const char *config, const char *stage,
                             struct stage_settings *settings, struct run_config *run);

/* docs/config.md and the list for `hone help stages`. */
void pipeline_print_config_markdown(struct text *out);
void pipeline_print_stages(struct text *out);
int pipeline_is_stage_kind(const char *name);

#endif
