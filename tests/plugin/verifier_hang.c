/* Hangs when the completion is "hang", else says right. */
#include <string.h>
#include <unistd.h>

#include "reward/verifier_abi.h"

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
    while (task->completion.length == 4 && memcmp(task->completion.data, "hang", 4) == 0)
        pause();
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
    .name = "hang",
    .version = "1",
    .help = "Hangs on demand.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
