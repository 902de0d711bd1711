/* Opening a run for reading, and `hone status`. */
#include "pipeline/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/report_internal.h"
#include "pipeline/schema.h"

int report_open(struct report *report, const char *run)
{
    char path[FILE_PATH_MAX];

    memset(report, 0, sizeof(*report));
    report->run = run;
    TRY(file_join(path, run, "run.db"));
    if (!file_exists(path))
        return status_fail(STATUS_CONFIG,
                           "%s is not a run directory: it has no run.db; `hone run` makes one",
                           run);
    TRY(sql_open(&report->sql, path, SQL_READ));
    int status = schema_check(&report->sql);
    if (status == STATUS_OK)
        status = sql_run(&report->sql, "BEGIN", NULL, 0);
    if (status < 0)
        report_close(report);
    return status;
}

void report_close(struct report *report)
{
    sql_close(&report->sql);
}

static void add_stage(struct report_stages *stages, sqlite3_stmt *row)
{
    stages->items = mem_resize(stages->items, stages->n + 1, sizeof(*stages->items));
    struct report_stage *stage = &stages->items[stages->n++];
    stage->id = sqlite3_column_int64(row, 0);
    stage->name = mem_copy_text(sql_column_text(row, 1));
    stage->kind = mem_copy_text(sql_column_text(row, 2));
    stage->state = mem_copy_text(sql_column_text(row, 3));
    stage->reason = mem_copy_text(sql_column_text(row, 4));
    stage->step = sqlite3_column_type(row, 5) == SQLITE_NULL ? -1 : sqlite3_column_int64(row, 5);
    stage->n_steps = sqlite3_column_type(row, 6) == SQLITE_NULL ? -1 : sqlite3_column_int64(row, 6);
    stage->wall_seconds = sqlite3_column_double(row, 7);
}

static int fail_no_stage(struct report *report, const char *only)
{
    struct text names = {0};
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row, "SELECT name FROM stage ORDER BY id", NULL, 0));
    TRY(sql_next(&report->sql, row, &more));
    while (more) {
        text_print(&names, "%s%s", names.length ? ", " : "", sql_column_text(row, 0));
        TRY(sql_next(&report->sql, row, &more));
    }
    int status = status_fail(STATUS_CONFIG, "%s has no stage \"%s\"; it has: %s", report->run, only,
                             names.length ? names.data : "none yet");
    text_release(&names);
    return status;
}

int report_load_stages(struct report *report, const char *only, struct report_stages *stages)
{
    sqlite3_stmt *row;
    int more;

    memset(stages, 0, sizeof(*stages));
    /* A stage that runs, or was killed, has told its time by its steps alone. */
    TRY(sql_ask(&report->sql, &row,
                "SELECT id, name, kind, state, reason,"
                " (SELECT max(step) FROM step WHERE stage_id = stage.id), n_steps,"
                " max(wall_seconds, (SELECT total(wall_seconds) FROM step"
                "                    WHERE stage_id = stage.id))"
                " FROM stage WHERE ?1 IS NULL OR name = ?1 ORDER BY id",
                SQL_VALUES(sql_text(only))));
    for (;;) {
        int status = sql_next(&report->sql, row, &more);
        if (status < 0)
            report_release_stages(stages);
        TRY(status);
        if (!more)
            break;
        add_stage(stages, row);
    }
    return only && !stages->n ? fail_no_stage(report, only) : STATUS_OK;
}

void report_release_stages(struct report_stages *stages)
{
    for (size_t i = 0; i < stages->n; i++) {
        mem_free(stages->items[i].name);
        mem_free(stages->items[i].kind);
        mem_free(stages->items[i].state);
        mem_free(stages->items[i].reason);
    }
    mem_free(stages->items);
    memset(stages, 0, sizeof(*stages));
}

int report_last_metric(struct report *report, int64_t stage, const char *name, double *value)
{
    sqlite3_stmt *row;
    int more;

    *value = NAN;
    TRY(sql_ask(&report->sql, &row,
                "SELECT coalesce(value, wall_value) FROM metric WHERE stage_id = ? AND name = ?"
                " ORDER BY step DESC LIMIT 1",
                SQL_VALUES(sql_int(stage), sql_text(name))));
    TRY(sql_next(&report->sql, row, &more));
    if (more) {
        *value = sql_column_real(row, 0);
        sql_finish(row);
    }
    return STATUS_OK;
}

static const char *const status_metrics[] = {"loss", "reward", "eval/pass@1"};
#define N_STATUS_METRICS (sizeof(status_metrics) / sizeof(status_metrics[0]))

static int print_head(struct text *out, struct report *report, int as_json)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row, "SELECT name, seed, code_version FROM run", NULL, 0));
    TRY(sql_next(&report->sql, row, &more));
    const char *name = more ? sql_column_text(row, 0) : "";
    uint64_t seed = more ? (uint64_t)sqlite3_column_int64(row, 1) : 0;
    const char *code = more ? sql_column_text(row, 2) : "";
    if (as_json) {
        text_print(out, "{\"run\":");
        report_json_text(out, name);
        text_print(out, ",\"seed\":%llu,\"code_version\":", (unsigned long long)seed);
        report_json_text(out, code);
    } else {
        text_print(out, "run %s   seed %llu   hone %s\n\n", name, (unsigned long long)seed, code);
    }
    if (more)
        sql_finish(row);
    return STATUS_OK;
}

static void print_stage_json(struct text *out, const struct report_stage *stage,
                             const double *values)
{
    text_print(out, "{\"name\":");
    report_json_text(out, stage->name);
    text_print(out, ",\"kind\":");
    report_json_text(out, stage->kind);
    text_print(out, ",\"state\":");
    report_json_text(out, stage->state);
    text_print(out, ",\"reason\":");
    report_json_text(out, stage->reason);
    text_print(out, ",\"step\":");
    report_json_number(out, stage->step < 0 ? NAN : (double)stage->step);
    text_print(out, ",\"n_steps\":");
    report_json_number(out, stage->n_steps < 0 ? NAN : (double)stage->n_steps);
    text_print(out, ",\"wall_seconds\":");
    report_json_number(out, stage->wall_seconds);
    for (size_t i = 0; i < N_STATUS_METRICS; i++) {
        text_print(out, ",\"%s\":", status_metrics[i]);
        report_json_number(out, values[i]);
    }
    text_print(out, "}");
}

static void add_status_row(struct report_grid *grid, const struct report_stage *stage,
                           const double *values)
{
    char step[64], wall[REPORT_NUMBER_BYTES];

    if (stage->step < 0)
        snprintf(step, sizeof(step), "-");
    else if (stage->n_steps < 0)
        snprintf(step, sizeof(step), "%lld", (long long)stage->step);
    else
        snprintf(step, sizeof(step), "%lld of %lld", (long long)stage->step,
                 (long long)stage->n_steps);
    report_grid_cell(grid, stage->name);
    report_grid_cell(grid, stage->kind);
    report_grid_cell(grid, stage->state);
    report_grid_cell(grid, step);
    for (size_t i = 0; i < N_STATUS_METRICS; i++)
        report_grid_number(grid, values[i]);
    report_grid_cell(grid, report_duration(wall, stage->wall_seconds));
}

static int load_status(struct report *report, const struct report_stage *stage, double *values)
{
    for (size_t i = 0; i < N_STATUS_METRICS; i++)
        TRY(report_last_metric(report, stage->id, status_metrics[i], &values[i]));
    return STATUS_OK;
}

static int print_status_json(struct text *out, struct report *report,
                             const struct report_stages *stages)
{
    double values[N_STATUS_METRICS];

    text_print(out, ",\"stages\":[");
    for (size_t i = 0; i < stages->n; i++) {
        TRY(load_status(report, &stages->items[i], values));
        text_print(out, "%s", i ? "," : "");
        print_stage_json(out, &stages->items[i], values);
    }
    text_print(out, "]");
    return STATUS_OK;
}

static int print_status(struct text *out, struct report *report, const struct report_stages *stages)
{
    static const char *const heads[] = {"stage", "kind",   "state",  "step",
                                        "loss",  "reward", "pass@1", "time"};
    struct report_grid grid = {.alignment = "lllrrrrr"};
    double values[N_STATUS_METRICS];
    int status = STATUS_OK;

    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        report_grid_cell(&grid, heads[i]);
    for (size_t i = 0; i < stages->n && status == STATUS_OK; i++) {
        status = load_status(report, &stages->items[i], values);
        add_status_row(&grid, &stages->items[i], values);
    }
    report_grid_print(&grid, out);
    for (size_t i = 0; i < stages->n; i++)
        if (*stages->items[i].reason)
            text_print(out, "\n%s %s: %s\n", stages->items[i].name, stages->items[i].state,
                       stages->items[i].reason);
    if (!stages->n)
        text_print(out, "no stage has begun yet\n");
    return status;
}

int report_status(struct text *out, const char *run, int as_json)
{
    struct report report;
    struct report_stages stages = {0};

    TRY(report_open(&report, run));
    int status = report_load_stages(&report, NULL, &stages);
    if (status == STATUS_OK)
        status = print_head(out, &report, as_json);
    if (status == STATUS_OK)
        status = as_json ? print_status_json(out, &report, &stages)
                         : print_status(out, &report, &stages);
    if (as_json)
        text_print(out, ",\"state\":");
    if (status == STATUS_OK)
        status = report_state(out, run, as_json, 0);
    if (as_json)
        text_print(out, "}\n");
    report_release_stages(&stages);
    report_close(&report);
    return status;
}
