/* `hone diff`: what was set differently, and what came of it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/report_internal.h"

struct diff_side {
    struct report report;
    struct report_stages stages;
    struct flat_config config;
    const char *title;
};

static int read_config(struct diff_side *side, const char *stage)
{
    struct sql *sql = &side->report.sql;
    sqlite3_stmt *row;
    int more;

    if (stage)
        TRY(sql_ask(sql, &row, "SELECT config_yaml FROM stage WHERE name = ?",
                    SQL_VALUES(sql_text(stage))));
    else
        TRY(sql_ask(sql, &row, "SELECT config_yaml FROM run", NULL, 0));
    TRY(sql_next(sql, row, &more));
    if (!more)
        return STATUS_OK;
    int status = flat_config_read(&side->config, sql_column_text(row, 0), sql->path);
    sql_finish(row);
    return status;
}

static int open_side(struct diff_side *side, const char *run, const char *stage)
{
    side->title = stage ? stage : run;
    TRY(report_open(&side->report, run));
    TRY(report_load_stages(&side->report, stage, &side->stages));
    return read_config(side, stage);
}

static void close_side(struct diff_side *side)
{
    flat_config_release(&side->config);
    report_release_stages(&side->stages);
    report_close(&side->report);
}

static void add_change(void *context, const char *key, const char *a, const char *b)
{
    struct report_grid *grid = context;

    report_grid_cell(grid, key);
    report_grid_cell(grid, a ? a : "-");
    report_grid_cell(grid, b ? b : "-");
}

static void print_configs(struct text *out, const struct diff_side *a, const struct diff_side *b)
{
    struct report_grid grid = {.alignment = "lll"};

    report_grid_cell(&grid, "setting");
    report_grid_cell(&grid, a->title);
    report_grid_cell(&grid, b->title);
    flat_config_compare(&a->config, &b->config, add_change, &grid);
    int same = grid.n_cells == 3;
    struct text unused = {0};
    report_grid_print(&grid, same ? &unused : out);
    text_release(&unused);
    if (same)
        text_print(out, "the same settings\n");
}

struct final_metric {
    char *name;
    double a, b;
};
struct final_metrics {
    struct final_metric *items;
    size_t n;
};

static struct final_metric *find_metric(struct final_metrics *metrics, const char *name)
{
    for (size_t i = 0; i < metrics->n; i++)
        if (!strcmp(metrics->items[i].name, name))
            return &metrics->items[i];
    metrics->items = mem_resize(metrics->items, metrics->n + 1, sizeof(*metrics->items));
    struct final_metric *metric = &metrics->items[metrics->n++];
    *metric = (struct final_metric){mem_copy_text(name), NAN, NAN};
    return metric;
}

/* The last value of each metric; with max(), SQLite takes the value of the row that has it. */
static int load_finals(struct diff_side *side, int64_t stage, struct final_metrics *metrics,
                       int is_b)
{
    struct sql *sql = &side->report.sql;
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(sql, &row,
                "SELECT name, coalesce(value, wall_value), max(step) FROM metric"
                " WHERE stage_id = ? GROUP BY name ORDER BY name",
                SQL_VALUES(sql_int(stage))));
    TRY(sql_next(sql, row, &more));
    while (more) {
        struct final_metric *metric = find_metric(metrics, sql_column_text(row, 0));
        *(is_b ? &metric->b : &metric->a) = sql_column_real(row, 1);
        TRY(sql_next(sql, row, &more));
    }
    return STATUS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct final_metric *)a)->name, ((const struct final_metric *)b)->name);
}

static void add_final(struct report_grid *grid, const struct final_metric *metric)
{
    double difference = metric->b - metric->a;
    char number[REPORT_NUMBER_BYTES], cell[REPORT_NUMBER_BYTES + 2];

    snprintf(cell, sizeof(cell), "%s%s", difference > 0 ? "+" : "",
             report_number(number, difference));
    report_grid_cell(grid, metric->name);
    report_grid_number(grid, metric->a);
    report_grid_number(grid, metric->b);
    report_grid_cell(grid, cell);
}

static void print_finals(struct text *out, const struct final_metrics *metrics, const char *title_a,
                         const char *title_b)
{
    struct report_grid grid = {.alignment = "lrrr"};
    size_t n_same = 0;

    report_grid_cell(&grid, "last value of");
    report_grid_cell(&grid, title_a);
    report_grid_cell(&grid, title_b);
    report_grid_cell(&grid, "difference");
    for (size_t i = 0; i < metrics->n; i++) {
        if (metrics->items[i].a == metrics->items[i].b)
            n_same++;
        else
            add_final(&grid, &metrics->items[i]);
    }
    struct text unused = {0};
    report_grid_print(&grid, n_same < metrics->n ? out : &unused);
    text_release(&unused);
    if (n_same)
        text_print(out, "the same: %zu of %zu metrics\n", n_same, metrics->n);
}

static int compare_stages(struct text *out, struct diff_side *a, const struct report_stage *stage_a,
                          struct diff_side *b, const struct report_stage *stage_b)
{
    struct final_metrics metrics = {0};
    int status = load_finals(a, stage_a->id, &metrics, 0);

    if (status == STATUS_OK)
        status = load_finals(b, stage_b->id, &metrics, 1);
    if (status == STATUS_OK && metrics.n) {
        qsort(metrics.items, metrics.n, sizeof(*metrics.items), compare_names);
        text_print(out, "\n");
        print_finals(out, &metrics, a->title, b->title);
    }
    for (size_t i = 0; i < metrics.n; i++)
        mem_free(metrics.items[i].name);
    mem_free(metrics.items);
    return status;
}

/* One pair of stages when they were named, else every stage that both runs have. */
static int compare_all(struct text *out, struct diff_side *a, struct diff_side *b, int named)
{
    for (size_t i = 0; i < a->stages.n; i++) {
        for (size_t k = 0; k < b->stages.n; k++) {
            if (!named && strcmp(a->stages.items[i].name, b->stages.items[k].name))
                continue;
            if (!named)
                text_print(out, "\nstage %s\n", a->stages.items[i].name);
            TRY(compare_stages(out, a, &a->stages.items[i], b, &b->stages.items[k]));
        }
    }
    return STATUS_OK;
}

int report_diff(struct text *out, const char *run_a, const char *stage_a, const char *run_b,
                const char *stage_b)
{
    struct diff_side a = {0}, b = {0};
    int status;

    if (!stage_a != !stage_b)
        return status_fail(STATUS_CONFIG, "a stage is compared with a stage, a run with a run: "
                           "name two stages or none");
    TRY_OUT(open_side(&a, run_a, stage_a));
    TRY_OUT(open_side(&b, run_b ? run_b : run_a, stage_b));
    if (stage_a && !strcmp(stage_a, stage_b)) {   /* one stage of two runs: say which run */
        a.title = run_a;
        b.title = run_b ? run_b : run_a;
    }
    print_configs(out, &a, &b);
    TRY_OUT(compare_all(out, &a, &b, stage_a != NULL));
out:
    close_side(&a);
    close_side(&b);
    return status;
}
