/*
 * A whole verifier as a plugin: right when the completion contains the reference.
 *
 *   cc -shared -fPIC -fvisibility=hidden -I. -o contains.so tests/plugin/verifier_contains.c
 *
 *   reward:
 *     plugins: [./contains.so]
 *     reward_funcs: [accuracy, contains]
 *     options: [contains.miss=0.1]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reward/verifier_abi.h"

/* What create() makes and score() and destroy() get back. */
struct contains {
    double miss;   /* score of a completion without the reference */
};

/* Options come as "key=value" lines. A negative number refuses them, and the run does not start. */
static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    struct contains *contains = calloc(1, sizeof(*contains));
    char line[64] = "";

    if (!contains)
        return -1;
    /* Text is never NUL-ended: copy before a function of string.h reads it. */
    if (options.length >= sizeof(line)) {
        free(contains);
        return -2;
    }
    memcpy(line, options.data, options.length);
    if (line[0] && sscanf(line, "miss=%lf", &contains->miss) != 1) {
        host->log(host->context, 0, "the only option is miss=NUMBER");
        free(contains);
        return -3;
    }
    *state = contains;
    return 0;
}

/* Bytes may be anything, also NUL: memory functions, no string functions. */
static int is_inside(struct verifier_text needle, struct verifier_text hay)
{
    for (uint64_t i = 0; needle.length <= hay.length && i <= hay.length - needle.length; i++)
        if (memcmp(hay.data + i, needle.data, needle.length) == 0)
            return 1;
    return 0;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct contains *contains = state;

    /* Not the completion's fault: an error masks the sample and never counts as wrong. */
    if (task->reference.length == 0) {
        verdict->outcome = VERIFIER_ERROR;
        snprintf(verdict->detail, sizeof(verdict->detail), "the reference is empty");
        return 0;
    }
    if (is_inside(task->reference, task->completion)) {
        verdict->outcome = VERIFIER_RIGHT;
        verdict->score = 1;
        snprintf(verdict->detail, sizeof(verdict->detail), "found");
    } else {
        verdict->outcome = VERIFIER_WRONG;
        verdict->score = contains->miss;
        snprintf(verdict->detail, sizeof(verdict->detail), "not found");
    }
    return 0;
}

static void destroy(void *state)
{
    free(state);
}

/* The one symbol that is exported. */
VERIFIER_EXPORT extern const struct verifier_v1 verifier_plugin_v1;
const struct verifier_v1 verifier_plugin_v1 = {
    .size = sizeof(verifier_plugin_v1),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "contains",
    .version = "1",
    .help = "The completion contains the reference.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
