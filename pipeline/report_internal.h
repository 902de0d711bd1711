/*
 * pipeline/report_internal.h - what report*.c share: the open run, its stages, aligned tables.
 */
#ifndef HONE_PIPELINE_REPORT_INTERNAL_H
#define HONE_PIPELINE_REPORT_INTERNAL_H

#include "pipeline/report.h"
#include "pipeline/run_store_internal.h"

/* ---- report.c. One read transaction: all that a report says is of one moment. */
struct report {
    struct sql sql;
    const char *run;
};
int report_open(struct report *report, const char *run);
void report_close(struct report *report);

struct report_stage {
    int64_t id;
    char *name, *kind, *state, *reason;
    int64_t step, n_steps;   /* the last one, and how many there will be; -1: not known */
    double wall_seconds;
};
struct report_stages {
    struct report_stage *items;
    size_t n;
};
/* In the order of their first begin. `only` NULL: all; else the one of that name, or an error that
 * lists the names there are. */
int report_load_stages(struct report *report, const char *only, struct report_stages *stages);
void report_release_stages(struct report_stages *stages);

/* The value at the last step that has one; NaN when there is none. */
int report_last_metric(struct report *report, int64_t stage, const char *name, double *value);

/* ---- report_text.c */
#define REPORT_NUMBER_BYTES 32
/* As many digits as a reader wants: "-" for NaN, "0.982", "26.7", "1234", "3.0e-06". */
const char *report_number(char out[REPORT_NUMBER_BYTES], double value);
const char *report_duration(char out[REPORT_NUMBER_BYTES], double seconds);   /* "2m 11s" */
void report_json_number(struct text *out, double value);                      /* null for NaN */
void report_json_text(struct text *out, const char *text);
/* Each line of `text` behind `indent`; control characters that a terminal would obey as \xNN. */
void report_indented(struct text *out, const char *indent, const char *text);

/* Cells row by row, then printed with aligned columns. `alignment` has 'l' or 'r' per column. */
struct report_grid {
    const char *alignment;
    char **cells;
    size_t n_cells;
};
void report_grid_cell(struct report_grid *grid, const char *text);
void report_grid_number(struct report_grid *grid, double value);
void report_grid_fixed(struct report_grid *grid, double value, int decimals);
void report_grid_print(struct report_grid *grid, struct text *out);   /* and releases the cells */

#endif
