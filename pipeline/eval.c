/* `hone eval`: a checkpoint on held-out tasks, beside the run and without a trace in it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/internal.h"
#include "pipeline/locate.h"
#include "pipeline/report_internal.h"

#define EVAL_VERSION 1

struct evaluation {
    struct pipeline pipeline;
    struct stage_run run;
    char scratch[FILE_PATH_MAX];     /* socket and the settings that workers read */
    char model[FILE_PATH_MAX];
    int64_t step;                    /* -1: a folder from outside */
    struct metric_list metrics;
    struct sample_group *groups;
    size_t n_groups;
};

static int make_scratch(struct evaluation *evaluation)
{
    const char *base = getenv("TMPDIR");
    struct pipeline *pipeline = &evaluation->pipeline;
    char path[FILE_PATH_MAX];

    /* The path of a socket is short: 107 bytes. */
    base = base && base[0] == '/' && strlen(base) < 64 ? base : "/tmp";
    snprintf(evaluation->scratch, sizeof(evaluation->scratch), "%s/hone-eval-XXXXXX", base);
    if (!mkdtemp(evaluation->scratch)) {
        evaluation->scratch[0] = '\0';
        return status_fail(STATUS_IO, "cannot make a directory in %s: %s", base, strerror(errno));
    }
    TRY(file_join(path, evaluation->scratch, "config.yaml"));
    pipeline->config_path = mem_copy_text(path);
    return file_write_atomic(path, pipeline->recipe.yaml, strlen(pipeline->recipe.yaml));
}

static int open_exchange(struct evaluation *evaluation)
{
    struct pipeline *pipeline = &evaluation->pipeline;
    const struct run_config *run = &pipeline->recipe.run;
    char endpoint[FILE_PATH_MAX + 32];

    snprintf(endpoint, sizeof(endpoint), "ipc://%s/wire.sock", evaluation->scratch);
    const struct exchange_config settings = {
        .endpoint = endpoint,
        .program = pipeline->options.program,
        .config = pipeline->config_path,
        .lease_ms = run->lease_ms,
        .connect_ms = run->connect_ms,
        .silent_ms = run->silent_ms,
        .stuck_ms = run->stuck_ms,
        .max_lease_tries = run->max_lease_tries,
        .stop = pipeline->options.stop,
    };
    return exchange_create(&pipeline->exchange, &settings);
}

/* A stage by name; without a name the last one that has held-out tasks. */
static int choose_stage(struct evaluation *evaluation)
{
    const struct recipe *recipe = &evaluation->pipeline.recipe;
    const char *only = evaluation->pipeline.options.only;

    if (only)
        return locate_stage(recipe, only, &evaluation->run.stage);
    for (size_t i = 0; i < recipe->n_stages; i++)
        if (recipe->stages[i].settings.tasks.heldout[0])
            evaluation->run.stage = &recipe->stages[i];
    return evaluation->run.stage ? STATUS_OK
                                 : status_fail(STATUS_CONFIG, "%s: no stage has tasks.heldout",
                                               recipe->path);
}

static int choose_model(struct evaluation *evaluation, const char *model)
{
    const struct pipeline_options *options = &evaluation->pipeline.options;

    evaluation->step = -1;
    if (model) {
        snprintf(evaluation->model, sizeof(evaluation->model), "%s", model);
        return STATUS_OK;
    }
    if (!options->only)
        return status_fail(STATUS_CONFIG, "name whose checkpoint to evaluate with --stage, or a "
                           "folder with --model");
    TRY(locate_checkpoint(options->run, options->only, evaluation->model, &evaluation->step));
    return checkpoint_verify(evaluation->model, NULL);
}

static int open_stage(struct evaluation *evaluation)
{
    struct stage_run *run = &evaluation->run;
    const struct stage_settings *settings = &run->stage->settings;

    run->pipeline = &evaluation->pipeline;
    run->index = (size_t)(run->stage - evaluation->pipeline.recipe.stages);
    arena_init(&run->arena, STEP_ARENA_BYTES);
    if (!settings->tasks.heldout[0] || !settings->eval.n_tasks)
        return status_fail(STATUS_CONFIG, "stage \"%s\" has no held-out tasks: set tasks.heldout "
                           "and eval.n_tasks", run->stage->name);
    TRY(chat_template_init(&run->chat, settings->tasks.template_name));
    TRY(tokenizer_load(&run->tokenizer, evaluation->model));
    stage_bind_template(run);
    return task_set_open(&run->heldout, settings->tasks.heldout, "", &run->chat,
                         &settings->tasks);
}

static void add_row(struct report_grid *grid, const struct evaluation *evaluation, const char *kind,
                    size_t n_tasks)
{
    static const char *const columns[] = {"pass@1", "pass@", "cons@", "format", "language"};
    long long k = evaluation->run.stage->settings.eval.num_generations;
    char name[METRIC_NAME_BYTES];

    report_grid_cell(grid, kind ? kind : "all");
    report_grid_fixed(grid, (double)n_tasks, 0);
    for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
        size_t n = strlen(columns[i]);
        int has_k = columns[i][n - 1] == '@';
        if (has_k && k == 1)
            continue;
        snprintf(name, sizeof(name), "eval/%s%s%s", kind ? kind : "", kind ? "/" : "", columns[i]);
        if (has_k)
            snprintf(name + strlen(name), sizeof(name) - strlen(name), "%lld", k);
        report_grid_fixed(grid, metric_get(&evaluation->metrics, name), 3);
    }
    snprintf(name, sizeof(name), "eval/%s%smean_length", kind ? kind : "", kind ? "/" : "");
    report_grid_fixed(grid, metric_get(&evaluation->metrics, name), 1);
}

static int is_new_kind(const struct evaluation *evaluation, size_t group)
{
    for (size_t i = 0; i < group; i++)
        if (strcmp(evaluation->groups[i].task.kind, evaluation->groups[group].task.kind) == 0)
            return 0;
    return 1;
}

static size_t count_kind(const struct evaluation *evaluation, const char *kind)
{
    size_t n = 0;

    for (size_t i = 0; i < evaluation->n_groups; i++)
        n += strcmp(evaluation->groups[i].task.kind, kind) == 0;
    return n;
}

static void print_table(struct text *out, const struct evaluation *evaluation)
{
    const struct eval_config *eval = &evaluation->run.stage->settings.eval;
    struct report_grid grid = {.alignment = eval->num_generations > 1 ? "lrrrrrrr" : "lrrrrr"};
    char pass_k[32], cons_k[32];

    snprintf(pass_k, sizeof(pass_k), "pass@%lld", (long long)eval->num_generations);
    snprintf(cons_k, sizeof(cons_k), "cons@%lld", (long long)eval->num_generations);
    text_print(out, "%s, settings of stage %s: %zu held-out tasks, %lld samples each, temperature "
                    "%g, top_p %g\n\n", evaluation->model, evaluation->run.stage->name,
               evaluation->n_groups, (long long)eval->num_generations, eval->temperature,
               eval->top_p);
    report_grid_cell(&grid, "kind");
    report_grid_cell(&grid, "tasks");
    report_grid_cell(&grid, "pass@1");
    if (eval->num_generations > 1) {
        report_grid_cell(&grid, pass_k);
        report_grid_cell(&grid, cons_k);
    }
    report_grid_cell(&grid, "format");
    report_grid_cell(&grid, "language");
    report_grid_cell(&grid, "length");
    add_row(&grid, evaluation, NULL, evaluation->n_groups);
    for (size_t i = 0; i < evaluation->n_groups; i++)
        if (is_new_kind(evaluation, i)) {
            const char *kind = evaluation->groups[i].task.kind;
            add_row(&grid, evaluation, kind, count_kind(evaluation, kind));
        }
    report_grid_print(&grid, out);
}

static void print_json(struct text *out, const struct evaluation *evaluation)
{
    const struct eval_config *eval = &evaluation->run.stage->settings.eval;

    text_print(out, "{\"model\":");
    json_append_string(out, evaluation->model, strlen(evaluation->model));
    text_print(out, ",\"stage\":\"%s\",\"step\":", evaluation->run.stage->name);
    if (evaluation->step >= 0)
        text_print(out, "%lld", (long long)evaluation->step);
    else
        text_print(out, "null");
    text_print(out, ",\"n_tasks\":%zu,\"num_generations\":%lld,\"temperature\":%.9g,\"top_p\":%.9g,"
                    "\"metrics\":{", evaluation->n_groups, (long long)eval->num_generations,
               eval->temperature, eval->top_p);
    for (size_t i = 0; i < evaluation->metrics.n; i++) {
        const struct metric_value *metric = &evaluation->metrics.values[i];
        text_print(out, "%s\"%s\":", i ? "," : "", metric->name);
        report_json_number(out, metric->value);
    }
    text_print(out, "}}\n");
}

static int measure(struct evaluation *evaluation)
{
    struct pipeline *pipeline = &evaluation->pipeline;
    struct stage_run *run = &evaluation->run;

    TRY(ops_create(&pipeline->ops, rollout_devices[pipeline->recipe.run.device],
                   (int)pipeline->recipe.run.threads));
    TRY(make_scratch(evaluation));
    TRY(open_exchange(evaluation));
    TRY(stage_start_workers(run));
    TRY(stage_publish_checkpoint(run, evaluation->model, EVAL_VERSION));
    return evaluate(run, EVAL_VERSION, &evaluation->metrics, &evaluation->groups,
                    &evaluation->n_groups);
}

static void close_evaluation(struct evaluation *evaluation)
{
    struct pipeline *pipeline = &evaluation->pipeline;

    exchange_destroy(&pipeline->exchange);
    stage_close(&evaluation->run);
    weight_share_release(&pipeline->share);
    ops_destroy(&pipeline->ops);
    recipe_release(&pipeline->recipe);
    mem_free(pipeline->config_path);
    if (evaluation->scratch[0] && file_remove_tree(evaluation->scratch) < 0)
        log_warning("%s is left behind: %s", evaluation->scratch, status_reason());
}

int pipeline_eval(struct text *out, const struct pipeline_options *options, const char *model,
                  int as_json)
{
    struct evaluation *evaluation = mem_alloc(1, sizeof(*evaluation));
    struct pipeline *pipeline = &evaluation->pipeline;
    int status;

    pipeline->options = *options;
    pipeline->lock = -1;
    TRY_OUT(locate_recipe(&pipeline->recipe, options->config, options->run, options->overrides));
    TRY_OUT(choose_stage(evaluation));
    TRY_OUT(choose_model(evaluation, model));
    TRY_OUT(open_stage(evaluation));
    TRY_OUT(measure(evaluation));
    if (as_json)
        print_json(out, evaluation);
    else
        print_table(out, evaluation);
out:
    if (status < 0) {
        char why[1024];
        snprintf(why, sizeof(why), "%s", status_reason());
        close_evaluation(evaluation);
        status_fail(status, "%s", why);
    } else {
        close_evaluation(evaluation);
    }
    mem_free(evaluation);
    return status;
}
