/*
 * learner/grpo.h - Group Relative Policy Optimization. Private to learner/.
 *
 * DeepSeekMath (arXiv 2402.03300) eq. 3-4, DAPO (2503.14476), Dr. GRPO (2503.20783), with the
 * conventions of TRL: unbiased std, 1e-4 beside it.
 *
 *   r_i      reward of completion i of the group, i = 1..G
 *   A_i      = (r_i - mean(r)) / (std(r) + 1e-4)      GRPO_SCALE_GROUP
 *            = (r_i - mean(r)) / (std(batch) + 1e-4)  GRPO_SCALE_BATCH
 *            =  r_i - mean(r)                         GRPO_SCALE_NONE
 *   ratio_t  = exp(logprob_t - old_logprob_t)
 *   kl_t     = exp(ref_t - logprob_t) - (ref_t - logprob_t) - 1          (k3)
 *   L_t      = -min(ratio_t A, clip(ratio_t, 1-epsilon, 1+epsilon_high) A) + beta kl_t
 *   loss     = sum of weight_t L_t, with weight_t of a token of completion i, N completions:
 *              1 / (N |o_i|)                          GRPO_LOSS_GRPO
 *              1 / (sum_j |o_j|)                      GRPO_LOSS_DAPO: all of the optimizer step
 *              1 / (N max_completion_length)          GRPO_LOSS_DR_GRPO
 *              1 / (n_micro sum_j |o_j|)              GRPO_LOSS_BNPO: j of this micro-batch
 * The sums and N are those of the whole optimizer step, so that micro-batches change nothing but
 * BNPO, which is defined by them.
 */
#ifndef HONE_LEARNER_GRPO_H
#define HONE_LEARNER_GRPO_H

#include <stddef.h>
#include <stdint.h>

#include "wire/wire.h"

enum grpo_loss_type { GRPO_LOSS_GRPO, GRPO_LOSS_DAPO, GRPO_LOSS_DR_GRPO, GRPO_LOSS_BNPO };
enum grpo_scale { GRPO_SCALE_GROUP, GRPO_SCALE_BATCH, GRPO_SCALE_NONE };
enum grpo_level { GRPO_LEVEL_TOKEN, GRPO_LEVEL_SEQUENCE };
enum grpo_exact { GRPO_EXACT_OFF, GRPO_EXACT_WARN, GRPO_EXACT_FAIL };

struct grpo_reward_stats {
    double reward, reward_std, zero_std_fraction;
};

/* Fills advantage of every sample. Masked samples get 0 and are left out of the statistics. */
void grpo_fill_advantages(struct sample_group *groups, size_t n_groups, enum grpo_scale scale,
                          struct grpo_reward_stats *stats);

struct grpo_clip {
    double epsilon, epsilon_high, beta;
    enum grpo_level level;
};

/* One completion of n tokens; ref may be NULL when beta is 0. Adds weight * L_t to the return and
 * writes d_logprob[t] = d(sum of weight * L)/d(logprob_t). */
struct grpo_completion {
    const float *logprob, *old_logprob, *ref_logprob;
    size_t n;
    double advantage, weight;
};
struct grpo_terms {
    double loss, kl;             /* loss weighted; kl summed over tokens */
    size_t n_clip_low, n_clip_high;
};
void grpo_completion_loss(const struct grpo_completion *completion, const struct grpo_clip *clip,
                          float *d_logprob, struct grpo_terms *terms);

#endif
