/*
 * common/json.h - JSON through jansson, with errors that name the file and the key.
 *
 * Everything that reads JSON from outside comes through here: sizes and depth are bounded (jansson
 * refuses nesting beyond 2048), a wrong type is STATUS_FORMAT with "where: key: what is wanted".
 */
#ifndef HONE_COMMON_JSON_H
#define HONE_COMMON_JSON_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "common/memory.h"

/* The caller owns *out: json_decref(). `where` is the file name for the error text. */
int json_parse(json_t **out, const char *bytes, size_t n, const char *where);
int json_read_file(json_t **out, const char *path, size_t max_bytes);

/* Values of `object`; `where` is used in the error text. The _or forms take a missing or null key
 * as the default, but a wrong type is still an error. Strings are borrowed from the object. */
int json_get_text(const json_t *object, const char *key, const char *where, const char **out);
int json_get_text_or(const json_t *object, const char *key, const char *where, const char *missing,
                     const char **out);
int json_get_int(const json_t *object, const char *key, const char *where, int64_t *out);
int json_get_int_or(const json_t *object, const char *key, const char *where, int64_t missing,
                    int64_t *out);
int json_get_real_or(const json_t *object, const char *key, const char *where, double missing,
                     double *out);
int json_get_bool_or(const json_t *object, const char *key, const char *where, int missing,
                     int *out);

/* Appends `value` as compact JSON, keys in insertion order. */
void json_append(struct text *out, const json_t *value);

/* Appends a JSON string literal of n bytes; bytes that are not UTF-8 become U+FFFD. */
void json_append_string(struct text *out, const char *bytes, size_t n);

#endif
