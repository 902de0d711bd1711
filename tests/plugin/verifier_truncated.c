/* Built against a header that ends before destroy: must be refused. */
#include <stddef.h>

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
    (void)task;
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
    .size = offsetof(struct verifier_v1, destroy),
    .flags = 0,
    .name = "truncated",
    .version = "1",
    .help = "Is too old.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
