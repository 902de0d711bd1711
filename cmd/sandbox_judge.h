/*
 * cmd/sandbox_judge.h - hone sandbox judge: a job a line in, a verdict a line out.
 */
#ifndef HONE_CMD_SANDBOX_JUDGE_H
#define HONE_CMD_SANDBOX_JUDGE_H

#include "sandbox/sandbox.h"

/* `n_jobs` at once; verdicts come in order of completion. */
int sandbox_judge_stream(struct judge *judge, size_t n_jobs);

#endif
