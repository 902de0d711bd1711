/* GRPO in two functions: rewards to advantages, log-probabilities to loss and gradient. */
#include "learner/grpo.h"

#include <math.h>
#include <string.h>

#define STD_EPSILON 1e-4   /* TRL's; added to the standard deviation */

struct moments {
    double sum, sum_squared_deviation;
    size_t n;
};

/* Two passes over small groups: no cancellation. Masked samples do not count. */
static struct moments measure(const struct sample_group *groups, size_t n_groups)
{
    struct moments moments = {0};

    for (size_t g = 0; g < n_groups; g++)
        for (uint32_t i = 0; i < groups[g].n_samples; i++)
            if (!groups[g].samples[i].masked) {
                moments.sum += (double)groups[g].samples[i].reward;
                moments.n++;
            }
    double mean = moments.n ? moments.sum / (double)moments.n : 0.0;
    for (size_t g = 0; g < n_groups; g++)
        for (uint32_t i = 0; i < groups[g].n_samples; i++)
            if (!groups[g].samples[i].masked) {
                double deviation = (double)groups[g].samples[i].reward - mean;
                moments.sum_squared_deviation += deviation * deviation;
            }
    return moments;
}

static double unbiased_std(const struct moments *moments)
{
    return moments->n > 1 ? sqrt(moments->sum_squared_deviation / (double)(moments->n - 1)) : 0.0;
}

static int all_equal(const struct sample_group *group)
{
    const struct sample *first = NULL;

    for (uint32_t i = 0; i < group->n_samples; i++) {
        const struct sample *sample = &group->samples[i];
        if (sample->masked)
            continue;
        if (first && sample->reward != first->reward)
            return 0;
        first = first ? first : sample;
    }
    return 1;
}

void grpo_fill_advantages(struct sample_group *groups, size_t n_groups, enum grpo_scale scale,
                          struct grpo_reward_stats *stats)
{
    struct moments batch = measure(groups, n_groups);
    double std_sum = 0.0;
    size_t n_zero = 0;

    for (size_t g = 0; g < n_groups; g++) {
        struct moments group = measure(&groups[g], 1);
        double mean = group.n ? group.sum / (double)group.n : 0.0;
        double std = unbiased_std(&group);
        double divisor = scale == GRPO_SCALE_GROUP   ? std + STD_EPSILON
                         : scale == GRPO_SCALE_BATCH ? unbiased_std(&batch) + STD_EPSILON
                                                     : 1.0;
        int equal = all_equal(&groups[g]);
        std_sum += std;
        n_zero += (size_t)equal;
        for (uint32_t i = 0; i < groups[g].n_samples; i++) {
            struct sample *sample = &groups[g].samples[i];
            /* Equal rewards teach nothing; rounding of their mean must not pretend otherwise. */
            sample->advantage = equal || sample->masked
                                    ? 0.0f
                                    : (float)(((double)sample->reward - mean) / divisor);
        }
    }
    memset(stats, 0, sizeof(*stats));
    if (n_groups) {
        stats->reward = batch.n ? batch.sum / (double)batch.n : 0.0;
        stats->reward_std = std_sum / (double)n_groups;
        stats->zero_std_fraction = (double)n_zero / (double)n_groups;
    }
}

/* The clipped surrogate at one ratio: its value, and its derivative by log(ratio). */
static double surrogate(double ratio, double advantage, const struct grpo_clip *clip,
                        double *derivative, struct grpo_terms *terms)
{
    double low = 1.0 - clip->epsilon, high = 1.0 + clip->epsilon_high;
    double clamped = ratio < low ? low : ratio > high ? high : ratio;

    if (clamped * advantage < ratio * advantage) {
        *derivative = 0.0;
        terms->n_clip_low += ratio < low;
        terms->n_clip_high += ratio > high;
        return -clamped * advantage;
    }
    *derivative = -ratio * advantage;
    return -ratio * advantage;
}

static double mean_log_ratio(const struct grpo_completion *completion)
{
    double sum = 0.0;

    for (size_t t = 0; t < completion->n; t++)
        sum += (double)completion->logprob[t] - (double)completion->old_logprob[t];
    return completion->n ? sum / (double)completion->n : 0.0;
}

void grpo_completion_loss(const struct grpo_completion *completion, const struct grpo_clip *clip,
                          float *d_logprob, struct grpo_terms *terms)
{
    double sequence_log_ratio =
        clip->level == GRPO_LEVEL_SEQUENCE ? mean_log_ratio(completion) : 0.0;

    for (size_t t = 0; t < completion->n; t++) {
        double logprob = (double)completion->logprob[t];
        double log_ratio = clip->level == GRPO_LEVEL_SEQUENCE
                               ? sequence_log_ratio
                               : logprob - (double)completion->old_logprob[t];
        /* Of a sequence ratio each token carries 1/n, and n equal terms are summed: the token's
         * share of the derivative is that of one term. */
        double derivative;
        double loss = surrogate(exp(log_ratio), completion->advantage, clip, &derivative, terms);
        if (clip->beta > 0.0) {
            double d = (double)completion->ref_logprob[t] - logprob;
            double kl = exp(d) - d - 1.0;
            loss += clip->beta * kl;
            derivative += clip->beta * (1.0 - exp(d));
            terms->kl += kl;
        }
        terms->loss += completion->weight * loss;
        d_logprob[t] = (float)(completion->weight * derivative);
    }
}
