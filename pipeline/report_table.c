/* The table at the end of `hone run`: one line per stage, on held-out tasks. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/report_internal.h"

#define DEFAULT_K 8
#define NAME_BYTES 64

/* The largest k of "eval/pass@<k>" in the run. */
static int find_k(struct report *report, const char *prefix, long *k)
{
    char pattern[NAME_BYTES];
    sqlite3_stmt *row;
    int more;

    *k = 1;
    snprintf(pattern, sizeof(pattern), "%s*", prefix);
    TRY(sql_ask(&report->sql, &row, "SELECT DISTINCT name FROM metric WHERE name GLOB ?",
                SQL_VALUES(sql_text(pattern))));
    TRY(sql_next(&report->sql, row, &more));
    while (more) {
        long found = strtol(sql_column_text(row, 0) + strlen(prefix), NULL, 10);
        *k = found > *k ? found : *k;
        TRY(sql_next(&report->sql, row, &more));
    }
    if (*k == 1)
        *k = DEFAULT_K;
    return STATUS_OK;
}

/* The stages whose checkpoints this one starts from, then those whose datasets it learns from. */
static int list_parents(struct report *report, int64_t stage, struct text *names)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row,
                "WITH owner (kind, id, stage_id) AS ("
                " SELECT 'stage', id, id FROM stage"
                " UNION ALL SELECT 'checkpoint', id, stage_id FROM checkpoint"
                " UNION ALL SELECT 'dataset', id, stage_id FROM dataset)"
                " SELECT DISTINCT source.kind = 'dataset' AS is_data, stage.id, stage.name"
                " FROM parent"
                " JOIN owner AS child ON child.kind = child_kind AND child.id = child_id"
                " JOIN owner AS source ON source.kind = parent_kind AND source.id = parent_id"
                " JOIN stage ON stage.id = source.stage_id"
                " WHERE child.stage_id = ?1 AND source.stage_id != ?1 AND child.kind != 'dataset'"
                " ORDER BY is_data, stage.id",
                SQL_VALUES(sql_int(stage))));
    TRY(sql_next(&report->sql, row, &more));
    while (more) {
        text_print(names, "%s%s%s", names->length ? ", " : "", sql_column_text(row, 2),
                   sqlite3_column_int(row, 0) ? " data" : "");
        TRY(sql_next(&report->sql, row, &more));
    }
    if (!names->length)
        text_print(names, "-");
    return STATUS_OK;
}

/* At the last evaluation of the stage, so that the columns belong to the same weights. */
static int add_value(struct report *report, int64_t stage, const char *name, int decimals,
                     struct report_grid *grid)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row,
                "SELECT value FROM metric WHERE stage_id = ?1 AND name = ?2 AND step ="
                " (SELECT max(step) FROM metric WHERE stage_id = ?1 AND name GLOB 'eval/*')",
                SQL_VALUES(sql_int(stage), sql_text(name))));
    TRY(sql_next(&report->sql, row, &more));
    report_grid_fixed(grid, more ? sql_column_real(row, 0) : NAN, decimals);
    if (more)
        sql_finish(row);
    return STATUS_OK;
}

static int add_row(struct report *report, const struct report_stage *stage, const char *pass_k,
                   const char *cons_k, struct report_grid *grid)
{
    const char *const shares[] = {"eval/pass@1", pass_k, cons_k, "eval/format", "eval/language"};
    struct text parents = {0};
    char wall[REPORT_NUMBER_BYTES];
    int status = list_parents(report, stage->id, &parents);

    report_grid_cell(grid, stage->name);
    report_grid_cell(grid, parents.data ? parents.data : "-");
    text_release(&parents);
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]) && status == STATUS_OK; i++)
        status = add_value(report, stage->id, shares[i], 3, grid);
    if (status == STATUS_OK)
        status = add_value(report, stage->id, "eval/mean_length", 1, grid);
    report_grid_cell(grid, report_duration(wall, stage->wall_seconds));
    return status;
}

static int print_table(struct text *out, struct report *report, const struct report_stages *stages)
{
    struct report_grid grid = {.alignment = "llrrrrrrr"};
    char pass_k[NAME_BYTES], cons_k[NAME_BYTES];
    long k_pass, k_cons;
    int status = STATUS_OK;

    TRY(find_k(report, "eval/pass@", &k_pass));
    TRY(find_k(report, "eval/cons@", &k_cons));
    snprintf(pass_k, sizeof(pass_k), "eval/pass@%ld", k_pass);
    snprintf(cons_k, sizeof(cons_k), "eval/cons@%ld", k_cons);
    const char *const heads[] = {"stage",  "parent",   "pass@1", pass_k + 5, cons_k + 5,
                                 "format", "language", "length", "time"};
    for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
        report_grid_cell(&grid, heads[i]);
    for (size_t i = 0; i < stages->n && status == STATUS_OK; i++)
        status = add_row(report, &stages->items[i], pass_k, cons_k, &grid);
    report_grid_print(&grid, out);
    return status;
}

int report_table(struct text *out, const char *run)
{
    struct report report = {0};
    struct report_stages stages = {0};
    int status;

    TRY_OUT(report_open(&report, run));
    TRY_OUT(report_load_stages(&report, NULL, &stages));
    TRY_OUT(print_table(out, &report, &stages));
out:
    report_release_stages(&stages);
    report_close(&report);
    return status;
}
