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
#include "wire/wire.h"

#define JSONL_MAX_FILE ((size_t)4 << 30)
#define JSONL_MAX_LINE ((size_t)16 << 20)

struct jsonl {
    struct file_map map;
    const char *path;      /* borrowed */
    size_t offset;
    int64_t line;          /* of the row last given, from 1 */
    int64_t row;           /* the same without blank lines, from 0 */
    char where[FILE_PATH_MAX + 32];   /* "path:line" */
};

int jsonl_open(struct jsonl *file, const char *path);
void jsonl_close(struct jsonl *file);

/* 1 and an object that the caller owns; 0 at the end; STATUS_FORMAT with file:line. */
int jsonl_next(struct jsonl *file, json_t **row);

/* The bytes one after another, copied into the arena. `n_parts` pairs of pointer and length. */
struct jsonl_part {
    const char *data;
    size_t bytes;
};
int jsonl_join(struct arena *arena, const struct jsonl_part *parts, size_t n_parts,
               struct wire_text *out);

#endif
