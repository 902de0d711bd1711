/* Crashes when the completion is "crash", exits when it is "exit", else says right. */
#include <string.h>
#include <stdlib.h>

#include "reward/verifier_abi.h"

static volatile uintptr_t nowhere = 16;

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    (void)host;
    (void)options;
    *state = NULL;
    return 0;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    (void)state;
    /* An address that is never mapped, and that no sanitizer takes for a null pointer. */
    if (task->completion.length == 5 && memcmp(task->completion.data, "crash", 5) == 0)
        *(volatile int *)nowhere = 1;
    if (task->completion.length == 4 && memcmp(task->completion.data, "exit", 4) == 0)
        _Exit(7);
    verdict->outcome = VERIFIER_RIGHT;
    verdict->score = 1;
    return 0;
}

static void destroy(void *state)
{
    (void)state;
}

VERIFIER_EXPORT extern const struct verifier_v1 verifier_plugin_v1;
const struct verifier_v1 verifier_plugin_v1 = {
    .size = sizeof(verifier_plugin_v1),
    .flags = 0,
    .name = "crash",
    .version = "1",
    .help = "Crashes on demand.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
