/* The run's row and its stages; run_store_steps.c and run_store_files.c have the rest. */
#include "pipeline/run_store.h"

#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/run_store_internal.h"
#include "pipeline/schema.h"

#define MAX_CHANGES_NAMED 4

static const char *const state_names[] = {"waiting", "running", "done", "failed", "interrupted"};
#define N_STATES (sizeof(state_names) / sizeof(state_names[0]))

int run_store_open(struct run_store **out, const char *path)
{
    struct run_store *store = mem_alloc(1, sizeof(*store));
    int status = sql_open(&store->sql, path, SQL_WRITE);

    if (status == STATUS_OK)
        status = schema_prepare(&store->sql);
    if (status < 0) {
        run_store_close(&store);
        return status;
    }
    *out = store;
    return STATUS_OK;
}

void run_store_close(struct run_store **store)
{
    if (!*store)
        return;
    sql_close(&(*store)->sql);
    mem_free(*store);
    *store = NULL;
}

static const char *or_empty(const char *text)
{
    return text ? text : "";
}

static int insert_run(struct run_store *store, const struct run_info *info)
{
    return sql_run(&store->sql,
                   "INSERT INTO run (id, name, seed, code_version, config_yaml, config_hash,"
                   " data_hash, template_hash, created_unix_ms) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?)",
                   SQL_VALUES(sql_text(or_empty(info->name)), sql_int((int64_t)info->seed),
                              sql_text(or_empty(info->code_version)),
                              sql_text(or_empty(info->config_yaml)),
                              sql_text(or_empty(info->config_hash)),
                              sql_text(or_empty(info->data_hash)),
                              sql_text(or_empty(info->template_hash)),
                              sql_int(clock_unix_ms())));
}

static int update_run(struct run_store *store, const struct run_info *info)
{
    return sql_run(&store->sql,
                   "UPDATE run SET seed = ?, code_version = ?, config_yaml = ?, config_hash = ?,"
                   " data_hash = ?, template_hash = ?",
                   SQL_VALUES(sql_int((int64_t)info->seed), sql_text(or_empty(info->code_version)),
                              sql_text(or_empty(info->config_yaml)),
                              sql_text(or_empty(info->config_hash)),
                              sql_text(or_empty(info->data_hash)),
                              sql_text(or_empty(info->template_hash))));
}

struct change_list {
    struct text text;
    int n;
};

static void list_change(void *context, const char *key, const char *before, const char *now)
{
    struct change_list *list = context;

    if (list->n < MAX_CHANGES_NAMED)
        text_print(&list->text, "%s%s: %s -> %s", list->n ? ", " : "", key,
                   before ? before : "(absent)", now ? now : "(absent)");
    list->n++;
}

/* Names the keys where the stored configuration and the one given differ. */
static void list_config_changes(struct change_list *list, const char *stored, const char *given)
{
    struct flat_config before = {0}, now = {0};

    if (flat_config_read(&before, stored, "the stored configuration") == STATUS_OK &&
        flat_config_read(&now, given, "the new configuration") == STATUS_OK)
        flat_config_compare(&before, &now, list_change, list);
    if (!list->n)
        list_change(list, "configuration hash", "as stored", "another");
    flat_config_release(&before);
    flat_config_release(&now);
}

static void list_hash_change(struct change_list *list, const char *what, const char *stored,
                             const char *given)
{
    char before[13], now[13];

    if (!*stored || !given || !*given || !strcmp(stored, given))
        return;
    snprintf(before, sizeof(before), "%s", stored);
    snprintf(now, sizeof(now), "%s", given);
    list_change(list, what, before, now);
}

/* `statement` stands on the run's row: config_yaml, config_hash, data_hash, template_hash. */
static void list_changes(struct change_list *list, sqlite3_stmt *statement,
                         const struct run_info *info)
{
    if (strcmp(sql_column_text(statement, 1), or_empty(info->config_hash)))
        list_config_changes(list, sql_column_text(statement, 0), or_empty(info->config_yaml));
    list_hash_change(list, "data", sql_column_text(statement, 2), info->data_hash);
    list_hash_change(list, "template", sql_column_text(statement, 3), info->template_hash);
}

static int compare_run(struct run_store *store, const struct run_info *info, int accept_changes,
                       int *exists)
{
    struct change_list list = {0};
    sqlite3_stmt *statement;

    TRY(sql_ask(&store->sql, &statement,
                "SELECT config_yaml, config_hash, data_hash, template_hash FROM run", NULL, 0));
    TRY(sql_next(&store->sql, statement, exists));
    if (!*exists)
        return STATUS_OK;
    list_changes(&list, statement, info);
    sql_finish(statement);
    int status = STATUS_OK;
    if (list.n && !accept_changes) {
        if (list.n > MAX_CHANGES_NAMED)
            text_print(&list.text, " and %d more", list.n - MAX_CHANGES_NAMED);
        status = status_fail(STATUS_CONFIG,
                             "%s was begun with other settings (%s): use another run directory, or "
                             "accept the changes with --accept-changes",
                             store->sql.path, list.text.data);
    }
    text_release(&list.text);
    return status;
}

int run_store_begin_run(struct run_store *store, const struct run_info *info, int accept_changes)
{
    int exists;

    TRY(sql_begin_durable(&store->sql));
    int status = compare_run(store, info, accept_changes, &exists);
    if (status == STATUS_OK)
        status = exists ? update_run(store, info) : insert_run(store, info);
    return sql_end_durable(&store->sql, status);
}

int run_store_check_run(struct run_store *store, const struct run_info *info, int accept_changes)
{
    int exists;

    return compare_run(store, info, accept_changes, &exists);
}

/* The row id of a stage by its name; -1 when it was never begun. */
static int find_stage(struct run_store *store, const char *name, int64_t *stage)
{
    return sql_ask_int(&store->sql, "SELECT id FROM stage WHERE name = ?",
                       SQL_VALUES(sql_text(name)), -1, stage);
}

static int check_stage_kind(struct run_store *store, const char *name, const char *kind)
{
    sqlite3_stmt *statement;
    int more, status = STATUS_OK;

    TRY(sql_ask(&store->sql, &statement, "SELECT kind FROM stage WHERE name = ?",
                SQL_VALUES(sql_text(name))));
    TRY(sql_next(&store->sql, statement, &more));
    if (!more)
        return STATUS_OK;
    if (strcmp(sql_column_text(statement, 0), kind))
        status = status_fail(STATUS_CONFIG,
                             "%s: stage \"%s\" is of kind %s there, not %s: give it another name",
                             store->sql.path, name, sql_column_text(statement, 0), kind);
    sql_finish(statement);
    return status;
}

static int put_stage(struct run_store *store, const char *name, const char *kind,
                     const char *config_yaml, const char *config_hash, int64_t *stage)
{
    TRY(check_stage_kind(store, name, kind));
    TRY(sql_run(&store->sql,
                "INSERT INTO stage (name, kind, state, config_yaml, config_hash)"
                " VALUES (?, ?, 'running', ?, ?)"
                " ON CONFLICT (name) DO UPDATE SET state = 'running', reason = '',"
                " config_yaml = excluded.config_yaml, config_hash = excluded.config_hash",
                SQL_VALUES(sql_text(name), sql_text(kind), sql_text(or_empty(config_yaml)),
                           sql_text(or_empty(config_hash)))));
    return find_stage(store, name, stage);
}

int run_store_begin_stage(struct run_store *store, const char *name, const char *kind,
                          const char *config_yaml, const char *config_hash, int64_t *stage)
{
    TRY(sql_begin(&store->sql));
    return sql_end(&store->sql, put_stage(store, name, kind, config_yaml, config_hash, stage));
}

int run_store_set_total(struct run_store *store, int64_t stage, int64_t n_steps)
{
    return sql_run(&store->sql, "UPDATE stage SET n_steps = ? WHERE id = ?",
                   SQL_VALUES(sql_int(n_steps), sql_int(stage)));
}

int run_store_stage_state(struct run_store *store, const char *name, enum stage_state *state)
{
    sqlite3_stmt *statement;
    int more;

    *state = STAGE_WAITING;
    TRY(sql_ask(&store->sql, &statement, "SELECT state FROM stage WHERE name = ?",
                SQL_VALUES(sql_text(name))));
    TRY(sql_next(&store->sql, statement, &more));
    if (!more)
        return STATUS_OK;
    for (size_t i = 0; i < N_STATES; i++)
        if (!strcmp(sql_column_text(statement, 0), state_names[i]))
            *state = (enum stage_state)i;
    sql_finish(statement);
    return STATUS_OK;
}

int run_store_end_stage(struct run_store *store, int64_t stage, enum stage_state state,
                        const char *reason, double wall_seconds)
{
    if ((size_t)state >= N_STATES)
        BUG("stage state %d", (int)state);
    TRY(sql_begin_durable(&store->sql));
    int status = sql_run(&store->sql,
                         "UPDATE stage SET state = ?, reason = ?,"
                         " wall_seconds = wall_seconds + ? WHERE id = ?",
                         SQL_VALUES(sql_text(state_names[state]), sql_text(or_empty(reason)),
                                    sql_real(wall_seconds), sql_int(stage)));
    return sql_end_durable(&store->sql, status);
}

static int drop_lonely_tasks(struct run_store *store)
{
    return sql_run(&store->sql,
                   "DELETE FROM task WHERE id NOT IN (SELECT task_id FROM sample_group)", NULL, 0);
}

static int drop_rows_from(struct run_store *store, int64_t stage, int64_t first_step)
{
    /* Metrics, groups, samples and scores go with their step, edges with what they join. */
    static const char *const drops[] = {
        "DELETE FROM step WHERE stage_id = ? AND step >= ?",
        "DELETE FROM checkpoint WHERE stage_id = ? AND step >= ?",
        "DELETE FROM dataset WHERE stage_id = ? AND step >= ?",
    };

    for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]); i++)
        TRY(sql_run(&store->sql, drops[i], SQL_VALUES(sql_int(stage), sql_int(first_step))));
    return drop_lonely_tasks(store);
}

int run_store_rewind_stage(struct run_store *store, int64_t stage, int64_t first_step)
{
    TRY(sql_begin_durable(&store->sql));
    return sql_end_durable(&store->sql, drop_rows_from(store, stage, first_step));
}

static int drop_data(struct run_store *store, int64_t stage)
{
    TRY(sql_run(&store->sql, "DELETE FROM step WHERE stage_id = ? AND step <= 0",
                SQL_VALUES(sql_int(stage))));
    TRY(sql_run(&store->sql, "DELETE FROM dataset WHERE stage_id = ?",
                SQL_VALUES(sql_int(stage))));
    return drop_lonely_tasks(store);
}

int run_store_forget_data(struct run_store *store, int64_t stage)
{
    TRY(sql_begin_durable(&store->sql));
    return sql_end_durable(&store->sql, drop_data(store, stage));
}
