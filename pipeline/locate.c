#include "pipeline/locate.h"

#include <stdio.h>
#include <string.h>

#include "common/status.h"
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
