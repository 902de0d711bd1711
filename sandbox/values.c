/* Values of functions: see compare.h for the notation. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"
#include "sandbox/compare.h"

#define BIG_KEY "\001integer"     /* no data set has such a key */
#define MAX_JSON_DIGITS 18        /* fits 64 bits whatever the digits are */

const char *values_big_integer(const json_t *value)
{
    return json_string_value(json_object_get(value, BIG_KEY));
}

/* The end of a number token, which is an integer when *is_integer stays 1. */
static size_t number_end(const char *bytes, size_t at, size_t n, int *is_integer)
{
    *is_integer = 1;
    for (; at < n && strchr("+-0123456789.eE", bytes[at]) && bytes[at]; at++)
        if (bytes[at] == '.' || bytes[at] == 'e' || bytes[at] == 'E')
            *is_integer = 0;
    return at;
}

/* Writes each long integer outside of strings as an object that holds it as text. */
static void protect_integers(const char *bytes, size_t n, struct text *out)
{
    int in_string = 0;

    for (size_t at = 0; at < n;) {
        char c = bytes[at];
        size_t end = at + 1;
        int is_integer = 0;

        if (in_string && c == '\\' && end < n) {
            end++;
        } else if (c == '"') {
            in_string = !in_string;
        } else if (!in_string && (c == '-' || (c >= '0' && c <= '9'))) {
            end = number_end(bytes, at + 1, n, &is_integer);
        }
        if (is_integer && end - at - (c == '-') > MAX_JSON_DIGITS)
            text_print(out, "{\"\\u0001integer\":\"%.*s\"}", (int)(end - at), bytes + at);
        else
            text_append(out, bytes + at, end - at);
        at = end;
    }
}

int values_parse(json_t **out, const char *bytes, size_t n, const char *where)
{
    struct text text = {0};
    json_error_t error = {.text = "too long"};

    *out = NULL;
    protect_integers(bytes, n, &text);
    if (!text.failed)
        *out = json_loadb(text.data ? text.data : "", text.length,
                          JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    text_release(&text);
    return *out ? STATUS_OK
                : status_fail(STATUS_FORMAT, "%s:%d:%d: not valid JSON: %s", where, error.line,
                              error.column, error.text);
}

void values_append(struct text *out, const json_t *value)
{
    const char *big = values_big_integer(value), *separator = "", *key;
    json_t *item;
    size_t i;

    if (big) {
        text_print(out, "{\"i\":\"%s\"}", big);
    } else if (json_is_array(value)) {
        text_append(out, "[", 1);
        json_array_foreach(value, i, item) {
            text_print(out, "%s", separator);
            values_append(out, item);
            separator = ",";
        }
        text_append(out, "]", 1);
    } else if (json_is_object(value)) {
        text_print(out, "{\"d\":[");
        json_object_foreach((json_t *)value, key, item) {
            text_print(out, "%s[", separator);
            json_append_string(out, key, strlen(key));
            text_append(out, ",", 1);
            values_append(out, item);
            text_append(out, "]", 1);
            separator = ",";
        }
        text_print(out, "]}");
    } else {
        json_append(out, value);
    }
}

/* The only key of an object that a harness wrote, or "". */
static const char *tag_of(const json_t *got, json_t **value)
{
    void *iterator = json_object_iter((json_t *)got);

    *value = NULL;
    if (!iterator || json_object_size(got) != 1)
        return "";
    *value = json_object_iter_value(iterator);
    return json_object_iter_key(iterator);
}

static const char *got_big_integer(const json_t *got)
{
    json_t *value;

    return strcmp(tag_of(got, &value), "i") == 0 ? json_string_value(value) : NULL;
}

/* The members of a list or a tuple, else NULL. */
static const json_t *sequence_of(const json_t *got)
{
    json_t *value;

    if (json_is_array(got))
        return got;
    return strcmp(tag_of(got, &value), "t") == 0 && json_is_array(value) ? value : NULL;
}

/* The digits of an integer of any size, in either notation; NULL when it is none. */
static const char *integer_digits(const json_t *value, char buffer[32])
{
    const char *big = values_big_integer(value);

    if (json_is_integer(value)) {
        snprintf(buffer, 32, "%lld", (long long)json_integer_value(value));
        return buffer;
    }
    return big ? big : got_big_integer(value);
}

static int same_integer(const json_t *want, const json_t *got)
{
    char want_buffer[32], got_buffer[32];
    const char *digits = integer_digits(got, got_buffer);

    if (digits)
        return strcmp(digits, integer_digits(want, want_buffer)) == 0;
    /* 2.0 is the integer 2 where the language knows one kind of number. */
    return json_is_integer(want) && json_is_real(got) &&
           fabs(json_real_value(got)) < 9007199254740992.0 &&
           json_real_value(got) == (double)json_integer_value(want);
}

static int same_real(const struct compare *compare, double want, const json_t *got)
{
    const char *big = got_big_integer(got);
    double value;

    if (!big && !json_is_number(got))
        return 0;
    value = big ? strtod(big, NULL) : json_number_value(got);
    return value == want || fabs(value - want) <= compare->epsilon * fmax(1, fabs(want));
}

/* A dict's key against the text that JSON has for it. */
static int same_key(const char *want, size_t n_want, const json_t *got)
{
    char buffer[32];
    const char *digits = integer_digits(got, buffer);

    if (json_is_string(got))
        return json_string_length(got) == n_want &&
               memcmp(json_string_value(got), want, n_want) == 0;
    return digits && strcmp(digits, want) == 0;
}

static int same_dict(const struct compare *compare, const json_t *want, const json_t *got)
{
    json_t *pairs;
    const char *key;
    json_t *value;

    if (strcmp(tag_of(got, &pairs), "d") != 0 ||
        json_array_size(pairs) != json_object_size(want))
        return 0;
    json_object_foreach((json_t *)want, key, value) {
        size_t i = 0, n = json_array_size(pairs);

        while (i < n && !same_key(key, strlen(key), json_array_get(json_array_get(pairs, i), 0)))
            i++;
        if (i == n || !compare_results(compare, value, json_array_get(json_array_get(pairs, i), 1)))
            return 0;
    }
    return 1;
}

static int same_sequence(const struct compare *compare, const json_t *want, const json_t *got)
{
    const json_t *items = sequence_of(got);

    if (!items || json_array_size(items) != json_array_size(want))
        return 0;
    for (size_t i = 0; i < json_array_size(want); i++)
        if (!compare_results(compare, json_array_get(want, i), json_array_get(items, i)))
            return 0;
    return 1;
}

/* 0 and 1 against false and true, whichever side has which. */
static int same_loosely(const json_t *want, const json_t *got)
{
    const json_t *number = json_is_integer(want) ? want : got;
    const json_t *other = number == want ? got : want;

    return json_is_integer(number) && json_is_boolean(other) &&
           json_integer_value(number) == (json_is_true(other) ? 1 : 0);
}

int compare_results(const struct compare *compare, const json_t *want, const json_t *got)
{
    if (compare->loose_bools && same_loosely(want, got))
        return 1;
    if (values_big_integer(want))
        return same_integer(want, got);
    switch (json_typeof(want)) {
    case JSON_NULL:
        return json_is_null(got);
    case JSON_TRUE:
        return json_is_true(got);
    case JSON_FALSE:
        return json_is_false(got);
    case JSON_INTEGER:
        return same_integer(want, got);
    case JSON_REAL:
        return same_real(compare, json_real_value(want), got);
    case JSON_STRING:
        return json_is_string(got) && json_string_length(got) == json_string_length(want) &&
               memcmp(json_string_value(got), json_string_value(want),
                      json_string_length(want)) == 0;
    case JSON_ARRAY:
        return same_sequence(compare, want, got);
    case JSON_OBJECT:
        return same_dict(compare, want, got);
    }
    return 0;
}
