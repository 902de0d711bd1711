/* What the maths verifier says beside its outcome, for metrics and `hone verify`. */
#include <string.h>

#include "math/math.h"
#include "reward/reward.h"

struct path {
    const char *text, *key;
};

static const struct path paths[] = {
#define X(name, text, key, right) {text, key},
    MATH_OUTCOME_MAP(X)
#undef X
};

_Static_assert(sizeof(paths) / sizeof(paths[0]) == REWARD_N_PATHS,
               "a new outcome of math/ is a new metric: pipeline/metrics.c");

const char *reward_path_key(size_t i)
{
    return i < REWARD_N_PATHS ? paths[i].key : NULL;
}

int reward_path_of(const struct task *task, const char *term, const struct score *score)
{
    const char *verifier = strcmp(term, "accuracy") == 0 ? task->verifier : term;

    if (strcmp(verifier, "math") != 0)
        return -1;
    for (int i = 0; i < REWARD_N_PATHS; i++) {
        size_t n = strlen(paths[i].text);
        if (strncmp(score->detail, paths[i].text, n) == 0 &&
            (score->detail[n] == '\0' || score->detail[n] == ':'))
            return i;
    }
    return -1;
}

int reward_reference_is_solution(const char *reference, size_t n)
{
    return memmem(reference, n, "####", 4) || memmem(reference, n, "\\boxed", 6);
}
