#include "pipeline/pipeline.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/log.h"
#include "common/status.h"
#include "common/trust.h"
#include "common/version.h"
#include "pipeline/internal.h"
#include "pipeline/setup.h"

static int open_recipe(struct pipeline *pipeline)
{
    char path[FILE_PATH_MAX];

    if (pipeline->options.config)
        return recipe_open(&pipeline->recipe, pipeline->options.config,
                           pipeline->options.overrides);
    TRY(file_join(path, pipeline->options.run, "config.yaml"));
    if (!file_exists(path))
        return status_fail(STATUS_IO,
                           "%s is no run directory (it has no config.yaml); name a recipe: "
                           "hone run RECIPE.yaml --run %s",
                           pipeline->options.run, pipeline->options.run);
    return recipe_open(&pipeline->recipe, path, pipeline->options.overrides);
}

/* One coordinator per run directory: two would write the same checkpoints. */
static int lock_run(struct pipeline *pipeline)
{
    char path[FILE_PATH_MAX];

    TRY(trust_check_directory(pipeline->options.run, "run"));
    TRY(file_make_directories(pipeline->options.run));
    TRY(file_join(path, pipeline->options.run, "lock"));
    pipeline->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (pipeline->lock < 0)
        return status_fail(STATUS_IO, "cannot open %s: %s", path, strerror(errno));
    if (flock(pipeline->lock, LOCK_EX | LOCK_NB))
        return status_fail(STATUS_IO, "%s is in use by another hone; wait for it, or use another "
                           "--run", pipeline->options.run);
    return STATUS_OK;
}

static int is_wanted(const struct pipeline *pipeline, const struct stage *stage)
{
    const struct pipeline_options *options = &pipeline->options;

    return (!options->only || strcmp(options->only, stage->name) == 0) &&
           (!options->kind || strcmp(options->kind, stage->kind->name) == 0);
}

/* A stage is made again when its checkpoint was removed and it is asked for by name, and when its
 * checkpoint is damaged and that shall not stop the run. */
static int is_to_be_run(const struct pipeline *pipeline, const struct stage *stage, int *is_to_be)
{
    const struct pipeline_options *options = &pipeline->options;
    enum stage_state state;
    int has_checkpoint = 1;

    TRY(run_store_stage_state(pipeline->store, stage->name, &state));
    if (options->only || options->skip_damaged)
        TRY(stage_has_checkpoint(pipeline, stage->name, &has_checkpoint));
    *is_to_be = state != STAGE_DONE || !has_checkpoint;
    return STATUS_OK;
}

static int find_out_if_finished(struct pipeline *pipeline)
{
    const struct recipe *recipe = &pipeline->recipe;
    int is_to_be = 0, n_wanted = 0;

    for (size_t i = 0; i < recipe->n_stages && !is_to_be; i++) {
        if (!is_wanted(pipeline, &recipe->stages[i]))
            continue;
        n_wanted++;
        TRY(is_to_be_run(pipeline, &recipe->stages[i], &is_to_be));
    }
    pipeline->is_finished = n_wanted && !is_to_be;
    return STATUS_OK;
}

static int open_store(struct pipeline *pipeline)
{
    char path[FILE_PATH_MAX], data[DIGEST_HEX_BYTES], templates[DIGEST_HEX_BYTES];
    const struct recipe *recipe = &pipeline->recipe;

    TRY(setup_hash_data(recipe, data));
    TRY(setup_hash_templates(recipe, templates));
    TRY(file_join(path, pipeline->options.run, "run.db"));
    TRY(run_store_open(&pipeline->store, path));
    const struct run_info info = {
        .name = recipe->run.name,
        .code_version = hone_version,
        .config_yaml = recipe->yaml,
        .config_hash = recipe->hash,
        .data_hash = data,
        .template_hash = templates,
        .seed = (uint64_t)recipe->run.seed,
    };
    TRY(find_out_if_finished(pipeline));
    if (pipeline->is_finished)
        return run_store_check_run(pipeline->store, &info, pipeline->options.accept_changes);
    TRY(run_store_begin_run(pipeline->store, &info, pipeline->options.accept_changes));
    TRY(file_join(path, pipeline->options.run, "config.yaml"));
    return file_write_atomic(path, recipe->yaml, strlen(recipe->yaml));
}

static int open_exchange(struct pipeline *pipeline)
{
    const struct run_config *run = &pipeline->recipe.run;
    char config[FILE_PATH_MAX], endpoint[FILE_PATH_MAX], worker_key[FILE_PATH_MAX];
    struct wire_keys keys;

    TRY(file_join(config, pipeline->options.run, "config.yaml"));
    pipeline->config_path = mem_copy_text(config);
    if (run->endpoint[0])
        snprintf(endpoint, sizeof(endpoint), "%s", run->endpoint);
    else
        TRY(setup_endpoint(pipeline->options.run, "wire.sock", endpoint));
    TRY(setup_keys(run, pipeline->options.run, endpoint, &keys, worker_key));
    const struct exchange_config settings = {
        .endpoint = endpoint,
        .keys = &keys,
        .worker_key = worker_key,
        .program = pipeline->options.program,
        .config = pipeline->config_path,
        .lease_ms = run->lease_ms,
        .connect_ms = run->connect_ms,
        .silent_ms = run->silent_ms,
        .stuck_ms = run->stuck_ms,
        .max_lease_tries = run->max_lease_tries,
        .directory = pipeline->options.run,
        .stop = pipeline->options.stop,
    };
    int status = exchange_create(&pipeline->exchange, &settings);
    wire_keys_forget(&keys);
    return status;
}

/* This rank's, and then the others'. */
static int open_device(struct pipeline *pipeline)
{
    const struct run_config *run = &pipeline->recipe.run;
    struct ranks *ranks = pipeline->options.ranks;
    const char *device = rollout_devices[run->device];

    TRY(ranks_open_device(ranks, &pipeline->ops, device, run->threads));
    if (ranks)
        log_info("%d ranks: %s, rank 0 on %s", ranks_count(ranks), ranks_describe(ranks),
                 ops_name(pipeline->ops));
    return learner_lead(ranks, device, run->threads, run->rank_timeout_ms);
}

/* From state.json: of the exchange itself a thread that is stuck may be the owner. */
static void describe_waits(struct text *out, const void *pipeline)
{
    const struct pipeline *own = pipeline;

    if (report_state(out, own->options.run, 0, 1) < 0)
        text_print(out, "%s\n", status_reason());
}

static int start_watchdog(struct pipeline *pipeline)
{
    TRY(file_join(pipeline->stuck_path, pipeline->options.run, STUCK_FILE));
    pipeline->watchdog_options = (struct watchdog_options){
        .stuck_ms = pipeline->recipe.run.stuck_ms,
        .setting = "run.stuck_ms",
        .report = pipeline->stuck_path,
        .describe = describe_waits,
        .context = pipeline,
    };
    return watchdog_start(&pipeline->watchdog, &pipeline->watchdog_options);
}

int pipeline_open(struct pipeline *pipeline, const struct pipeline_options *options)
{
    memset(pipeline, 0, sizeof(*pipeline));
    pipeline->options = *options;
    pipeline->lock = -1;
    TRY(open_recipe(pipeline));
    /* Before anything is written: a recipe that cannot run leaves no trace. */
    TRY(setup_check_limits(&pipeline->recipe));
    TRY(setup_check(&pipeline->recipe, options->only, options->kind));
    TRY(lock_run(pipeline));
    TRY(start_watchdog(pipeline));
    TRY(open_store(pipeline));
    TRY(open_exchange(pipeline));
    return open_device(pipeline);
}

/* What fails here, such as a message to a worker that is gone, is not why the run ends. */
void pipeline_close(struct pipeline *pipeline)
{
    char why[1024];

    snprintf(why, sizeof(why), "%s", status_reason());
    learner_lead_end(pipeline->options.ranks);
    exchange_destroy(&pipeline->exchange);
    weight_share_release(&pipeline->share);
    ops_destroy(&pipeline->ops);
    run_store_close(&pipeline->store);
    watchdog_stop(&pipeline->watchdog);
    recipe_release(&pipeline->recipe);
    mem_free(pipeline->config_path);
    if (pipeline->lock >= 0)
        close(pipeline->lock);
    status_fail(STATUS_FAILED, "%s", why);
}

static enum stage_state state_of(int status)
{
    return status == STATUS_OK ? STAGE_DONE
           : status == STATUS_INTERRUPTED ? STAGE_INTERRUPTED
                                          : STAGE_FAILED;
}

static int run_stage(struct pipeline *pipeline, size_t index)
{
    struct stage_run run = {.pipeline = pipeline,
                            .stage = &pipeline->recipe.stages[index],
                            .index = index};
    double started = clock_seconds();
    char why[512];

    TRY(run_store_begin_stage(pipeline->store, run.stage->name, run.stage->kind->name,
                              run.stage->yaml, run.stage->hash, &run.id));
    int status = stage_open(&run);
    if (status == STATUS_OK)
        status = run.stage->kind->run(&run);
    stage_close(&run);
    snprintf(why, sizeof(why), "%s", status < 0 ? status_reason() : "");
    int ended = run_store_end_stage(pipeline->store, run.id, state_of(status), why,
                                    clock_seconds() - started);
    if (status < 0)
        return status_fail(status, "stage %s: %s", run.stage->name, why);
    log_info("stage %s is done in %.0f s", run.stage->name, clock_seconds() - started);
    return ended;
}

static int run_stages(struct pipeline *pipeline)
{
    const struct recipe *recipe = &pipeline->recipe;
    int n_wanted = 0;

    for (size_t i = 0; i < recipe->n_stages; i++) {
        const struct stage *stage = &recipe->stages[i];
        int is_to_be;
        if (!is_wanted(pipeline, stage))
            continue;
        n_wanted++;
        TRY(is_to_be_run(pipeline, stage, &is_to_be));
        if (!is_to_be) {
            log_info("stage %s is done already", stage->name);
            continue;
        }
        TRY(setup_check_parents(pipeline, stage));
        TRY(run_stage(pipeline, i));
    }
    if (!n_wanted)
        return status_fail(STATUS_CONFIG, "the recipe has no stage %s \"%s\"",
                           pipeline->options.only ? "named" : "of kind",
                           pipeline->options.only ? pipeline->options.only
                                                  : pipeline->options.kind);
    return STATUS_OK;
}

static int write_curves(const struct pipeline *pipeline)
{
    char path[FILE_PATH_MAX];
    struct text svg = {0};
    int status;

    TRY(file_join(path, pipeline->options.run, "curves.svg"));
    status = report_curves_svg(&svg, pipeline->options.run);
    if (status == STATUS_OK)
        status = file_write_atomic(path, svg.data, svg.length);
    text_release(&svg);
    return status;
}

int pipeline_run(const struct pipeline_options *options)
{
    struct pipeline pipeline;
    char why[1024];
    int status = pipeline_open(&pipeline, options);

    if (status == STATUS_OK) {
        status = run_stages(&pipeline);
        snprintf(why, sizeof(why), "%s", status_reason());
        if (!pipeline.is_finished && write_curves(&pipeline) < 0)
            log_warning("no curves: %s", status_reason());
        if (status < 0)
            status_fail(status, "%s", why);
    }
    pipeline_close(&pipeline);
    return status;
}
