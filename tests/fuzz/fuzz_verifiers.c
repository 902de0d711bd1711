/* Whole completions for the verifiers of form, length and arithmetic. The first byte chooses which
 * one, with which option; a 0xFF byte parts reference, prefill and completion. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "reward/verifiers/format.h"
#include "reward/verifiers/verifiers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct verifier_v1 *const verifiers[] = {
    &verifier_countdown, &verifier_exact, &verifier_language, &verifier_preference,
    &verifier_repetition, &verifier_kimi_length, &verifier_format};
#define N_VERIFIERS (sizeof(verifiers) / sizeof(verifiers[0]))

static struct verifier_text take_part(const uint8_t **at, size_t *n)
{
    const uint8_t *end = *n ? memchr(*at, 0xFF, *n) : NULL;
    size_t length = end ? (size_t)(end - *at) : *n;
    struct verifier_text part = {(const char *)*at, length};

    *at += length + (end != NULL);
    *n -= length + (end != NULL);
    return part;
}

static void ask(const struct verifier_v1 *verifier, const char *options,
                const struct verifier_task *task)
{
    struct verifier_verdict verdict = {.size = sizeof(verdict), .outcome = VERIFIER_ERROR};
    const struct verifier_text lines = {options, strlen(options)};
    void *state = NULL;

    if (verifier->create(NULL, lines, &state) < 0 ||
        verifier->score(state, task, &verdict) < 0 || verdict.outcome > VERIFIER_ERROR ||
        !isfinite(verdict.score) || fabs(verdict.score) > 1 ||
        strnlen(verdict.detail, sizeof(verdict.detail)) == sizeof(verdict.detail) ||
        (verdict.outcome == VERIFIER_WRONG && verdict.score >= 1))
        abort();
    verifier->destroy(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const struct verifier_text english = {"en", 2}, none = {"", 0};
    char option[64] = "";
    size_t which;

    if (n < 1)
        return 0;
    which = *data++;
    n--;
    struct verifier_task task = {.size = sizeof(task), .language = english, .question = none,
                                 .kind = none, .n_tokens = 1, .group_min_tokens = 1,
                                 .group_max_tokens = 2};
    task.reference = take_part(&data, &n);
    task.prefill = take_part(&data, &n);
    task.completion = (struct verifier_text){(const char *)data, n};
    if (which < N_VERIFIERS) {
        ask(verifiers[which], option, &task);
        return 0;
    }
    size_t i = 0;
    for (which %= 16; format_ported[i].name && i < which;)
        i++;
    snprintf(option, sizeof(option), "variant=%s\nfence=c\n",
             format_ported[i].name ? format_ported[i].name : "tags");
    ask(&verifier_format, option, &task);
    return 0;
}
