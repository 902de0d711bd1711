/*
 * reward/options.h - what create() of a verifier gets: "key=value\n" lines, read strictly.
 */
#ifndef HONE_REWARD_OPTIONS_H
#define HONE_REWARD_OPTIONS_H

#include <stddef.h>

#include "common/memory.h"
#include "reward/verifier_abi.h"

/* STATUS_CONFIG when a line's key is none of `known` (NULL-ended). */
int options_check(struct verifier_text options, const char *verifier, const char *const *known);

/* Into *out, which keeps its value when the key is missing. */
int options_number(struct verifier_text options, const char *key, double minimum, double maximum,
                   double *out);
/* Index of the value in `choices` (NULL-ended). */
int options_choice(struct verifier_text options, const char *key, const char *const *choices,
                   int *out);

/* NUL-ended. */
int options_text(struct verifier_text options, const char *key, char *out, size_t n_out);

/* Appends the lines of `verifier` from a list "verifier.key=value,other.key=value". */
void options_select(const char *list, const char *verifier, struct text *out);

#endif
