/*
 * tests/unit/test_verifier_support.h - one built-in verifier against a table of cases.
 */
#ifndef HONE_TESTS_TEST_VERIFIER_SUPPORT_H
#define HONE_TESTS_TEST_VERIFIER_SUPPORT_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "common/status.h"
#include "reward/reward.h"
#include "reward/verifier_abi.h"
#include "reward/verifiers/verifiers.h"

struct verdict_case {
    const char *reference, *completion;
    enum verifier_outcome outcome;
    double score;
};

static inline struct verifier_text text_of(const char *text)
{
    return (struct verifier_text){text, text ? strlen(text) : 0};
}

static inline struct verifier_verdict ask(const struct verifier_v1 *verifier, const char *options,
                                          const struct verifier_task *task)
{
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    void *state = NULL;

    assert_int_equal(verifier->create(NULL, text_of(options), &state), 0);
    assert_int_equal(verifier->score(state, task, &verdict), 0);
    verifier->destroy(state);
    return verdict;
}

static inline struct verifier_verdict ask_text(const struct verifier_v1 *verifier,
                                               const char *options, const char *reference,
                                               const char *completion)
{
    struct verifier_task task = {.size = sizeof(task), .completion = text_of(completion),
                                 .reference = text_of(reference), .question = text_of(""),
                                 .language = text_of(""), .prefill = text_of(""),
                                 .kind = text_of("")};

    return ask(verifier, options, &task);
}

static inline void check_cases(const struct verifier_v1 *verifier, const char *options,
                               const struct verdict_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct verifier_verdict verdict =
            ask_text(verifier, options, cases[i].reference, cases[i].completion);
        double miss = verdict.score - cases[i].score;
        if (verdict.outcome != (uint32_t)cases[i].outcome || miss > 1e-9 || miss < -1e-9)
            fail_msg("reference \"%s\", completion \"%s\": %s %g (%s), wanted %s %g",
                     cases[i].reference, cases[i].completion,
                     outcome_name((enum outcome)verdict.outcome), verdict.score, verdict.detail,
                     outcome_name((enum outcome)cases[i].outcome), cases[i].score);
    }
}

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

#endif
