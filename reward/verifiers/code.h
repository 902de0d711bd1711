/*
 * reward/verifiers/code.h - what code.c and code_extract.c share.
 */
#ifndef HONE_REWARD_VERIFIERS_CODE_H
#define HONE_REWARD_VERIFIERS_CODE_H

#include "reward/verifier_abi.h"

/* The values of code.extract. */
enum code_extract {
    CODE_TAGGED,   /* a fenced block, else what an answer tag holds */
    CODE_FENCED,   /* a fenced block that names the language or none */
    CODE_NAMED     /* a fenced block that names the language */
};

/* The candidate's source, borrowed from the completion: NULL, or why there is none. `language` is
 * its place in the judge's table. */
const char *code_find_source(const struct verifier_task *task, int language,
                             enum code_extract extract, struct verifier_text *out);

#endif
