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

/* One trained completion: its tokens, and its log-probabilities under other policies. */
struct item {
    struct sequence sequence;
    const struct sample_group *group;
    const struct sample *sample;
    uint32_t index;                     /* of the sample in its group */
    size_t order;                       /* of the item in its step, before it is shuffled */
    float *old_logprob, *ref_logprob;   /* [n_completion] */
};

/* The first token whose log-probability is not the one that rollout recorded. */
struct mismatch {
    const struct item *item;            /* NULL: none */
    uint32_t token;
    float logprob;
};

/* Sums over one step, from which its statistics are made. */
struct learner_totals {
    struct mismatch mismatch;
    int mismatch_told;
    double loss_sum, kl_sum, entropy_sum, clip_low, clip_high, grad_norm, grad_norm_sum;
    double learning_rate, difference_sum, difference_max, ratio_sum, ratio_min, ratio_max;
    int64_t tokens, entropy_tokens, difference_tokens, updates;
    double loss_before;        /* of loss_sum, at the last update */
    int64_t skipped;           /* updates */
};
/* guard.c: one optimizer step, unless the guard says no. */
int learner_update(struct learner *learner, struct learner_totals *totals);
void learner_fill_stats(struct learner_stats *stats, const struct learner_totals *totals,
                        int64_t n_sequences);

/* exact.c: adds the differences of one completion, whose log-probabilities under the policy before
 * the step these are; then, as grpo.exact says, fails or warns once a step. Samples that were not
 * written by that policy alone are not compared. */
int exact_is_comparable(const struct learner_batch *batch, const struct sample *sample);
void exact_measure(struct learner_totals *totals, const struct learner_batch *batch,
                   const struct item *item, const float *logprob);
int exact_judge(const struct learner *learner, const struct learner_batch *batch,
                struct learner_totals *totals);

/* Mixes the policy into the reference when `step` (from 1) is one at which the config says so. */
int learner_sync_reference(struct learner *learner, int64_t step);

#endif
