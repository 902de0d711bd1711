/*
 * common/config.h - every knob, declared once.
 *
 * Each folder owns one struct <folder>_config and one table that describes it. The table is the
 * only place where a key, its type, default, bounds and meaning are written: the YAML reader,
 * --set, the resolved configuration and docs/config.md all come from it. An unknown key is an
 * error that names the nearest known one.
 */
#ifndef HONE_COMMON_CONFIG_H
#define HONE_COMMON_CONFIG_H

#include <stddef.h>

#include "common/memory.h"

#define CONFIG_TEXT_BYTES 512

/* C types: int64_t, double, int, char[CONFIG_TEXT_BYTES], int, char[CONFIG_TEXT_BYTES].
 * A LIST is a YAML sequence of scalars (or one scalar), kept as "a,b,c". */
enum config_type {
    CONFIG_INT,
    CONFIG_FLOAT,
    CONFIG_BOOL,
    CONFIG_STRING,
    CONFIG_ENUM,
    CONFIG_LIST
};

struct config_field {
    const char *key;             /* below the section: "epsilon_high" */
    enum config_type type;
    size_t offset;               /* offsetof() in the folder's struct */
    const char *default_text;    /* read by the same code as the file */
    double minimum, maximum;     /* inclusive; numbers only; equal means no bounds */
    const char *const *choices;  /* NULL-ended; enums only; the value is the index */
    const char *help;            /* one sentence, with the unit */
};

struct config_section {
    const char *name;                    /* "grpo" */
    const char *help;                    /* one sentence */
    const struct config_field *fields;   /* ends at key == NULL */
    int (*check)(const void *config);    /* rules across fields; may be NULL */
};

/* Where one section lands. */
struct config_binding {
    const struct config_section *section;
    void *config;
};

/* A parsed YAML file: a tree whose nodes know their line. Anchors and aliases are refused, depth is
 * at most 16, a section has 4,096 entries, the file 1 MiB: a hostile one costs nothing. */
struct config_file;
struct config_node;
int config_open(struct config_file **out, const char *path);
int config_parse(struct config_file **out, const char *bytes, size_t n, const char *name);
void config_close(struct config_file **file);
const struct config_node *config_root(const struct config_file *file);   /* a mapping */

/* Walking. A node that is no mapping or sequence has no children. */
const struct config_node *config_child(const struct config_node *node, size_t i);  /* NULL at end */
const struct config_node *config_find(const struct config_node *node, const char *key);
const char *config_key(const struct config_node *node);     /* of a mapping's child, or NULL */
const char *config_scalar(const struct config_node *node);  /* or NULL */
/* "file:line", for error texts; in a static buffer of this thread. */
const char *config_where(const struct config_file *file, const struct config_node *node);

/* Sets every field to its default. */
void config_set_defaults(const struct config_binding *bindings, size_t n_bindings);

/* Applies a mapping of sections ("grpo: {epsilon: 0.2}"). Keys of `skip` (NULL-ended, may be NULL)
 * are left to the caller. Each applied line is an error with file:line, value and remedy if bad. */
int config_apply(const struct config_file *file, const struct config_node *sections,
                 const char *const *skip, const struct config_binding *bindings,
                 size_t n_bindings);

/* Applies one "section.key=value" of the command line. */
int config_override(const char *assignment, const struct config_binding *bindings,
                    size_t n_bindings);

/* Runs every section's check(). */
int config_check(const struct config_binding *bindings, size_t n_bindings);

/* Appends the resolved configuration as YAML that config_apply() reads back alike; each line is
 * indented by `indent` blanks. */
void config_print(struct text *out, const struct config_binding *bindings, size_t n_bindings,
                  int indent);

/* The nearest of `n` names to `word`, or NULL when none is near: for "did you mean". */
const char *config_nearest(const char *word, const char *const *names, size_t n);

/* Item i of a comma-separated list into out[n_out]; 0 when there is none. */
int config_list_item(const char *list, size_t i, char *out, size_t n_out);

#endif
