/* Checkpoints of a stage: which one to begin with, when one is written, which ones stay. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"

/* ---- Which one to begin with. */

static int verify_row(const struct stage_run *run, const struct checkpoint_row *row,
                      char path[FILE_PATH_MAX])
{
    TRY(file_join(path, run->pipeline->options.run, row->path));
    if (!file_exists(path))
        return status_fail(STATUS_FORMAT, "%s is gone", path);
    return checkpoint_verify(path, row->digest);
}

/* The newest checkpoint before `below` that is whole; its step, or -1. */
static int64_t find_whole(const struct stage_run *run, const char *stage, int64_t below)
{
    struct checkpoint_row row;
    char path[FILE_PATH_MAX];

    while (run_store_find_checkpoint(run->pipeline->store, stage, below, &row) == STATUS_OK &&
           row.step >= 0) {
        if (verify_row(run, &row, path) == STATUS_OK)
            return row.step;
        below = row.step;
    }
    return -1;
}

/* Names the damage that was just recorded, and the way on. */
static int refuse(const struct stage_run *run, const char *stage, int64_t below, int status)
{
    char why[600], from[64];

    if (status != STATUS_FORMAT)
        return status;   /* it could not be read this time */
    snprintf(why, sizeof(why), "%s", status_reason());
    int64_t step = find_whole(run, stage, below);
    snprintf(from, sizeof(from), "step %lld, which is whole", (long long)step);
    return status_fail(status, "%s; to go on from %s: hone run --run %s --skip-damaged", why,
                       step < 0 ? "the stage's beginning, since no other is whole" : from,
                       run->pipeline->options.run);
}

int stage_find_own(struct stage_run *run, char path[FILE_PATH_MAX])
{
    const struct pipeline_options *options = &run->pipeline->options;
    const char *name = run->stage->name;
    struct checkpoint_row row = {.step = INT64_MAX};
    int n_left = 0;

    for (;;) {
        TRY(run_store_find_checkpoint(run->pipeline->store, name, row.step, &row));
        if (row.step < 0)
            break;
        TRY(file_join(path, options->run, row.path));
        int is_there = file_exists(path);
        int status = verify_row(run, &row, path);
        if (status == STATUS_OK) {
            run->step = run->saved_step = row.step;
            return STATUS_OK;
        }
        if (is_there && (status != STATUS_FORMAT || !options->skip_damaged))
            return refuse(run, name, row.step, status);
        if (!n_left++)
            log_warning("%s; stage %s goes on from an earlier checkpoint, or from its beginning",
                        status_reason(), name);
    }
    path[0] = '\0';
    run->step = 0;
    return STATUS_OK;
}

int stage_find_other(struct stage_run *run, const char *stage, char path[FILE_PATH_MAX],
                     int64_t *id)
{
    struct checkpoint_row row;

    *id = 0;
    if (strchr(stage, '/')) {
        snprintf(path, FILE_PATH_MAX, "%s", stage);
        return STATUS_OK;
    }
    TRY(run_store_last_checkpoint(run->pipeline->store, stage, &row));
    int status = verify_row(run, &row, path);
    if (status < 0)
        return refuse(run, stage, row.step, status);
    *id = row.id;
    return STATUS_OK;
}

int stage_has_checkpoint(const struct pipeline *pipeline, const char *stage, int *has)
{
    const struct stage_run run = {.pipeline = (struct pipeline *)(uintptr_t)pipeline};
    struct checkpoint_row row;
    char path[FILE_PATH_MAX];

    *has = 0;
    TRY(run_store_find_checkpoint(pipeline->store, stage, INT64_MAX, &row));
    if (row.step < 0)
        return STATUS_OK;
    TRY(file_join(path, pipeline->options.run, row.path));
    *has = file_exists(path) &&
           (!pipeline->options.skip_damaged || verify_row(&run, &row, path) == STATUS_OK);
    return STATUS_OK;
}

/* ---- Which ones stay. */

struct kept {
    int64_t *steps;      /* newest first */
    size_t n;
    int64_t best;        /* -1: no metric chooses one */
};

static int compare_steps(const void *a, const void *b)
{
    int64_t one = *(const int64_t *)a, other = *(const int64_t *)b;

    return (one < other) - (one > other);
}

/* The steps that have a directory and a row; a directory without a row is of a run that was killed
 * or rewound, and is removed. */
static int list_steps(struct stage_run *run, const char *directory, struct kept *kept)
{
    DIR *list = opendir(directory);
    int status = STATUS_OK;

    if (!list)
        return status_fail(STATUS_IO, "cannot read %s: %s", directory, strerror(errno));
    for (struct dirent *entry; status == STATUS_OK && (entry = readdir(list));) {
        struct checkpoint_row row = {.step = -1};
        char path[FILE_PATH_MAX], *end;
        if (strncmp(entry->d_name, "step-", 5) != 0)
            continue;
        long long step = strtoll(entry->d_name + 5, &end, 10);
        if (!*end)   /* a question without an answer removes nothing */
            status = run_store_find_checkpoint(run->pipeline->store, run->stage->name, step + 1,
                                               &row);
        if (status < 0)
            break;
        if (!*end && row.step == step) {
            kept->steps = mem_resize(kept->steps, kept->n + 1, sizeof(*kept->steps));
            kept->steps[kept->n++] = step;
            continue;
        }
        status = file_join(path, directory, entry->d_name);
        if (status == STATUS_OK)
            status = file_remove_tree(path);
    }
    closedir(list);
    if (kept->n)
        qsort(kept->steps, kept->n, sizeof(*kept->steps), compare_steps);
    return status;
}

/* Of two equal ones the older; those of a Ctrl-C do not compete, so that it changes nothing. */
static int choose_best(struct stage_run *run, struct kept *kept)
{
    const struct run_config *config = &run->pipeline->recipe.run;
    double best = NAN;

    kept->best = -1;
    for (size_t i = 0; config->metric_for_best_model[0] && i < kept->n; i++) {
        double value;
        if (kept->steps[i] % config->save_steps && kept->steps[i] != run->n_steps)
            continue;
        TRY(run_store_metric(run->pipeline->store, run->id, kept->steps[i],
                             config->metric_for_best_model, &value));
        value = config->greater_is_better ? value : -value;
        if (isnan(value) || value < best)
            continue;
        best = value;
        kept->best = kept->steps[i];
    }
    return STATUS_OK;
}

static int remove_others(struct stage_run *run, const char *directory, const struct kept *kept)
{
    const struct run_config *config = &run->pipeline->recipe.run;

    for (size_t i = 0; i < kept->n; i++) {
        int64_t step = kept->steps[i];
        char name[32], path[FILE_PATH_MAX];
        if ((int64_t)i < config->save_total_limit || step == kept->best ||
            (config->keep_every_steps && step % config->keep_every_steps == 0))
            continue;
        snprintf(name, sizeof(name), "step-%06lld", (long long)step);
        TRY(file_join(path, directory, name));
        TRY(file_remove_tree(path));
    }
    return STATUS_OK;
}

static int prune(struct stage_run *run)
{
    char relative[STAGE_NAME_BYTES + 16], directory[FILE_PATH_MAX];
    struct kept kept = {.n = 0};

    snprintf(relative, sizeof(relative), "checkpoints/%s", run->stage->name);
    TRY(file_join(directory, run->pipeline->options.run, relative));
    int status = list_steps(run, directory, &kept);
    if (status == STATUS_OK)
        status = choose_best(run, &kept);
    if (status == STATUS_OK)
        status = remove_others(run, directory, &kept);
    mem_free(kept.steps);
    return status;
}

/* ---- When one is written. */

int stage_end_checkpoint(struct stage_run *run)
{
    struct checkpoint_save *save = &run->save;
    int64_t row;

    if (!save->is_going_on)
        return STATUS_OK;
    pulse("waits for a checkpoint to be on the disk");
    TRY(checkpoint_end(save));
    TRY(run_store_put_checkpoint(run->pipeline->store, run->id, run->saved_step, run->saved_path,
                                 save->digest_hex, &row));
    return prune(run);
}

int stage_poll_checkpoint(struct stage_run *run)
{
    return checkpoint_is_over(&run->save) ? stage_end_checkpoint(run) : STATUS_OK;
}

int stage_begin_checkpoint(struct stage_run *run)
{
    char path[FILE_PATH_MAX];

    TRY(stage_end_checkpoint(run));   /* one at a time */
    if (run->saved_step == run->step)
        return STATUS_OK;
    pulse("begins a checkpoint");
    snprintf(run->saved_path, sizeof(run->saved_path), "checkpoints/%s/step-%06lld",
             run->stage->name, (long long)run->step);
    TRY(file_join(path, run->pipeline->options.run, run->saved_path));
    TRY(checkpoint_begin(&run->save, path, run->policy, run->tokenizer, &run->notes,
                         run->learner));
    run->saved_step = run->step;
    return STATUS_OK;
}

int stage_end(struct stage_run *run, int status)
{
    char why[1024];

    snprintf(why, sizeof(why), "%s", status_reason());
    if (status == STATUS_INTERRUPTED)
        TRY(stage_begin_checkpoint(run));
    int ended = stage_end_checkpoint(run);
    if (status == STATUS_OK || (status == STATUS_INTERRUPTED && ended < 0))
        return ended;
    if (status == STATUS_INTERRUPTED)
        return status_fail(status, "stopped after step %lld of %lld", (long long)run->step,
                           (long long)run->n_steps);
    return status_fail(status, "%s", why);
}
