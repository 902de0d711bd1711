#include <sys/random.h>

#include "common/status.h"
#include "math/math.h"
#include "reward/options.h"
#include "reward/reward.h"
#include "reward/verifiers/verifiers.h"

/* math: the answer means the same as the reference. math/ has the rules. */

struct state {
    struct math *math;
    struct math_options options;
    struct text joined;   /* prefill and completion */
};

static void destroy(void *opaque)
{
    struct state *state = opaque;

    if (!state)
        return;
    math_destroy(&state->math);
    text_release(&state->joined);
    mem_free(state);
}

/* Random primes come from the run's seed where the options have it: never from a constant, which a
 * policy could learn. */
static int read_seed(struct verifier_text options, uint64_t *out)
{
    double seed = -1;

    TRY(options_number(options, "seed", 0, 9007199254740992.0, &seed));
    *out = (uint64_t)seed;
    if (seed < 0 && getrandom(out, sizeof(*out), 0) != (ssize_t)sizeof(*out))
        return status_fail(STATUS_IO, "no random seed can be had: set math.seed");
    return STATUS_OK;
}

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **out)
{
    static const char *const known[] = {"extraction", "seed", NULL};
    static const char *const extractions[] = {"strict", "lenient", NULL};
    struct state *state;
    int extraction = 0;
    uint64_t seed;

    (void)host;
    TRY(options_check(options, "math", known));
    TRY(options_choice(options, "extraction", extractions, &extraction));
    TRY(read_seed(options, &seed));
    state = mem_alloc(1, sizeof(*state));
    state->options.mode = extraction ? MATH_LENIENT : MATH_STRICT;
    int status = math_create(&state->math, seed);
    if (status < 0)
        destroy(state);
    else
        *out = state;
    return status;
}

static enum verifier_outcome outcome_of(enum math_outcome outcome)
{
    switch (outcome) {
    case MATH_NO_ANSWER: case MATH_UNREADABLE: return VERIFIER_UNREADABLE;
    case MATH_UNREADABLE_GOLD: return VERIFIER_ERROR;   /* masks the sample: nothing to learn */
    default: return math_outcome_is_right(outcome) ? VERIFIER_RIGHT : VERIFIER_WRONG;
    }
}

static int32_t score(void *opaque, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    struct state *state = opaque;
    struct verifier_text text = task->completion;
    struct math_options options = state->options;
    struct math_verdict found;

    if (task->prefill.length) {
        state->joined.maximum = task->prefill.length + text.length + 1;
        text_clear(&state->joined);
        text_append(&state->joined, task->prefill.data, task->prefill.length);
        text_append(&state->joined, text.data, text.length);
        text = (struct verifier_text){state->joined.data, state->joined.length};
    }
    options.gold_mode = reward_reference_is_solution(task->reference.data, task->reference.length)
                            ? MATH_STRICT
                            : MATH_ANSWER;
    math_verify(state->math, task->reference.data, task->reference.length, text.data, text.length,
                &options, &found);
    return verdict_set(verdict, outcome_of(found.outcome),
                       math_outcome_is_right(found.outcome) ? 1 : 0, "%s%s%s",
                       math_outcome_text(found.outcome), *found.path ? ": " : "", found.path);
}

const struct verifier_v1 verifier_math = {
    .size = sizeof(verifier_math),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "math",
    .version = "2",
    .help = "The answer means the same as the reference: numbers, formulas, lists, sets, text.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
