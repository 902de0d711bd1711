/* `hone log`: metrics of every step as a table. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/config.h"
#include "common/status.h"
#include "pipeline/report_internal.h"

#define MAX_COLUMNS 24
#define NAME_BYTES 96

struct log_column {
    char name[NAME_BYTES];
    const char *head;
    int used;
};

struct log_row {
    const char *stage;
    int64_t step;
    double values[MAX_COLUMNS];
};

struct log_view {
    struct log_column columns[MAX_COLUMNS];
    size_t n_columns;
    int chosen;              /* the user named the columns: keep empty ones */
    struct log_row *rows;
    size_t n_rows;
};

static const struct {
    const char *name, *head;
} chief_columns[] = {
    {"loss", "loss"},
    {"reward", "reward"},
    {"reward_std", "reward_std"},
    {"frac_reward_zero_std", "zero_std"},
    {"completions/mean_length", "length"},
    {"kl", "kl"},
    {"entropy", "entropy"},
    {"mean_token_accuracy", "accuracy"},
    {"grad_norm", "grad_norm"},
    {"eval/pass@1", "pass@1"},
    {"step_time", "seconds"},
};

static int fail_unknown(const char *name)
{
    const char *names[256];
    size_t n = 0;

    for (const struct metric_row *row = metric_rows; row->name && n < 256; row++)
        names[n++] = row->name;
    const char *near = config_nearest(name, names, n);
    return status_fail(STATUS_CONFIG, "no metric is named \"%s\"%s%s%s; docs/metrics.md lists them",
                       name, near ? ": did you mean \"" : "", near ? near : "", near ? "\"" : "");
}

static int choose_columns(struct log_view *view, const char *names)
{
    char item[NAME_BYTES];

    if (!names) {
        for (size_t i = 0; i < sizeof(chief_columns) / sizeof(chief_columns[0]); i++) {
            struct log_column *column = &view->columns[view->n_columns++];
            snprintf(column->name, sizeof(column->name), "%s", chief_columns[i].name);
            column->head = chief_columns[i].head;
        }
        return STATUS_OK;
    }
    view->chosen = 1;
    for (size_t i = 0; config_list_item(names, i, item, sizeof(item)); i++) {
        if (view->n_columns == MAX_COLUMNS)
            return status_fail(STATUS_CONFIG, "at most %d metrics fit into one table", MAX_COLUMNS);
        if (!metric_find(item))
            return fail_unknown(item);
        struct log_column *column = &view->columns[view->n_columns++];
        snprintf(column->name, sizeof(column->name), "%s", item);
        column->head = column->name;
    }
    return STATUS_OK;
}

static struct log_row *row_of_step(struct log_view *view, size_t first, const char *stage,
                                   int64_t step)
{
    if (view->n_rows > first && view->rows[view->n_rows - 1].step == step)
        return &view->rows[view->n_rows - 1];
    view->rows = mem_resize(view->rows, view->n_rows + 1, sizeof(*view->rows));
    struct log_row *row = &view->rows[view->n_rows++];
    row->stage = stage;
    row->step = step;
    for (size_t i = 0; i < MAX_COLUMNS; i++)
        row->values[i] = NAN;
    return row;
}

static int load_rows(struct report *report, struct log_view *view, const struct report_stage *stage,
                     int64_t last_steps)
{
    sqlite3_stmt *cursor;
    size_t first = view->n_rows;
    int more;

    TRY(sql_ask(&report->sql, &cursor,
                "SELECT step, name, coalesce(value, wall_value) FROM metric WHERE stage_id = ?1"
                " AND (?2 <= 0 OR step > (SELECT max(step) FROM step WHERE stage_id = ?1) - ?2)"
                " ORDER BY step",
                SQL_VALUES(sql_int(stage->id), sql_int(last_steps))));
    TRY(sql_next(&report->sql, cursor, &more));
    for (; more; ) {
        const char *name = sql_column_text(cursor, 1);
        for (size_t i = 0; i < view->n_columns; i++) {
            if (strcmp(view->columns[i].name, name))
                continue;
            row_of_step(view, first, stage->name, sqlite3_column_int64(cursor, 0))->values[i] =
                sql_column_real(cursor, 2);
            view->columns[i].used = 1;
        }
        TRY(sql_next(&report->sql, cursor, &more));
    }
    return STATUS_OK;
}

static void print_plain(struct text *out, const struct log_view *view)
{
    char alignment[MAX_COLUMNS + 3] = "lr", step[REPORT_NUMBER_BYTES];
    struct report_grid grid = {.alignment = alignment};
    size_t n = 2;

    report_grid_cell(&grid, "stage");
    report_grid_cell(&grid, "step");
    for (size_t i = 0; i < view->n_columns; i++) {
        if (!view->columns[i].used && !view->chosen)
            continue;
        alignment[n++] = 'r';
        report_grid_cell(&grid, view->columns[i].head);
    }
    for (size_t r = 0; r < view->n_rows; r++) {
        const struct log_row *row = &view->rows[r];
        snprintf(step, sizeof(step), "%lld", (long long)row->step);
        report_grid_cell(&grid, row->stage);
        report_grid_cell(&grid, step);
        for (size_t i = 0; i < view->n_columns; i++)
            if (view->columns[i].used || view->chosen)
                report_grid_number(&grid, row->values[i]);
    }
    report_grid_print(&grid, out);
    if (!view->n_rows)
        text_print(out, "nothing has been measured yet\n");
}

static void print_json(struct text *out, const struct log_view *view)
{
    text_print(out, "[");
    for (size_t r = 0; r < view->n_rows; r++) {
        const struct log_row *row = &view->rows[r];
        text_print(out, "%s{\"stage\":", r ? ",\n" : "");
        report_json_text(out, row->stage);
        text_print(out, ",\"step\":%lld", (long long)row->step);
        for (size_t i = 0; i < view->n_columns; i++) {
            if (isnan(row->values[i]))
                continue;
            text_print(out, ",");
            report_json_text(out, view->columns[i].name);
            text_print(out, ":");
            report_json_number(out, row->values[i]);
        }
        text_print(out, "}");
    }
    text_print(out, "]\n");
}

int report_log(struct text *out, const char *run, const char *stage, const char *names,
               int64_t last_steps, int as_json)
{
    struct log_view *view = mem_alloc(1, sizeof(*view));
    struct report_stages stages = {0};
    struct report report = {0};
    int status;

    TRY_OUT(choose_columns(view, names));
    TRY_OUT(report_open(&report, run));
    TRY_OUT(report_load_stages(&report, stage, &stages));
    for (size_t i = 0; i < stages.n; i++)
        TRY_OUT(load_rows(&report, view, &stages.items[i], last_steps));
    if (as_json)
        print_json(out, view);
    else
        print_plain(out, view);
out:
    mem_free(view->rows);
    mem_free(view);
    report_release_stages(&stages);
    report_close(&report);
    return status;
}
