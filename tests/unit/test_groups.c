/* Figures of judged groups. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/internal.h"

struct batch {
    struct sample_group groups[2];
    struct reward_term terms[2];
    struct sample samples[2][3];
    struct score scores[2][3][2];
};

/* Two groups of three samples, judged by "accuracy" and by "format". */
static void make_batch(struct batch *batch, const char *first, const char *second)
{
    const char *const verifiers[] = {first, second};

    memset(batch, 0, sizeof(*batch));
    snprintf(batch->terms[0].name, sizeof(batch->terms[0].name), "accuracy");
    snprintf(batch->terms[1].name, sizeof(batch->terms[1].name), "format");
    for (int g = 0; g < 2; g++) {
        struct sample_group *group = &batch->groups[g];
        *group = (struct sample_group){.n_samples = 3, .samples = batch->samples[g],
                                       .n_rewards = 2, .rewards = batch->terms};
        snprintf(group->task.verifier, sizeof(group->task.verifier), "%s", verifiers[g]);
        for (int i = 0; i < 3; i++)
            batch->samples[g][i].scores = batch->scores[g][i];
    }
}

static void say(struct batch *batch, int group, int sample, enum outcome outcome,
                const char *detail)
{
    struct score *score = &batch->scores[group][sample][0];

    score->outcome = outcome;
    snprintf(score->detail, sizeof(score->detail), "%s", detail);
    snprintf(score[1].detail, sizeof(score[1].detail), "%s", detail);
}

static void maths_verdicts_are_counted_by_their_path(void **state)
{
    static struct metric_list list;
    struct batch batch;

    (void)state;
    make_batch(&batch, "math", "math");
    say(&batch, 0, 0, OUTCOME_RIGHT, "right (exact)");
    say(&batch, 0, 1, OUTCOME_RIGHT, "right (numeric): arb");
    say(&batch, 0, 2, OUTCOME_WRONG, "wrong: \"3\"");
    say(&batch, 1, 0, OUTCOME_ERROR, "unreadable gold");
    say(&batch, 1, 1, OUTCOME_UNREADABLE, "unreadable: a brace is open");
    say(&batch, 1, 2, OUTCOME_UNREADABLE, "unreadable golden");   /* none of the texts */
    list.n = 0;
    groups_add_metrics(&list, batch.groups, 2);
    assert_true(metric_get(&list, "verdicts/accuracy/right_exact") == 0.2);
    assert_true(metric_get(&list, "verdicts/accuracy/right_proved") == 0);
    assert_true(metric_get(&list, "verdicts/accuracy/right_numeric") == 0.2);
    assert_true(metric_get(&list, "verdicts/accuracy/wrong") == 0.2);
    assert_true(metric_get(&list, "verdicts/accuracy/unreadable") == 0.2);
    assert_true(metric_get(&list, "verdicts/accuracy/unreadable_gold") == 0.2);
    assert_true(metric_get(&list, "verdicts/accuracy/limit") == 0);
    assert_true(isnan(metric_get(&list, "verdicts/format/right_exact")));
    assert_true(metric_get(&list, "outcomes/accuracy/error") == 1.0 / 6);
    for (size_t i = 0; i < list.n; i++)
        if (!metric_find(list.names[i]))
            fail_msg("%s is not declared", list.names[i]);
}

static void other_verifiers_have_no_path(void **state)
{
    static struct metric_list list;
    struct batch batch;

    (void)state;
    make_batch(&batch, "exact", "math");
    for (int i = 0; i < 3; i++) {
        say(&batch, 0, i, OUTCOME_WRONG, "wrong");
        say(&batch, 1, i, OUTCOME_WRONG, "no answer");
    }
    list.n = 0;
    groups_add_metrics(&list, batch.groups, 2);
    assert_true(metric_get(&list, "verdicts/accuracy/no_answer") == 1);
    assert_true(metric_get(&list, "verdicts/accuracy/wrong") == 0);
    list.n = 0;
    groups_add_metrics(&list, batch.groups, 1);
    assert_true(isnan(metric_get(&list, "verdicts/accuracy/wrong")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maths_verdicts_are_counted_by_their_path),
        cmocka_unit_test(other_verifiers_have_no_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
