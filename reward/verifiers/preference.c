#include <string.h>

#include "reward/answer.h"
#include "reward/options.h"
#include "reward/reward.h"
#include "reward/verifiers/verifiers.h"

/*
 * preference: a deterministic stand-in for a reward model, so that a pipeline with a preference
 * stage runs without one. It knows nothing of what people like: it prefers completions that give
 * one answer, do not repeat themselves and are brief. A real reward model is a plugin.
 *   value = 0.5 (1 - repetition) + 0.5 min(1, target_bytes / bytes); halved unless there is
 *   exactly one answer.
 */
struct preference {
    double target_bytes;
};

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {"target_bytes", NULL};
    struct preference preference = {.target_bytes = 120};

    (void)host;
    int status = options_check(options, "preference", known);
    if (status == 0)
        status = options_number(options, "target_bytes", 1, 1e9, &preference.target_bytes);
    if (status < 0)
        return status;
    struct preference *kept = mem_alloc(1, sizeof(*kept));
    *kept = preference;
    *state = kept;
    return 0;
}

static int count_needle(const char *text, size_t n, const char *needle)
{
    size_t length = strlen(needle);
    const char *end = text + n;
    int count = 0;

    while ((text = memmem(text, (size_t)(end - text), needle, length)) != NULL) {
        count++;
        text += length;
    }
    return count;
}

/* The text that a reader sees: behind the reasoning. */
static struct verifier_text find_summary(const struct verifier_task *task)
{
    struct verifier_text text = task->completion;
    const char *closed = answer_find_last(text.data, text.length, "</think>");

    if (closed) {
        closed += strlen("</think>");
        text = (struct verifier_text){closed, (uint64_t)(text.data + text.length - closed)};
    }
    return text;
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    const struct preference *preference = state;
    struct verifier_text text = find_summary(task);
    size_t bytes = 0;

    for (uint64_t i = 0; i < text.length; i++)
        bytes += (unsigned char)text.data[i] > ' ';
    if (bytes == 0)
        return verdict_set(verdict, VERIFIER_UNREADABLE, 0, "there is nothing to read");
    double repetition = reward_repetition_share(text.data, text.length);
    double brief = preference->target_bytes / (double)text.length;
    double value = 0.5 * (1 - repetition) + 0.5 * (brief < 1 ? brief : 1);
    int n_answers = count_needle(text.data, text.length, "</answer>");
    if (n_answers != 1)
        value /= 2;
    return verdict_set(verdict, value >= 1 ? VERIFIER_RIGHT : VERIFIER_WRONG, value,
                       "%d answers, repetition %.3f, %zu bytes", n_answers, repetition,
                       (size_t)text.length);
}

static void destroy(void *state)
{
    mem_free(state);
}

const struct verifier_v1 verifier_preference = {
    .size = sizeof(verifier_preference),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "preference",
    .version = "1",
    .help = "A stand-in for a reward model: one answer, no repetition, brief.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
