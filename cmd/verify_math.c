/* The maths verifier asked directly: it can say what was extracted, how both sides were read and
 * which step decided. reward/verifiers/math.c asks the same. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "cmd/cmd.h"
#include "cmd/verify.h"
#include "common/status.h"

static int open_math(struct judge *judge)
{
    uint64_t seed = judge->seed;

    if (judge->math)
        return STATUS_OK;
    if (!judge->has_seed && getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        return status_fail(STATUS_IO, "no random seed can be had");
    return math_create(&judge->math, seed);
}

int judge_ask_math(struct judge *judge, const struct question *question, struct answer *answer)
{
    size_t n_gold = strlen(question->gold);
    const struct math_options options = {
        .mode = question->is_bare    ? MATH_ANSWER
                : judge->is_lenient ? MATH_LENIENT
                                    : MATH_STRICT,
        .gold_mode = question->is_gold_whole ? MATH_LENIENT
                     : reward_reference_is_solution(question->gold, n_gold) ? MATH_STRICT
                                                                            : MATH_ANSWER,
    };
    struct math_verdict verdict;
    struct text joined = {0};

    TRY(open_math(judge));
    if (!question->is_bare)
        text_append(&joined, question->prefill, strlen(question->prefill));
    text_append(&joined, question->pred, strlen(question->pred));
    if (joined.failed) {
        text_release(&joined);
        return status_fail(STATUS_FORMAT, "the prediction is too long");
    }
    double start = clock_seconds();
    math_verify(judge->math, question->gold, n_gold, joined.data ? joined.data : "", joined.length,
                &options, &verdict);
    answer->micros = (clock_seconds() - start) * 1e6;
    answer->outcome = math_outcome_text(verdict.outcome);
    answer->is_right = math_outcome_is_right(verdict.outcome);
    answer->is_error = verdict.outcome == MATH_UNREADABLE_GOLD;
    answer->score = answer->is_right ? 1 : 0;
    snprintf(answer->path, sizeof(answer->path), "%s", verdict.path);
    memcpy(answer->gold_reading, verdict.gold_reading, sizeof(answer->gold_reading));
    memcpy(answer->reading, verdict.reading, sizeof(answer->reading));
    answer->has_extracted = verdict.extracted != NULL;
    if (verdict.extracted)
        text_append(&answer->extracted, verdict.extracted, verdict.n_extracted);
    text_release(&joined);
    return STATUS_OK;
}
