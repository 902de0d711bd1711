/* `hone replay`: a recorded step once more, in a directory of its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/replay.h"
#include "pipeline/schema.h"

struct scratch {
    char directory[FILE_PATH_MAX], recorded[FILE_PATH_MAX];
    int lock;
};

/* No other hone may write meanwhile; several replays may read. */
static int lock_run(const char *run, int *lock)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, run, "lock"));
    *lock = open(path, O_RDONLY | O_CLOEXEC);
    if (*lock < 0)
        return status_fail(STATUS_CONFIG, "%s is no run directory: cannot open %s: %s", run, path,
                           strerror(errno));
    if (flock(*lock, LOCK_SH | LOCK_NB))
        return status_fail(STATUS_IO, "%s is in use by another hone; wait for it", run);
    return STATUS_OK;
}

static int copy_file(const char *from, const char *to)
{
    struct file_map map;

    TRY(file_map_open(&map, from));
    file_sync_later(1);
    int status = file_write_atomic(to, map.bytes, map.n);
    file_sync_later(0);
    file_map_close(&map);
    return status;
}

/* The database is read from a copy: to open one in WAL mode leaves files beside it. */
static int copy_database(struct scratch *scratch, const char *run)
{
    static const char *const names[] = {"run.db", "run.db-wal"};
    char from[FILE_PATH_MAX], to[FILE_PATH_MAX + 8];

    TRY(file_join(scratch->recorded, scratch->directory, "recorded.db"));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        TRY(file_join(from, run, names[i]));
        snprintf(to, sizeof(to), "%s%s", scratch->recorded, names[i] + strlen("run.db"));
        if (i == 0 || file_exists(from))
            TRY(copy_file(from, to));
    }
    return STATUS_OK;
}

static int make_scratch(struct scratch *scratch)
{
    const char *base = getenv("TMPDIR");

    base = base && base[0] == '/' && strlen(base) < FILE_PATH_MAX / 2 ? base : "/tmp";
    snprintf(scratch->directory, sizeof(scratch->directory), "%s/hone-replay-XXXXXX", base);
    if (mkdtemp(scratch->directory))
        return STATUS_OK;
    scratch->directory[0] = '\0';
    return status_fail(STATUS_IO, "cannot make a directory in %s: %s", base, strerror(errno));
}

/* ---- What was recorded. */

static int find_stage(struct replay *replay)
{
    TRY(sql_ask_int(&replay->recorded, "SELECT id FROM stage WHERE name = ?",
                    SQL_VALUES(sql_text(replay->stage)), -1, &replay->stage_id));
    if (replay->stage_id < 0)
        return status_fail(STATUS_CONFIG, "%s has no stage \"%s\"; `hone status` lists them",
                           replay->run, replay->stage);
    return STATUS_OK;
}

static int check_steps(struct replay *replay)
{
    int64_t newest;

    TRY(sql_ask_int(&replay->recorded, "SELECT max(step) FROM step WHERE stage_id = ?",
                    SQL_VALUES(sql_int(replay->stage_id)), 0, &newest));
    if (replay->last > newest || replay->first < 1)
        return status_fail(STATUS_CONFIG, "stage \"%s\" has steps 1 to %lld; --step %lld --to %lld "
                           "is not among them", replay->stage, (long long)newest,
                           (long long)replay->first, (long long)replay->last);
    return STATUS_OK;
}

/* The newest checkpoint before the first step that is whole; 0: the stage's beginning. */
static int find_from(struct replay *replay)
{
    sqlite3_stmt *row;
    char path[FILE_PATH_MAX];
    int more;

    replay->from = 0;
    TRY(sql_ask(&replay->recorded, &row,
                "SELECT step, path, digest FROM checkpoint WHERE stage_id = ? AND step < ?"
                " ORDER BY step DESC", SQL_VALUES(sql_int(replay->stage_id),
                                                  sql_int(replay->first))));
    TRY(sql_next(&replay->recorded, row, &more));
    while (more) {
        TRY(file_join(path, replay->run, sql_column_text(row, 1)));
        if (file_exists(path)) {
            int status = checkpoint_verify(path, sql_column_text(row, 2));
            if (status == STATUS_OK) {
                replay->from = sqlite3_column_int64(row, 0);
                sql_finish(row);
                return STATUS_OK;
            }
            log_warning("%s; the replay begins earlier", status_reason());
        }
        TRY(sql_next(&replay->recorded, row, &more));
    }
    return STATUS_OK;
}

/* Sums of N parts are rounded otherwise than those of another number: only as many ranks as there
 * were give the same bytes. */
static int check_ranks(struct replay *replay, int n_ranks)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&replay->recorded, &row,
                "SELECT min(n), max(n) FROM (SELECT coalesce(m.value, 1) AS n FROM step s"
                " LEFT JOIN metric m ON m.stage_id = s.stage_id AND m.step = s.step"
                " AND m.name = 'ranks' WHERE s.stage_id = ? AND s.step > ? AND s.step <= ?)",
                SQL_VALUES(sql_int(replay->stage_id), sql_int(replay->from),
                           sql_int(replay->last))));
    TRY(sql_next(&replay->recorded, row, &more));
    int least = sqlite3_column_int(row, 0), most = sqlite3_column_int(row, 1);
    sql_finish(row);
    if (least == n_ranks && most == n_ranks)
        return STATUS_OK;
    if (least != most)
        return status_fail(STATUS_CONFIG, "steps %lld to %lld of stage \"%s\" were trained by %d "
                           "to %d ranks: a replay from their checkpoint has one number",
                           (long long)replay->from + 1, (long long)replay->last, replay->stage,
                           least, most);
    return status_fail(STATUS_CONFIG, "steps %lld to %lld of stage \"%s\" were trained by %d "
                       "rank%s, this is %d: start as many, as in `mpirun -n %d hone replay ...`",
                       (long long)replay->from + 1, (long long)replay->last, replay->stage, least,
                       least == 1 ? "" : "s", n_ranks, least);
}

/* ---- The directory in which it runs. */

static int write_config(struct replay *replay)
{
    char path[FILE_PATH_MAX];
    sqlite3_stmt *row;
    int more;

    TRY(file_join(path, replay->replayed_run, "config.yaml"));
    TRY(sql_ask(&replay->recorded, &row, "SELECT config_yaml FROM run", NULL, 0));
    TRY(sql_next(&replay->recorded, row, &more));
    if (!more)
        return status_fail(STATUS_FORMAT, "%s has no row in table run", replay->recorded.path);
    const char *yaml = sql_column_text(row, 0);
    int status = file_write_atomic(path, yaml, strlen(yaml));
    sql_finish(row);
    return status;
}

/* A name in the scratch run for what lies in the recorded one. */
static int link_path(const struct replay *replay, const char *relative)
{
    char from[FILE_PATH_MAX], real[FILE_PATH_MAX], to[FILE_PATH_MAX], parent[FILE_PATH_MAX];

    TRY(file_join(from, replay->run, relative));
    if (!realpath(from, real))
        return STATUS_OK;   /* removed since */
    TRY(file_join(to, replay->replayed_run, relative));
    snprintf(parent, sizeof(parent), "%s", to);
    *strrchr(parent, '/') = '\0';
    TRY(file_make_directories(parent));
    if (symlink(real, to))
        return status_fail(STATUS_IO, "cannot link %s to %s: %s", to, real, strerror(errno));
    return STATUS_OK;
}

static int link_all(struct replay *replay)
{
    sqlite3_stmt *row;
    int more;

    TRY(sql_ask(&replay->recorded, &row,
                "SELECT path FROM checkpoint WHERE stage_id != ?1 OR step = ?2 UNION ALL"
                " SELECT path FROM dataset",
                SQL_VALUES(sql_int(replay->stage_id), sql_int(replay->from))));
    TRY(sql_next(&replay->recorded, row, &more));
    while (more) {
        TRY(link_path(replay, sql_column_text(row, 0)));
        TRY(sql_next(&replay->recorded, row, &more));
    }
    return STATUS_OK;
}

static int make_run(struct replay *replay, const struct scratch *scratch)
{
    char path[FILE_PATH_MAX];
    struct run_store *store;

    TRY(file_join(replay->replayed_run, scratch->directory, "run"));
    TRY(file_make_directories(replay->replayed_run));
    TRY(write_config(replay));
    TRY(link_all(replay));
    TRY(file_join(path, replay->replayed_run, "run.db"));
    TRY(run_store_open(&store, path));
    int status = run_store_copy_run(store, scratch->recorded, replay->stage, replay->from);
    run_store_close(&store);
    return status;
}

/* A run may have gone on with other settings than this stage had. */
static int check_settings(struct replay *replay, const char *const *overrides)
{
    char path[FILE_PATH_MAX];
    struct recipe recipe;
    sqlite3_stmt *row;
    int more, is_same = 0;

    TRY(file_join(path, replay->replayed_run, "config.yaml"));
    TRY(recipe_open(&recipe, path, overrides));
    const struct stage *stage = recipe_find(&recipe, replay->stage);
    int status = sql_ask(&replay->recorded, &row, "SELECT config_hash FROM stage WHERE id = ?",
                         SQL_VALUES(sql_int(replay->stage_id)));
    if (status == STATUS_OK)
        status = sql_next(&replay->recorded, row, &more);
    if (status == STATUS_OK && more) {
        is_same = stage && strcmp(stage->hash, sql_column_text(row, 0)) == 0;
        sql_finish(row);
    }
    recipe_release(&recipe);
    if (status == STATUS_OK && !is_same)
        return status_fail(STATUS_CONFIG, "stage \"%s\" of %s was run with other settings than "
                           "these; replay it without --set, and not after --accept-changes",
                           replay->stage, replay->run);
    return status;
}

static int run_again(struct replay *replay, const struct pipeline_options *given)
{
    static const char *const fixed[] = {"run.endpoint=", "run.save_total_limit=1000000"};
    struct pipeline_options options = *given;
    const char **list;
    char path[FILE_PATH_MAX];
    size_t n = 0;

    while (given->overrides && given->overrides[n])
        n++;
    list = mem_alloc(n + 3, sizeof(*list));
    for (size_t i = 0; i < n; i++)
        list[i] = given->overrides[i];
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        list[n + i] = fixed[i];
    options.overrides = list;
    options.run = replay->replayed_run;
    options.until_step = replay->last;
    int status = check_settings(replay, list);
    replay->has_begun = status == STATUS_OK;
    if (status == STATUS_OK)
        status = pipeline_run(&options);
    mem_free(list);
    if (status == STATUS_INTERRUPTED && !(given->stop && *given->stop))
        status = STATUS_OK;   /* it came to the last step */
    TRY(status);
    TRY(file_join(path, replay->replayed_run, "run.db"));
    return sql_open(&replay->replayed, path, SQL_READ);
}

static int replay_all(struct replay *replay, struct scratch *scratch, struct text *out,
                      const struct pipeline_options *options)
{
    TRY(lock_run(options->run, &scratch->lock));
    TRY(make_scratch(scratch));
    TRY(copy_database(scratch, options->run));
    TRY(sql_open(&replay->recorded, scratch->recorded, SQL_READ));
    TRY(schema_check(&replay->recorded));
    TRY(find_stage(replay));
    TRY(check_steps(replay));
    TRY(find_from(replay));
    TRY(check_ranks(replay, ranks_count(options->ranks)));
    TRY(make_run(replay, scratch));
    TRY(run_again(replay, options));
    return replay_compare(replay, out);
}

int pipeline_replay(struct text *out, const struct pipeline_options *options, int64_t first,
                    int64_t last)
{
    struct replay *replay = mem_alloc(1, sizeof(*replay));
    struct scratch *scratch = mem_alloc(1, sizeof(*scratch));
    char why[1024];

    *replay = (struct replay){.run = options->run, .stage = options->only, .first = first,
                              .last = last};
    scratch->lock = -1;
    int status = replay_all(replay, scratch, out, options);
    snprintf(why, sizeof(why), "%s", status_reason());
    if (!replay->has_begun)
        learner_lead_end(options->ranks);
    sql_close(&replay->recorded);
    sql_close(&replay->replayed);
    if (scratch->directory[0] && file_remove_tree(scratch->directory) < 0)
        log_warning("%s is left behind: %s", scratch->directory, status_reason());
    if (scratch->lock >= 0)
        close(scratch->lock);
    if (status == STATUS_OK && replay->n_different)
        status = status_fail(STATUS_FAILED, "%d of %d things differ; the first: %s",
                             replay->n_different, replay->n_compared, replay->first_difference);
    else if (status < 0)
        status_fail(status, "%s", why);
    mem_free(replay);
    mem_free(scratch);
    return status;
}
