/* Figures of judged groups, under TRL's names. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "pipeline/internal.h"

/* The names of enum outcome inside metric names, in its order. */
static const char *const outcome_keys[N_OUTCOMES] = {"right",   "wrong", "unreadable",
                                                     "timeout", "crash", "error"};

void metric_add(struct metric_list *list, double value, const char *format, ...)
{
    va_list arguments;

    if (list->n == MAX_METRICS)
        BUG("more than %d metrics in one step", MAX_METRICS);
    va_start(arguments, format);
    vsnprintf(list->names[list->n], METRIC_NAME_BYTES, format, arguments);
    va_end(arguments);
    list->values[list->n] = (struct metric_value){list->names[list->n], value};
    list->n++;
}

double metric_get(const struct metric_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++)
        if (strcmp(list->values[i].name, name) == 0)
            return list->values[i].value;
    return NAN;
}

static void add_lengths(struct metric_list *list, const struct sample_group *groups, size_t n)
{
    double sum = 0, n_samples = 0, ended_sum = 0, ended = 0, least = INFINITY, most = 0;

    for (size_t g = 0; g < n; g++)
        for (uint32_t i = 0; i < groups[g].n_samples; i++) {
            const struct sample *sample = &groups[g].samples[i];
            double length = sample->n_tokens;
            if (sample->masked && !sample->n_tokens)
                continue;   /* of a group that was set aside: never written */
            n_samples++;
            sum += length;
            least = fmin(least, length);
            most = fmax(most, length);
            if (sample->finish == SAMPLE_FINISH_EOS) {
                ended++;
                ended_sum += length;
            }
        }
    if (!n_samples)
        return;
    metric_add(list, sum / n_samples, "completions/mean_length");
    metric_add(list, least, "completions/min_length");
    metric_add(list, most, "completions/max_length");
    metric_add(list, 1.0 - ended / n_samples, "completions/clipped_ratio");
    metric_add(list, ended ? ended_sum / ended : 0.0, "completions/mean_terminated_length");
}

static void add_reward(struct metric_list *list, const struct sample_group *groups, size_t n,
                       size_t term)
{
    double sum = 0, squares = 0, count = 0, judged = 0, outcomes[N_OUTCOMES] = {0};
    const char *name = groups[0].rewards[term].name;

    for (size_t g = 0; g < n; g++)
        for (uint32_t i = 0; i < groups[g].n_samples; i++) {
            const struct score *score = &groups[g].samples[i].scores[term];
            outcomes[score->outcome]++;
            judged++;
            if (score->outcome == OUTCOME_ERROR)
                continue;
            sum += (double)score->value;
            squares += (double)score->value * (double)score->value;
            count++;
        }
    double mean = count ? sum / count : 0.0;
    double variance = count > 1 ? (squares - count * mean * mean) / (count - 1) : 0.0;
    metric_add(list, mean, "rewards/%s/mean", name);
    metric_add(list, variance > 0 ? sqrt(variance) : 0.0, "rewards/%s/std", name);
    for (int o = 0; o < N_OUTCOMES; o++)
        metric_add(list, judged ? outcomes[o] / judged : 0.0, "outcomes/%s/%s", name,
                   outcome_keys[o]);
}

/* How the maths verifier came to its verdicts; nothing when it judged none of them. */
static void add_paths(struct metric_list *list, const struct sample_group *groups, size_t n,
                      size_t term)
{
    const char *name = groups[0].rewards[term].name;
    double counts[REWARD_N_PATHS] = {0}, judged = 0;

    for (size_t other = 0; other < term; other++)
        if (strcmp(groups[0].rewards[other].name, name) == 0)
            return;
    for (size_t g = 0; g < n; g++)
        for (uint32_t i = 0; i < groups[g].n_samples; i++) {
            int path = reward_path_of(&groups[g].task, name, &groups[g].samples[i].scores[term]);
            if (path < 0)
                continue;
            counts[path]++;
            judged++;
        }
    for (size_t path = 0; judged && path < REWARD_N_PATHS; path++)
        metric_add(list, counts[path] / judged, "verdicts/%s/%s", name, reward_path_key(path));
}

void groups_add_metrics(struct metric_list *list, const struct sample_group *groups, size_t n)
{
    add_lengths(list, groups, n);
    for (size_t term = 0; n && term < groups[0].n_rewards; term++)
        add_reward(list, groups, n, term);
    for (size_t term = 0; n && term < groups[0].n_rewards; term++)
        add_paths(list, groups, n, term);
}
