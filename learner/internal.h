/* learner/internal.h - what learner.c shares with train.c and state.c. Private to learner/. */
#ifndef HONE_LEARNER_INTERNAL_H
#define HONE_LEARNER_INTERNAL_H

#include "common/arena.h"
#include "learner/learner.h"

struct guard;
struct optimizer;

struct learner {
    struct model *policy, *reference;
    struct model_tape *tape, *reference_tape;
    struct grpo_config grpo;   /* epsilon_high resolved */
    struct optimizer_config config;
    struct optimizer *optimizer;
    struct guard *guard;
    struct arena arena;        /* rewound at the top of each step */
};

/* What a forward pass before a backward one keeps. */
static inline enum tape_keep learner_keep(const struct learner *learner)
{
    return learner->config.gradient_checkpointing ? TAPE_KEEP_INPUTS : TAPE_KEEP_ALL;
}

/* Whether a pass is the first over its samples, and where their old log-probabilities are. */
enum { FRESH_NO, FRESH_OLD_KNOWN, FRESH_OLD_IS_NEW };

/* Sums over one step, from which its statistics are made. */
struct learner_totals {
    double loss_sum, kl_sum, entropy_sum, clip_low, clip_high, grad_norm, grad_norm_sum;
    double learning_rate, difference_sum, difference_max, ratio_sum, ratio_min, ratio_max;
    int64_t tokens, difference_tokens, updates;
    double loss_before;        /* of loss_sum, at the last update */
    int64_t skipped;           /* updates */
};
/* guard.c: one optimizer step, unless the guard says no. */
int learner_update(struct learner *learner, struct learner_totals *totals);
void learner_fill_stats(struct learner_stats *stats, const struct learner_totals *totals,
                        int64_t n_sequences);

/* Mixes the policy into the reference when `step` (from 1) is one at which the config says so. */
int learner_sync_reference(struct learner *learner, int64_t step);

#endif
