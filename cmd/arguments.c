/* Reading the command line by a command's table, and printing its help. */
#include "cmd/arguments.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "common/status.h"

static const struct option_row *find_option(const struct command *command, const char *name,
                                            size_t n)
{
    for (const struct option_row *row = command->options; row->name; row++)
        if (strlen(row->name) == n && strncmp(row->name, name, n) == 0)
            return row;
    return NULL;
}

static int unknown_option(const struct command *command, const char *given)
{
    const char *names[MAX_GIVEN];
    size_t n = 0;

    for (const struct option_row *row = command->options; row->name && n < MAX_GIVEN; row++)
        names[n++] = row->name;
    const char *nearest = config_nearest(given + 2, names, n);
    return status_fail(STATUS_CONFIG, "%s: unknown option %s%s%s%s; `hone %s --help` lists them",
                       command->name, given, nearest ? "; did you mean --" : "",
                       nearest ? nearest : "", nearest ? "?" : "", command->name);
}

static const char *dashes(const struct option_row *row)
{
    return row->name[1] ? "--" : "-";
}

static int is_short_option(const struct command *command, const char *given)
{
    return given[0] == '-' && given[1] && given[1] != '-' && find_option(command, given + 1, 1);
}

static int take_option(const struct command *command, struct arguments *out, int *i, int argc,
                       char **argv)
{
    const char *given = argv[*i];
    int is_short = given[1] != '-';   /* "-j 4" or "-j4": a row whose name is one letter */
    size_t n = is_short ? 1 : strcspn(given + 2, "=");
    const struct option_row *row = find_option(command, given + (is_short ? 1 : 2), n);
    const char *rest = given + (is_short ? 1 : 2) + n;
    const char *value = is_short && *rest ? rest : *rest == '=' ? rest + 1 : NULL;

    if (!row)
        return unknown_option(command, given);
    if (out->n == MAX_GIVEN)
        return status_fail(STATUS_CONFIG, "%s: more than %d options", command->name, MAX_GIVEN);
    if (!row->argument && value)
        return status_fail(STATUS_CONFIG, "%s: %s%s takes no value", command->name, dashes(row),
                           row->name);
    if (row->argument && !value) {
        if (*i + 1 >= argc)
            return status_fail(STATUS_CONFIG, "%s: %s%s needs a value: %s", command->name,
                               dashes(row), row->name, row->argument);
        value = argv[++*i];
    }
    out->names[out->n] = row->name;
    out->values[out->n++] = value ? value : "";
    return STATUS_OK;
}

int arguments_parse(const struct command *command, int argc, char **argv, struct arguments *out)
{
    int only_positionals = 0;

    memset(out, 0, sizeof(*out));
    for (int i = 0; i < argc; i++) {
        if (!only_positionals && strcmp(argv[i], "--") == 0) {
            only_positionals = 1;
        } else if (!only_positionals && (strncmp(argv[i], "--", 2) == 0 ||
                                         is_short_option(command, argv[i]))) {
            TRY(take_option(command, out, &i, argc, argv));
        } else if (out->n_positionals == command->n_positionals) {
            return status_fail(STATUS_CONFIG, "%s: unexpected argument \"%s\"; usage: hone %s %s",
                               command->name, argv[i], command->name, command->positionals);
        } else {
            out->positionals[out->n_positionals++] = argv[i];
        }
    }
    return STATUS_OK;
}

void arguments_print_help(const struct command *command, struct text *out)
{
    text_print(out, "usage: hone %s %s%s\n\n%s\n", command->name, command->positionals,
               command->options->name ? " [options]" : "", command->summary);
    if (command->details)
        text_print(out, "\n%s\n", command->details);
    if (command->options->name)
        text_print(out, "\noptions:\n");
    for (const struct option_row *row = command->options; row->name; row++) {
        char left[64];
        snprintf(left, sizeof(left), "%s%s%s%s", dashes(row), row->name, row->argument ? " " : "",
                 row->argument ? row->argument : "");
        text_print(out, "  %-28s %s\n", left, row->help);
    }
}

const char *argument_get(const struct arguments *arguments, const char *name)
{
    for (size_t i = arguments->n; i > 0; i--)
        if (strcmp(arguments->names[i - 1], name) == 0)
            return arguments->values[i - 1];
    return NULL;
}

const char *argument_or(const struct arguments *arguments, const char *name, const char *missing)
{
    const char *value = argument_get(arguments, name);

    return value ? value : missing;
}

int argument_int(const struct arguments *arguments, const char *name, long long missing,
                 long long low, long long high, long long *out)
{
    const char *value = argument_get(arguments, name);
    char *end;

    *out = missing;
    if (!value)
        return STATUS_OK;
    errno = 0;
    *out = strtoll(value, &end, 10);
    if (end == value || *end || errno || *out < low || *out > high)
        return status_fail(STATUS_CONFIG,
                           "%s%s is \"%s\"; it must be a whole number from %lld to %lld",
                           name[1] ? "--" : "-", name, value, low, high);
    return STATUS_OK;
}

const char **argument_all(const struct arguments *arguments, const char *name)
{
    const char **list = mem_alloc(arguments->n + 1, sizeof(*list));
    size_t n = 0;

    for (size_t i = 0; i < arguments->n; i++)
        if (strcmp(arguments->names[i], name) == 0)
            list[n++] = arguments->values[i];
    return list;
}
