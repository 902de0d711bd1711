/* hone toy: writes the small world that the demo learns. */
#include "cmd/cmd.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "tasks/tasks.h"

static const struct option_row options[] = {
    {"seed", "N", "seed; the files are a function of the options alone (default 1)"},
    {"documents", "N", "documents of pre-training text (default 60000)"},
    {"train", "N", "training tasks (default 4000)"},
    {"heldout", "N", "held-out tasks, none of which occurs in the text (default 400)"},
    {"general", "N", "conversations of general data (default 600)"},
    {0},
};

static int run(const struct command *command, const struct arguments *arguments)
{
    struct toy_options toy;
    long long seed, documents, train, heldout, general;

    (void)command;
    if (!arguments->n_positionals)
        return status_fail(STATUS_CONFIG, "toy: name the directory to write");
    TRY(argument_int(arguments, "seed", 1, 0, 1LL << 62, &seed));
    TRY(argument_int(arguments, "documents", 60000, 1, 100000000, &documents));
    TRY(argument_int(arguments, "train", 4000, 1, 10000000, &train));
    TRY(argument_int(arguments, "heldout", 400, 1, 2000, &heldout));
    TRY(argument_int(arguments, "general", 600, 1, 10000000, &general));
    toy = (struct toy_options){(uint64_t)seed, documents, train, heldout, general};
    TRY(file_make_directories(arguments->positionals[0]));
    TRY(toy_world_write(arguments->positionals[0], &toy));
    log_info("wrote %s: pretrain.jsonl (%lld documents), train.jsonl (%lld tasks), heldout.jsonl "
             "(%lld), general.jsonl (%lld), tokenizer.json", arguments->positionals[0], documents,
             train, heldout, general);
    return STATUS_OK;
}

const struct command command_toy = {
    "toy", "DIR", 1, "write the small world that the demo learns: text, tasks, tokenizer",
    "Kinds: chain (sums modulo 10), search (make a target from three numbers), code (a C function\n"
    "from examples), fact. tasks/README.md describes them.",
    options, run};
