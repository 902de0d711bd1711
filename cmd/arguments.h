/* cmd/arguments.h - the reader behind struct arguments; for main.c. */
#ifndef HONE_CMD_ARGUMENTS_H
#define HONE_CMD_ARGUMENTS_H

#include "cmd/cmd.h"

int arguments_parse(const struct command *command, int argc, char **argv, struct arguments *out);
void arguments_print_help(const struct command *command, struct text *out);

#endif
