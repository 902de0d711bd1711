#include <stdio.h>
#include <string.h>

#include "reward/answer.h"
#include "reward/language.h"
#include "reward/options.h"
#include "reward/reward.h"
#include "reward/verifiers/verifiers.h"

/* language: share of words in the task's language over the reasoning. */

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {NULL};

    (void)host;
    *state = NULL;
    return options_check(options, "language", known);
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    char language[WIRE_NAME_BYTES];
    const char *text = task->completion.data;
    size_t n = task->completion.length;

    (void)state;
    if (!task->language.length)
        return verdict_set(verdict, VERIFIER_RIGHT, 1, "no language is asked for");
    snprintf(language, sizeof(language), "%.*s", (int)task->language.length, task->language.data);
    if (!language_is_known(language))
        return verdict_set(verdict, VERIFIER_ERROR, 0, "language \"%s\" is unknown", language);
    /* Without an end of the reasoning, all of it is reasoning. */
    const char *closed = answer_find_last(text, n, "</think>");
    if (closed)
        n = (size_t)(closed - text);
    return verdict_share(verdict, reward_language_share(text, n, language), "share of words");
}

static void destroy(void *state)
{
    (void)state;
}

const struct verifier_v1 verifier_language = {
    .size = sizeof(verifier_language),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "language",
    .version = "1",
    .help = "Share of the reasoning's words that are in the task's language.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
