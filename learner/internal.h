/* learner/internal.h - what learner.c shares with train.c and state.c. Private to learner/. */
#ifndef HONE_LEARNER_INTERNAL_H
#define HONE_LEARNER_INTERNAL_H

#include "common/arena.h"
#include "learner/learner.h"
#include "learner/shards.h"

struct guard;
struct optimizer;

struct learner {
    struct ranks *ranks;       /* NULL: alone */
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
    /* of this rank's share */
    struct mismatch mismatch;
    int mismatch_told;
    double loss_sum, kl_sum, entropy_sum, clip_low, clip_high;
    double difference_sum, difference_max, ratio_sum, ratio_min, ratio_max;
    int64_t entropy_tokens, difference_tokens;
    /* of all */
    double grad_norm, grad_norm_sum, learning_rate;
    int64_t tokens, updates;
    double loss_before;        /* of all loss_sum, at the last update */
    int64_t skipped;           /* updates */
};
/* ranks.c: the sums of all ranks, when the passes of all succeeded: `status` is how mine went. */
int learner_merge(const struct learner *learner, int status, const struct learner_totals *totals,
                  struct learner_totals *all);
/* Of n things in order, with these costs, those of this rank: [*first, *end). */
void learner_share(const struct learner *learner, const size_t *costs, size_t n, int rank,
                   size_t *first, size_t *end);
void learner_share_of(const size_t *costs, size_t n, int rank, int n_ranks, size_t *first,
                      size_t *end);
/* Log-probabilities that each rank has filled for its share of n items, to all; they lie behind
 * those of all[0] in order. Minibatches are shared out anew. */
int learner_gather_logprobs(struct learner *learner, const struct item *all,
                            const struct item *items, size_t n, int with_old);
/* What BNPO divides by is of all ranks. */
int learner_count_micros(const struct learner *learner, size_t *n_micros);
/* guard.c: one optimizer step, unless the guard says no; its figures into totals. `passed` is how
 * the passes of this rank went. */
int learner_update(struct learner *learner, int passed, struct learner_totals *totals);
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

/* What the functions of learner.h do on every rank, once rank 0 has ordered it (lead.c). */
int learner_step_here(struct learner *learner, const struct learner_batch *batch,
                      struct learner_stats *stats);
int learner_train_here(struct learner *learner, const struct sequence *sequences, size_t n,
                       struct learner_stats *stats);
/* NULL: not rank 0 */
int learner_save_here(const struct learner *learner, const char *directory);
int learner_load_here(struct learner *learner, const char *directory);
int learner_create_here(struct learner **out, struct ranks *ranks, struct model *policy,
                        struct model *reference, const struct grpo_config *grpo,
                        const struct optimizer_config *optimizer, int64_t total_updates);
void learner_destroy_here(struct learner **learner);
void learner_set_guard_here(struct learner *learner, const struct guard_config *config);

/* Mixes the policy into the reference when `step` (from 1) is one at which the config says so. */
int learner_sync_reference(struct learner *learner, int64_t step);

#endif
