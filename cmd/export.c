/* hone export: a stage's dataset or model in the formats that other programs read. */
#include <string.h>

#include "cmd/cmd.h"
#include "common/log.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {
    {"run", "DIR", "the run directory (default: run)"},
    {"stage", "NAME", "whose dataset, model or adapters"},
    {"checkpoint", "N", "of step N, instead of the newest"},
    {"best", NULL, "the checkpoint that run.metric_for_best_model has kept"},
    {"from", "DIR", "a model folder instead of a stage's model"},
    {"out", "PATH", "file (dataset) or directory to make; must not exist"},
    {"format", "chat|prompt", "of a dataset: {\"messages\"} or {\"prompt\", \"completion\"} lines "
                              "(default: chat)"},
    {"dtype", "float32|bfloat16", "of a model's weights (default: as they are, or were trained)"},
    {0},
};

static int choose_checkpoint(const struct arguments *arguments, int64_t *which)
{
    long long step;

    TRY(argument_int(arguments, "checkpoint", CHECKPOINT_NEWEST, 0, INT64_MAX, &step));
    *which = argument_get(arguments, "best") ? CHECKPOINT_BEST : step;
    if (*which == CHECKPOINT_BEST && step != CHECKPOINT_NEWEST)
        return status_fail(STATUS_CONFIG, "--best and --checkpoint are both given; one is wanted");
    return STATUS_OK;
}

static int export_model(const struct arguments *arguments, const char *directory,
                        const char *stage, int64_t which, const char *out)
{
    const char *from = argument_get(arguments, "from"), *dtype = argument_get(arguments, "dtype");

    if (argument_get(arguments, "format"))
        return status_fail(STATUS_CONFIG, "--format is for datasets");
    if (from && stage)
        return status_fail(STATUS_CONFIG, "--from and --stage are both given; one is wanted");
    if (from && which != CHECKPOINT_NEWEST)
        return status_fail(STATUS_CONFIG, "--best and --checkpoint are for stages, not for --from");
    if (from)
        return pipeline_export_folder(from, dtype, out);
    return pipeline_export_model(directory, stage, which, dtype, out);
}

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *what = arguments->n_positionals ? arguments->positionals[0] : "";
    const char *directory = argument_or(arguments, "run", "run");
    const char *stage = argument_get(arguments, "stage"), *out = argument_get(arguments, "out");
    int64_t which;

    (void)command;
    if (strcmp(what, "dataset") && strcmp(what, "model") && strcmp(what, "adapter"))
        return status_fail(STATUS_CONFIG, "\"%s\" cannot be exported; it must be dataset, "
                           "model or adapter", what);
    if (!(stage || argument_get(arguments, "from")) || !out)
        return status_fail(STATUS_CONFIG, "--stage and --out are needed");
    if (strcmp(what, "model") && (!stage || argument_get(arguments, "dtype")))
        return status_fail(STATUS_CONFIG, "--from and --dtype are for models");
    TRY(choose_checkpoint(arguments, &which));
    if (strcmp(what, "dataset") == 0 && which != CHECKPOINT_NEWEST)
        return status_fail(STATUS_CONFIG, "--best and --checkpoint are for models and adapters");
    if (strcmp(what, "model") == 0)
        TRY(export_model(arguments, directory, stage, which, out));
    else if (strcmp(what, "adapter") == 0)
        TRY(pipeline_export_adapter(directory, stage, which, out));
    else
        TRY(pipeline_export_dataset(directory, stage, argument_or(arguments, "format", "chat"),
                                    out));
    log_info("wrote %s", out);
    return STATUS_OK;
}

const struct command command_export = {
    "export", "dataset|model|adapter", 1,
    "a dataset as JSONL, a model as a Hugging Face folder, adapters as PEFT's",
    "A model is checked against its manifest first. Its folder holds config.json,\n"
    "model.safetensors, tokenizer.json, tokenizer_config.json (with the chat template) and\n"
    "generation_config.json; transformers and vLLM load it. With --from it is made of a model\n"
    "folder: weights in several files become one, and --dtype converts them.\n"
    "An adapter is what a stage with lora.r above 0 has trained, for PEFT; a model has it added.\n"
    "A dataset in the format \"chat\" or \"prompt\" is what TRL reads; in the format\n"
    "\"prompt\" the question stands in the stage's template.",
    options, run};
