/* hone replay: recorded steps once more, compared byte by byte. */
#include "cmd/cmd.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {
    {"stage", "NAME", "whose step"},
    {"step", "N", "the step, from 1"},
    {"to", "M", "go on to this step (default: N alone), as to the next checkpoint"},
    {"set", "S.KEY=V", "another number of workers or threads; what changes results is refused"},
    {"quiet", NULL, "only warnings and errors beside the table"},
    {0},
};

struct steps {
    long long first, last;
};

static int lead(const struct pipeline_options *pipeline, void *context)
{
    const struct steps *steps = context;
    struct text text = {0};

    int status = pipeline_replay(&text, pipeline, steps->first, steps->last);
    int printed = print_text(&text);
    text_release(&text);
    return status < 0 ? status : printed;
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *stage = argument_get(arguments, "stage");
    struct steps steps;

    (void)command;
    TRY(argument_int(arguments, "step", 0, 1, 100000000, &steps.first));
    TRY(argument_int(arguments, "to", steps.first, 1, 100000000, &steps.last));
    if (!arguments->n_positionals || !stage || !steps.first || steps.last < steps.first)
        return status_fail(STATUS_CONFIG, "say what is replayed: hone replay RUN --stage NAME "
                           "--step N [--to M], with M not before N");
    if (argument_get(arguments, "quiet"))
        log_set_level(LOG_WARNING);
    stop_on_signals();
    const char **overrides = argument_all(arguments, "set");
    struct pipeline_options pipeline = {
        .run = arguments->positionals[0],
        .overrides = overrides,
        .only = stage,
        .program = program_path(),
        .stop = &stop_requested,
        .is_replay = 1,
    };
    int status = run_in_ranks(&pipeline, lead, &steps);
    mem_free(overrides);
    return status;
}

const struct command command_replay = {
    "replay", "RUN", 1, "run a recorded step again and compare every byte; the run stays untouched",
    "Begins with the newest checkpoint before the step, or with the stage, in a directory of its\n"
    "own below TMPDIR. Compares samples (tokens, log-probabilities, rewards, advantages), scores,\n"
    "metrics but those by a clock, and weights and moments where both have a checkpoint. Steps of\n"
    "several ranks want as many: mpirun -n N hone replay ...",
    options, run};
