/*
 * reward/verifiers/verifiers.h - the built-in verifiers. Each is one file and one row of the table
 * in registry.c.
 */
#ifndef HONE_REWARD_VERIFIERS_H
#define HONE_REWARD_VERIFIERS_H

#include "reward/verifier_abi.h"

extern const struct verifier_v1 verifier_math;
extern const struct verifier_v1 verifier_countdown;
extern const struct verifier_v1 verifier_code;
extern const struct verifier_v1 verifier_exact;
extern const struct verifier_v1 verifier_format;
extern const struct verifier_v1 verifier_language;
extern const struct verifier_v1 verifier_preference;
extern const struct verifier_v1 verifier_repetition;
extern const struct verifier_v1 verifier_soft_overlong;
extern const struct verifier_v1 verifier_kimi_length;

/* Outcome, score and detail in one line of code; returns 0, as score() does. */
int32_t verdict_set(struct verifier_verdict *verdict, enum verifier_outcome outcome, double score,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* RIGHT for a full share, WRONG below it: for verifiers that measure. */
int32_t verdict_share(struct verifier_verdict *verdict, double share, const char *what);

#endif
