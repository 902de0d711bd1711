/*
 * sandbox/compare.h - whether what a program gave is what was wanted. Never runs anything.
 */
#ifndef HONE_SANDBOX_COMPARE_H
#define HONE_SANDBOX_COMPARE_H

#include <jansson.h>
#include <stddef.h>

#include "common/memory.h"

enum compare_mode {
    COMPARE_TOKENS,   /* the words between blanks are the same bytes, and as many */
    COMPARE_EXACT,    /* every byte */
    COMPARE_LINES,    /* but for blanks at the ends of lines and line breaks at the end */
    COMPARE_FLOAT     /* tokens; two decimal numbers may differ by epsilon * max(1, |wanted|) */
};

struct compare {
    enum compare_mode mode;
    double epsilon;
    int loose_bools;   /* values: 0 and 1 are false and true, as C has them */
};

/* "tokens", "exact", "lines", "float:1e-6"; NULL: tokens. STATUS_FORMAT for anything else. */
int compare_read(struct compare *compare, const char *text);

/* Bytes with lengths: NUL and invalid UTF-8 are bytes like others. */
int compare_output(const struct compare *compare, const char *got, size_t n_got, const char *want,
                   size_t n_want);

/*
 * values.c: `want` is plain JSON of the task. `got` is what a harness wrote, JSON too, with one
 * notation for each type: lists are arrays, and what JSON lacks is an object with one key:
 *   {"i":"123"} integers beyond 64 bits  {"f":"nan"} floats that are no number  {"t":[]} tuples
 *   {"s":[]} sets  {"d":[[key, value]]} dicts  {"b":"00ff"} bytes  {"u":0} what has no value
 * Integers and strings must be equal, a bool is no number, a float is near within epsilon (1e-9
 * unless said otherwise) times max(1, |wanted|), a list may come as a tuple, a dict's key may be
 * the number that its text says.
 */
int compare_results(const struct compare *compare, const json_t *want, const json_t *got);

/* JSON as jansson reads it, but integers of any size: those beyond 18 digits are kept as text. */
int values_parse(json_t **out, const char *bytes, size_t n, const char *where);

/* Plain JSON in a harness's notation: for arguments. */
void values_append(struct text *out, const json_t *value);

/* The digits of such an integer, or NULL when `value` is something else. */
const char *values_big_integer(const json_t *value);

#endif
