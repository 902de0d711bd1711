#include "reward/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/status.h"

struct line {
    const char *key, *value;
    size_t n_key, n_value;
};

/* The line at *at, moved behind it; 0 at the end. */
static int next_line(struct verifier_text options, size_t *at, struct line *line)
{
    if (*at >= options.length)
        return 0;
    const char *start = options.data + *at;
    size_t left = options.length - *at;
    const char *end = memchr(start, '\n', left);
    size_t n = end ? (size_t)(end - start) : left;
    const char *sign = memchr(start, '=', n);

    line->key = start;
    line->n_key = sign ? (size_t)(sign - start) : n;
    line->value = sign ? sign + 1 : start + n;
    line->n_value = (size_t)(start + n - line->value);
    *at += n + 1;
    return 1;
}

static int key_is(const struct line *line, const char *key)
{
    return strlen(key) == line->n_key && memcmp(key, line->key, line->n_key) == 0;
}

/* The last line with this key; 0 when there is none. */
static int find_value(struct verifier_text options, const char *key, struct line *out)
{
    struct line line;
    size_t at = 0;
    int found = 0;

    while (next_line(options, &at, &line))
        if (key_is(&line, key)) {
            *out = line;
            found = 1;
        }
    return found;
}

static int refuse_key(const char *verifier, const struct line *line, const char *const *known)
{
    char list[256] = "";
    size_t n = 0;

    for (size_t i = 0; known[i] && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "; it has ", known[i]);
    return status_fail(STATUS_CONFIG, "reward.options: verifier \"%s\" has no option \"%.*s\"%s",
                       verifier, (int)line->n_key, line->key, list);
}

int options_check(struct verifier_text options, const char *verifier, const char *const *known)
{
    struct line line;
    size_t at = 0;

    while (next_line(options, &at, &line)) {
        size_t i = 0;
        while (known[i] && !key_is(&line, known[i]))
            i++;
        if (!known[i])
            return refuse_key(verifier, &line, known);
    }
    return STATUS_OK;
}

int options_number(struct verifier_text options, const char *key, double minimum, double maximum,
                   double *out)
{
    struct line line;
    char text[64], *end;

    if (!find_value(options, key, &line))
        return STATUS_OK;
    snprintf(text, sizeof(text), "%.*s", (int)line.n_value, line.value);
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < minimum || value > maximum)
        return status_fail(STATUS_CONFIG, "reward.options: %s=%s: a number from %g to %g is wanted",
                           key, text, minimum, maximum);
    *out = value;
    return STATUS_OK;
}

int options_choice(struct verifier_text options, const char *key, const char *const *choices,
                   int *out)
{
    struct line line;

    if (!find_value(options, key, &line))
        return STATUS_OK;
    for (int i = 0; choices[i]; i++)
        if (strlen(choices[i]) == line.n_value &&
            memcmp(choices[i], line.value, line.n_value) == 0) {
            *out = i;
            return STATUS_OK;
        }
    char list[256] = "";
    size_t n = 0;
    for (size_t i = 0; choices[i] && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", choices[i]);
    return status_fail(STATUS_CONFIG, "reward.options: %s=%.*s is unknown; there are %s", key,
                       (int)line.n_value, line.value, list);
}

int options_text(struct verifier_text options, const char *key, char *out, size_t n_out)
{
    struct line line;

    if (!find_value(options, key, &line))
        return STATUS_OK;
    if (line.n_value >= n_out)
        return status_fail(STATUS_CONFIG, "reward.options: %s: at most %zu bytes are wanted", key,
                           n_out - 1);
    memcpy(out, line.value, line.n_value);
    out[line.n_value] = '\0';
    return STATUS_OK;
}

void options_select(const char *list, const char *verifier, struct text *out)
{
    char item[CONFIG_TEXT_BYTES];
    size_t n = strlen(verifier);

    for (size_t i = 0; config_list_item(list, i, item, sizeof(item)); i++)
        if (strncmp(item, verifier, n) == 0 && item[n] == '.')
            text_print(out, "%s\n", item + n + 1);
}
