/* hone run, and one command per stage kind: hone zero, hone rl, ... */
#include <stdio.h>
#include <string.h>

#include "cmd/cmd.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {
    {"run", "DIR", "the run directory; made when absent, gone on with when there (default: run)"},
    {"stage", "NAME", "only this stage of the recipe"},
    {"set", "S.KEY=V",
     "override a setting, \"grpo.beta=0.01\"; \"rl:grpo.beta=0.01\" for one stage"},
    {"accept-changes", NULL, "go on with a run although the recipe has changed"},
    {"skip-damaged", NULL, "leave damaged checkpoints behind and go on from the newest whole ones"},
    {"json", NULL, "log lines as JSON"},
    {"quiet", NULL, "only warnings and errors"},
    {0},
};

static void say_how_to_go_on(const char *run)
{
    log_info("go on with: hone run --run %s", run);
}

static int lead(const struct pipeline_options *pipeline, void *context)
{
    struct text table = {0};

    (void)context;
    int status = pipeline_run(pipeline);
    if (status == STATUS_INTERRUPTED)
        say_how_to_go_on(pipeline->run);
    if (status == STATUS_OK && report_table(&table, pipeline->run) == STATUS_OK)
        status = print_text(&table);
    text_release(&table);
    return status;
}

static int run_pipeline(const struct arguments *arguments, const char *kind)
{
    const char **overrides = argument_all(arguments, "set");
    struct pipeline_options pipeline = {
        .config = arguments->n_positionals ? arguments->positionals[0] : NULL,
        .run = argument_or(arguments, "run", "run"),
        .overrides = overrides,
        .only = argument_get(arguments, "stage"),
        .kind = kind,
        .program = program_path(),
        .accept_changes = argument_get(arguments, "accept-changes") != NULL,
        .skip_damaged = argument_get(arguments, "skip-damaged") != NULL,
        .stop = &stop_requested,
    };

    log_set_json(argument_get(arguments, "json") != NULL);
    if (argument_get(arguments, "quiet"))
        log_set_level(LOG_WARNING);
    stop_on_signals();
    int status = run_in_ranks(&pipeline, lead, NULL);
    mem_free(overrides);
    return status;
}

static int run_all(const struct command *command, const struct arguments *arguments)
{
    (void)command;
    return run_pipeline(arguments, NULL);
}

static int run_kind(const struct command *command, const struct arguments *arguments)
{
    return run_pipeline(arguments, command->name);
}

const struct command command_run = {
    "run", "[RECIPE.yaml]", 1, "run a recipe, or go on with a run: learner and coordinator",
    "Starts the rollout and reward workers that the recipe asks for, walks its stages and stores\n"
    "everything in the run directory. Ctrl-C saves a checkpoint; the same command goes on.",
    options, run_all};

const struct command command_stage = {
    "stage", "[RECIPE.yaml]", 1, "run the recipe's stages of this kind; their parents must be done",
    NULL, options, run_kind};
