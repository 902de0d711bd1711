#include "common/memory.h"
#include "reward/options.h"
#include "reward/verifiers/verifiers.h"

/*
 * soft_overlong: the length penalty of DAPO (arXiv 2503.14476, equation 13), in tokens:
 *   0                                     up to max_length - cache
 *   ((max_length - cache) - n) / cache    from there to max_length
 *   -1                                    beyond
 */
struct soft_overlong {
    double max_length, cache;
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"max_length", "cache", NULL};
    struct soft_overlong wanted = {0, 0};

    (void)host;
    int status = options_check(options, "soft_overlong", known);
    if (status == 0)
        status = options_number(options, "max_length", 1, 1e9, &wanted.max_length);
    wanted.cache = wanted.max_length / 5;   /* as 4,096 of 20,480 in the paper */
    if (status == 0)
        status = options_number(options, "cache", 0, wanted.max_length, &wanted.cache);
    if (status < 0)
        return status;
    struct soft_overlong *kept = mem_alloc(1, sizeof(*kept));
    *kept = wanted;
    *state = kept;
    return 0;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct soft_overlong *wanted = state;
    double n = (double)task->n_tokens, free_length = wanted->max_length - wanted->cache;

    if (wanted->max_length < 1)
        return verdict_set(verdict, VERIFIER_ERROR, 0,
                           "set reward.options: soft_overlong.max_length=TOKENS");
    if (!task->n_tokens)
        return verdict_set(verdict, VERIFIER_ERROR, 0, "the length in tokens is not known");
    if (n <= free_length)
        return verdict_set(verdict, VERIFIER_RIGHT, 0, "%.0f tokens of %.0f", n, free_length);
    return verdict_set(verdict, VERIFIER_WRONG,
                       n > wanted->max_length ? -1 : (free_length - n) / wanted->cache,
                       "%.0f tokens, free are %.0f", n, free_length);
}

static void destroy(void *state)
{
    mem_free(state);
}

const struct verifier_v1 verifier_soft_overlong = {
    .size = sizeof(verifier_soft_overlong),
    .flags = VERIFIER_DETERMINISTIC | VERIFIER_USES_GROUP,
    .name = "soft_overlong",
    .version = "1",
    .help = "A penalty from 0 to -1 for the last tokens before the length limit (DAPO).",
    .create = create,
    .score = score,
    .destroy = destroy,
};
