/* hone plan: the graph with its settings, sizes and memory, before anything runs. */
#include "cmd/cmd.h"
#include "common/status.h"
#include "pipeline/pipeline.h"
#include "ranks/ranks.h"

static const struct option_row options[] = {
    {"run", "DIR", "a run whose finished stages are taken into account (default: run)"},
    {"stage", "NAME", "this stage alone"},
    {"set", "S.KEY=V", "override a setting: \"grpo.beta=0\", \"rl:grpo.beta=0\" for one stage"},
    {"ranks", "N", "of N learner ranks (default: as mpirun and its like started this, else 1)"},
    {"strict", NULL, "fail when a file or a model is missing"},
    {"json", NULL, "as JSON, with every setting"},
    {0},
};

static int run(const struct command *command, const struct arguments *arguments)
{
    struct ranks_world world;
    long long n_ranks;

    (void)command;
    TRY(ranks_find_world(&world));
    TRY(argument_int(arguments, "ranks", world.count, 1, RANKS_MAX, &n_ranks));
    if (world.index)   /* the first says it for all */
        return STATUS_OK;
    const char **overrides = argument_all(arguments, "set");
    const struct pipeline_options pipeline = {
        .config = arguments->n_positionals ? arguments->positionals[0] : NULL,
        .run = argument_or(arguments, "run", "run"),
        .overrides = overrides,
        .only = argument_get(arguments, "stage"),
        .n_ranks = (int)n_ranks,
    };
    struct text text = {0};
    int n_missing = pipeline_plan(&text, &pipeline, argument_get(arguments, "json") != NULL);
    int status = n_missing < 0 ? n_missing : print_text(&text);

    text_release(&text);
    mem_free(overrides);
    if (status == STATUS_OK && n_missing > 0 && argument_get(arguments, "strict"))
        status = status_fail(STATUS_IO, "%d missing; see the lines \"missing:\"",
                             n_missing);
    return status;
}

const struct command command_plan = {
    "plan", "[RECIPE.yaml]", 1, "show a recipe's graph, settings, model sizes and memory",
    "Nothing is written and nothing is started. A missing file or model is a line \"missing:\".\n"
    "Without a recipe: the config.yaml of --run.",
    options, run};
