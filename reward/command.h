/*
 * reward/command.h - a verifier that is any executable speaking JSON lines. It runs below the
 * process that isolate.c keeps for a verifier, and is killed with it.
 *
 * One line in, one line out; docs/verifiers.md has the whole of it:
 *   {"hello":1,"name":"judge","options":{..}}   -> {"version":"1","deterministic":true,"help":".."}
 *   {"task_id":1,"question":"..","completion":"..","reference":"..",..}
 *                                               -> {"score":1,"outcome":"right","detail":".."}
 */
#ifndef HONE_REWARD_COMMAND_H
#define HONE_REWARD_COMMAND_H

#include "reward/internal.h"

struct command;

/* Starts "path argument ..." and says hello; fills the description, whose version begins with the
 * digest of the words and of the files that they name. When the executable ends, this process ends
 * the same way. */
int command_open(struct command **out, const char *name, const char *words, const char *options,
                 struct isolate_description *description);
/* Always fills the verdict. Negative: what came back was no verdict, and the process that asks must
 * be started anew, since the next line may belong to this request. */
int command_score(struct command *command, const struct verifier_task *task,
                  struct verifier_verdict *verdict);

#endif
