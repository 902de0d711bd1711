#include "pipeline/chart.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define LETTER 6.3              /* mean width of a letter at 11 px */
#define INK "#2b2f36"
#define PALE "#6f7680"
#define MARGIN_LEFT 50.0
#define MARGIN_RIGHT 16.0
#define MARGIN_TOP 42.0
#define MARGIN_BOTTOM 42.0
#define LEGEND_ROW 22.0
#define MAX_POINTS 400          /* of one line; more are averaged */
#define SMOOTH_FROM 24          /* points; fewer are shown with dots */

static const char *const colours[] = {"#3a6fb7", "#e07b2e", "#37975a", "#c9423f", "#7f5fb0",
                                      "#1f9fb0", "#d45f9f", "#8d6a4b", "#a3961f", "#5b6672"};

static const char *colour_of(size_t series)
{
    return colours[series % (sizeof(colours) / sizeof(colours[0]))];
}

static void put_escaped(struct text *out, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&':
            text_print(out, "&amp;");
            break;
        case '<':
            text_print(out, "&lt;");
            break;
        case '>':
            text_print(out, "&gt;");
            break;
        case '"':
            text_print(out, "&quot;");
            break;
        default:   /* XML has no control characters */
            text_append(out, (unsigned char)*text < 0x20 ? " " : text, 1);
        }
    }
}

/* `style` is the attributes of the element. */
static void put_text(struct text *out, double x, double y, const char *style, const char *text)
{
    text_print(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, style);
    put_escaped(out, text);
    text_print(out, "</text>\n");
}

static double text_width(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return (double)n * LETTER;
}

void chart_begin(struct text *out, double width, double height, const char *title,
                 const char *subtitle)
{
    text_print(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" "
               "viewBox=\"0 0 %.0f %.0f\" font-family=\"Inter, 'Segoe UI', 'Helvetica Neue', "
               "'DejaVu Sans', Arial, sans-serif\" font-size=\"11\">\n",
               width, height, width, height);
    text_print(out, "<rect width=\"100%%\" height=\"100%%\" fill=\"#f6f6f3\"/>\n");
    put_text(out, 24, 40, "font-size=\"22\" font-weight=\"bold\" fill=\"" INK "\"", title);
    put_text(out, 24, 62, "font-size=\"13\" fill=\"" PALE "\"", subtitle);
}

void chart_end(struct text *out)
{
    text_print(out, "</svg>\n");
}

void chart_note(struct text *out, double x, double y, const char *text)
{
    put_text(out, x, y, "font-size=\"13\" fill=\"" PALE "\"", text);
}

double chart_legend(struct text *out, struct chart_box box, const char *const *names, size_t n)
{
    double x = box.x, y = box.y;
    char label[96];

    for (size_t i = 0; i < n; i++) {
        snprintf(label, sizeof(label), "%zu %s", i + 1, names[i]);
        double width = 22 + text_width(label) * 12 / 11 + 16;
        if (x > box.x && x + width > box.x + box.width) {
            x = box.x;
            y += LEGEND_ROW;
        }
        if (out) {
            text_print(out,
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"14\" height=\"10\" rx=\"3\" "
                       "fill=\"%s\"/>\n",
                       x, y + 4, colour_of(i));
            put_text(out, x + 20, y + 13, "font-size=\"12\" fill=\"" INK "\"", label);
        }
        x += width;
    }
    return y - box.y + LEGEND_ROW;
}

/* ---- The card, and its y axis. */

struct axis {
    double low, high, step;
};

static double nice_step(double rough)
{
    double power = pow(10, floor(log10(rough)));
    double digit = rough / power;

    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 2.5 ? 2.5 : digit <= 5 ? 5 : 10);
}

static struct axis make_axis(double low, double high)
{
    if (!(low <= high)) {   /* no value at all */
        low = 0;
        high = 1;
    }
    if (low > 0 && low < 0.4 * high)
        low = 0;
    if (high - low < 1e-9 * fmax(fabs(high), 1e-6)) {
        double half = high != 0 ? fabs(high) * 0.1 : 0.5;
        low -= half;
        high += half;
    }
    double step = nice_step((high - low) / 4);
    return (struct axis){floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step, step};
}

static void print_tick(char *out, size_t n_out, double value, double step)
{
    int decimals = (int)fmax(0, -floor(log10(step) + 1e-9));

    if (fabs(value) < step * 1e-6)
        value = 0;
    if (fabs(value / pow(10, -decimals) - nearbyint(value / pow(10, -decimals))) > 1e-6)
        decimals++;   /* steps of 0.25 */
    if (fabs(value) >= 10000 && step >= 100)
        snprintf(out, n_out, "%gk", value / 1000);
    else if (decimals > 4)
        snprintf(out, n_out, value == 0 ? "0" : "%.1e", value);
    else
        snprintf(out, n_out, "%.*f", decimals, value);
}

static double y_of(const struct axis *axis, struct chart_box plot, double value)
{
    return plot.y + plot.height * (1 - (value - axis->low) / (axis->high - axis->low));
}

static struct chart_box draw_card(struct text *out, struct chart_box box, const char *title)
{
    text_print(out,
               "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"8\" "
               "fill=\"#ffffff\" stroke=\"#e2e2dc\"/>\n",
               box.x, box.y, box.width, box.height);
    put_text(out, box.x + 16, box.y + 25, "font-size=\"14\" font-weight=\"bold\" fill=\"" INK "\"",
             title);
    return (struct chart_box){box.x + MARGIN_LEFT, box.y + MARGIN_TOP,
                              box.width - MARGIN_LEFT - MARGIN_RIGHT,
                              box.height - MARGIN_TOP - MARGIN_BOTTOM};
}

static void draw_y_axis(struct text *out, struct chart_box plot, const struct axis *axis)
{
    char label[32];
    int n = (int)lround((axis->high - axis->low) / axis->step);

    for (int i = 0; i <= n; i++) {
        double value = axis->low + i * axis->step, y = y_of(axis, plot, value);
        text_print(out,
                   "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n",
                   plot.x, y, plot.x + plot.width, y, i ? "#eeeeea" : "#b9bcc0");
        print_tick(label, sizeof(label), value, axis->step);
        put_text(out, plot.x - 7, y + 4, "text-anchor=\"end\" fill=\"" PALE "\"", label);
    }
}

/* ---- Lines. */

struct points {
    double x[MAX_POINTS], y[MAX_POINTS];
    size_t n;
};

/* Leaves NaN out, and averages neighbours down to MAX_POINTS. */
static void gather_points(struct points *points, const struct chart_line *line)
{
    size_t n = 0, k = 0;

    for (size_t i = 0; i < line->n; i++)
        n += isfinite(line->y[i]) != 0;
    points->n = n < MAX_POINTS ? n : MAX_POINTS;
    for (size_t i = 0, at = 0; i < points->n; i++) {
        size_t end = (i + 1) * n / points->n, count = 0;
        double x = 0, y = 0;
        for (; k < line->n && at < end; k++) {
            if (!isfinite(line->y[k]))
                continue;
            x += line->x[k];
            y += line->y[k];
            count++;
            at++;
        }
        points->x[i] = x / (double)count;
        points->y[i] = y / (double)count;
    }
}

static void smooth_points(struct points *smooth, const struct points *raw)
{
    size_t reach = raw->n / 24 > 2 ? raw->n / 24 : 2;

    smooth->n = raw->n;
    for (size_t i = 0; i < raw->n; i++) {
        size_t first = i > reach ? i - reach : 0;
        size_t end = i + reach + 1 < raw->n ? i + reach + 1 : raw->n;
        double sum = 0;
        for (size_t k = first; k < end; k++)
            sum += raw->y[k];
        smooth->x[i] = raw->x[i];
        smooth->y[i] = sum / (double)(end - first);
    }
}

struct span {   /* a line's part of the plot */
    struct chart_box box;
    double x_end;
};

static double x_of(const struct span *span, double x)
{
    const double pad = 5;

    return span->box.x + pad +
           (span->box.width - 2 * pad) * (span->x_end > 0 ? x / span->x_end : 0.5);
}

static void draw_polyline(struct text *out, const struct span *span, const struct axis *axis,
                          const struct points *points, const char *style)
{
    text_print(out, "<polyline fill=\"none\" stroke-linejoin=\"round\" %s points=\"", style);
    for (size_t i = 0; i < points->n; i++)
        text_print(out, "%s%.1f,%.1f", i ? " " : "", x_of(span, points->x[i]),
                   y_of(axis, span->box, points->y[i]));
    text_print(out, "\"/>\n");
}

static void draw_line(struct text *out, const struct span *span, const struct axis *axis,
                      const struct chart_line *line)
{
    struct points raw, smooth;
    const char *colour = colour_of(line->series);
    char style[96];

    gather_points(&raw, line);
    if (raw.n > SMOOTH_FROM) {
        snprintf(style, sizeof(style), "stroke=\"%s\" stroke-opacity=\"0.3\"", colour);
        draw_polyline(out, span, axis, &raw, style);
        smooth_points(&smooth, &raw);
        snprintf(style, sizeof(style), "stroke=\"%s\" stroke-width=\"2\"", colour);
        draw_polyline(out, span, axis, &smooth, style);
        return;
    }
    snprintf(style, sizeof(style), "stroke=\"%s\" stroke-width=\"1.6\"", colour);
    if (raw.n > 1)
        draw_polyline(out, span, axis, &raw, style);
    for (size_t i = 0; i < raw.n; i++)
        text_print(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\" fill=\"%s\"/>\n",
                   x_of(span, raw.x[i]), y_of(axis, span->box, raw.y[i]), colour);
}

/* Under the axis: the steps at the right end, the stage's name or number in its colour. */
static void draw_span_labels(struct text *out, const struct span *span,
                             const struct chart_line *line, int is_last)
{
    double bottom = span->box.y + span->box.height, right = span->box.x + span->box.width;
    char style[96], label[96];

    if (!is_last)
        text_print(out,
                   "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#d5d6d2\" "
                   "stroke-dasharray=\"2 3\"/>\n",
                   right, span->box.y, right, bottom + 5);
    snprintf(label, sizeof(label), "%.0f", line->x_end);
    if (span->x_end > 0 && text_width(label) + 8 < span->box.width)
        put_text(out, right - 4, bottom + 14, "text-anchor=\"end\" font-size=\"10\" fill=\"" PALE
                 "\"", label);
    snprintf(style, sizeof(style), "text-anchor=\"middle\" font-weight=\"bold\" fill=\"%s\"",
             colour_of(line->series));
    snprintf(label, sizeof(label), "%s", line->name);
    if (text_width(label) * 1.1 + 6 > span->box.width)
        snprintf(label, sizeof(label), "%zu", line->series + 1);
    put_text(out, span->box.x + span->box.width / 2, bottom + 30, style, label);
}

static struct axis axis_of_panel(const struct chart_panel *panel)
{
    double low = DBL_MAX, high = -DBL_MAX;
    struct points points;

    if (panel->is_share)
        return (struct axis){0, 1, 0.25};
    for (size_t i = 0; i < panel->n_lines; i++) {
        gather_points(&points, &panel->lines[i]);
        for (size_t k = 0; k < points.n; k++) {
            low = fmin(low, points.y[k]);
            high = fmax(high, points.y[k]);
        }
    }
    return make_axis(low, high);
}

/* One digit more than the ticks have. */
static void print_end(char *out, size_t n_out, double value, double step)
{
    double decimals = fmax(0, 1 - floor(log10(step) + 1e-9));

    if (decimals > 5 || fabs(value) >= 1e6)
        snprintf(out, n_out, "%.3g", value);
    else
        snprintf(out, n_out, "%.*f", (int)decimals, value);
}

/* "0.37 to 0.98" at the right of the title: the lowest and the highest value of all lines. */
static void draw_ends(struct text *out, struct chart_box box, const struct chart_panel *panel,
                      const struct axis *axis)
{
    double lowest = NAN, highest = NAN;
    char from[32], to[32], label[80];

    for (size_t i = 0; i < panel->n_lines; i++)
        for (size_t k = 0; k < panel->lines[i].n; k++) {
            double y = panel->lines[i].y[k];
            if (!isfinite(y))
                continue;
            lowest = fmin(y, lowest);   /* fmin and fmax pass over NAN */
            highest = fmax(y, highest);
        }
    if (isnan(lowest))
        return;
    print_end(from, sizeof(from), lowest, axis->step);
    print_end(to, sizeof(to), highest, axis->step);
    snprintf(label, sizeof(label), "%s to %s", from, to);
    put_text(out, box.x + box.width - 16, box.y + 25,
             "text-anchor=\"end\" font-size=\"12\" fill=\"" PALE "\"", label);
}

void chart_draw_panel(struct text *out, struct chart_box box, const struct chart_panel *panel)
{
    struct chart_box plot = draw_card(out, box, panel->title);
    struct axis axis = axis_of_panel(panel);
    double total = 0, x = plot.x;

    draw_ends(out, box, panel, &axis);
    draw_y_axis(out, plot, &axis);
    for (size_t i = 0; i < panel->n_lines; i++)
        total += (double)panel->lines[i].n;
    for (size_t i = 0; i < panel->n_lines; i++) {
        /* Half of the width is shared equally, so that a short stage stays readable. A point by
         * itself stands in the middle. */
        double equal = 1.0 / (double)panel->n_lines;
        double share = total > 0 ? (double)panel->lines[i].n / total : equal;
        double width = plot.width * 0.5 * (share + equal);
        struct span span = {{x, plot.y, width, plot.height},
                            panel->lines[i].n > 1 ? panel->lines[i].x_end : 0};
        draw_span_labels(out, &span, &panel->lines[i], i + 1 == panel->n_lines);
        draw_line(out, &span, &axis, &panel->lines[i]);
        x += width;
    }
}

/* ---- Bars. */

void chart_draw_bars(struct text *out, struct chart_box box, const struct chart_bars *bars)
{
    struct chart_box plot = draw_card(out, box, bars->title);
    double high = 0, slot = plot.width / (double)bars->n_categories;
    double bar = slot * 0.8 / (double)bars->n_series;

    for (size_t i = 0; i < bars->n_categories * bars->n_series; i++)
        high = fmax(high, bars->heights[i]);
    struct axis axis = make_axis(0, high > 0 ? high : 1);
    draw_y_axis(out, plot, &axis);
    for (size_t c = 0; c < bars->n_categories; c++) {
        double left = plot.x + slot * ((double)c + 0.1);
        for (size_t s = 0; s < bars->n_series; s++) {
            double y = y_of(&axis, plot, bars->heights[c * bars->n_series + s]);
            text_print(out,
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n",
                       left + bar * (double)s, y, fmax(bar - 0.5, 0.5),
                       plot.y + plot.height - y, colour_of(bars->series[s]));
        }
        put_text(out, plot.x + slot * ((double)c + 0.5), plot.y + plot.height + 14,
                 "text-anchor=\"middle\" font-size=\"10\" fill=\"" PALE "\"", bars->categories[c]);
    }
}
