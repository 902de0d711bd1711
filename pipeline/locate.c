#include "pipeline/locate.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/pipeline.h"
#include "pipeline/report_internal.h"

/* Columns of the first row: a path relative to the run, a number. "" when there is no row. */
static int ask_path(struct report *report, const char *query, int64_t stage, char *relative,
                    int64_t *number)
{
    sqlite3_stmt *row;
    int more;

    relative[0] = '\0';
    TRY(sql_ask(&report->sql, &row, query, SQL_VALUES(sql_int(stage))));
    TRY(sql_next(&report->sql, row, &more));
    if (!more)
        return STATUS_OK;
    snprintf(relative, FILE_PATH_MAX, "%s", sql_column_text(row, 0));
    *number = sqlite3_column_int64(row, 1);
    sql_finish(row);
    return STATUS_OK;
}

static int find(const char *run, const char *stage, const char *query, const char *what,
                char path[FILE_PATH_MAX], int64_t *number)
{
    struct report report = {0};
    struct report_stages stages = {0};
    char relative[FILE_PATH_MAX];
    int status;

    TRY(report_open(&report, run));
    TRY_OUT(report_load_stages(&report, stage, &stages));
    TRY_OUT(ask_path(&report, query, stages.items[0].id, relative, number));
    status = relative[0] ? file_join(path, run, relative)
                         : status_fail(STATUS_FAILED, "stage \"%s\" of %s has no %s", stage, run,
                                       what);
out:
    report_release_stages(&stages);
    report_close(&report);
    return status;
}

int locate_checkpoint(const char *run, const char *stage, char path[FILE_PATH_MAX], int64_t *step)
{
    return find(run, stage,
                "SELECT path, step FROM checkpoint WHERE stage_id = ? ORDER BY step DESC LIMIT 1",
                "checkpoint yet", path, step);
}

/* What stage_checkpoint.c keeps as the best: those of a Ctrl-C do not compete, of two equal ones it
 * is the older. */
static const char all_checkpoints[] =
    "SELECT c.path, c.step, coalesce(m.value, m.wall_value),"
    " c.step % ?3 = 0 OR c.step IS s.n_steps"
    " FROM checkpoint c JOIN stage s ON s.id = c.stage_id"
    " LEFT JOIN metric m ON m.stage_id = c.stage_id AND m.step = c.step AND m.name = ?2"
    " WHERE c.stage_id = ?1 ORDER BY c.step";

struct choice {
    int64_t which;
    const struct run_config *config;
    char path[FILE_PATH_MAX];    /* "" when none is chosen */
    double best;
    struct text steps;           /* that are there */
};

static void consider(struct choice *choice, const char *path, sqlite3_stmt *row)
{
    int64_t step = sqlite3_column_int64(row, 1);
    int is_chosen = choice->which == step;

    if (!file_exists(path))
        return;   /* removed: run.save_total_limit */
    text_print(&choice->steps, "%s%lld", choice->steps.length ? ", " : "", (long long)step);
    if (choice->which == CHECKPOINT_BEST && sqlite3_column_type(row, 2) != SQLITE_NULL &&
        sqlite3_column_int(row, 3)) {
        double value = sqlite3_column_double(row, 2);
        value = choice->config->greater_is_better ? value : -value;
        is_chosen = isnan(choice->best) || value > choice->best;
        choice->best = is_chosen ? value : choice->best;
    }
    if (is_chosen)
        snprintf(choice->path, sizeof(choice->path), "%s", path);
}

static int consider_all(struct report *report, int64_t stage, struct choice *choice)
{
    const struct run_config *config = choice->config;
    sqlite3_stmt *row;
    int more, status;

    TRY(sql_ask(&report->sql, &row, all_checkpoints,
                SQL_VALUES(sql_int(stage), sql_text(config->metric_for_best_model),
                           sql_int(config->save_steps))));
    while ((status = sql_next(&report->sql, row, &more)) == STATUS_OK && more) {
        char path[FILE_PATH_MAX];
        if (file_join(path, report->run, sql_column_text(row, 0)) == STATUS_OK)
            consider(choice, path, row);
    }
    return status;
}

static int fail_without_choice(const struct choice *choice, const char *run, const char *stage)
{
    const char *steps = choice->steps.length ? choice->steps.data : "none";

    if (choice->which == CHECKPOINT_BEST)
        return status_fail(STATUS_FAILED, "no checkpoint of stage \"%s\" of %s has a value of %s; "
                           "there are those of step %s", stage, run,
                           choice->config->metric_for_best_model, steps);
    return status_fail(STATUS_FAILED, "stage \"%s\" of %s has no checkpoint of step %lld; there "
                       "are those of step %s", stage, run, (long long)choice->which, steps);
}

int locate_checkpoint_of(const char *run, const char *stage, int64_t which,
                         const struct run_config *config, char path[FILE_PATH_MAX])
{
    struct choice choice = {.which = which, .config = config, .best = NAN};
    struct report_stages stages = {0};
    struct report report = {0};
    int64_t step;
    int status;

    if (which == CHECKPOINT_NEWEST)
        return locate_checkpoint(run, stage, path, &step);
    if (which == CHECKPOINT_BEST && !config->metric_for_best_model[0])
        return status_fail(STATUS_CONFIG, "%s keeps no best checkpoint: its "
                           "run.metric_for_best_model is empty", run);
    TRY(report_open(&report, run));
    TRY_OUT(report_load_stages(&report, stage, &stages));
    TRY_OUT(consider_all(&report, stages.items[0].id, &choice));
    snprintf(path, FILE_PATH_MAX, "%s", choice.path);
    if (!path[0])
        status = fail_without_choice(&choice, run, stage);
out:
    text_release(&choice.steps);
    report_release_stages(&stages);
    report_close(&report);
    return status;
}

int locate_dataset(const char *run, const struct stage *stage, char path[FILE_PATH_MAX])
{
    int64_t row;

    return find(run, stage->data[0] ? stage->data : stage->name,
                "SELECT path, id FROM dataset WHERE stage_id = ? ORDER BY id DESC LIMIT 1",
                "dataset: it makes none, or has not come to it yet", path, &row);
}

int locate_recipe(struct recipe *recipe, const char *config, const char *run,
                  const char *const *overrides)
{
    char path[FILE_PATH_MAX];

    if (config)
        return recipe_open(recipe, config, overrides);
    TRY(file_join(path, run, "config.yaml"));
    if (!file_exists(path))
        return status_fail(STATUS_CONFIG, "%s is no run directory (it has no config.yaml); name "
                           "one with --run, or a recipe", run);
    return recipe_open(recipe, path, overrides);
}

int locate_stage(const struct recipe *recipe, const char *name, const struct stage **stage)
{
    struct text names = {0};

    *stage = recipe_find(recipe, name);
    if (*stage)
        return STATUS_OK;
    for (size_t i = 0; i < recipe->n_stages; i++)
        text_print(&names, "%s%s", i ? ", " : "", recipe->stages[i].name);
    int status = status_fail(STATUS_CONFIG, "%s has no stage \"%s\"; it has: %s", recipe->path,
                             name, names.data);
    text_release(&names);
    return status;
}
