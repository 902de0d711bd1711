#include <string.h>

#include "pipeline/run_store.h"

/* Names are TRL's where TRL has one. A unit of "s" or "tokens/s" says that the value is measured
 * with a clock. A part in <> stands for one or more characters other than '/'. */
const struct metric_row metric_rows[] = {
    {"loss", "", "what the optimizer lowered in this step, before its update"},
    {"learning_rate", "", "of this step's update"},
    {"grad_norm", "", "L2 norm of the whole gradient before clipping"},
    {"skipped_updates", "updates", "outliers that the guard left out in this step (guard.z_score)"},
    {"epoch", "", "passes over the stage's data so far"},
    {"ranks", "", "learner ranks that shared this step; not there: one alone"},
    {"num_tokens", "tokens", "prompt and completion tokens learnt from since the stage began"},

    {"reward", "", "mean over samples of the weighted sum of their scores; masked ones left out"},
    {"reward_std", "", "mean over groups of the standard deviation (n-1) of the reward"},
    {"frac_reward_zero_std", "share", "groups whose rewards are all equal: they teach nothing"},
    {"rewards/<name>/mean", "", "mean score of one reward function, before its weight"},
    {"rewards/<name>/std", "", "standard deviation (n-1) of one reward function's scores"},
    {"outcomes/<name>/right", "share", "samples that this reward function found right"},
    {"outcomes/<name>/wrong", "share", "samples that it found wrong"},
    {"outcomes/<name>/unreadable", "share", "samples in which it found no answer to judge"},
    {"outcomes/<name>/timeout", "share", "samples whose program ran too long"},
    {"outcomes/<name>/crash", "share", "samples whose program crashed or did not compile"},
    {"outcomes/<name>/error", "share", "samples without a verdict: the verifier failed; masked"},

    {"verdicts/<name>/right_exact", "share",
     "of the maths verdicts of this reward function: equal as text or as exact numbers"},
    {"verdicts/<name>/right_proved", "share", "equal, with a proof"},
    {"verdicts/<name>/right_numeric", "share",
     "equal in every digit that was computed, without a proof"},
    {"verdicts/<name>/wrong", "share", "an answer that is not the reference"},
    {"verdicts/<name>/no_answer", "share", "no answer in the completion"},
    {"verdicts/<name>/unreadable", "share",
     "an answer that is no mathematics; rising: the model may be gaming the verifier"},
    {"verdicts/<name>/unreadable_gold", "share",
     "a reference that cannot be read: masked, never rewarded"},
    {"verdicts/<name>/limit", "share",
     "an answer too large or too slow to judge: wrong; rising: as unreadable"},

    {"groups/set_aside", "groups",
     "given up after run.max_lease_tries: they fail or kill workers; their samples are masked"},

    {"kl", "nats", "mean over tokens of the k3 estimate of KL(policy || reference)"},
    {"entropy", "nats",
     "mean over completion tokens of the policy's entropy; with grpo.beta 0 over those of "
     "completions with an advantage, as others are not computed"},
    {"clip_ratio/low_mean", "share", "tokens clipped below: ratio < 1 - epsilon, advantage < 0"},
    {"clip_ratio/high_mean", "share",
     "tokens clipped above: ratio > 1 + epsilon_high, advantage > 0"},
    {"clip_ratio/region_mean", "share", "tokens clipped on either side"},

    {"completions/mean_length", "tokens", "mean length of completions"},
    {"completions/min_length", "tokens", "shortest completion"},
    {"completions/max_length", "tokens", "longest completion"},
    {"completions/clipped_ratio", "share", "completions cut at max_completion_length"},
    {"completions/mean_terminated_length", "tokens",
     "mean length of those that ended by themselves"},

    {"sampling/sampling_logp_difference/mean", "nats",
     "mean over tokens of |log-probability in the learner - in rollout|"},
    {"sampling/sampling_logp_difference/max", "nats",
     "the largest such difference; see grpo.exact for what happens when it is not 0"},
    {"sampling/importance_sampling_ratio/min", "",
     "smallest exp(log-probability in the learner - in rollout)"},
    {"sampling/importance_sampling_ratio/mean", "", "mean of that ratio"},
    {"sampling/importance_sampling_ratio/max", "", "largest such ratio"},

    {"mean_token_accuracy", "share", "supervised: tokens whose most probable guess was right"},
    {"tokens", "tokens", "supervised: tokens that carried loss in this step"},

    {"eval/pass@<k>", "share",
     "held-out tasks solved by one of k samples, unbiased estimate; pass@1 is the mean accuracy"},
    {"eval/cons@<k>", "share", "held-out tasks whose majority answer among k samples is right"},
    {"eval/format", "share", "held-out samples in the wanted format"},
    {"eval/language", "share", "reasoning in the target language, mean over held-out samples"},
    {"eval/mean_length", "tokens", "mean length of held-out completions"},
    {"eval/<kind>/pass@<k>", "share", "pass@k over the held-out tasks of one kind"},
    {"eval/<kind>/cons@<k>", "share", "cons@k over the held-out tasks of one kind"},
    {"eval/<kind>/format", "share", "wanted format, over the held-out tasks of one kind"},
    {"eval/<kind>/language", "share", "target language, over the held-out tasks of one kind"},
    {"eval/<kind>/mean_length", "tokens", "mean length, over the held-out tasks of one kind"},

    {"data/kept", "samples", "samples that a dataset stage kept"},
    {"data/dropped/<reason>", "samples", "samples that it dropped, by the first rule they broke"},

    {"step_time", "s", "the whole step"},
    {"time/rollout", "s", "waiting for completions"},
    {"time/reward", "s", "waiting for verdicts"},
    {"time/learn", "s", "forward, backward and update"},
    {"time/publish", "s", "sending the new weights to the rollout workers"},
    {"tokens_per_second/rollout", "tokens/s", "completion tokens written, over time/rollout"},
    {"tokens_per_second/learn", "tokens/s", "tokens learnt from, over time/learn"},
    {NULL, NULL, NULL}};

static int matches(const char *pattern, const char *name)
{
    while (*pattern && *pattern != '<') {
        if (*pattern++ != *name++)
            return 0;
    }
    if (!*pattern)
        return !*name;
    const char *rest = strchr(pattern, '>') + 1;
    for (; *name && *name != '/'; name++)
        if (matches(rest, name + 1))
            return 1;
    return 0;
}

const struct metric_row *metric_find(const char *name)
{
    /* A name that is written out wins over a pattern. */
    for (const struct metric_row *row = metric_rows; row->name; row++)
        if (!strcmp(row->name, name))
            return strchr(name, '<') ? NULL : row;
    for (const struct metric_row *row = metric_rows; row->name; row++)
        if (strchr(row->name, '<') && matches(row->name, name))
            return row;
    return NULL;
}

int metric_is_timed(const struct metric_row *row)
{
    return !strcmp(row->unit, "s") || !strcmp(row->unit, "tokens/s");
}

void metrics_print_markdown(struct text *out)
{
    text_print(out, "# Metrics\n\n"
                    "Printed by the program from `pipeline/metrics.c`; do not edit. Every step's "
                    "values are rows of the table\n`metric` in `run.db` and scalars in "
                    "`tensorboard/`. A part in `<>` stands for a name: a reward function, a kind\n"
                    "of task, a number of samples, a reason. Those measured in seconds differ "
                    "between runs of the same seed; all others\nare equal.\n\n"
                    "| name | unit | meaning |\n| --- | --- | --- |\n");
    for (const struct metric_row *row = metric_rows; row->name; row++)
        text_print(out, "| `%s` | %s | %s |\n", row->name, *row->unit ? row->unit : "-",
                   row->help);
}
