/*
 * cmd/cmd.h - one file per command, one table in main.c. The only folder that prints and exits.
 */
#ifndef HONE_CMD_CMD_H
#define HONE_CMD_CMD_H

#include <stddef.h>

#include "common/memory.h"

#define MAX_POSITIONALS 8
#define MAX_GIVEN 64

struct option_row {
    const char *name;       /* "run": written --run; one letter: -j */
    const char *argument;   /* "DIR", or NULL for a flag */
    const char *help;
};

struct arguments {
    const char *names[MAX_GIVEN], *values[MAX_GIVEN];   /* options as given; a flag's value is "" */
    size_t n;
    const char *positionals[MAX_POSITIONALS];
    size_t n_positionals;
};

struct command {
    const char *name;
    const char *positionals;            /* "[RECIPE.yaml]": for the usage line */
    size_t n_positionals;               /* how many are taken at most */
    const char *summary;                /* one line */
    const char *details;                /* below it in --help; may be NULL */
    const struct option_row *options;   /* ends at name == NULL */
    int (*run)(const struct command *command, const struct arguments *arguments);
};

/* The value of an option, the last one given; NULL when absent. A flag's is "". */
const char *argument_get(const struct arguments *arguments, const char *name);
const char *argument_or(const struct arguments *arguments, const char *name, const char *missing);
/* A whole number in low..high; STATUS_CONFIG with the option's name when it is not. */
int argument_int(const struct arguments *arguments, const char *name, long long missing,
                 long long low, long long high, long long *out);
/* All values of an option that may be repeated, NULL-ended; the caller frees the list. */
const char **argument_all(const struct arguments *arguments, const char *name);

/* Text to stdout; a closed pipe is no error, a full disk is STATUS_IO. */
int print_text(const struct text *text);

/* Set to 1 by SIGINT, SIGTERM and SIGUSR1 once stop_on_signals() was called; the second one ends
 * at once. */
extern _Atomic int stop_requested;
void stop_on_signals(void);

/* Takes a worker's key out of the environment; before anything else is started. Its text is ""
 * where there was none, and after it was forgotten. */
void worker_take_environment(void);
const char *worker_environment_key(void);
void worker_forget_key(void);

/* With the other ranks, if there are any: rank 0 does lead(), the others work for it. */
struct pipeline_options;
int run_in_ranks(struct pipeline_options *pipeline,
                 int (*lead)(const struct pipeline_options *pipeline, void *context),
                 void *context);

/* The path of this executable. */
const char *program_path(void);

extern const struct command command_run, command_stage, command_worker, command_toy, command_init,
    command_plan, command_status, command_log, command_samples, command_lineage, command_diff,
    command_report, command_eval, command_export, command_verify, command_sandbox, command_doctor,
    command_docs, command_tokenizer, command_keys, command_replay;

#endif
