/* hone: the table of commands, and the one place that exits. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/arguments.h"
#include "common/config.h"
#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "common/version.h"
#include "pipeline/pipeline.h"

static const struct command *const commands[] = {
    &command_init,   &command_plan,    &command_run,    &command_status,  &command_log,
    &command_samples, &command_lineage, &command_diff,   &command_report,  &command_eval,
    &command_replay, &command_export, &command_verify,  &command_sandbox, &command_doctor,
    &command_toy,    &command_tokenizer, &command_worker, &command_keys, &command_docs, NULL};

_Atomic int stop_requested;

static void note_signal(int number)
{
    if (stop_requested)
        _exit(128 + number);
    stop_requested = 1;
}

void stop_on_signals(void)
{
    struct sigaction action = {.sa_handler = note_signal};

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);   /* mpirun passes it on, and gives time */
}

const char *program_path(void)
{
    static char path[FILE_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    path[n > 0 ? n : 0] = '\0';
    return path;
}

int print_text(const struct text *text)
{
    if (text->length && fwrite(text->data, 1, text->length, stdout) != text->length &&
        errno != EPIPE)
        return status_fail(STATUS_IO, "cannot write to standard output: %s", strerror(errno));
    if (fflush(stdout) && errno != EPIPE)
        return status_fail(STATUS_IO, "cannot write to standard output: %s", strerror(errno));
    return STATUS_OK;
}

static void print_usage(FILE *out)
{
    fprintf(out, "hone %s: from a base model to a reasoning model, the DeepSeek-R1 way\n\n"
            "usage: hone COMMAND ...      `hone COMMAND --help` tells more\n\n", hone_version);
    for (const struct command *const *command = commands; *command; command++)
        fprintf(out, "  %-10s %s\n", (*command)->name, (*command)->summary);
    fprintf(out, "\nOne stage kind of a recipe: hone base|zero|coldstart|rl|reject|align|distill|"
            "distill_rl|student_rl\n(`hone help stages` says what each does), with the options of "
            "`hone run`.\n");
}

static int help(int argc, char **argv)
{
    if (argc > 0 && strcmp(argv[0], "stages") == 0) {
        struct text text = {0};
        pipeline_print_stages(&text);
        int status = print_text(&text);
        text_release(&text);
        return status_exit_code(status);
    }
    print_usage(stdout);
    return 0;
}

static const struct command *find_command(const char *name)
{
    for (const struct command *const *command = commands; *command; command++)
        if (strcmp((*command)->name, name) == 0)
            return *command;
    return pipeline_is_stage_kind(name) ? &command_stage : NULL;
}

static int unknown_command(const char *name)
{
    const char *names[64];
    size_t n = 0;

    for (const struct command *const *command = commands; *command; command++)
        names[n++] = (*command)->name;
    const char *nearest = config_nearest(name, names, n);
    fprintf(stderr, "hone: unknown command \"%s\"%s%s%s; `hone help` lists them\n", name,
            nearest ? "; did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return status_exit_code(STATUS_CONFIG);
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct command named = *command;
    struct arguments arguments;

    named.name = argv[0];   /* a stage kind is a name of command_stage */
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            struct text text = {0};
            arguments_print_help(&named, &text);
            int printed = print_text(&text);
            text_release(&text);
            return status_exit_code(printed);
        }
    int status = arguments_parse(&named, argc - 1, argv + 1, &arguments);
    if (status == STATUS_OK)
        status = named.run(&named, &arguments);
    if (status < 0)
        fprintf(stderr, "hone: %s\n", status_reason());
    return status_exit_code(status);
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    worker_take_environment();
    signal(SIGXFSZ, SIG_IGN);   /* a write beyond the limit fails like any other */
    if (argc < 2) {
        print_usage(stderr);
        return status_exit_code(STATUS_CONFIG);
    }
    if (strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0)
        return help(argc - 2, argv + 2);
    if (strcmp(argv[1], "--version") == 0) {
        printf("hone %s\n", hone_version);
        return 0;
    }
    const struct command *command = find_command(argv[1]);
    if (!command)
        return unknown_command(argv[1]);
    return run_command(command, argc - 1, argv + 1);
}
