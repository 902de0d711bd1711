/* Checkpoints, datasets, and what each of them comes from. */
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/run_store_internal.h"

/* A dataset belongs to the step that its stage has reached. */
int run_store_put_dataset(struct run_store *store, int64_t stage, const char *path,
                          const char *format, int64_t rows, const char *digest_hex,
                          int64_t *dataset)
{
    TRY(sql_begin_durable(&store->sql));
    int status = sql_ask_int(&store->sql,
                             "INSERT INTO dataset (stage_id, step, path, format, n_rows, digest,"
                             " created_unix_ms) VALUES (?1,"
                             " (SELECT coalesce(max(step), 0) FROM step WHERE stage_id = ?1),"
                             " ?2, ?3, ?4, ?5, ?6)"
                             " ON CONFLICT (stage_id, path) DO UPDATE SET"
                             " format = excluded.format, n_rows = excluded.n_rows,"
                             " digest = excluded.digest,"
                             " created_unix_ms = excluded.created_unix_ms RETURNING id",
                             SQL_VALUES(sql_int(stage), sql_text(path), sql_text(format),
                                        sql_int(rows), sql_text(digest_hex),
                                        sql_int(clock_unix_ms())),
                             -1, dataset);
    return sql_end_durable(&store->sql, status);
}

static int check_node(struct run_store *store, const char *kind, int64_t id)
{
    static const struct {
        const char *kind, *query;
    } nodes[] = {
        {"stage", "SELECT id FROM stage WHERE id = ?"},
        {"checkpoint", "SELECT id FROM checkpoint WHERE id = ?"},
        {"dataset", "SELECT id FROM dataset WHERE id = ?"},
    };
    int64_t found;

    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        if (strcmp(kind, nodes[i].kind))
            continue;
        TRY(sql_ask_int(&store->sql, nodes[i].query, SQL_VALUES(sql_int(id)), -1, &found));
        return found == id ? STATUS_OK
                           : status_fail(STATUS_FAILED, "%s has no %s with id %lld to name as "
                                         "parent or child", store->sql.path, kind, (long long)id);
    }
    BUG("an edge joins stages, checkpoints and datasets, not a \"%s\"", kind);
}

static int put_edge(struct run_store *store, const char *child_kind, int64_t child,
                    const char *parent_kind, int64_t parent)
{
    TRY(check_node(store, child_kind, child));
    TRY(check_node(store, parent_kind, parent));
    return sql_run(&store->sql,
                   "INSERT OR IGNORE INTO parent (child_kind, child_id, parent_kind, parent_id)"
                   " VALUES (?, ?, ?, ?)",
                   SQL_VALUES(sql_text(child_kind), sql_int(child), sql_text(parent_kind),
                              sql_int(parent)));
}

static int put_checkpoint(struct run_store *store, int64_t stage, int64_t step, const char *path,
                          const char *digest_hex, int64_t *checkpoint)
{
    TRY(sql_ask_int(&store->sql,
                    "INSERT INTO checkpoint (stage_id, step, path, digest, created_unix_ms)"
                    " VALUES (?, ?, ?, ?, ?)"
                    " ON CONFLICT (stage_id, step) DO UPDATE SET path = excluded.path,"
                    " digest = excluded.digest, created_unix_ms = excluded.created_unix_ms"
                    " RETURNING id",
                    SQL_VALUES(sql_int(stage), sql_int(step), sql_text(path),
                               sql_text(digest_hex), sql_int(clock_unix_ms())),
                    -1, checkpoint));
    return put_edge(store, "checkpoint", *checkpoint, "stage", stage);
}

int run_store_put_checkpoint(struct run_store *store, int64_t stage, int64_t step,
                             const char *path, const char *digest_hex, int64_t *checkpoint)
{
    TRY(sql_begin_durable(&store->sql));
    return sql_end_durable(&store->sql,
                           put_checkpoint(store, stage, step, path, digest_hex, checkpoint));
}

int run_store_put_parent(struct run_store *store, const char *child_kind, int64_t child,
                         const char *parent_kind, int64_t parent)
{
    TRY(sql_begin_durable(&store->sql));
    return sql_end_durable(&store->sql,
                           put_edge(store, child_kind, child, parent_kind, parent));
}

int run_store_find_checkpoint(struct run_store *store, const char *stage_name, int64_t below,
                              struct checkpoint_row *row)
{
    sqlite3_stmt *statement;
    int more;

    TRY(sql_ask(&store->sql, &statement,
                "SELECT c.id, c.step, c.path, c.digest FROM checkpoint c JOIN stage s"
                " ON s.id = c.stage_id WHERE s.name = ? AND c.step < ?"
                " ORDER BY c.step DESC LIMIT 1",
                SQL_VALUES(sql_text(stage_name), sql_int(below))));
    TRY(sql_next(&store->sql, statement, &more));
    if (!more) {
        row->step = -1;
        return STATUS_OK;
    }
    row->id = sqlite3_column_int64(statement, 0);
    row->step = sqlite3_column_int64(statement, 1);
    snprintf(row->path, sizeof(row->path), "%s", sql_column_text(statement, 2));
    snprintf(row->digest, sizeof(row->digest), "%s", sql_column_text(statement, 3));
    sql_finish(statement);
    return STATUS_OK;
}

int run_store_last_checkpoint(struct run_store *store, const char *stage_name,
                              struct checkpoint_row *row)
{
    TRY(run_store_find_checkpoint(store, stage_name, INT64_MAX, row));
    if (row->step < 0)
        return status_fail(STATUS_FAILED, "%s: stage \"%s\" has no checkpoint yet",
                           store->sql.path, stage_name);
    return STATUS_OK;
}

int run_store_last_dataset(struct run_store *store, const char *stage_name, char *path,
                           int64_t *dataset)
{
    sqlite3_stmt *statement;
    int more;

    TRY(sql_ask(&store->sql, &statement,
                "SELECT dataset.path, dataset.id FROM dataset"
                " JOIN stage ON stage.id = dataset.stage_id WHERE stage.name = ?"
                " ORDER BY dataset.id DESC LIMIT 1",
                SQL_VALUES(sql_text(stage_name))));
    TRY(sql_next(&store->sql, statement, &more));
    if (!more)
        return status_fail(STATUS_FAILED, "%s: stage \"%s\" has no dataset yet", store->sql.path,
                           stage_name);
    snprintf(path, FILE_PATH_MAX, "%s", sql_column_text(statement, 0));
    *dataset = sqlite3_column_int64(statement, 1);
    sql_finish(statement);
    return STATUS_OK;
}
