/* hone docs: the documents that are printed from the tables in the code. */
#include <string.h>

#include "cmd/cmd.h"
#include "common/status.h"
#include "pipeline/pipeline.h"

static const struct option_row options[] = {{0}};

static int run(const struct command *command, const struct arguments *arguments)
{
    const char *what = arguments->n_positionals ? arguments->positionals[0] : "";
    struct text text = {0};

    (void)command;
    if (strcmp(what, "config") == 0)
        pipeline_print_config_markdown(&text);
    else if (strcmp(what, "metrics") == 0)
        metrics_print_markdown(&text);
    else if (strcmp(what, "stages") == 0)
        pipeline_print_stages(&text);
    else
        return status_fail(STATUS_CONFIG, "\"%s\" is no document; it must be config, "
                           "metrics or stages", what);
    int status = print_text(&text);
    text_release(&text);
    return status;
}

const struct command command_docs = {
    "docs", "config|metrics|stages", 1, "print docs/config.md, docs/metrics.md, the stage kinds",
    NULL, options, run};
