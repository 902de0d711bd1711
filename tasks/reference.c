/* The reference of a record: taken as it is, or out of the worked solution that it stands in. */
#include <string.h>

#include "common/status.h"
#include "tasks/columns.h"

#define GSM8K_MARK "####"
#define BOXED_MARK "\\boxed"
#define ALL "*"
#define MAX_OTHER_BYTES ((size_t)256 << 10)

static int is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What stands behind the last "####", without blanks around it or commas in it: 1,200 is 1200. */
static int append_gsm8k(const char *text, const char *where, const char *place, struct text *out)
{
    const char *at = NULL, *next = text;
    size_t before = out->length;

    while ((next = strstr(next, GSM8K_MARK)))
        at = next += strlen(GSM8K_MARK);
    while (at && is_blank(*at))
        at++;
    for (size_t n = at ? strlen(at) : 0; n; n--)
        if (!is_blank(at[n - 1])) {
            for (size_t i = 0; i < n; i++)
                if (at[i] != ',')
                    text_append(out, at + i, 1);
            break;
        }
    return out->length > before
               ? STATUS_OK
               : status_fail(STATUS_FORMAT, "%s: key \"%s\" has no \"#### \" with an answer "
                             "behind it, as tasks.format gsm8k wants", where, place);
}

/* The end of what stands in braces behind `at`, NULL when they are not in balance. */
static const char *find_brace(const char *at)
{
    for (int depth = 1; *at; at++) {
        if (*at == '\\' && at[1])
            at++;
        else if (*at == '{')
            depth++;
        else if (*at == '}' && --depth == 0)
            return at;
    }
    return NULL;
}

/* Inside of the last \boxed{...}; "\boxed 5$" has a blank in place of the braces. */
static int append_boxed(const char *text, const char *where, const char *place, struct text *out)
{
    const char *at = NULL, *next = text, *end = NULL;

    while ((next = strstr(next, BOXED_MARK)))
        at = next += strlen(BOXED_MARK);
    if (at && *at == '{') {
        end = find_brace(++at);
    } else if (at && *at == ' ') {
        at++;
        end = at + strcspn(at, "$ \n");
    }
    if (!end || end == at)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" has no whole \\boxed{} with something "
                           "in it, as tasks.format math wants", where, place);
    text_append(out, at, (size_t)(end - at));
    return STATUS_OK;
}

/* tasks.reference_columns: these columns as one object, or "*", the whole record. */
static int append_columns(const char *list, const json_t *row, const char *where, struct text *out)
{
    char item[CONFIG_TEXT_BYTES];
    json_t *object;

    if (strcmp(list, ALL) == 0) {
        json_append(out, row);
        return STATUS_OK;
    }
    object = json_object();
    for (size_t i = 0; config_list_item(list, i, item, sizeof(item)); i++) {
        json_t *value = json_object_get(row, item);

        if (!value) {
            json_decref(object);
            return status_fail(STATUS_FORMAT, "%s: key \"%s\" of tasks.reference_columns is "
                               "missing", where, item);
        }
        json_object_set(object, item, value);
    }
    json_append(out, object);
    json_decref(object);
    return STATUS_OK;
}

static int is_listed(const char *list, const char *key)
{
    char item[CONFIG_TEXT_BYTES];

    if (strcmp(list, ALL) == 0)
        return 1;
    for (size_t i = 0; config_list_item(list, i, item, sizeof(item)); i++)
        if (strcmp(item, key) == 0)
            return 1;
    return 0;
}

/* Its own column, or one that the reference is made of. */
static int is_taken(const struct columns *columns, const json_t *row, const char *key)
{
    const char *place;

    for (int i = 0; i < COLUMN_MESSAGES; i++)
        if ((i != COLUMN_REFERENCE || !columns->reference_columns[0]) &&
            columns_find(columns, row, (enum column)i, &place) && strcmp(place, key) == 0)
            return 1;
    return is_listed(columns->reference_columns, key);
}

int columns_read_others(const struct columns *columns, const json_t *row, const char *where,
                        struct text *out)
{
    json_t *value, *others = json_object();
    size_t before = out->length;
    const char *key;

    json_object_foreach((json_t *)(uintptr_t)row, key, value)
        if (is_listed(columns->verifier_columns, key) &&
            (strcmp(columns->verifier_columns, ALL) != 0 || !is_taken(columns, row, key)))
            json_object_set(others, key, value);
    if (json_object_size(others))
        json_append(out, others);
    json_decref(others);
    if (out->length - before > MAX_OTHER_BYTES)
        return status_fail(STATUS_FORMAT, "%s: its columns for verifiers have %zu bytes, over %zu: "
                           "list those that are needed in tasks.verifier_columns", where,
                           out->length - before, MAX_OTHER_BYTES);
    return STATUS_OK;
}

int columns_read_reference(const struct columns *columns, const json_t *row, const char *where,
                           struct text *out)
{
    int is_own = columns->places[COLUMN_REFERENCE][0] != '\0';
    const json_t *value;
    const char *place;

    if (columns->reference_columns[0])
        return append_columns(columns->reference_columns, row, where, out);
    value = columns_find(columns, row, COLUMN_REFERENCE, &place);
    if (!value)
        return status_fail(STATUS_FORMAT, "%s: key \"%s\" is missing: the reference; name its "
                           "column in tasks.columns", where, place);
    if (json_is_string(value) && columns->format == FORMAT_GSM8K && !is_own)
        return append_gsm8k(json_string_value(value), where, place, out);
    if (json_is_string(value) && columns->format == FORMAT_MATH && !is_own)
        return append_boxed(json_string_value(value), where, place, out);
    if (json_is_string(value)) {
        text_append(out, json_string_value(value), json_string_length(value));
        return STATUS_OK;
    }
    if (!json_is_object(value) && !json_is_array(value) && !json_is_integer(value))
        return status_fail(STATUS_FORMAT,
                           "%s: key \"%s\" must be a string, an integer, an object or an array; "
                           "write other numbers as strings, so that no digit is lost", where,
                           place);
    json_append(out, value);
    return STATUS_OK;
}
