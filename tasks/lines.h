/*
 * tasks/lines.h - the lines of a file, plain, gzip or zstd, one at a time.
 *
 * What it is, is told by its first bytes, not by its name. A compressed file is expanded as it is
 * read: memory is one window and one line, and what may come out of it is bounded.
 */
#ifndef HONE_TASKS_LINES_H
#define HONE_TASKS_LINES_H

#include <stddef.h>

#include "common/files.h"

#define LINES_MAX_LINE ((size_t)16 << 20)

struct lines;

/* max_bytes: of the file, and of what it expands to. `path` is borrowed. */
int lines_open(struct lines **out, const char *path, size_t max_bytes);
void lines_close(struct lines **lines);

/* 1 and the next line without its newline, good until the next call; 0 at the end; STATUS_FORMAT
 * when the file is damaged or too large. Of a line longer than LINES_MAX_LINE only the length is
 * good. */
int lines_next(struct lines *lines, const char **line, size_t *n);

void lines_digest(const struct lines *lines, struct digest *digest);   /* of the file as it lies */

#endif
