#include "reward/options.h"
#include "reward/verifiers/verifiers.h"

/*
 * kimi_length: shorter than the other completions of the task (Kimi k1.5, arXiv 2501.12599,
 * section 2.3.3):
 *   lambda = 0.5 - (n - min) / (max - min)    over the lengths in tokens of the group
 *   score  = lambda when the accuracy is right, min(0, lambda) when not; 0 when max = min
 */
static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {NULL};

    (void)host;
    *state = NULL;
    return options_check(options, "kimi_length", known);
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    uint64_t least = task->group_min_tokens, most = task->group_max_tokens, n = task->n_tokens;
    double lambda = 0;

    (void)state;
    if (!n || n < least || n > most)
        return verdict_set(verdict, VERIFIER_ERROR, 0, "the lengths of the group are not known");
    if (task->accuracy == VERIFIER_ERROR)
        return verdict_set(verdict, VERIFIER_ERROR, 0, "the accuracy has no verdict");
    if (most > least)
        lambda = 0.5 - (double)(n - least) / (double)(most - least);
    if (task->accuracy != VERIFIER_RIGHT && lambda > 0)
        lambda = 0;
    return verdict_set(verdict, lambda >= 0 ? VERIFIER_RIGHT : VERIFIER_WRONG, lambda,
                       "%llu tokens, the group has %llu to %llu", (unsigned long long)n,
                       (unsigned long long)least, (unsigned long long)most);
}

static void destroy(void *state)
{
    (void)state;
}

const struct verifier_v1 verifier_kimi_length = {
    .size = sizeof(verifier_kimi_length),
    .flags = VERIFIER_DETERMINISTIC | VERIFIER_USES_GROUP,
    .name = "kimi_length",
    .version = "1",
    .help = "From 0.5 to -0.5 by the length within the group; no bonus for a wrong answer (Kimi).",
    .create = create,
    .score = score,
    .destroy = destroy,
};
