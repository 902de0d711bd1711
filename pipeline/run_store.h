/*
 * pipeline/run_store.h - the run's SQLite file: what was done, from what, with what result.
 *
 * One writer: the coordinator. WAL mode, so that `hone status` and anyone's sqlite3 read while a
 * run goes on. Tables (docs/formats.md has the columns): run, stage, step, metric, dataset,
 * checkpoint, parent, task, sample_group, sample, score. A step is durable when its checkpoint is:
 * on resume, rows after the last checkpoint are dropped in one transaction.
 */
#ifndef HONE_PIPELINE_RUN_STORE_H
#define HONE_PIPELINE_RUN_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/files.h"
#include "common/memory.h"
#include "wire/wire.h"

struct run_store;

struct run_info {                /* hashes are hex SHA-256 */
    const char *name, *code_version, *config_yaml, *config_hash, *data_hash, *template_hash;
    uint64_t seed;
};

/* Creates the file and its tables when absent. A file of another schema version, or one that is
 * no database, is refused by name. */
int run_store_open(struct run_store **out, const char *path);
void run_store_close(struct run_store **store);

/* The run's one row; when it is there already, refuses another config_hash unless
 * `accept_changes`, naming what changed. */
int run_store_begin_run(struct run_store *store, const struct run_info *info, int accept_changes);
/* The same refusal, of a run that is there; nothing is written. */
int run_store_check_run(struct run_store *store, const struct run_info *info, int accept_changes);

/* A stage by its name in the recipe; `stage` is its row id, the same after a resume. */
enum stage_state { STAGE_WAITING, STAGE_RUNNING, STAGE_DONE, STAGE_FAILED, STAGE_INTERRUPTED };
int run_store_begin_stage(struct run_store *store, const char *name, const char *kind,
                          const char *config_yaml, const char *config_hash, int64_t *stage);
/* How many steps the stage will have, for `hone status`. */
int run_store_set_total(struct run_store *store, int64_t stage, int64_t n_steps);
int run_store_stage_state(struct run_store *store, const char *name, enum stage_state *state);
/* `wall_seconds` is added to what earlier attempts of the stage took. */
int run_store_end_stage(struct run_store *store, int64_t stage, enum stage_state state,
                        const char *reason, double wall_seconds);
/* Drops all rows of the stage with step >= first_step. */
int run_store_rewind_stage(struct run_store *store, int64_t stage, int64_t first_step);
/* Drops what was written while the stage sampled its dataset: steps up to 0, and the dataset. */
int run_store_forget_data(struct run_store *store, int64_t stage);

struct metric_value {
    const char *name;            /* a row of the table in metrics.c; others are BUG() */
    double value;
};
/* One step in one transaction. `purpose` says what the groups are: "train", "eval", "data". A step
 * may be put again, with other metrics or groups: they are added to it. */
int run_store_put_step(struct run_store *store, int64_t stage, int64_t step, double wall_seconds,
                       const struct metric_value *metrics, size_t n_metrics, const char *purpose,
                       const struct sample_group *groups, size_t n_groups);
/* Whether groups of that purpose are stored at that step. */
int run_store_has_groups(struct run_store *store, int64_t stage, int64_t step, const char *purpose,
                         int *has);
/* A metric of a step; NaN when it is not there. */
int run_store_metric(struct run_store *store, int64_t stage, int64_t step, const char *name,
                     double *value);

/* `path` is relative to the run directory. Both give the row id; a checkpoint gets its edge from
 * its stage. */
int run_store_put_checkpoint(struct run_store *store, int64_t stage, int64_t step,
                             const char *path, const char *digest_hex, int64_t *checkpoint);
int run_store_put_dataset(struct run_store *store, int64_t stage, const char *path,
                          const char *format, int64_t rows, const char *digest_hex,
                          int64_t *dataset);
/* Edges: "checkpoint" 3 comes from "dataset" 2. Kinds: stage, checkpoint, dataset. */
int run_store_put_parent(struct run_store *store, const char *child_kind, int64_t child,
                         const char *parent_kind, int64_t parent);
/* The newest checkpoint of a stage by name: last, STATUS_FAILED with a reason when there is none;
 * or the newest before step `below`: find, and row->step is -1 when there is none. Its directory
 * may be gone: older ones are removed. */
struct checkpoint_row {
    int64_t id, step;
    char path[FILE_PATH_MAX];    /* relative to the run directory */
    char digest[DIGEST_HEX_BYTES];
};
int run_store_last_checkpoint(struct run_store *store, const char *stage_name,
                              struct checkpoint_row *row);
int run_store_find_checkpoint(struct run_store *store, const char *stage_name, int64_t below,
                              struct checkpoint_row *row);
/* `path` takes FILE_PATH_MAX bytes. */
int run_store_last_dataset(struct run_store *store, const char *stage_name, char *path,
                           int64_t *dataset);

/* Into a new file: the rows of the run.db at `recorded`, without steps, as they were when `stage`
 * had its checkpoint of `step` (0: none) and no later one. */
int run_store_copy_run(struct run_store *store, const char *recorded, const char *stage,
                       int64_t step);

/* ---- metrics.c: every metric once: name, unit, meaning. Names with "<name>" stand for one per
 * reward function or task kind. docs/metrics.md is printed from it. */
struct metric_row {
    const char *name, *unit, *help;
};
extern const struct metric_row metric_rows[];   /* ends at name == NULL */
const struct metric_row *metric_find(const char *name);   /* NULL when not declared */
int metric_is_timed(const struct metric_row *row);   /* by a clock: differs between runs */
void metrics_print_markdown(struct text *out);       /* docs/metrics.md */

/* ---- tensorboard.c: event files that TensorBoard reads; one writer per stage. */
struct tensorboard;
int tensorboard_open(struct tensorboard **out, const char *directory);
int tensorboard_put(struct tensorboard *board, int64_t step, const struct metric_value *metrics,
                    size_t n_metrics);
void tensorboard_close(struct tensorboard **board);

#endif
