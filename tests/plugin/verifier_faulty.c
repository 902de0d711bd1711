/*
 * Fails on one completion in three, by its length: option how=crash, how=exit or how=hang. Says
 * right on the others.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reward/verifier_abi.h"

enum how { CRASH, EXIT, HANG };
static enum how how;
static volatile uintptr_t nowhere = 16;

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const rows[] = {"how=crash", "how=exit", "how=hang"};
    uint64_t length = options.length;

    (void)host;
    *state = NULL;
    while (length && options.data[length - 1] == '\n')
        length--;
    for (int i = 0; i < 3; i++)
        if (length == strlen(rows[i]) && memcmp(options.data, rows[i], length) == 0) {
            how = (enum how)i;
            return 0;
        }
    return -1;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    (void)state;
    if (task->completion.length % 3 == 0) {
        if (how == CRASH)
            *(volatile int *)nowhere = 1;
        if (how == EXIT)
            _Exit(7);
        for (;;)
            pause();
    }
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
    .name = "faulty",
    .version = "1",
    .help = "Crashes, exits or hangs on one completion in three.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
