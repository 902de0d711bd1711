/*
 * pipeline/report.h - what a run's file tells people. Read only; safe while the run goes on.
 *
 * Every function appends plain text (or SVG, or JSON where `as_json`) for cmd/ to print. `run` is
 * the run directory; a directory without run.db is one clear error.
 */
#ifndef HONE_PIPELINE_REPORT_H
#define HONE_PIPELINE_REPORT_H

#include <stdint.h>

#include "common/memory.h"

int report_status(struct text *out, const char *run, int as_json); /* stages, steps, last metrics */
/* Who waits for whom, since when; nothing when no coordinator has left its state. */
#define STATE_FILE "state.json"
#define STUCK_FILE "stuck.txt"
#define STATE_MAX_BYTES ((size_t)4 << 20)
int report_state(struct text *out, const char *run, int as_json, int with_messages);
/* Metrics as a table: stage NULL for all, names a comma list or NULL for the chief ones. */
int report_log(struct text *out, const char *run, const char *stage, const char *names,
               int64_t last_steps, int as_json);

struct report_samples_options {
    const char *stage, *purpose, *kind;   /* NULL: any */
    int64_t step;                         /* -1: the last one */
    int64_t n;
    int worst;                            /* 0: best reward first */
    int as_json;
};
int report_samples(struct text *out, const char *run, const struct report_samples_options *options);

int report_lineage(struct text *out, const char *run, const char *stage);   /* tree of parents */
/* Differences of two stages' (or runs') configurations and final metrics. */
int report_diff(struct text *out, const char *run_a, const char *stage_a, const char *run_b,
                const char *stage_b);

/* The table at the end of `hone run`: stage, parent, held-out pass@1, pass@8, cons@8, format share,
 * target-language share, mean length, wall time. */
int report_table(struct text *out, const char *run);

/* One SVG: small charts (reward, pass@1, length, format and language shares, kl, entropy) of every
 * stage along the steps, and a histogram of final rewards. */
int report_curves_svg(struct text *out, const char *run);

#endif
