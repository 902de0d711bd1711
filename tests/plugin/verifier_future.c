/* Built against a later header, whose struct has grown: must be accepted. */
#include "reward/verifier_abi.h"

struct verifier_v1_later {
    struct verifier_v1 known;
    void (*unknown)(void);
    uint64_t also_unknown[4];
};

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
    verdict->outcome =
        VERIFIER_HAS(task, struct verifier_task, kind) ? VERIFIER_RIGHT : VERIFIER_WRONG;
    verdict->score = 1;
    return 0;
}

static void destroy(void *state)
{
    (void)state;
}

VERIFIER_EXPORT extern const struct verifier_v1_later verifier_plugin_v1;
const struct verifier_v1_later verifier_plugin_v1 = {
    .known = {
        .size = sizeof(struct verifier_v1_later),
        .name = "future",
        .version = "9",
        .help = "Comes from a later version.",
        .create = create,
        .score = score,
        .destroy = destroy,
    },
};
