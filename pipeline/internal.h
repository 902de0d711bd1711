/* pipeline/internal.h - what the stages share. Private to pipeline/. */
#ifndef HONE_PIPELINE_INTERNAL_H
#define HONE_PIPELINE_INTERNAL_H

#include "common/arena.h"
#include "common/random.h"
#include "common/watchdog.h"
#include "learner/learner.h"
#include "model/model.h"
#include "pipeline/checkpoint.h"
#include "pipeline/exchange.h"
#include "pipeline/pipeline.h"
#include "pipeline/stages.h"
#include "pipeline/weight_share.h"

#define STEP_ARENA_BYTES ((size_t)8 << 30)
#define MAX_METRICS 256
#define METRIC_NAME_BYTES 96

struct pipeline {
    struct pipeline_options options;
    struct recipe recipe;
    struct run_store *store;
    struct exchange *exchange;       /* NULL until a stage needs workers */
    struct ops *ops;                 /* of the learner */
    struct weight_share share;       /* empty where weights travel as files */
    char *config_path;               /* <run>/config.yaml */
    int lock;                        /* descriptor of <run>/lock */
    struct watchdog *watchdog;
    struct watchdog_options watchdog_options;
    char stuck_path[FILE_PATH_MAX];
    int is_finished;                 /* nothing that is wanted is left to do: nothing is written */
};
/* pipeline_close() gives back whatever pipeline_open() came to. */
int pipeline_open(struct pipeline *pipeline, const struct pipeline_options *options);
void pipeline_close(struct pipeline *pipeline);

/* One stage being run. */
struct stage_run {
    struct pipeline *pipeline;
    const struct stage *stage;
    size_t index;                    /* in the recipe */
    int64_t id;                      /* row in run.db */
    struct tensorboard *board;
    struct model *policy, *reference;
    struct tokenizer *tokenizer;
    struct model_notes notes;        /* of the policy's folder; its stop ids are this stage's */
    struct learner *learner;
    struct chat_template chat;
    struct task_set *train, *heldout;
    int heldout_is_checked;          /* its prompts fit */
    int64_t parent_checkpoint;       /* row ids; 0: none */
    int64_t dataset;
    struct arena arena;              /* groups of one step */
    int64_t step, n_steps;
    int64_t saved_step;              /* of the newest checkpoint, begun or there; -1: none yet */
    char saved_path[STAGE_NAME_BYTES + 64];   /* of the one begun, relative to the run */
    struct checkpoint_save save;
    double last_figure;              /* reward, or loss: for the progress line */
};

/* Metrics of one step, their names kept here. */
struct metric_list {
    struct metric_value values[MAX_METRICS];
    char names[MAX_METRICS][METRIC_NAME_BYTES];
    size_t n;
};
void metric_add(struct metric_list *list, double value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
double metric_get(const struct metric_list *list, const char *name);   /* NAN when absent */

int stage_grpo_run(struct stage_run *run);
int stage_sft_run(struct stage_run *run);

/* Seeds: one for each use, so that no two share a stream. */
enum seed_use { SEED_MODEL = 1, SEED_TASKS, SEED_SAMPLES, SEED_BATCHES, SEED_EVAL, SEED_DATA,
                SEED_ADAPTERS, SEED_VERIFIERS, SEED_ROUNDING };
uint64_t stage_seed(const struct stage_run *run, enum seed_use use);
struct optimizer_config stage_optimizer(const struct stage_run *run);

int stage_is_stopped(const struct stage_run *run);   /* by a signal, or at until_step */

/* ---- stage_common.c: what every stage begins and ends with. */
/* stage_close() gives everything of the stage back. */
int stage_open(struct stage_run *run);
void stage_close(struct stage_run *run);

/* The policy: from this stage's last checkpoint, else its parent's, else a new model; with its
 * tokenizer the template is bound and the held-out tasks are read. Sets run->step to the first step
 * to do; resume_path is "" when the stage begins. */
int stage_load_policy(struct stage_run *run, char resume_path[FILE_PATH_MAX]);
/* Fits run->chat to run->tokenizer; comes before any task or document is read. */
void stage_bind_template(struct stage_run *run);
/* The reference model, as the policy was when the stage began. */
int stage_load_reference(struct stage_run *run);

/* The training tasks whose prompts fit; what does not fit is left out with a warning. */
int stage_open_train(struct stage_run *run);
int stage_keep_short_prompts(const struct stage_run *run, struct task_set *set, const char *path);

/* After preparing: number of steps into run.db, one log line. */
int stage_announce(struct stage_run *run);
/* Stores a step with its metrics and groups, writes TensorBoard, logs a line when due. */
int stage_record_step(struct stage_run *run, double wall_seconds, struct metric_list *metrics,
                      const struct sample_group *groups, size_t n_groups);
/* Counts the step; saves a checkpoint, then evaluates, when due and at the end. */
int stage_end_of_step(struct stage_run *run);
/* After a resume: the evaluation that was due at the checkpoint, when it had not come to an end. */
int stage_catch_up(struct stage_run *run);

/* Workers for this stage; the policy or a checkpoint published to them. */
int stage_start_workers(struct stage_run *run);
int stage_publish_policy(struct stage_run *run, uint32_t version);
int stage_publish_checkpoint(struct stage_run *run, const char *directory, uint32_t version);
/* Unique in the run, and the same after a resume. */
uint32_t stage_weight_version(const struct stage_run *run, int64_t step);

/* ---- stage_checkpoint.c. The stage's newest checkpoint, whole, or "" at its beginning; sets
 * run->step. A damaged one is refused, or left behind when options.skip_damaged says so. */
int stage_find_own(struct stage_run *run, char path[FILE_PATH_MAX]);
/* The newest checkpoint of another stage, whole, and its row; or a folder from outside and 0. */
int stage_find_other(struct stage_run *run, const char *stage, char path[FILE_PATH_MAX],
                     int64_t *id);
/* Whether the newest checkpoint of a stage is there (and whole, where damaged ones are skipped). */
int stage_has_checkpoint(const struct pipeline *pipeline, const char *stage, int *has);
/* begin: of run->step, unless it is there; end: waits until it is on the disk and in run.db, and
 * removes what run.save_total_limit and its company do not keep; poll: the same without waiting. */
int stage_begin_checkpoint(struct stage_run *run);
int stage_poll_checkpoint(struct stage_run *run);
int stage_end_checkpoint(struct stage_run *run);
/* After the last step, whatever its status: nothing is left to be written. INTERRUPTED: with a
 * checkpoint of what is done. */
int stage_end(struct stage_run *run, int status);

/* ---- export_dataset.c: exports never write over anything. */
int export_refuse_existing(const char *path);

/* ---- groups.c: figures of judged groups. */
void groups_add_metrics(struct metric_list *list, const struct sample_group *groups, size_t n);

/* ---- evaluate.c: held-out tasks sampled and judged; figures under "eval/". The policy must be
 * published as `version`. Groups live in run->arena. */
int evaluate(struct stage_run *run, uint32_t version, struct metric_list *list,
             struct sample_group **groups, size_t *n_groups);

/* ---- dataset.c: samples a checkpoint, filters, writes <run>/datasets/<stage>.jsonl, unless it is
 * there already (then it may have been edited, and is taken as it is). Fills path. */
int dataset_prepare(struct stage_run *run, char path[FILE_PATH_MAX]);

#endif
