/* The curves of a run as one SVG page. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/chart.h"
#include "pipeline/report_internal.h"

#define PAGE_WIDTH 1200.0
#define PAGE_MARGIN 24.0
#define CARD_GAP 16.0
#define CARD_HEIGHT 240.0
#define HEAD_HEIGHT 80.0
#define COLUMNS 3
#define MAX_CATEGORIES 12
#define MAX_LABELS 8       /* of a histogram, all of its bins named */
#define CATEGORY_BYTES 24

static const struct curve_row {
    const char *metric, *title;
    int is_share, only_supervised;
} curve_rows[] = {
    {"reward", "reward", 0, 0},
    {"eval/pass@1", "held-out pass@1", 1, 0},
    {"completions/mean_length", "completion length, tokens", 0, 0},
    {"eval/format", "held-out format", 1, 0},
    {"eval/language", "held-out target language", 1, 0},
    {"entropy", "entropy, nats per token", 0, 0},
    {"kl", "KL to the reference, nats", 0, 0},
    {"loss", "loss of supervised stages", 0, 1},
};
#define N_CURVES (sizeof(curve_rows) / sizeof(curve_rows[0]))

struct curve {   /* one metric of all stages */
    struct chart_line *lines;
    size_t n_lines;
};

struct reward_list {
    double *values;
    size_t n;
};

struct curves {
    struct report_stages stages;
    struct curve curves[N_CURVES];
    struct reward_list *rewards;   /* per stage, of its last training step */
};

static int load_line(struct report *report, int64_t stage, const char *metric,
                     struct chart_line *line)
{
    double *x = NULL, *y = NULL;
    sqlite3_stmt *row;
    int more, status;

    TRY(sql_ask(&report->sql, &row,
                "SELECT step, coalesce(value, wall_value) FROM metric"
                " WHERE stage_id = ? AND name = ? ORDER BY step",
                SQL_VALUES(sql_int(stage), sql_text(metric))));
    line->n = 0;
    while ((status = sql_next(&report->sql, row, &more)) == STATUS_OK && more) {
        double value = sql_column_real(row, 1);
        if (!isfinite(value))
            continue;
        x = mem_resize(x, line->n + 1, sizeof(*x));
        y = mem_resize(y, line->n + 1, sizeof(*y));
        x[line->n] = (double)sqlite3_column_int64(row, 0);
        y[line->n++] = value;
    }
    line->x = x;
    line->y = y;
    return status;
}

static int load_curve(struct report *report, const struct report_stages *stages,
                      const struct curve_row *row, struct curve *curve)
{
    double reward;

    curve->lines = mem_alloc(stages->n, sizeof(*curve->lines));
    for (size_t i = 0; i < stages->n; i++) {
        const struct report_stage *stage = &stages->items[i];
        struct chart_line *line = &curve->lines[curve->n_lines];
        TRY(report_last_metric(report, stage->id, "reward", &reward));
        if (row->only_supervised && !isnan(reward))
            continue;
        curve->n_lines++;
        TRY(load_line(report, stage->id, row->metric, line));
        line->name = stage->name;
        line->series = i;
        line->x_end = (double)(stage->step > 0 ? stage->step : 0);
        if (!line->n)
            curve->n_lines--;
    }
    return STATUS_OK;
}

static int load_rewards(struct report *report, int64_t stage, struct reward_list *list)
{
    sqlite3_stmt *row;
    int more, status;

    TRY(sql_ask(&report->sql, &row,
                "SELECT reward FROM sample JOIN sample_group ON sample_group.id = group_id"
                " WHERE stage_id = ?1 AND purpose = 'train' AND reward IS NOT NULL AND NOT masked"
                " AND step = (SELECT max(step) FROM sample_group WHERE stage_id = ?1"
                "             AND purpose = 'train')",
                SQL_VALUES(sql_int(stage))));
    while ((status = sql_next(&report->sql, row, &more)) == STATUS_OK && more) {
        list->values = mem_resize(list->values, list->n + 1, sizeof(*list->values));
        list->values[list->n++] = sql_column_real(row, 0);
    }
    return status;
}

static int load_curves(struct report *report, struct curves *all)
{
    TRY(report_load_stages(report, NULL, &all->stages));
    for (size_t i = 0; i < N_CURVES; i++)
        TRY(load_curve(report, &all->stages, &curve_rows[i], &all->curves[i]));
    all->rewards = mem_alloc(all->stages.n, sizeof(*all->rewards));
    for (size_t i = 0; i < all->stages.n; i++)
        TRY(load_rewards(report, all->stages.items[i].id, &all->rewards[i]));
    return STATUS_OK;
}

static void release_curves(struct curves *all)
{
    for (size_t i = 0; i < N_CURVES; i++) {
        for (size_t k = 0; k < all->curves[i].n_lines; k++) {
            mem_free((void *)(uintptr_t)all->curves[i].lines[k].x);
            mem_free((void *)(uintptr_t)all->curves[i].lines[k].y);
        }
        mem_free(all->curves[i].lines);
    }
    for (size_t i = 0; all->rewards && i < all->stages.n; i++)
        mem_free(all->rewards[i].values);
    mem_free(all->rewards);
    report_release_stages(&all->stages);
}

/* ---- The histogram: each value by itself when there are few, else equal bins. */

struct bins {
    double edges[MAX_CATEGORIES + 1];   /* values themselves when exact */
    size_t n;
    int exact;
};

static int add_exact(struct bins *bins, double value)
{
    for (size_t i = 0; i < bins->n; i++)
        if (fabs(bins->edges[i] - value) < 1e-6)
            return 1;
    if (bins->n == MAX_CATEGORIES)
        return 0;
    bins->edges[bins->n++] = value;
    return 1;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void choose_bins(struct bins *bins, const struct reward_list *lists, size_t n_lists)
{
    double low = INFINITY, high = -INFINITY;

    *bins = (struct bins){.exact = 1};
    for (size_t i = 0; i < n_lists; i++)
        for (size_t k = 0; k < lists[i].n; k++) {
            low = fmin(low, lists[i].values[k]);
            high = fmax(high, lists[i].values[k]);
            bins->exact = bins->exact && add_exact(bins, lists[i].values[k]);
        }
    if (bins->exact) {
        qsort(bins->edges, bins->n, sizeof(bins->edges[0]), compare_doubles);
        return;
    }
    bins->n = MAX_CATEGORIES;
    for (size_t i = 0; i <= MAX_CATEGORIES; i++)
        bins->edges[i] = low + (high - low) * (double)i / MAX_CATEGORIES;
}

static size_t bin_of(const struct bins *bins, double value)
{
    size_t i = 0;

    if (bins->exact)
        while (i + 1 < bins->n && value > bins->edges[i] + 1e-6)
            i++;
    else
        while (i + 1 < bins->n && value >= bins->edges[i + 1])
            i++;
    return i;
}

static void draw_rewards(struct text *out, struct chart_box box, const struct curves *all)
{
    char labels[MAX_CATEGORIES][CATEGORY_BYTES];
    const char *categories[MAX_CATEGORIES];
    size_t n_stages = all->stages.n, n_series = 0;
    size_t *series = mem_alloc(n_stages, sizeof(*series));
    struct bins bins;

    choose_bins(&bins, all->rewards, n_stages);
    for (size_t i = 0; i < n_stages; i++)
        if (all->rewards[i].n)
            series[n_series++] = i;
    double *heights = mem_alloc(bins.n * n_series, sizeof(*heights));
    for (size_t s = 0; s < n_series; s++) {
        const struct reward_list *list = &all->rewards[series[s]];
        for (size_t k = 0; k < list->n; k++)
            heights[bin_of(&bins, list->values[k]) * n_series + s] += 1 / (double)list->n;
    }
    for (size_t i = 0; i < bins.n; i++) {
        double shown = bins.exact ? bins.edges[i] : (bins.edges[i] + bins.edges[i + 1]) / 2;
        /* Every other one where there are many: side by side they would touch. */
        if (bins.n > MAX_LABELS && i % 2)
            labels[i][0] = '\0';
        else
            snprintf(labels[i], sizeof(labels[i]), "%.3g", fabs(shown) < 1e-9 ? 0 : shown);
        categories[i] = labels[i];
    }
    struct chart_bars bars = {"rewards at the last step, share", categories, bins.n, series,
                              n_series, heights};
    chart_draw_bars(out, box, &bars);
    mem_free(heights);
    mem_free(series);
}

/* ---- The page. */

static struct chart_box card_box(size_t i, double top)
{
    double width = (PAGE_WIDTH - 2 * PAGE_MARGIN - (COLUMNS - 1) * CARD_GAP) / COLUMNS;

    return (struct chart_box){PAGE_MARGIN + (double)(i % COLUMNS) * (width + CARD_GAP),
                              top + (double)(i / COLUMNS) * (CARD_HEIGHT + CARD_GAP), width,
                              CARD_HEIGHT};
}

static int has_rewards(const struct curves *all)
{
    for (size_t i = 0; i < all->stages.n; i++)
        if (all->rewards[i].n)
            return 1;
    return 0;
}

static size_t draw_cards(struct text *out, const struct curves *all, double top)
{
    size_t n = 0;

    for (size_t i = 0; i < N_CURVES; i++) {
        struct chart_panel panel = {curve_rows[i].title, curve_rows[i].is_share,
                                    all->curves[i].lines, all->curves[i].n_lines};
        if (!panel.n_lines)
            continue;
        chart_draw_panel(out, card_box(n++, top), &panel);
    }
    if (has_rewards(all))
        draw_rewards(out, card_box(n++, top), all);
    return n;
}

static int read_titles(struct report *report, struct text *title, struct text *subtitle)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row, "SELECT name, seed, code_version FROM run", NULL, 0));
    TRY(sql_next(&report->sql, row, &more));
    text_print(title, "%s", more ? sql_column_text(row, 0) : report->run);
    text_print(subtitle, "seed %llu, hone %s; stages one after another, each from its first step",
               more ? (unsigned long long)sqlite3_column_int64(row, 1) : 0ull,
               more ? sql_column_text(row, 2) : "");
    if (more)
        sql_finish(row);
    return STATUS_OK;
}

static int draw_page(struct text *out, struct report *report, const struct curves *all)
{
    struct chart_box legend = {PAGE_MARGIN, HEAD_HEIGHT - 6, PAGE_WIDTH - 2 * PAGE_MARGIN, 0};
    const char **names = mem_alloc(all->stages.n, sizeof(*names));
    struct text title = {0}, subtitle = {0}, cards = {0};

    for (size_t i = 0; i < all->stages.n; i++)
        names[i] = all->stages.items[i].name;
    double top = HEAD_HEIGHT + chart_legend(NULL, legend, names, all->stages.n) + 6;
    size_t n = draw_cards(&cards, all, top);
    size_t n_rows = n ? (n + COLUMNS - 1) / COLUMNS : 1;
    int status = read_titles(report, &title, &subtitle);
    if (status == STATUS_OK) {
        chart_begin(out, PAGE_WIDTH,
                    top + (double)n_rows * (CARD_HEIGHT + CARD_GAP) + PAGE_MARGIN - CARD_GAP,
                    title.data, subtitle.data);
        chart_legend(out, legend, names, all->stages.n);
        if (n)
            text_append(out, cards.data, cards.length);
        else
            chart_note(out, PAGE_MARGIN, top + 20, "Nothing has been measured yet.");
        chart_end(out);
    }
    text_release(&title);
    text_release(&subtitle);
    text_release(&cards);
    mem_free(names);
    return status;
}

int report_curves_svg(struct text *out, const char *run)
{
    struct curves all = {0};
    struct report report = {0};
    int status;

    TRY_OUT(report_open(&report, run));
    TRY_OUT(load_curves(&report, &all));
    TRY_OUT(draw_page(out, &report, &all));
out:
    release_curves(&all);
    report_close(&report);
    return status;
}
