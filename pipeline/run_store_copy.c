/* A run.db that stands where a recorded run stood: for `hone replay`. */
#include "common/status.h"
#include "pipeline/run_store_internal.h"

static int copy_rows(struct run_store *store, const char *stage, int64_t step)
{
    static const char *const all[] = {
        "INSERT INTO main.run SELECT * FROM recorded.run",
        "INSERT INTO main.stage SELECT * FROM recorded.stage",
        "INSERT INTO main.dataset SELECT * FROM recorded.dataset",
    };

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        TRY(sql_run_once(&store->sql, all[i]));
    TRY(sql_run(&store->sql,
                "INSERT INTO main.checkpoint SELECT c.* FROM recorded.checkpoint c"
                " JOIN recorded.stage s ON s.id = c.stage_id WHERE s.name != ?1 OR c.step = ?2",
                SQL_VALUES(sql_text(stage), sql_int(step))));
    return sql_run(&store->sql, "UPDATE main.stage SET state = 'interrupted' WHERE name = ?",
                   SQL_VALUES(sql_text(stage)));
}

int run_store_copy_run(struct run_store *store, const char *recorded, const char *stage,
                       int64_t step)
{
    TRY(sql_run(&store->sql, "ATTACH ? AS recorded", SQL_VALUES(sql_text(recorded))));
    int status = sql_begin(&store->sql);
    if (status == STATUS_OK)
        status = sql_end(&store->sql, copy_rows(store, stage, step));
    return status;
}
