/* Recorded and replayed rows in lockstep, checkpoints by their digests. */
#include "pipeline/replay.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/json.h"
#include "common/status.h"

#define WHAT_BYTES 256
#define MANIFEST_MAX_BYTES ((size_t)1 << 20)

/* One query of both databases; its first `n_keys` columns say which row it is. */
struct comparison {
    const char *what, *query;
    int n_keys;
};

static const struct comparison metrics = {
    "metrics",
    "SELECT name AS metric, value FROM metric WHERE stage_id = ? AND step = ? AND wall_value IS"
    " NULL ORDER BY name", 1};

#define SAMPLES(purpose)                                                                           \
    "SELECT g.task_id AS task, s.position AS sample, g.prompt, g.prefill, g.prompt_tokens,"        \
    " s.tokens, s.logprobs, s.finish, s.text, s.weight_version_min, s.weight_version_max,"         \
    " s.weight_versions, s.reward, s.advantage, s.masked FROM sample s"                            \
    " JOIN sample_group g ON g.id = s.group_id WHERE g.stage_id = ? AND g.step = ?"                \
    " AND g.purpose = '" purpose "' ORDER BY g.id, s.position"
#define SCORES(purpose)                                                                            \
    "SELECT g.task_id AS task, s.position AS sample, c.name AS score, c.weight, c.value,"          \
    " c.outcome FROM score c JOIN sample s ON s.id = c.sample_id"                                  \
    " JOIN sample_group g ON g.id = s.group_id WHERE g.stage_id = ? AND g.step = ?"                \
    " AND g.purpose = '" purpose "' ORDER BY g.id, s.position, c.position"
static const struct comparison others[] = {
    {"samples", SAMPLES("train"), 2},
    {"scores", SCORES("train"), 3},
    {"evaluation samples", SAMPLES("eval"), 2},
    {"evaluation scores", SCORES("eval"), 3},
};

__attribute__((format(printf, 5, 6)))
static void report(struct replay *replay, struct text *out, int is_equal, const char *where,
                   const char *format, ...)
{
    char what[WHAT_BYTES];
    va_list list;

    va_start(list, format);
    vsnprintf(what, sizeof(what), format, list);
    va_end(list);
    text_print(out, "%-9s  %s  %s\n", is_equal ? "equal" : "DIFFERENT", where, what);
    replay->n_compared++;
    if (!is_equal && !replay->n_different++)
        snprintf(replay->first_difference, sizeof(replay->first_difference), "%s, %s", where,
                 what);
}

static int is_same_value(sqlite3_stmt *a, sqlite3_stmt *b, int column)
{
    int type = sqlite3_column_type(a, column);

    if (type != sqlite3_column_type(b, column))
        return 0;
    if (type == SQLITE_FLOAT) {
        double one = sqlite3_column_double(a, column), other = sqlite3_column_double(b, column);
        return memcmp(&one, &other, sizeof(one)) == 0;
    }
    const void *one = sqlite3_column_blob(a, column), *other = sqlite3_column_blob(b, column);
    int n = sqlite3_column_bytes(a, column);
    return n == sqlite3_column_bytes(b, column) && (!n || memcmp(one, other, (size_t)n) == 0);
}

/* Of two lists of 4-byte values the first that differs; it is the shorter length when one ends. */
static int first_token(sqlite3_stmt *a, sqlite3_stmt *b, int column)
{
    const char *one = sqlite3_column_blob(a, column), *other = sqlite3_column_blob(b, column);
    int n = sqlite3_column_bytes(a, column), m = sqlite3_column_bytes(b, column), i = 0;

    while (4 * i < n && 4 * i < m && memcmp(one + 4 * i, other + 4 * i, 4) == 0)
        i++;
    return i;
}

static void print_token(char *out, size_t n, sqlite3_stmt *row, int column, int i)
{
    const char *bytes = sqlite3_column_blob(row, column);
    int32_t integer;
    float real;

    if (4 * i >= sqlite3_column_bytes(row, column)) {
        snprintf(out, n, "nothing");
    } else if (strcmp(sqlite3_column_name(row, column), "logprobs") == 0) {
        memcpy(&real, bytes + 4 * i, 4);
        snprintf(out, n, "%.9g", (double)real);
    } else {
        memcpy(&integer, bytes + 4 * i, 4);
        snprintf(out, n, "%d", (int)integer);
    }
}

static void print_value(char *out, size_t n, sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) == SQLITE_FLOAT)
        snprintf(out, n, "%.17g", sqlite3_column_double(row, column));
    else
        snprintf(out, n, "%.40s", sqlite3_column_type(row, column) == SQLITE_NULL
                                      ? "nothing" : sql_column_text(row, column));
}

/* "task 17, sample 3: reward is 1, recorded was 0.5" */
static void describe(char out[WHAT_BYTES], const struct comparison *comparison, sqlite3_stmt *a,
                     sqlite3_stmt *b, int column)
{
    char key[96] = "", was[48], is[48], token[24] = "";

    for (int i = 0; i < comparison->n_keys; i++) {
        size_t used = strlen(key);
        snprintf(key + used, sizeof(key) - used, "%s%s %s", i ? ", " : "",
                 sqlite3_column_name(a, i), sql_column_text(a, i));
    }
    if (sqlite3_column_type(a, column) == SQLITE_BLOB &&
        sqlite3_column_type(b, column) == SQLITE_BLOB) {
        int i = first_token(a, b, column);
        snprintf(token, sizeof(token), ", token %d", i);
        print_token(was, sizeof(was), a, column, i);
        print_token(is, sizeof(is), b, column, i);
    } else {
        print_value(was, sizeof(was), a, column);
        print_value(is, sizeof(is), b, column);
    }
    snprintf(out, WHAT_BYTES, "%s%s: %s is %s, recorded was %s", key, token,
             sqlite3_column_name(a, column), is, was);
}

/* Walks both; `n` counts equal rows, `difference` is "" when all are. */
static int walk(struct replay *replay, const struct comparison *comparison, int64_t step,
                int64_t *n, char difference[WHAT_BYTES])
{
    const struct sql_value values[] = {sql_int(replay->stage_id), sql_int(step)};
    sqlite3_stmt *a, *b;
    int more_a, more_b;

    *n = 0;
    difference[0] = '\0';
    TRY(sql_ask(&replay->recorded, &a, comparison->query, values, 2));
    TRY(sql_ask(&replay->replayed, &b, comparison->query, values, 2));
    TRY(sql_next(&replay->recorded, a, &more_a));
    TRY(sql_next(&replay->replayed, b, &more_b));
    while (more_a && more_b && !difference[0]) {
        for (int i = 0; i < sqlite3_column_count(a) && !difference[0]; i++)
            if (!is_same_value(a, b, i))
                describe(difference, comparison, a, b, i);
        if (difference[0])
            break;
        ++*n;
        TRY(sql_next(&replay->recorded, a, &more_a));
        TRY(sql_next(&replay->replayed, b, &more_b));
    }
    if (!difference[0] && more_a != more_b)
        snprintf(difference, WHAT_BYTES, "%s has rows behind number %lld that %s has not",
                 more_a ? "the record" : "the replay", (long long)*n,
                 more_a ? "the replay" : "the record");
    sql_finish(a);
    sql_finish(b);
    return STATUS_OK;
}

static int compare_rows(struct replay *replay, struct text *out, int64_t step,
                        const struct comparison *comparison)
{
    char where[64], difference[WHAT_BYTES];
    int64_t n;

    TRY(walk(replay, comparison, step, &n, difference));
    snprintf(where, sizeof(where), "step %lld", (long long)step);
    if (difference[0])
        report(replay, out, 0, where, "%s: %.200s", comparison->what, difference);
    else if (n)
        report(replay, out, 1, where, "%lld %s", (long long)n, comparison->what);
    return STATUS_OK;
}

/* ---- Checkpoints: each file that the recorded manifest names. */

static int compare_parts(struct replay *replay, struct text *out, const char *where,
                         const char *recorded, const char *replayed)
{
    char manifest_path[FILE_PATH_MAX], path[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
    json_t *manifest, *wanted;
    struct digest digest;
    const char *name;
    int status = STATUS_OK;

    TRY(file_join(manifest_path, recorded, "manifest.json"));
    TRY(json_read_file(&manifest, manifest_path, MANIFEST_MAX_BYTES));
    json_object_foreach(json_object_get(manifest, "files"), name, wanted) {
        int is_there = file_join(path, replayed, name) == STATUS_OK && file_exists(path);
        const char *was = json_is_string(wanted) ? json_string_value(wanted) : "";
        if (is_there)
            status = digest_of_file(&digest, path);
        if (status < 0)
            break;
        if (is_there)
            digest_hex(&digest, hex);
        int is_equal = is_there && strcmp(hex, was) == 0;
        report(replay, out, is_equal, where, "%s: SHA-256 %.16s%s%.16s", name,
               is_there ? hex : "(missing)", is_equal ? "" : ", recorded ", is_equal ? "" : was);
    }
    json_decref(manifest);
    return status;
}

static int compare_checkpoint(struct replay *replay, struct text *out, int64_t step,
                              const char *relative)
{
    char recorded[FILE_PATH_MAX], replayed[FILE_PATH_MAX], where[64];

    TRY(file_join(recorded, replay->run, relative));
    TRY(file_join(replayed, replay->replayed_run, relative));
    snprintf(where, sizeof(where), "step %lld", (long long)step);
    if (!file_exists(recorded) || !file_exists(replayed))
        return STATUS_OK;
    return compare_parts(replay, out, where, recorded, replayed);
}

static int compare_checkpoints(struct replay *replay, struct text *out)
{
    sqlite3_stmt *row;
    int more, before = replay->n_compared;
    int64_t next;

    TRY(sql_ask(&replay->recorded, &row,
                "SELECT step, path FROM checkpoint WHERE stage_id = ? AND step > ? AND step <= ?"
                " ORDER BY step",
                SQL_VALUES(sql_int(replay->stage_id), sql_int(replay->from),
                           sql_int(replay->last))));
    TRY(sql_next(&replay->recorded, row, &more));
    while (more) {
        TRY(compare_checkpoint(replay, out, sqlite3_column_int64(row, 0),
                               sql_column_text(row, 1)));
        TRY(sql_next(&replay->recorded, row, &more));
    }
    if (replay->n_compared > before)
        return STATUS_OK;
    TRY(sql_ask_int(&replay->recorded,
                    "SELECT min(step) FROM checkpoint WHERE stage_id = ? AND step > ?",
                    SQL_VALUES(sql_int(replay->stage_id), sql_int(replay->last)), -1, &next));
    if (next > 0)
        text_print(out, "weights and moments are not compared: the next checkpoint is of step "
                        "%lld (--to %lld)\n", (long long)next, (long long)next);
    else
        text_print(out, "weights and moments are not compared: no checkpoint of these steps is "
                        "left\n");
    return STATUS_OK;
}

/* The file may have been edited since the stage learnt from it. */
static int compare_datasets(struct replay *replay, struct text *out)
{
    char path[FILE_PATH_MAX], hex[DIGEST_HEX_BYTES];
    struct digest digest;
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&replay->recorded, &row,
                "SELECT path, digest FROM dataset d WHERE stage_id = ?1 OR EXISTS (SELECT 1 FROM"
                " parent p WHERE p.child_kind = 'stage' AND p.child_id = ?1 AND"
                " p.parent_kind = 'dataset' AND p.parent_id = d.id)",
                SQL_VALUES(sql_int(replay->stage_id))));
    TRY(sql_next(&replay->recorded, row, &more));
    while (more) {
        const char *was = sql_column_text(row, 1);
        TRY(file_join(path, replay->run, sql_column_text(row, 0)));
        TRY(digest_of_file(&digest, path));
        digest_hex(&digest, hex);
        int is_equal = strcmp(hex, was) == 0;
        report(replay, out, is_equal, sql_column_text(row, 0), "SHA-256 %.16s%s%.16s", hex,
               is_equal ? "" : ", recorded ", is_equal ? "" : was);
        TRY(sql_next(&replay->recorded, row, &more));
    }
    return STATUS_OK;
}

int replay_compare(struct replay *replay, struct text *out)
{
    text_print(out, "%s, stage %s, steps %lld to %lld, begun with %s %lld\n", replay->run,
               replay->stage, (long long)replay->from + 1, (long long)replay->last,
               replay->from ? "the checkpoint of step" : "the stage, step",
               (long long)replay->from);
    TRY(compare_datasets(replay, out));
    for (int64_t step = replay->from + 1; step <= replay->last; step++) {
        TRY(compare_rows(replay, out, step, &metrics));
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
            TRY(compare_rows(replay, out, step, &others[i]));
    }
    TRY(compare_checkpoints(replay, out));
    if (!replay->n_different)
        text_print(out, "all %d things are equal\n", replay->n_compared);
    return STATUS_OK;
}
