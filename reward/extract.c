/* The answer of a completion for those outside reward/: majority votes, `hone samples`. */
#include "reward/answer.h"
#include "reward/reward.h"

int reward_extract_answer(const char *text, size_t n, struct text *answer)
{
    const struct verifier_task task = {.size = sizeof(task), .completion = {text, n}};
    struct answer found = {0};

    answer_find(&found, &task);
    int has_one = found.source != ANSWER_NONE;
    if (has_one)
        text_append(answer, found.text.data ? found.text.data : "", found.text.length);
    answer_release(&found);
    return has_one;
}
