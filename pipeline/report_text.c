#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "pipeline/report_internal.h"

const char *report_number(char out[REPORT_NUMBER_BYTES], double value)
{
    double size = fabs(value);

    if (isnan(value))
        snprintf(out, REPORT_NUMBER_BYTES, "-");
    else if (isinf(value) || (value == nearbyint(value) && size < 1e7))
        snprintf(out, REPORT_NUMBER_BYTES, "%.0f", value);
    else if (size >= 1e7 || size < 1e-3)
        snprintf(out, REPORT_NUMBER_BYTES, "%.2e", value);
    else
        snprintf(out, REPORT_NUMBER_BYTES, "%.*f", size >= 1000 ? 0 : size >= 100 ? 1 :
                 size >= 10 ? 2 : size >= 0.01 ? 3 : 4, value);
    return out;
}

const char *report_duration(char out[REPORT_NUMBER_BYTES], double seconds)
{
    long whole = isfinite(seconds) && seconds > 0 ? lround(fmin(seconds, 1e9)) : 0;

    if (isnan(seconds))
        snprintf(out, REPORT_NUMBER_BYTES, "-");
    else if (seconds < 9.95)
        snprintf(out, REPORT_NUMBER_BYTES, "%.1fs", seconds);
    else if (whole < 60)
        snprintf(out, REPORT_NUMBER_BYTES, "%lds", whole);
    else if (whole < 3600)
        snprintf(out, REPORT_NUMBER_BYTES, "%ldm %02lds", whole / 60, whole % 60);
    else
        snprintf(out, REPORT_NUMBER_BYTES, "%ldh %02ldm", whole / 3600, whole % 3600 / 60);
    return out;
}

void report_json_number(struct text *out, double value)
{
    if (isfinite(value))
        text_print(out, "%.17g", value);
    else
        text_print(out, "null");
}

void report_json_text(struct text *out, const char *text)
{
    json_append_string(out, text, strlen(text));
}

static void append_visible(struct text *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        unsigned char next = i + 1 < n ? (unsigned char)text[i + 1] : 0;
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) {   /* U+0080..9F: escape sequences too */
            text_print(out, "\\u00%02x", next);
            i++;
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            text_print(out, "\\x%02x", c);
        } else {
            text_append(out, &text[i], 1);
        }
    }
}

void report_indented(struct text *out, const char *indent, const char *text)
{
    do {
        size_t n = strcspn(text, "\n");
        text_print(out, "%s", indent);
        append_visible(out, text, n);
        text_print(out, "\n");
        text += n + (text[n] == '\n');
    } while (*text);
}

void report_grid_cell(struct report_grid *grid, const char *text)
{
    struct text visible = {0};

    append_visible(&visible, text, strlen(text));
    grid->cells = mem_resize(grid->cells, grid->n_cells + 1, sizeof(*grid->cells));
    grid->cells[grid->n_cells++] = mem_copy_text(visible.data ? visible.data : "");
    text_release(&visible);
}

void report_grid_number(struct report_grid *grid, double value)
{
    char number[REPORT_NUMBER_BYTES];

    report_grid_cell(grid, report_number(number, value));
}

void report_grid_fixed(struct report_grid *grid, double value, int decimals)
{
    char number[REPORT_NUMBER_BYTES];

    if (!isnan(value) && fabs(value) < 1e9)
        snprintf(number, sizeof(number), "%.*f", decimals, value);
    else
        report_number(number, value);
    report_grid_cell(grid, number);
}

static size_t count_characters(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

void report_grid_print(struct report_grid *grid, struct text *out)
{
    size_t n_columns = strlen(grid->alignment);
    size_t *widths = mem_alloc(n_columns, sizeof(*widths));

    for (size_t i = 0; i < grid->n_cells; i++) {
        size_t n = count_characters(grid->cells[i]);
        if (n > widths[i % n_columns])
            widths[i % n_columns] = n;
    }
    for (size_t i = 0; i < grid->n_cells; i++) {
        size_t column = i % n_columns, last = column + 1 == n_columns;
        int blanks = (int)(widths[column] - count_characters(grid->cells[i]));
        if (grid->alignment[column] == 'r')
            text_print(out, "%*s%s", blanks, "", grid->cells[i]);
        else
            text_print(out, "%s%*s", grid->cells[i], last ? 0 : blanks, "");
        text_print(out, "%s", last ? "\n" : "  ");
        mem_free(grid->cells[i]);
    }
    mem_free(widths);
    mem_free(grid->cells);
    grid->cells = NULL;
    grid->n_cells = 0;
}
