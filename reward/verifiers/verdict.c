#include <stdarg.h>
#include <stdio.h>

#include "reward/verifiers/verifiers.h"

int32_t verdict_set(struct verifier_verdict *verdict, enum verifier_outcome outcome, double score,
                    const char *format, ...)
{
    va_list arguments;

    verdict->outcome = outcome;
    verdict->score = score;
    va_start(arguments, format);
    vsnprintf(verdict->detail, sizeof(verdict->detail), format, arguments);
    va_end(arguments);
    return 0;
}

int32_t verdict_share(struct verifier_verdict *verdict, double share, const char *what)
{
    return verdict_set(verdict, share >= 1 ? VERIFIER_RIGHT : VERIFIER_WRONG, share, "%s %.3f",
                       what, share);
}
