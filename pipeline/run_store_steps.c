/* Steps: their metrics, and every group with its samples and scores. */
#include <math.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/run_store_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "blobs hold little-endian numbers");

struct step_writer {
    struct sql *sql;
    int64_t stage, step;
    const char *purpose;
    struct text a, b;   /* cleaned texts of the row at hand */
};

static struct sql_value clean_text(struct text *buffer, const char *bytes, size_t n)
{
    text_clear(buffer);
    sql_append_utf8(buffer, bytes, n);
    return (struct sql_value){.type = SQL_TEXT, .bytes = buffer->data, .n = buffer->length};
}

static struct sql_value clean_wire_text(struct text *buffer, const struct wire_text *text)
{
    return clean_text(buffer, text->data, text->bytes);
}

static int put_metrics(struct step_writer *writer, const struct metric_value *metrics, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct metric_row *row = metric_find(metrics[i].name);
        if (!row)
            BUG("metric \"%s\" is not declared in pipeline/metrics.c", metrics[i].name);
        struct sql_value value = sql_real(metrics[i].value);
        int timed = metric_is_timed(row);
        TRY(sql_run(writer->sql,
                    "INSERT INTO metric (stage_id, step, name, value, wall_value)"
                    " VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                    " value = excluded.value, wall_value = excluded.wall_value",
                    SQL_VALUES(sql_int(writer->stage), sql_int(writer->step),
                               sql_text(metrics[i].name), timed ? sql_null() : value,
                               timed ? value : sql_null())));
    }
    return STATUS_OK;
}

static int put_task(struct step_writer *writer, const struct task *task)
{
    return sql_run(writer->sql,
                   "INSERT OR IGNORE INTO task (id, kind, verifier, language, question, reference)"
                   " VALUES (?, ?, ?, ?, ?, ?)",
                   SQL_VALUES(sql_int((int64_t)task->id), sql_text(task->kind),
                              sql_text(task->verifier), sql_text(task->language),
                              clean_wire_text(&writer->a, &task->question),
                              clean_wire_text(&writer->b, &task->reference)));
}

static int put_scores(struct step_writer *writer, int64_t sample_id,
                      const struct sample_group *group, const struct sample *sample)
{
    for (uint32_t i = 0; sample->scores && i < group->n_rewards; i++) {
        const struct score *score = &sample->scores[i];
        TRY(sql_run(writer->sql,
                    "INSERT INTO score (sample_id, position, name, weight, value, outcome, detail)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?)",
                    SQL_VALUES(sql_int(sample_id), sql_int(i), sql_text(group->rewards[i].name),
                               sql_real(group->rewards[i].weight), sql_real(score->value),
                               sql_text(outcome_name(score->outcome)),
                               clean_text(&writer->a, score->detail, strlen(score->detail)))));
    }
    return STATUS_OK;
}

struct version_span {
    uint32_t min, max;
};

static struct version_span find_versions(const struct sample *sample)
{
    struct version_span span = {sample->weight_versions[0], sample->weight_versions[0]};

    for (uint32_t i = 1; i < sample->n_tokens; i++) {
        uint32_t version = sample->weight_versions[i];
        span.min = version < span.min ? version : span.min;
        span.max = version > span.max ? version : span.max;
    }
    return span;
}

static int put_sample(struct step_writer *writer, int64_t group_id, uint32_t position,
                      const struct sample_group *group)
{
    const struct sample *sample = &group->samples[position];
    size_t n = sample->n_tokens, n_bytes = n * sizeof(uint32_t);
    int has_versions = sample->weight_versions && n;
    struct version_span span = has_versions ? find_versions(sample) : (struct version_span){0, 0};
    int judged = group->n_rewards > 0, learnt_from = !strcmp(writer->purpose, "train");

    TRY(sql_run(writer->sql,
                "INSERT INTO sample (group_id, position, finish, text, n_tokens, tokens, logprobs,"
                " weight_version_min, weight_version_max, weight_versions, reward, advantage,"
                " masked) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                SQL_VALUES(sql_int(group_id), sql_int(position),
                           sql_text(sample->finish == SAMPLE_FINISH_EOS ? "eos" : "length"),
                           clean_wire_text(&writer->a, &sample->text), sql_int((int64_t)n),
                           sql_blob(sample->tokens, n_bytes),
                           sample->logprobs ? sql_blob(sample->logprobs, n_bytes) : sql_null(),
                           has_versions ? sql_int(span.min) : sql_null(),
                           has_versions ? sql_int(span.max) : sql_null(),
                           span.min != span.max ? sql_blob(sample->weight_versions, n_bytes)
                                                : sql_null(),
                           judged ? sql_real(sample->reward) : sql_null(),
                           learnt_from ? sql_real(sample->advantage) : sql_null(),
                           sql_int(sample->masked != 0))));
    return put_scores(writer, sqlite3_last_insert_rowid(writer->sql->handle), group, sample);
}

static int put_group(struct step_writer *writer, const struct sample_group *group)
{
    TRY(put_task(writer, &group->task));
    TRY(sql_run(writer->sql,
                "INSERT INTO sample_group (stage_id, step, purpose, task_id, prompt, prefill,"
                " prompt_tokens) VALUES (?, ?, ?, ?, ?, ?, ?)",
                SQL_VALUES(sql_int(writer->stage), sql_int(writer->step),
                           sql_text(writer->purpose), sql_int((int64_t)group->task.id),
                           clean_wire_text(&writer->a, &group->task.prompt),
                           clean_wire_text(&writer->b, &group->task.prefill),
                           sql_blob(group->prompt_tokens, group->n_prompt * sizeof(int32_t)))));
    int64_t group_id = sqlite3_last_insert_rowid(writer->sql->handle);
    for (uint32_t i = 0; i < group->n_samples; i++)
        TRY(put_sample(writer, group_id, i, group));
    return STATUS_OK;
}

static int put_step(struct step_writer *writer, double wall_seconds,
                    const struct metric_value *metrics, size_t n_metrics,
                    const struct sample_group *groups, size_t n_groups)
{
    TRY(sql_run(writer->sql,
                "INSERT INTO step (stage_id, step, wall_seconds) VALUES (?, ?, ?)"
                " ON CONFLICT DO UPDATE SET wall_seconds = wall_seconds + excluded.wall_seconds",
                SQL_VALUES(sql_int(writer->stage), sql_int(writer->step),
                           sql_real(wall_seconds))));
    TRY(put_metrics(writer, metrics, n_metrics));
    for (size_t i = 0; i < n_groups; i++)
        TRY(put_group(writer, &groups[i]));
    return STATUS_OK;
}

int run_store_put_step(struct run_store *store, int64_t stage, int64_t step, double wall_seconds,
                       const struct metric_value *metrics, size_t n_metrics, const char *purpose,
                       const struct sample_group *groups, size_t n_groups)
{
    struct step_writer writer = {.sql = &store->sql, .stage = stage, .step = step,
                                 .purpose = purpose ? purpose : ""};

    TRY(sql_begin(&store->sql));
    int status = put_step(&writer, wall_seconds, metrics, n_metrics, groups, n_groups);
    text_release(&writer.a);
    text_release(&writer.b);
    return sql_end(&store->sql, status);
}

int run_store_has_groups(struct run_store *store, int64_t stage, int64_t step, const char *purpose,
                         int *has)
{
    int64_t n;

    TRY(sql_ask_int(&store->sql, "SELECT count(*) FROM sample_group"
                    " WHERE stage_id = ? AND step = ? AND purpose = ?",
                    SQL_VALUES(sql_int(stage), sql_int(step), sql_text(purpose)), 0, &n));
    *has = n > 0;
    return STATUS_OK;
}

int run_store_metric(struct run_store *store, int64_t stage, int64_t step, const char *name,
                     double *value)
{
    sqlite3_stmt *row;
    int more;

    *value = NAN;
    TRY(sql_ask(&store->sql, &row, "SELECT coalesce(value, wall_value) FROM metric"
                " WHERE stage_id = ? AND step = ? AND name = ?",
                SQL_VALUES(sql_int(stage), sql_int(step), sql_text(name))));
    TRY(sql_next(&store->sql, row, &more));
    if (more) {
        *value = sql_column_real(row, 0);
        sql_finish(row);
    }
    return STATUS_OK;
}
