#include <string.h>

#include "reward/answer.h"
#include "reward/options.h"
#include "reward/verifiers/verifiers.h"

/* exact: the extracted answer is the reference, byte for byte but for blanks at both ends. */

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {NULL};

    (void)host;
    *state = NULL;
    return options_check(options, "exact", known);
}

static struct verifier_text trim(struct verifier_text text)
{
    static const char blanks[] = " \t\r\n\v\f";

    while (text.length && memchr(blanks, text.data[0], sizeof(blanks) - 1))
        text.data++, text.length--;
    while (text.length && memchr(blanks, text.data[text.length - 1], sizeof(blanks) - 1))
        text.length--;
    return text;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    struct verifier_text wanted = trim(task->reference);
    struct answer answer;

    (void)state;
    if (!wanted.length)
        return verdict_set(verdict, VERIFIER_ERROR, 0, "reference is empty");
    answer_find(&answer, task);
    if (answer.source == ANSWER_NONE)
        verdict_set(verdict, VERIFIER_UNREADABLE, 0, "%s", answer.why_none);
    else if (answer.text.length == wanted.length &&
             memcmp(answer.text.data, wanted.data, wanted.length) == 0)
        verdict_set(verdict, VERIFIER_RIGHT, 1, "equal");
    else
        verdict_set(verdict, VERIFIER_WRONG, 0, "answer \"%.60s\"", answer.text.data);
    answer_release(&answer);
    return 0;
}

static void destroy(void *state)
{
    (void)state;
}

const struct verifier_v1 verifier_exact = {
    .size = sizeof(verifier_exact),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "exact",
    .version = "1",
    .help = "The extracted answer equals the reference as text.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
