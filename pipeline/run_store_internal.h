/*
 * pipeline/run_store_internal.h - what run_store*.c and report*.c share.
 */
#ifndef HONE_PIPELINE_RUN_STORE_INTERNAL_H
#define HONE_PIPELINE_RUN_STORE_INTERNAL_H

#include "pipeline/run_store.h"
#include "pipeline/run_store_sql.h"

struct run_store {
    struct sql sql;
};

/* A configuration as sorted pairs "grpo.epsilon" -> "0.2"; items of a list that have a `name` are
 * found by it: "stages.zero.max_steps". */
struct flat_entry {
    char *key, *value;
};
struct flat_config {
    struct flat_entry *entries;
    size_t n;
};
int flat_config_read(struct flat_config *flat, const char *yaml, const char *where);
void flat_config_release(struct flat_config *flat);

/* Calls `found` for each key whose value differs, in order of the keys; NULL: not there. */
void flat_config_compare(const struct flat_config *a, const struct flat_config *b,
                         void (*found)(void *context, const char *key, const char *value_a,
                                       const char *value_b),
                         void *context);

#endif
