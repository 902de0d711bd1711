/* Right when the completion contains the text that a further column of the record holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reward/verifier_abi.h"

struct column {
    char key[80];   /* "level":" */
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    struct column *column = calloc(1, sizeof(*column));
    char line[64] = "", name[64];

    (void)host;
    if (!column || options.length >= sizeof(line)) {
        free(column);
        return -1;
    }
    memcpy(line, options.data, options.length);
    if (sscanf(line, "name=%63s", name) != 1) {
        free(column);
        return -2;
    }
    snprintf(column->key, sizeof(column->key), "\"%s\":\"", name);
    *state = column;
    return 0;
}

static const char *find(const char *text, uint64_t length, const char *part, uint64_t n)
{
    for (uint64_t i = 0; n <= length && i <= length - n; i++)
        if (memcmp(text + i, part, n) == 0)
            return text + i;
    return NULL;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct column *column = state;
    const char *value = NULL, *end = NULL;

    if (VERIFIER_HAS(task, struct verifier_task, columns))
        value = find(task->columns.data, task->columns.length, column->key, strlen(column->key));
    if (value) {
        value += strlen(column->key);
        end = memchr(value, '"', task->columns.length - (uint64_t)(value - task->columns.data));
    }
    if (!end)
        return -1;   /* not the completion's fault */
    const char *found = find(task->completion.data, task->completion.length, value,
                             (uint64_t)(end - value));
    verdict->outcome = found ? VERIFIER_RIGHT : VERIFIER_WRONG;
    verdict->score = found != NULL;
    return 0;
}

static void destroy(void *state)
{
    free(state);
}

VERIFIER_EXPORT extern const struct verifier_v1 verifier_plugin_v1;
const struct verifier_v1 verifier_plugin_v1 = {
    .size = sizeof(verifier_plugin_v1),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "column",
    .version = "1",
    .help = "The completion contains what a column of the record holds.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
