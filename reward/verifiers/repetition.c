#include "common/memory.h"
#include "reward/options.h"
#include "reward/repetition.h"
#include "reward/verifiers/verifiers.h"

/*
 * repetition: a penalty for sequences of words that were there before:
 *   score = -penalty (1 - distinct / all)    over sequences of n words
 */
struct repetition {
    double n, penalty;
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"n", "penalty", NULL};
    struct repetition wanted = {.n = 3, .penalty = 1};

    (void)host;
    int status = options_check(options, "repetition", known);
    if (status == 0)
        status = options_number(options, "n", 1, REPETITION_MAX_WORDS, &wanted.n);
    if (status == 0)
        status = options_number(options, "penalty", 0, 1, &wanted.penalty);
    if (status < 0)
        return status;
    struct repetition *kept = mem_alloc(1, sizeof(*kept));
    *kept = wanted;
    *state = kept;
    return 0;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct repetition *wanted = state;
    double share = repetition_of_words(task->completion.data, task->completion.length,
                                       (size_t)wanted->n);

    return verdict_set(verdict, share > 0 ? VERIFIER_WRONG : VERIFIER_RIGHT,
                       share > 0 ? -wanted->penalty * share : 0, "repeated %.3f", share);
}

static void destroy(void *state)
{
    mem_free(state);
}

const struct verifier_v1 verifier_repetition = {
    .size = sizeof(verifier_repetition),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "repetition",
    .version = "1",
    .help = "A penalty from 0 to -1: the share of word sequences that were there before.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
