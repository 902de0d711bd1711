/*
 * tasks/jsonl.h - the rows of a JSONL file, one object at a time.
 */
#ifndef HONE_TASKS_JSONL_H
#define HONE_TASKS_JSONL_H

#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/files.h"
#include "common/json.h"
#include "tasks/lines.h"
#include "wire/wire.h"

#define JSONL_MAX_FILE ((size_t)4 << 30)   /* also of what a compressed one expands to */

struct jsonl {
    struct lines *lines;
    const char *path;      /* borrowed */
    int skips_bad;         /* a bad record is left out, counted and warned of once */
    int64_t line;          /* of the row last given, from 1 */
    int64_t row;           /* the same without blank lines, from 0 */
    int is_damaged;        /* the file itself, not a record of it */
    int64_t n_bad;
    char *first_bad;       /* reason of the first one left out */
    char where[FILE_PATH_MAX + 32];   /* "path:line" */
};

int jsonl_open(struct jsonl *file, const char *path, int skips_bad);
void jsonl_close(struct jsonl *file);

/* 1 and an object that the caller owns; 0 at the end; STATUS_FORMAT with file:line. */
int jsonl_next(struct jsonl *file, json_t **row);

/* What becomes of a status that jsonl_next() or the row's reader gave: 1 when the record is to be
 * left out (it is counted), else the status as it was. */
int jsonl_skip_bad(struct jsonl *file, int status);
/* One warning that says how many records were left out, and why the first. */
void jsonl_warn_bad(const struct jsonl *file);

/* The bytes one after another, copied into the arena. `n_parts` pairs of pointer and length. */
struct jsonl_part {
    const char *data;
    size_t bytes;
};
int jsonl_join(struct arena *arena, const struct jsonl_part *parts, size_t n_parts,
               struct wire_text *out);

#endif
