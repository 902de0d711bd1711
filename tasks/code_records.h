/*
 * tasks/code_records.h - records of public code data sets as tasks of the verifier "code".
 */
#ifndef HONE_TASKS_CODE_RECORDS_H
#define HONE_TASKS_CODE_RECORDS_H

#include "tasks/columns.h"

int code_format_is_one(enum task_format format);

/* The format of a record that has the marks of one; FORMAT_HONE when it has none. */
enum task_format code_format_detect(const json_t *row);

/* A copy of the record with the keys question, reference and, where they are missing, verifier and
 * id: the reference is a job of the judge (docs/code-verifier.md). The caller owns *out. */
int code_record_convert(enum task_format format, const json_t *row, const char *where,
                        json_t **out);

/* code_archive.c: the text in private_test_cases, base64 of zlib of a pickled string. */
int code_archive_read(const char *base64, size_t n, const char *where, struct text *out);

#endif
