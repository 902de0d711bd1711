/* `hone samples`: what the model wrote, best or worst first, with every verdict. */
#include <math.h>
#include <stdio.h>

#include "common/status.h"
#include "pipeline/report_internal.h"

#define DEFAULT_SAMPLES 5

/* Parameters 1..4: stage, purpose, kind, step; NULL: any. */
#define SAMPLE_FILTER                                                                              \
    " (?1 IS NULL OR stage.name = ?1) AND (?2 IS NULL OR sample_group.purpose = ?2)"               \
    " AND (?3 IS NULL OR task.kind = ?3) AND (?4 IS NULL OR sample_group.step = ?4)"

#define SAMPLE_ROWS                                                                                \
    "SELECT sample.id, stage.name, sample_group.step, sample_group.purpose, task.kind, task.id,"   \
    " sample_group.prompt, task.reference, sample.text, sample.reward, sample.advantage,"          \
    " sample.masked, sample.n_tokens, sample.finish"                                               \
    " FROM sample JOIN sample_group ON sample_group.id = sample.group_id"                          \
    " JOIN stage ON stage.id = sample_group.stage_id JOIN task ON task.id = sample_group.task_id"  \
    " WHERE" SAMPLE_FILTER

enum {
    ROW_ID, ROW_STAGE, ROW_STEP, ROW_PURPOSE, ROW_KIND, ROW_TASK, ROW_PROMPT, ROW_REFERENCE,
    ROW_TEXT, ROW_REWARD, ROW_ADVANTAGE, ROW_MASKED, ROW_TOKENS, ROW_FINISH
};

static int fail_none(struct report *report, const struct report_samples_options *options)
{
    char step[32] = "any";

    if (options->step >= 0)
        snprintf(step, sizeof(step), "%lld", (long long)options->step);
    return status_fail(STATUS_FAILED, "%s has no samples of stage %s, purpose %s, kind %s, step %s",
                       report->run, options->stage ? options->stage : "any",
                       options->purpose ? options->purpose : "any",
                       options->kind ? options->kind : "any", step);
}

/* The stage and step of the newest group that fits. */
static int find_newest(struct report *report, const struct report_samples_options *options,
                       char **stage, int64_t *step)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row,
                "SELECT stage.name, sample_group.step FROM sample_group"
                " JOIN stage ON stage.id = sample_group.stage_id"
                " JOIN task ON task.id = sample_group.task_id WHERE" SAMPLE_FILTER
                " ORDER BY sample_group.id DESC LIMIT 1",
                SQL_VALUES(sql_text(options->stage), sql_text(options->purpose),
                           sql_text(options->kind),
                           options->step < 0 ? sql_null() : sql_int(options->step))));
    TRY(sql_next(&report->sql, row, &more));
    if (!more)
        return fail_none(report, options);
    *stage = mem_copy_text(sql_column_text(row, 0));
    *step = sqlite3_column_int64(row, 1);
    sql_finish(row);
    return STATUS_OK;
}

static const char *short_number(char out[REPORT_NUMBER_BYTES], double value)
{
    if (isnan(value))
        return "-";
    snprintf(out, REPORT_NUMBER_BYTES, "%.4g", value);
    return out;
}

static int ask_scores(struct report *report, int64_t sample, sqlite3_stmt **row)
{
    return sql_ask(&report->sql, row,
                   "SELECT name, weight, value, outcome, detail FROM score WHERE sample_id = ?"
                   " ORDER BY position",
                   SQL_VALUES(sql_int(sample)));
}

static int print_scores(struct text *out, struct report *report, int64_t sample)
{
    struct report_grid grid = {.alignment = "lrlll"};
    char value[REPORT_NUMBER_BYTES], weight[REPORT_NUMBER_BYTES + 2];
    char number[REPORT_NUMBER_BYTES], name[160];
    sqlite3_stmt *row;
    int more;

    TRY(ask_scores(report, sample, &row));
    int status = sql_next(&report->sql, row, &more);
    while (status == STATUS_OK && more) {
        snprintf(name, sizeof(name), "  %s", sql_column_text(row, 0));
        snprintf(weight, sizeof(weight), "x %s", short_number(number, sql_column_real(row, 1)));
        report_grid_cell(&grid, name);
        report_grid_cell(&grid, short_number(value, sql_column_real(row, 2)));
        report_grid_cell(&grid, weight);
        report_grid_cell(&grid, sql_column_text(row, 3));
        report_grid_cell(&grid, sql_column_text(row, 4));
        status = sql_next(&report->sql, row, &more);
    }
    report_grid_print(&grid, out);
    return status;
}

static int print_sample(struct text *out, struct report *report, sqlite3_stmt *row)
{
    char reward[REPORT_NUMBER_BYTES], number[REPORT_NUMBER_BYTES];
    double advantage = sql_column_real(row, ROW_ADVANTAGE);

    text_print(out, "%s, step %lld, %s: %s task %016llx   reward %s",
               sql_column_text(row, ROW_STAGE),
               (long long)sqlite3_column_int64(row, ROW_STEP), sql_column_text(row, ROW_PURPOSE),
               sql_column_text(row, ROW_KIND),
               (unsigned long long)sqlite3_column_int64(row, ROW_TASK),
               short_number(reward, sql_column_real(row, ROW_REWARD)));
    if (!isnan(advantage))
        text_print(out, "   advantage %s%s", advantage > 0 ? "+" : "",
                   short_number(number, advantage));
    text_print(out, "   %lld tokens%s%s\n", (long long)sqlite3_column_int64(row, ROW_TOKENS),
               sql_column_text(row, ROW_FINISH)[0] == 'l' ? ", cut" : "",
               sqlite3_column_int(row, ROW_MASKED) ? ", masked" : "");
    text_print(out, "  prompt\n");
    report_indented(out, "  | ", sql_column_text(row, ROW_PROMPT));
    text_print(out, "  completion\n");
    report_indented(out, "  > ", sql_column_text(row, ROW_TEXT));
    if (*sql_column_text(row, ROW_REFERENCE)) {
        text_print(out, "  reference\n");
        report_indented(out, "  = ", sql_column_text(row, ROW_REFERENCE));
    }
    return print_scores(out, report, sqlite3_column_int64(row, ROW_ID));
}

static void print_text_field(struct text *out, const char *key, const char *value)
{
    text_print(out, "\"%s\":", key);
    report_json_text(out, value);
    text_print(out, ",");
}

static int print_sample_json(struct text *out, struct report *report, sqlite3_stmt *row)
{
    sqlite3_stmt *score;
    int more;

    text_print(out, "{");
    print_text_field(out, "stage", sql_column_text(row, ROW_STAGE));
    print_text_field(out, "purpose", sql_column_text(row, ROW_PURPOSE));
    print_text_field(out, "kind", sql_column_text(row, ROW_KIND));
    print_text_field(out, "prompt", sql_column_text(row, ROW_PROMPT));
    print_text_field(out, "completion", sql_column_text(row, ROW_TEXT));
    print_text_field(out, "reference", sql_column_text(row, ROW_REFERENCE));
    print_text_field(out, "finish", sql_column_text(row, ROW_FINISH));
    text_print(out, "\"step\":%lld,\"task\":\"%llu\",\"n_tokens\":%lld,\"masked\":%s,\"reward\":",
               (long long)sqlite3_column_int64(row, ROW_STEP),
               (unsigned long long)sqlite3_column_int64(row, ROW_TASK),
               (long long)sqlite3_column_int64(row, ROW_TOKENS),
               sqlite3_column_int(row, ROW_MASKED) ? "true" : "false");
    report_json_number(out, sql_column_real(row, ROW_REWARD));
    text_print(out, ",\"advantage\":");
    report_json_number(out, sql_column_real(row, ROW_ADVANTAGE));
    text_print(out, ",\"scores\":[");
    TRY(ask_scores(report, sqlite3_column_int64(row, ROW_ID), &score));
    TRY(sql_next(&report->sql, score, &more));
    for (int first = 1; more; first = 0) {
        text_print(out, first ? "{" : ",{");
        print_text_field(out, "name", sql_column_text(score, 0));
        print_text_field(out, "outcome", sql_column_text(score, 3));
        print_text_field(out, "detail", sql_column_text(score, 4));
        text_print(out, "\"weight\":");
        report_json_number(out, sql_column_real(score, 1));
        text_print(out, ",\"value\":");
        report_json_number(out, sql_column_real(score, 2));
        text_print(out, "}");
        TRY(sql_next(&report->sql, score, &more));
    }
    text_print(out, "]}");
    return STATUS_OK;
}

static int print_samples(struct text *out, struct report *report,
                         const struct report_samples_options *options, const char *stage,
                         int64_t step)
{
    const char *query = options->worst
                            ? SAMPLE_ROWS " ORDER BY reward IS NULL, reward, sample.id LIMIT ?5"
                            : SAMPLE_ROWS " ORDER BY reward IS NULL, reward DESC, sample.id"
                                          " LIMIT ?5";
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&report->sql, &row, query,
                SQL_VALUES(sql_text(stage), sql_text(options->purpose), sql_text(options->kind),
                           sql_int(step), sql_int(options->n > 0 ? options->n : DEFAULT_SAMPLES))));
    TRY(sql_next(&report->sql, row, &more));
    for (int first = 1; more; first = 0) {
        if (options->as_json)
            text_print(out, first ? "[" : ",\n");
        else if (!first)
            text_print(out, "\n");
        TRY(options->as_json ? print_sample_json(out, report, row)
                             : print_sample(out, report, row));
        TRY(sql_next(&report->sql, row, &more));
    }
    if (options->as_json)
        text_print(out, "]\n");
    return STATUS_OK;
}

int report_samples(struct text *out, const char *run, const struct report_samples_options *options)
{
    struct report_stages stages = {0};
    struct report report = {0};
    char *stage = NULL;
    int64_t step = -1;
    int status;

    TRY_OUT(report_open(&report, run));
    TRY_OUT(report_load_stages(&report, options->stage, &stages));
    TRY_OUT(find_newest(&report, options, &stage, &step));
    TRY_OUT(print_samples(out, &report, options, stage, step));
out:
    mem_free(stage);
    report_release_stages(&stages);
    report_close(&report);
    return status;
}
