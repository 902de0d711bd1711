/*
 * learner/learner.h - turns judged groups, or documents, into a better policy.
 *
 * learner_step() is the whole of GRPO, in order: advantages (grpo.c), packed micro-batches
 * (batch.c), forward, loss (grpo.c), backward, clip and AdamW (optimizer.c). Read grpo.c first: it
 * is short and has the formulas. learner_train() is supervised training on the same machinery.
 * There is no critic: a sample's advantage is its reward against its group.
 */
#ifndef HONE_LEARNER_LEARNER_H
#define HONE_LEARNER_LEARNER_H

#include "common/config.h"
#include "model/model.h"
#include "ranks/ranks.h"
#include "wire/wire.h"

/* Names and meanings are TRL's GRPOConfig where it has them. */
struct grpo_config {                 /* section "grpo" */
    int64_t max_steps, tasks_per_step;
    int loss_type;                   /* enum grpo_loss_type in learner/grpo.h */
    int scale_rewards;               /* enum grpo_scale */
    int importance_sampling_level;   /* enum grpo_level */
    double epsilon, epsilon_high;    /* clip range; epsilon_high < 0: as epsilon */
    double beta;                     /* weight of the KL term; 0 loads no reference model */
    int64_t num_iterations;          /* passes over each batch of groups */
    int64_t steps_per_generation;    /* minibatches (optimizer steps) per pass */
    int sync_ref_model;              /* replace the reference every ref_model_sync_steps */
    int64_t ref_model_sync_steps;
    double ref_model_mixup_alpha;    /* reference = alpha * policy + (1 - alpha) * reference */
    int mask_truncated_completions;
    int exact;                       /* enum grpo_exact */
};
extern const struct config_section grpo_config_section;

/* Names are those of transformers' TrainingArguments. */
struct optimizer_config {            /* section "optimizer" */
    double learning_rate, weight_decay, adam_beta1, adam_beta2, adam_epsilon, max_grad_norm;
    int lr_scheduler_type;           /* constant, linear, cosine */
    double warmup_ratio;             /* share of all optimizer steps */
    double min_lr_ratio;             /* where linear and cosine end, as a share of learning_rate */
    int64_t micro_batch_tokens;      /* packed tokens per forward: memory, not results */
    int bf16_gradients;              /* between ranks */
    int bf16;                        /* weights are seen rounded to bfloat16, masters are float32 */
    int stochastic_rounding;         /* with bf16: no masters, updates are rounded at random */
    uint64_t noise;                  /* no key: what those random bits depend on */
    int gradient_checkpointing;      /* activations are computed again: memory, not results */
};
extern const struct config_section optimizer_config_section;

/* Names are those of PEFT's LoraConfig. */
struct lora_config {                 /* section "lora" */
    int64_t r;                       /* rank; 0: every weight is trained */
    double lora_alpha;               /* adapters count lora_alpha / r */
    char target_modules[CONFIG_TEXT_BYTES];   /* of model_lora_targets, or "all-linear" */
};
extern const struct config_section lora_config_section;
/* How a policy is loaded for these settings; `seed` is that of the adapters' start. */
struct model_options learner_model_options(const struct optimizer_config *optimizer,
                                           const struct lora_config *lora, uint64_t seed);

struct guard_config {                /* section "guard" */
    double z_score;
    int action;                      /* enum guard_action in learner/guard.h */
    int64_t window;
};
extern const struct config_section guard_config_section;

struct sft_config {                  /* section "sft": base, coldstart, reject, distill */
    double num_train_epochs;
    int64_t max_steps;               /* over num_train_epochs when > 0 */
    int64_t batch_tokens;            /* packed tokens of one optimizer step, about */
    int64_t max_length;              /* documents are cut here, in tokens */
};
extern const struct config_section sft_config_section;

struct learner_stats {               /* of one learner_step() or learner_train() */
    double loss, kl, entropy, grad_norm, learning_rate;
    double clip_low, clip_high;      /* share of tokens clipped below, above */
    double logp_difference_mean, logp_difference_max;   /* |learner - rollout|, sampled tokens */
    double ratio_min, ratio_mean, ratio_max;            /* exp(learner - rollout) */
    double reward, reward_std, zero_std_fraction;
    int64_t n_tokens, n_sequences;   /* trained ones */
    int64_t n_skipped;               /* optimizer steps that the guard left out */
    int64_t n_computed;              /* tokens of them that needed a forward pass: entropy's */
};

struct learner;
/* Borrows the policy (trainable) and the reference (the learner writes into it when it is synced).
 * It may be NULL when grpo->beta is 0, and when the policy has adapters: it is then the policy
 * without them. total_updates is the number of optimizer steps that the
 * learning-rate schedule spans.
 * With several ranks these are the functions of rank 0, and a learner lives and works on all. */
int learner_create(struct learner **out, struct ranks *ranks, struct model *policy,
                   struct model *reference, const struct grpo_config *grpo,
                   const struct optimizer_config *optimizer, int64_t total_updates);
void learner_destroy(struct learner **learner);
/* Outliers are looked for from here on; before learner_load_state(). */
int learner_set_guard(struct learner *learner, const struct guard_config *config);

/* Rank 0, before its first learner and after its last one: how the others compute; their end. */
int learner_lead(struct ranks *ranks, const char *device, int64_t threads, int64_t timeout_ms);
void learner_lead_end(struct ranks *ranks);
/* Every other rank: does what rank 0 orders until its end. */
int learner_follow(struct ranks *ranks);

/* One generation batch: fills each sample's advantage, then num_iterations x steps_per_generation
 * optimizer steps. `temperature` is the one the samples were drawn at; `seed` and `step` fix the
 * minibatch order; max_completion_length is the divisor of dr_grpo. */
struct learner_batch {
    struct sample_group *groups;
    size_t n_groups;
    float temperature;
    uint64_t seed;
    int64_t step;
    int64_t max_completion_length;
    uint32_t weight_version;         /* of the policy as it is: what wrote comparable samples */
};
int learner_step(struct learner *learner, const struct learner_batch *batch,
                 struct learner_stats *stats);

/* One optimizer step of supervised training: mean negative log-probability of the completion
 * tokens of all sequences. Sequences do not see each other. */
struct sequence {
    const int32_t *prompt, *completion;   /* loss on the completion; on its first token only when */
    uint32_t n_prompt, n_completion;      /* there is a prompt before it */
};
int learner_train(struct learner *learner, const struct sequence *sequences, size_t n,
                  struct learner_stats *stats);

/* Optimizer state and counters, beside the weights that model_save() writes; loading continues bit
 * for bit. The reference's weights are part of it when there is one. */
int learner_save_state(const struct learner *learner, const char *directory);
int learner_load_state(struct learner *learner, const char *directory);
int64_t learner_updates(const struct learner *learner);   /* optimizer steps so far */

/* Bytes of the learner's parts: for `hone plan`. */
struct learner_bytes {
    size_t weights, gradients, moments, activations, reference;   /* reference: with activations */
};
void learner_size(const struct model_shape *shape, const struct model_options *options,
                  const struct optimizer_config *optimizer, int with_reference,
                  struct learner_bytes *bytes);

#endif
