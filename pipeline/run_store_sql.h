/*
 * pipeline/run_store_sql.h - SQLite with our errors. Private to run_store*.c and report*.c.
 *
 * Statements are prepared once per connection and found again by their text. A failure is one line
 * with the path, SQLite's words and a remedy. Texts and blobs are borrowed until the statement is
 * through. A statement is one cursor: read its rows before asking the same text again.
 */
#ifndef HONE_PIPELINE_RUN_STORE_SQL_H
#define HONE_PIPELINE_RUN_STORE_SQL_H

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>

#include "common/files.h"
#include "common/memory.h"

#define SQL_MAX_STATEMENTS 64

struct sql {
    sqlite3 *handle;
    char path[FILE_PATH_MAX];
    sqlite3_stmt *statements[SQL_MAX_STATEMENTS];
    size_t n_statements;
};

enum sql_access { SQL_READ, SQL_WRITE };

int sql_open(struct sql *sql, const char *path, enum sql_access access);
void sql_close(struct sql *sql);   /* accepts one that was never opened, if zeroed */

enum sql_type { SQL_NULL, SQL_INT, SQL_REAL, SQL_TEXT, SQL_BLOB };
struct sql_value {
    enum sql_type type;
    int64_t integer;
    double real;
    const void *bytes;
    size_t n;
};
struct sql_value sql_null(void);
struct sql_value sql_int(int64_t value);
struct sql_value sql_real(double value);                  /* NaN becomes NULL */
struct sql_value sql_text(const char *text);              /* NULL stays NULL */
struct sql_value sql_blob(const void *bytes, size_t n);   /* NULL with n > 0 is BUG() */

#define SQL_VALUES(...)                                                                            \
    (const struct sql_value[]){__VA_ARGS__},                                                       \
        sizeof((const struct sql_value[]){__VA_ARGS__}) / sizeof(struct sql_value)

/* A statement without result rows. */
int sql_run(struct sql *sql, const char *text, const struct sql_value *values, size_t n);

/* The same without values, for what is said once: not kept. */
int sql_run_once(struct sql *sql, const char *text);

/* One with rows: ask, then next until it gives 0 in *more. A loop that leaves early must call
 * sql_finish(). */
int sql_ask(struct sql *sql, sqlite3_stmt **out, const char *text, const struct sql_value *values,
            size_t n);
int sql_next(struct sql *sql, sqlite3_stmt *statement, int *more);
void sql_finish(sqlite3_stmt *statement);
const char *sql_column_text(sqlite3_stmt *statement, int column);   /* "" for NULL */
double sql_column_real(sqlite3_stmt *statement, int column);        /* NaN for NULL */

/* The first column of the first row, or `missing`. */
int sql_ask_int(struct sql *sql, const char *text, const struct sql_value *values, size_t n,
                int64_t missing, int64_t *out);

int sql_begin(struct sql *sql);
/* Commits when status is 0, else rolls back; gives the status of the whole. */
int sql_end(struct sql *sql, int status);
/* The same, on the disk when it returns; everything committed before is then there too. */
int sql_begin_durable(struct sql *sql);
int sql_end_durable(struct sql *sql, int status);

/* Appends n bytes as UTF-8 that every SQLite client can read: what is not UTF-8, and NUL, becomes
 * U+FFFD. */
void sql_append_utf8(struct text *out, const char *bytes, size_t n);

#endif
