#include <string.h>

#include "reward/answer.h"
#include "reward/fold.h"
#include "reward/options.h"
#include "reward/verifiers/math_compare.h"
#include "reward/verifiers/verifiers.h"

/* math: the answer means the same as the reference. math_compare.c has the rules. */

static int32_t create(const struct verifier_host *host, struct verifier_text options, void **state)
{
    static const char *const known[] = {NULL};

    (void)host;
    *state = NULL;
    return options_check(options, "math", known);
}

static int fold(struct verifier_text text, struct text *out)
{
    out->maximum = ANSWER_MAX_BYTES;
    return text.length <= ANSWER_MAX_BYTES && fold_math(text.data, text.length, out) == 0 &&
           out->length;
}

/* A reference may be a whole solution: "... #### 72", "... \boxed{72}". */
static int fold_reference(struct verifier_text reference, struct text *out)
{
    struct verifier_task solution = {.completion = reference};
    struct answer answer;

    answer_find(&answer, &solution);
    if (answer.source == ANSWER_BOX || answer.source == ANSWER_HASHES)
        reference = (struct verifier_text){answer.text.data, answer.text.length};
    int good = fold(reference, out);
    answer_release(&answer);
    return good;
}

/* The only number of a sentence, "The result is 42."; 0 when there are more, none, or a "not". */
static int find_only_number(const struct text *text, struct span *out)
{
    size_t n_found = 0;

    for (size_t at = 0; at < text->length;) {
        size_t n = strspn(text->data + at, "0123456789.,/-");
        size_t digits = strcspn(text->data + at, "0123456789");
        if (n && digits < n) {
            while (n && strchr(".,/-", text->data[at + n - 1]))
                n--;
            *out = (struct span){text->data + at, n};
            n_found++;
        }
        at += n ? n : 1;
    }
    return n_found == 1 && !strpbrk(text->data, "=^\\") && !strstr(text->data, "not ");
}

static int same(const struct text *gold, const struct answer *answer, const struct text *folded)
{
    struct span wanted = {gold->data, gold->length}, number;

    if (math_same(wanted, (struct span){folded->data, folded->length}))
        return 1;
    return (answer->source == ANSWER_TAG || answer->source == ANSWER_WORDS) &&
           find_only_number(folded, &number) && strpbrk(folded->data, " ") &&
           math_same(wanted, number);
}

static int32_t score(void *state, const struct verifier_task *task,
                     struct verifier_verdict *verdict)
{
    struct text gold = {0}, folded = {0};
    struct answer answer = {0};

    (void)state;
    if (!fold_reference(task->reference, &gold)) {
        verdict_set(verdict, VERIFIER_ERROR, 0, "reference is unreadable");
        goto out;
    }
    answer_find(&answer, task);
    if (answer.source == ANSWER_NONE)
        verdict_set(verdict, VERIFIER_UNREADABLE, 0, "%s", answer.why_none);
    else if (!fold((struct verifier_text){answer.text.data, answer.text.length}, &folded))
        verdict_set(verdict, VERIFIER_UNREADABLE, 0, "the answer has bytes that are no text");
    else if (same(&gold, &answer, &folded))
        verdict_set(verdict, VERIFIER_RIGHT, 1, "equal");
    else
        verdict_set(verdict, VERIFIER_WRONG, 0, "answer \"%.60s\"", folded.data);
out:
    answer_release(&answer);
    text_release(&gold);
    text_release(&folded);
    return 0;
}

static void destroy(void *state)
{
    (void)state;
}

const struct verifier_v1 verifier_math = {
    .size = sizeof(verifier_math),
    .flags = VERIFIER_DETERMINISTIC,
    .name = "math",
    .version = "1",
    .help = "The answer equals the reference: numbers exactly, lists by members, the rest as text.",
    .create = create,
    .score = score,
    .destroy = destroy,
};
