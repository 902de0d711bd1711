/* hone status, log, samples, lineage, diff, report: what a run's file tells. Read only. */
#include <string.h>

#include "cmd/cmd.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

#define RUN_ROW {"run", "DIR", "the run directory (default: run)"}
#define JSON_ROW {"json", NULL, "as JSON"}

static const char *run_of(const struct arguments *arguments)
{
    return argument_or(arguments, "run", "run");
}

/* Prints what a report appended, unless it failed. */
static int show(int status, struct text *text)
{
    if (status == STATUS_OK)
        status = print_text(text);
    text_release(text);
    return status;
}

static int show_status(const struct command *command, const struct arguments *arguments)
{
    struct text text = {0};

    (void)command;
    const char *run = arguments->n_positionals ? arguments->positionals[0] : run_of(arguments);
    return show(report_status(&text, run, argument_get(arguments, "json") != NULL), &text);
}

static int show_log(const struct command *command, const struct arguments *arguments)
{
    struct text text = {0};
    long long n;

    (void)command;
    TRY(argument_int(arguments, "n", 20, 1, 1LL << 40, &n));
    return show(report_log(&text, run_of(arguments), argument_get(arguments, "stage"),
                           argument_get(arguments, "metrics"), n,
                           argument_get(arguments, "json") != NULL),
                &text);
}

static int check_purpose(const char *purpose)
{
    if (!purpose || !strcmp(purpose, "train") || !strcmp(purpose, "eval") ||
        !strcmp(purpose, "data"))
        return STATUS_OK;
    return status_fail(STATUS_CONFIG, "--purpose is \"%s\"; it must be train, eval or data",
                       purpose);
}

static int show_samples(const struct command *command, const struct arguments *arguments)
{
    struct report_samples_options options = {
        .stage = argument_get(arguments, "stage"),
        .purpose = argument_get(arguments, "purpose"),
        .kind = argument_get(arguments, "kind"),
        .worst = argument_get(arguments, "worst") != NULL,
        .as_json = argument_get(arguments, "json") != NULL,
    };
    struct text text = {0};
    long long step, n;

    (void)command;
    TRY(check_purpose(options.purpose));
    TRY(argument_int(arguments, "step", -1, 0, 1LL << 40, &step));
    TRY(argument_int(arguments, "n", 5, 1, 1000000, &n));
    options.step = step;
    options.n = n;
    return show(report_samples(&text, run_of(arguments), &options), &text);
}

static int show_lineage(const struct command *command, const struct arguments *arguments)
{
    struct text text = {0};

    (void)command;
    return show(report_lineage(&text, run_of(arguments), argument_get(arguments, "stage")), &text);
}

static int show_diff(const struct command *command, const struct arguments *arguments)
{
    const char *run = run_of(arguments);
    struct text text = {0};

    if (arguments->n_positionals != 2)
        return status_fail(STATUS_CONFIG, "name two stages: hone %s rl align --run DIR",
                           command->name);
    return show(report_diff(&text, run, arguments->positionals[0],
                            argument_or(arguments, "with", run), arguments->positionals[1]),
                &text);
}

static int write_svg(const char *run, const char *path)
{
    struct text svg = {0};
    int status = report_curves_svg(&svg, run);

    if (status == STATUS_OK)
        status = file_write_atomic(path, svg.data, svg.length);
    if (status == STATUS_OK)
        log_info("wrote %s", path);
    text_release(&svg);
    return status;
}

static int show_report(const struct command *command, const struct arguments *arguments)
{
    const char *svg = argument_get(arguments, "svg");
    struct text text = {0};

    (void)command;
    TRY(show(report_table(&text, run_of(arguments)), &text));
    return svg ? write_svg(run_of(arguments), svg) : STATUS_OK;
}

static const struct option_row status_options[] = {RUN_ROW, JSON_ROW, {0}};
const struct command command_status = {
    "status", "[DIR]", 1, "the stages of a run: state, steps, figures, who waits for whom",
    "Beside the stages: what the coordinator and each worker are at, since when, and until when\n"
    "they wait. It reads files alone, and works on a run that hangs or is dead, too.",
    status_options, show_status};

static const struct option_row log_options[] = {
    RUN_ROW,
    {"stage", "NAME", "this stage alone (default: all)"},
    {"metrics", "A,B,...", "these metrics (default: the chief ones); docs/metrics.md lists all"},
    {"n", "N", "the last so many steps of each stage (default 20)"},
    JSON_ROW,
    {0}};
const struct command command_log = {
    "log", "", 0, "the metrics of a run, step by step", NULL, log_options, show_log};

static const struct option_row samples_options[] = {
    RUN_ROW,
    {"stage", "NAME", "of this stage (default: the newest that fits)"},
    {"purpose", "P", "train, eval or data (default: any)"},
    {"kind", "KIND", "of tasks of this kind (default: any)"},
    {"step", "N", "of this step (default: the last one)"},
    {"n", "N", "how many (default 5)"},
    {"worst", NULL, "lowest reward first (default: highest first)"},
    JSON_ROW,
    {0}};
const struct command command_samples = {
    "samples", "", 0, "what the model wrote, best or worst first, with every verdict", NULL,
    samples_options, show_samples};

static const struct option_row lineage_options[] = {
    RUN_ROW, {"stage", "NAME", "what this stage comes from (default: all stages)"}, {0}};
const struct command command_lineage = {
    "lineage", "", 0, "which checkpoint and dataset came from which", NULL, lineage_options,
    show_lineage};

static const struct option_row diff_options[] = {
    RUN_ROW, {"with", "DIR", "the run of the second stage (default: the same run)"}, {0}};
const struct command command_diff = {
    "diff", "STAGE STAGE", 2, "two stages beside each other: settings and final metrics", NULL,
    diff_options, show_diff};

static const struct option_row report_options[] = {
    RUN_ROW, {"svg", "FILE", "write the curves there, too"}, {0}};
const struct command command_report = {
    "report", "", 0, "the table of a run: held-out figures of every stage", NULL, report_options,
    show_report};
