/*
 * reward/command_process.h - an executable as a child: lines there, lines back, its stderr logged.
 */
#ifndef HONE_REWARD_COMMAND_PROCESS_H
#define HONE_REWARD_COMMAND_PROCESS_H

#include "common/memory.h"

#define COMMAND_MAX_REPLY ((size_t)1 << 20)

struct command_process;
/* `words` are parted by blanks; the first is looked for in PATH. */
int command_start(struct command_process **out, const char *name, const char *words);
char *const *command_words(const struct command_process *process);   /* NULL-ended; [0] a path */
/* Sends `request`, which ends in a line break, and takes one line back without it. Waits for ever:
 * whoever asked this process has the deadline. When the executable ends, so does this process. */
int command_exchange(struct command_process *process, const struct text *request,
                     struct text *reply);

#endif
