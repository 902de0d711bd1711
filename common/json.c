#include "common/json.h"

#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "common/utf8.h"

int json_parse(json_t **out, const char *bytes, size_t n, const char *where)
{
    json_error_t error;

    *out = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &error);
    if (!*out)
        return status_fail(STATUS_FORMAT, "%s:%d:%d: not valid JSON: %s", where, error.line,
                           error.column, error.text);
    return STATUS_OK;
}

int json_read_file(json_t **out, const char *path, size_t max_bytes)
{
    struct text text = {0};
    int status = file_read(path, max_bytes, &text);

    *out = NULL;
    if (status == STATUS_OK)
        status = json_parse(out, text.data, text.length, path);
    text_release(&text);
    return status;
}

static int wrong_type(const char *where, const char *key, const json_t *value, const char *wanted)
{
    return status_fail(STATUS_FORMAT, "%s: key \"%s\" %s; %s is wanted", where, key,
                       value ? "has another type" : "is missing", wanted);
}

static const json_t *find(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

int json_get_text(const json_t *object, const char *key, const char *where, const char **out)
{
    const json_t *value = find(object, key);

    if (!json_is_string(value))
        return wrong_type(where, key, value, "a string");
    *out = json_string_value(value);
    return STATUS_OK;
}

int json_get_text_or(const json_t *object, const char *key, const char *where, const char *missing,
                     const char **out)
{
    *out = missing;
    return find(object, key) ? json_get_text(object, key, where, out) : STATUS_OK;
}

int json_get_int(const json_t *object, const char *key, const char *where, int64_t *out)
{
    const json_t *value = find(object, key);

    if (!json_is_integer(value))
        return wrong_type(where, key, value, "an integer");
    *out = json_integer_value(value);
    return STATUS_OK;
}

int json_get_int_or(const json_t *object, const char *key, const char *where, int64_t missing,
                    int64_t *out)
{
    *out = missing;
    return find(object, key) ? json_get_int(object, key, where, out) : STATUS_OK;
}

int json_get_real_or(const json_t *object, const char *key, const char *where, double missing,
                     double *out)
{
    const json_t *value = find(object, key);

    *out = missing;
    if (!value)
        return STATUS_OK;
    if (!json_is_number(value))
        return wrong_type(where, key, value, "a number");
    *out = json_number_value(value);
    return STATUS_OK;
}

int json_get_bool_or(const json_t *object, const char *key, const char *where, int missing,
                     int *out)
{
    const json_t *value = find(object, key);

    *out = missing;
    if (!value)
        return STATUS_OK;
    if (!json_is_boolean(value))
        return wrong_type(where, key, value, "true or false");
    *out = json_is_true(value);
    return STATUS_OK;
}

static int append_chunk(const char *bytes, size_t n, void *text)
{
    text_append(text, bytes, n);
    return 0;
}

void json_append(struct text *out, const json_t *value)
{
    json_dump_callback(value, append_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

void json_append_string(struct text *out, const char *bytes, size_t n)
{
    const unsigned char *at = (const unsigned char *)bytes;
    const unsigned char *end = at + n;

    text_append(out, "\"", 1);
    while (at < end) {
        size_t length = utf8_length(at, (size_t)(end - at));
        if (*at == '"' || *at == '\\')
            text_print(out, "\\%c", *at);
        else if (*at == '\n')
            text_append(out, "\\n", 2);
        else if (*at == '\t')
            text_append(out, "\\t", 2);
        else if (*at < 0x20)
            text_print(out, "\\u%04x", *at);
        else if (!length)
            text_append(out, "\xEF\xBF\xBD", 3);
        else
            text_append(out, at, length);
        at += length ? length : 1;
    }
    text_append(out, "\"", 1);
}
