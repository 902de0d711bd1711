#include "pipeline/schema.h"

#include <stdio.h>

#include "common/status.h"

/* Values that depend on the clock live in columns named wall_* or created_*: two runs of the same
 * configuration and seed are equal in all others. */
static const char *const schema_statements[] = {
    "CREATE TABLE run ("
    "  id INTEGER PRIMARY KEY CHECK (id = 1),"
    "  name TEXT NOT NULL,"
    "  seed INTEGER NOT NULL,"
    "  code_version TEXT NOT NULL,"
    "  config_yaml TEXT NOT NULL,"
    "  config_hash TEXT NOT NULL,"
    "  data_hash TEXT NOT NULL,"
    "  template_hash TEXT NOT NULL,"
    "  created_unix_ms INTEGER NOT NULL"
    ") STRICT",

    "CREATE TABLE stage ("
    "  id INTEGER PRIMARY KEY,"
    "  name TEXT NOT NULL UNIQUE,"
    "  kind TEXT NOT NULL,"
    "  state TEXT NOT NULL"
    "    CHECK (state IN ('waiting', 'running', 'done', 'failed', 'interrupted')),"
    "  reason TEXT NOT NULL DEFAULT '',"
    "  n_steps INTEGER,"
    "  config_yaml TEXT NOT NULL,"
    "  config_hash TEXT NOT NULL,"
    "  wall_seconds REAL NOT NULL DEFAULT 0"
    ") STRICT",

    "CREATE TABLE step ("
    "  stage_id INTEGER NOT NULL REFERENCES stage (id),"
    "  step INTEGER NOT NULL,"
    "  wall_seconds REAL NOT NULL,"
    "  PRIMARY KEY (stage_id, step)"
    ") STRICT, WITHOUT ROWID",

    "CREATE TABLE metric ("
    "  stage_id INTEGER NOT NULL,"
    "  step INTEGER NOT NULL,"
    "  name TEXT NOT NULL,"
    "  value REAL,"
    "  wall_value REAL,"
    "  PRIMARY KEY (stage_id, step, name),"
    "  FOREIGN KEY (stage_id, step) REFERENCES step (stage_id, step) ON DELETE CASCADE"
    ") STRICT, WITHOUT ROWID",

    "CREATE TABLE task ("
    "  id INTEGER PRIMARY KEY,"
    "  kind TEXT NOT NULL,"
    "  verifier TEXT NOT NULL,"
    "  language TEXT NOT NULL,"
    "  question TEXT NOT NULL,"
    "  reference TEXT NOT NULL"
    ") STRICT",

    "CREATE TABLE sample_group ("
    "  id INTEGER PRIMARY KEY,"
    "  stage_id INTEGER NOT NULL,"
    "  step INTEGER NOT NULL,"
    "  purpose TEXT NOT NULL CHECK (purpose IN ('train', 'eval', 'data')),"
    "  task_id INTEGER NOT NULL REFERENCES task (id),"
    "  prompt TEXT NOT NULL,"
    "  prefill TEXT NOT NULL,"
    "  prompt_tokens BLOB NOT NULL,"
    "  FOREIGN KEY (stage_id, step) REFERENCES step (stage_id, step) ON DELETE CASCADE"
    ") STRICT",
    "CREATE INDEX sample_group_step ON sample_group (stage_id, step, purpose)",
    "CREATE INDEX sample_group_task ON sample_group (task_id)",

    "CREATE TABLE sample ("
    "  id INTEGER PRIMARY KEY,"
    "  group_id INTEGER NOT NULL REFERENCES sample_group (id) ON DELETE CASCADE,"
    "  position INTEGER NOT NULL,"
    "  finish TEXT NOT NULL CHECK (finish IN ('eos', 'length')),"
    "  text TEXT NOT NULL,"
    "  n_tokens INTEGER NOT NULL,"
    "  tokens BLOB NOT NULL,"
    "  logprobs BLOB,"
    "  weight_version_min INTEGER,"
    "  weight_version_max INTEGER,"
    "  weight_versions BLOB,"
    "  reward REAL,"
    "  advantage REAL,"
    "  masked INTEGER NOT NULL,"
    "  UNIQUE (group_id, position)"
    ") STRICT",

    "CREATE TABLE score ("
    "  sample_id INTEGER NOT NULL REFERENCES sample (id) ON DELETE CASCADE,"
    "  position INTEGER NOT NULL,"
    "  name TEXT NOT NULL,"
    "  weight REAL NOT NULL,"
    "  value REAL,"
    "  outcome TEXT NOT NULL,"
    "  detail TEXT NOT NULL,"
    "  PRIMARY KEY (sample_id, position)"
    ") STRICT, WITHOUT ROWID",

    "CREATE TABLE checkpoint ("
    "  id INTEGER PRIMARY KEY,"
    "  stage_id INTEGER NOT NULL REFERENCES stage (id),"
    "  step INTEGER NOT NULL,"
    "  path TEXT NOT NULL,"
    "  digest TEXT NOT NULL,"
    "  created_unix_ms INTEGER NOT NULL,"
    "  UNIQUE (stage_id, step)"
    ") STRICT",

    "CREATE TABLE dataset ("
    "  id INTEGER PRIMARY KEY,"
    "  stage_id INTEGER NOT NULL REFERENCES stage (id),"
    "  step INTEGER NOT NULL,"
    "  path TEXT NOT NULL,"
    "  format TEXT NOT NULL,"
    "  n_rows INTEGER NOT NULL,"
    "  digest TEXT NOT NULL,"
    "  created_unix_ms INTEGER NOT NULL,"
    "  UNIQUE (stage_id, path)"
    ") STRICT",

    "CREATE TABLE parent ("
    "  child_kind TEXT NOT NULL CHECK (child_kind IN ('stage', 'checkpoint', 'dataset')),"
    "  child_id INTEGER NOT NULL,"
    "  parent_kind TEXT NOT NULL CHECK (parent_kind IN ('stage', 'checkpoint', 'dataset')),"
    "  parent_id INTEGER NOT NULL,"
    "  PRIMARY KEY (child_kind, child_id, parent_kind, parent_id)"
    ") STRICT, WITHOUT ROWID",

    "CREATE TRIGGER checkpoint_takes_its_edges AFTER DELETE ON checkpoint BEGIN"
    "  DELETE FROM parent WHERE child_kind = 'checkpoint' AND child_id = old.id;"
    "  DELETE FROM parent WHERE parent_kind = 'checkpoint' AND parent_id = old.id;"
    " END",
    "CREATE TRIGGER dataset_takes_its_edges AFTER DELETE ON dataset BEGIN"
    "  DELETE FROM parent WHERE child_kind = 'dataset' AND child_id = old.id;"
    "  DELETE FROM parent WHERE parent_kind = 'dataset' AND parent_id = old.id;"
    " END",

    "CREATE VIEW v_metric AS"
    "  SELECT stage.name AS stage, metric.step, metric.name,"
    "         coalesce(metric.value, metric.wall_value) AS value"
    "  FROM metric JOIN stage ON stage.id = metric.stage_id",

    "CREATE VIEW v_sample AS"
    "  SELECT sample.id AS sample_id, stage.name AS stage, sample_group.step,"
    "         sample_group.purpose, task.kind, task.question, sample.text, sample.reward,"
    "         sample.advantage, sample.masked, sample.finish, sample.n_tokens"
    "  FROM sample JOIN sample_group ON sample_group.id = sample.group_id"
    "  JOIN stage ON stage.id = sample_group.stage_id"
    "  JOIN task ON task.id = sample_group.task_id",

    "CREATE VIEW v_score AS"
    "  SELECT v_sample.stage, v_sample.step, v_sample.purpose, v_sample.kind, score.name,"
    "         score.weight, score.value, score.outcome, score.detail, v_sample.sample_id"
    "  FROM score JOIN v_sample ON v_sample.sample_id = score.sample_id",
    NULL};

struct identity {
    int64_t n_objects, version, application_id;
};

static int read_identity(struct sql *sql, struct identity *identity)
{
    TRY(sql_ask_int(sql, "SELECT count(*) FROM sqlite_schema", NULL, 0, 0, &identity->n_objects));
    TRY(sql_ask_int(sql, "PRAGMA user_version", NULL, 0, 0, &identity->version));
    return sql_ask_int(sql, "PRAGMA application_id", NULL, 0, 0, &identity->application_id);
}

static int is_empty(const struct identity *identity)
{
    return identity->n_objects == 0 && identity->version == 0 && identity->application_id == 0;
}

static int refuse_foreign(const struct sql *sql, const struct identity *identity)
{
    if (identity->application_id != SCHEMA_APPLICATION_ID)
        return status_fail(STATUS_FORMAT,
                           "%s is an SQLite file of another program: use another run directory",
                           sql->path);
    if (identity->version != SCHEMA_VERSION)
        return status_fail(STATUS_VERSION,
                           "%s has schema version %lld, this hone has %d: read it with the hone "
                           "that wrote it, or start a new run directory",
                           sql->path, (long long)identity->version, SCHEMA_VERSION);
    return STATUS_OK;
}

static int create_tables(struct sql *sql)
{
    char pragma[64];

    for (size_t i = 0; schema_statements[i]; i++)
        TRY(sql_run_once(sql, schema_statements[i]));
    snprintf(pragma, sizeof(pragma), "PRAGMA application_id=%d", SCHEMA_APPLICATION_ID);
    TRY(sql_run_once(sql, pragma));
    snprintf(pragma, sizeof(pragma), "PRAGMA user_version=%d", SCHEMA_VERSION);
    return sql_run_once(sql, pragma);
}

int schema_check(struct sql *sql)
{
    struct identity identity;

    TRY(read_identity(sql, &identity));
    if (is_empty(&identity))
        return status_fail(STATUS_FORMAT, "%s is empty: no run was ever begun in it", sql->path);
    return refuse_foreign(sql, &identity);
}

int schema_prepare(struct sql *sql)
{
    struct identity identity;

    TRY(read_identity(sql, &identity));
    if (!is_empty(&identity))
        TRY(refuse_foreign(sql, &identity));
    /* Only now: a file of another program keeps its journal mode. */
    TRY(sql_run_once(sql, "PRAGMA journal_mode=WAL"));
    TRY(sql_run_once(sql, "PRAGMA synchronous=NORMAL"));
    if (!is_empty(&identity))
        return STATUS_OK;
    TRY(sql_begin_durable(sql));
    int status = read_identity(sql, &identity);
    if (status == STATUS_OK && is_empty(&identity))
        status = create_tables(sql);
    return sql_end_durable(sql, status);
}
