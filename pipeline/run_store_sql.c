#include "pipeline/run_store_sql.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/status.h"
#include "common/trust.h"

#define BUSY_TIMEOUT_MS 5000

static const char *remedy_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return ": free some space and run again";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ": another program is writing to it; is another hone at work in this directory?";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
        return ": check that the file and its directory are there and yours to write";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ": restore it from a copy, or use a new run directory";
    default:
        return "";
    }
}

static int fail_with_words(const struct sql *sql)
{
    int code = sql->handle ? sqlite3_extended_errcode(sql->handle) : SQLITE_NOMEM;
    const char *words = sql->handle ? sqlite3_errmsg(sql->handle) : "out of memory";
    int status = (code & 0xff) == SQLITE_NOMEM        ? STATUS_NOMEM
                 : (code & 0xff) == SQLITE_CONSTRAINT ? STATUS_FAILED
                                                      : STATUS_IO;

    int error =
        sql->handle && (code & 0xff) == SQLITE_IOERR ? sqlite3_system_errno(sql->handle) : 0;
    return status_fail(status, "%s: %s%s%s%s", sql->path, words, error ? ": " : "",
                       error ? strerror(error) : "", remedy_of(code));
}

/* "file:" URI of a path, for the immutable flag. */
static void print_uri(struct text *out, const char *path)
{
    text_print(out, "file:");
    for (const unsigned char *c = (const unsigned char *)path; *c; c++) {
        if (isalnum(*c) || strchr("/-_.~", *c))
            text_append(out, c, 1);
        else
            text_print(out, "%%%02x", *c);
    }
    text_print(out, "?immutable=1");
}

static int can_read(sqlite3 *handle)
{
    return sqlite3_exec(handle, "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
}

/* A reader of a WAL file needs to write its -shm beside it. Where that is not allowed, and nobody
 * has left work in a -wal, the file is complete and is read as one that does not change. */
static int reopen_immutable(struct sql *sql)
{
    struct text uri = {0};
    char wal[FILE_PATH_MAX + 8];
    struct stat info;

    snprintf(wal, sizeof(wal), "%s-wal", sql->path);
    if ((stat(wal, &info) == 0 && info.st_size > 0) || !file_exists(sql->path))
        return fail_with_words(sql);
    sqlite3_close(sql->handle);
    print_uri(&uri, sql->path);
    int code = sqlite3_open_v2(uri.data, &sql->handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI,
                               NULL);
    text_release(&uri);
    if (code != SQLITE_OK || can_read(sql->handle) != SQLITE_OK)
        return fail_with_words(sql);
    return STATUS_OK;
}

/* A file that another user wrote: its pages are looked at before they are believed
 * (sqlite.org/security.html). */
static int check_foreign(struct sql *sql)
{
    sqlite3_stmt *statement = NULL;
    const char *verdict = NULL;

    sqlite3_exec(sql->handle, "PRAGMA cell_size_check=ON; PRAGMA mmap_size=0", NULL, NULL, NULL);
    int code = sqlite3_prepare_v2(sql->handle, "PRAGMA quick_check(1)", -1, &statement, NULL);
    if (code == SQLITE_OK && sqlite3_step(statement) == SQLITE_ROW)
        verdict = (const char *)sqlite3_column_text(statement, 0);
    int status = verdict && strcmp(verdict, "ok") == 0
                     ? STATUS_OK
                     : status_fail(STATUS_FORMAT, "%s belongs to another user, and is damaged: %s",
                                   sql->path, verdict ? verdict : sqlite3_errmsg(sql->handle));
    sqlite3_finalize(statement);
    return status;
}

static int open_handle(struct sql *sql, enum sql_access access)
{
    int flags = access == SQL_WRITE ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE
                                    : SQLITE_OPEN_READONLY;

    struct stat info;
    if (lstat(sql->path, &info) == 0 && S_ISLNK(info.st_mode))
        return status_fail(STATUS_CONFIG, "%s is a symbolic link: put the whole run directory "
                           "elsewhere instead", sql->path);
    if (sqlite3_open_v2(sql->path, &sql->handle, flags, NULL) != SQLITE_OK)
        return fail_with_words(sql);
    sqlite3_extended_result_codes(sql->handle, 1);
    sqlite3_busy_timeout(sql->handle, BUSY_TIMEOUT_MS);
    int code = can_read(sql->handle);
    int primary = code & 0xff;
    if (access == SQL_READ && (primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY))
        TRY(reopen_immutable(sql));
    else if (code != SQLITE_OK)
        return fail_with_words(sql);
    /* SQLite falls back to reading when it may not write. */
    if (access == SQL_WRITE && sqlite3_db_readonly(sql->handle, "main"))
        return status_fail(STATUS_IO, "%s: attempt to write a readonly database%s", sql->path,
                           remedy_of(SQLITE_READONLY));
    if (access == SQL_WRITE && trust_is_foreign(sql->path) && geteuid() != 0)
        return status_fail(STATUS_CONFIG, "%s belongs to another user: a run is gone on with by "
                           "who began it; copy it to make it yours", sql->path);
    /* A file from elsewhere may hold views and triggers: they shall call nothing with effects. */
    sqlite3_db_config(sql->handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(sql->handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (sqlite3_exec(sql->handle, "PRAGMA foreign_keys=ON", NULL, NULL, NULL) != SQLITE_OK)
        return fail_with_words(sql);
    return trust_is_foreign(sql->path) ? check_foreign(sql) : STATUS_OK;
}

int sql_open(struct sql *sql, const char *path, enum sql_access access)
{
    memset(sql, 0, sizeof(*sql));
    if (snprintf(sql->path, sizeof(sql->path), "%s", path) >= (int)sizeof(sql->path))
        return status_fail(STATUS_CONFIG, "path is longer than %d bytes: %s", FILE_PATH_MAX - 1,
                           path);
    int status = open_handle(sql, access);
    if (status < 0)
        sql_close(sql);
    return status;
}

void sql_close(struct sql *sql)
{
    for (size_t i = 0; i < sql->n_statements; i++)
        sqlite3_finalize(sql->statements[i]);
    sql->n_statements = 0;
    sqlite3_close(sql->handle);
    sql->handle = NULL;
}

struct sql_value sql_null(void)
{
    return (struct sql_value){.type = SQL_NULL};
}

struct sql_value sql_int(int64_t value)
{
    return (struct sql_value){.type = SQL_INT, .integer = value};
}

struct sql_value sql_real(double value)
{
    return isnan(value) ? sql_null() : (struct sql_value){.type = SQL_REAL, .real = value};
}

struct sql_value sql_text(const char *text)
{
    if (!text)
        return sql_null();
    return (struct sql_value){.type = SQL_TEXT, .bytes = text, .n = strlen(text)};
}

struct sql_value sql_blob(const void *bytes, size_t n)
{
    if (!bytes && n)
        BUG("a blob of %zu bytes without bytes", n);
    return (struct sql_value){.type = SQL_BLOB, .bytes = bytes, .n = n};
}

static int bind_value(sqlite3_stmt *statement, int i, const struct sql_value *value)
{
    switch (value->type) {
    case SQL_INT:
        return sqlite3_bind_int64(statement, i, value->integer);
    case SQL_REAL:
        return sqlite3_bind_double(statement, i, value->real);
    case SQL_TEXT:
        return sqlite3_bind_text64(statement, i, value->bytes, value->n, SQLITE_STATIC,
                                   SQLITE_UTF8);
    case SQL_BLOB:
        if (!value->n)
            return sqlite3_bind_zeroblob(statement, i, 0);
        return sqlite3_bind_blob64(statement, i, value->bytes, value->n, SQLITE_STATIC);
    case SQL_NULL:
        break;
    }
    return sqlite3_bind_null(statement, i);
}

static int find_statement(struct sql *sql, sqlite3_stmt **out, const char *text)
{
    for (size_t i = 0; i < sql->n_statements; i++) {
        if (!strcmp(sqlite3_sql(sql->statements[i]), text)) {
            *out = sql->statements[i];
            return STATUS_OK;
        }
    }
    if (sql->n_statements == SQL_MAX_STATEMENTS)
        BUG("more than %d different statements: %s", SQL_MAX_STATEMENTS, text);
    if (sqlite3_prepare_v3(sql->handle, text, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) !=
        SQLITE_OK)
        return fail_with_words(sql);
    sql->statements[sql->n_statements++] = *out;
    return STATUS_OK;
}

void sql_finish(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

int sql_ask(struct sql *sql, sqlite3_stmt **out, const char *text, const struct sql_value *values,
            size_t n)
{
    TRY(find_statement(sql, out, text));
    if (sqlite3_stmt_busy(*out))
        BUG("statement is asked again before its rows were read: %s", text);
    if ((size_t)sqlite3_bind_parameter_count(*out) != n)
        BUG("statement takes %d values, %zu given: %s", sqlite3_bind_parameter_count(*out), n,
            text);
    for (size_t i = 0; i < n; i++)
        if (bind_value(*out, (int)i + 1, &values[i]) != SQLITE_OK)
            return fail_with_words(sql);
    return STATUS_OK;
}

int sql_next(struct sql *sql, sqlite3_stmt *statement, int *more)
{
    int code = sqlite3_step(statement);

    *more = code == SQLITE_ROW;
    if (code == SQLITE_ROW)
        return STATUS_OK;
    int status = code == SQLITE_DONE ? STATUS_OK : fail_with_words(sql);
    sql_finish(statement);
    return status;
}

int sql_run(struct sql *sql, const char *text, const struct sql_value *values, size_t n)
{
    sqlite3_stmt *statement;
    int more;

    TRY(sql_ask(sql, &statement, text, values, n));
    do
        TRY(sql_next(sql, statement, &more));
    while (more);
    return STATUS_OK;
}

int sql_run_once(struct sql *sql, const char *text)
{
    if (sqlite3_exec(sql->handle, text, NULL, NULL, NULL) != SQLITE_OK)
        return fail_with_words(sql);
    return STATUS_OK;
}

int sql_ask_int(struct sql *sql, const char *text, const struct sql_value *values, size_t n,
                int64_t missing, int64_t *out)
{
    sqlite3_stmt *statement;
    int more;

    *out = missing;
    TRY(sql_ask(sql, &statement, text, values, n));
    TRY(sql_next(sql, statement, &more));
    if (more) {
        if (sqlite3_column_type(statement, 0) != SQLITE_NULL)
            *out = sqlite3_column_int64(statement, 0);
        sql_finish(statement);
    }
    return STATUS_OK;
}

const char *sql_column_text(sqlite3_stmt *statement, int column)
{
    const char *text = (const char *)sqlite3_column_text(statement, column);

    return text ? text : "";
}

double sql_column_real(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) == SQLITE_NULL)
        return NAN;
    return sqlite3_column_double(statement, column);
}

int sql_begin(struct sql *sql)
{
    return sql_run(sql, "BEGIN IMMEDIATE", NULL, 0);
}

int sql_end(struct sql *sql, int status)
{
    if (status == STATUS_OK)
        status = sql_run(sql, "COMMIT", NULL, 0);
    /* A failed statement (disk full) may have rolled back by itself already. */
    if (status < 0 && !sqlite3_get_autocommit(sql->handle))
        sqlite3_exec(sql->handle, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* (A pragma acts when it is prepared, not when it is run: hence sql_run_once().)
 * In WAL mode NORMAL syncs at checkpoints of the log alone: a power cut may take the last steps,
 * never the consistency. FULL syncs the log, and with it every earlier commit. */
int sql_begin_durable(struct sql *sql)
{
    TRY(sql_run_once(sql, "PRAGMA synchronous=FULL"));
    return sql_begin(sql);
}

int sql_end_durable(struct sql *sql, int status)
{
    status = sql_end(sql, status);
    int after = sql_run_once(sql, "PRAGMA synchronous=NORMAL");
    return status < 0 ? status : after;
}

/* Bytes of the UTF-8 character at `bytes`; 0 when there is none (RFC 3629). */
static size_t utf8_bytes(const unsigned char *bytes, size_t n)
{
    unsigned char lead = bytes[0];
    size_t length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    if (lead > 0xf4 || !length || length > n || lead == 0)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong forms, surrogates, and beyond U+10FFFF. */
    if ((lead == 0xe0 && bytes[1] < 0xa0) || (lead == 0xed && bytes[1] > 0x9f) ||
        (lead == 0xf0 && bytes[1] < 0x90) || (lead == 0xf4 && bytes[1] > 0x8f))
        return 0;
    return length;
}

void sql_append_utf8(struct text *out, const char *bytes, size_t n)
{
    const unsigned char *in = (const unsigned char *)bytes;
    size_t good = 0;

    for (size_t i = 0; i < n;) {
        size_t length = utf8_bytes(in + i, n - i);
        if (length) {
            i += length;
            continue;
        }
        text_append(out, in + good, i - good);
        text_append(out, "\xef\xbf\xbd", 3);
        good = ++i;
    }
    if (n > good)
        text_append(out, in + good, n - good);
    else
        text_append(out, "", 0);
}
