/*
 * pipeline/chart.h - one self-contained SVG page of small charts. Private to report_curves.c.
 *
 * Sizes are in pixels of the page. The i-th series of a page has the i-th colour everywhere.
 */
#ifndef HONE_PIPELINE_CHART_H
#define HONE_PIPELINE_CHART_H

#include <stddef.h>

#include "common/memory.h"

struct chart_box {
    double x, y, width, height;
};

/* A stretch of the x axis, from 0 to x_end, with its own line. */
struct chart_line {
    const char *name;
    size_t series;           /* colour; series + 1 stands where the name does not fit */
    double x_end;
    const double *x, *y;     /* NaN is skipped */
    size_t n;
};

/* Lines stand one after another along x. */
struct chart_panel {
    const char *title;
    int is_share;            /* y from 0 to 1 */
    const struct chart_line *lines;
    size_t n_lines;
};

/* Bars in groups: heights[category * n_series + series], each a share of its series. */
struct chart_bars {
    const char *title;
    const char *const *categories;
    size_t n_categories;
    const size_t *series;    /* colours */
    size_t n_series;
    const double *heights;
};

void chart_begin(struct text *out, double width, double height, const char *title,
                 const char *subtitle);
void chart_end(struct text *out);

/* Coloured names in rows; gives the height they take. Draws nothing when out is NULL. */
double chart_legend(struct text *out, struct chart_box box, const char *const *names, size_t n);
void chart_draw_panel(struct text *out, struct chart_box box, const struct chart_panel *panel);
void chart_draw_bars(struct text *out, struct chart_box box, const struct chart_bars *bars);
void chart_note(struct text *out, double x, double y, const char *text);

#endif
