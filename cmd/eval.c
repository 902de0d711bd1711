/* hone eval: a checkpoint, or a model folder, on held-out tasks. */
#include "cmd/cmd.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {
    {"run", "DIR", "the run directory (default: run)"},
    {"stage", "NAME", "whose newest checkpoint, and whose settings"},
    {"model", "FOLDER", "evaluate this model folder with the settings of a stage of RECIPE.yaml"},
    {"set", "S.KEY=V", "override a setting: \"eval.n_tasks=500\", \"eval.num_generations=64\""},
    {"json", NULL, "as JSON"},
    {"quiet", NULL, "only warnings and errors beside the table"},
    {0},
};

static int run(const struct command *command, const struct arguments *arguments)
{
    const char **overrides = argument_all(arguments, "set");
    const char *model = argument_get(arguments, "model");
    const struct pipeline_options pipeline = {
        .config = arguments->n_positionals ? arguments->positionals[0] : NULL,
        .run = argument_or(arguments, "run", "run"),
        .overrides = overrides,
        .only = argument_get(arguments, "stage"),
        .program = program_path(),
        .stop = &stop_requested,
    };
    struct text text = {0};
    int status;

    (void)command;
    if (argument_get(arguments, "quiet"))
        log_set_level(LOG_WARNING);
    stop_on_signals();
    status = pipeline_eval(&text, &pipeline, model, argument_get(arguments, "json") != NULL);
    if (status == STATUS_OK)
        status = print_text(&text);
    text_release(&text);
    mem_free(overrides);
    return status;
}

const struct command command_eval = {
    "eval", "[RECIPE.yaml]", 1, "pass@1, pass@k, cons@k on held-out tasks; stores nothing",
    "hone eval --run DIR --stage NAME        the newest checkpoint of a stage\n"
    "hone eval RECIPE.yaml --model FOLDER    a Hugging Face folder\n"
    "k is eval.num_generations. The run itself may go on meanwhile.",
    options, run};
