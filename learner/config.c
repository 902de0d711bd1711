/* The tables of sections "grpo", "sft" and "lora"; optimizer.c has that of "optimizer". */
#include <stddef.h>
#include <string.h>

#include "common/status.h"
#include "learner/grpo.h"
#include "learner/learner.h"

static const char *const loss_types[] = {"grpo", "dapo", "dr_grpo", "bnpo", NULL};
static const char *const scales[] = {"group", "batch", "none", NULL};
static const char *const levels[] = {"token", "sequence", NULL};
static const char *const exacts[] = {"off", "warn", "fail", NULL};

#define GRPO(key, type, text, low, high, choices, help)                                            \
    {#key, type, offsetof(struct grpo_config, key), text, low, high, choices, help}
static const struct config_field grpo_fields[] = {
    GRPO(max_steps, CONFIG_INT, "100", 0, 100000000, NULL, "steps: batches of groups"),
    GRPO(tasks_per_step, CONFIG_INT, "32", 1, 1000000, NULL, "tasks (groups) of one step"),
    GRPO(loss_type, CONFIG_ENUM, "dapo", 0, 0, loss_types,
         "how token losses are averaged: grpo per completion then over completions, dapo over all "
         "tokens of the optimizer step, dr_grpo over completions x max_completion_length, bnpo "
         "over the tokens of the micro-batch"),
    GRPO(scale_rewards, CONFIG_ENUM, "group", 0, 0, scales,
         "what the advantage is divided by: the unbiased standard deviation of its group or of the "
         "batch (+ 1e-4), or nothing"),
    GRPO(importance_sampling_level, CONFIG_ENUM, "token", 0, 0, levels,
         "the ratio is of each token, or of the whole completion (length-normalised, GSPO)"),
    GRPO(epsilon, CONFIG_FLOAT, "0.2", 0, 1e6, NULL, "ratios below 1 - epsilon are clipped"),
    GRPO(epsilon_high, CONFIG_FLOAT, "-1", -1, 1e6, NULL,
         "ratios above 1 + epsilon_high are clipped; -1: the same as epsilon"),
    GRPO(beta, CONFIG_FLOAT, "0", 0, 1e6, NULL,
         "weight of the k3 KL term against the reference; 0 loads no reference model"),
    GRPO(num_iterations, CONFIG_INT, "1", 1, 1000, NULL, "passes over the samples of one step"),
    GRPO(steps_per_generation, CONFIG_INT, "1", 1, 100000, NULL,
         "optimizer steps (minibatches) of one pass"),
    GRPO(sync_ref_model, CONFIG_BOOL, "false", 0, 0, NULL,
         "replace the reference model every ref_model_sync_steps batches of groups"),
    GRPO(ref_model_sync_steps, CONFIG_INT, "400", 1, 100000000, NULL,
         "steps (batches of groups) between replacements of the reference model"),
    GRPO(ref_model_mixup_alpha, CONFIG_FLOAT, "1", 0, 1, NULL,
         "the new reference is alpha x policy + (1 - alpha) x reference"),
    GRPO(mask_truncated_completions, CONFIG_BOOL, "false", 0, 0, NULL,
         "leave completions that hit the length limit out of the loss (and out of the count N)"),
    GRPO(exact, CONFIG_ENUM, "fail", 0, 0, exacts,
         "when a log-probability that rollout recorded is not, to the bit, the one that the "
         "learner computes for the same weights: fail ends the run and takes the recorded ones for "
         "the old ones of several updates; warn says so once a step; off only measures"),
    {0},
};

static int check_grpo(const void *config)
{
    const struct grpo_config *grpo = config;

    if (grpo->epsilon_high < 0 && grpo->epsilon_high != -1)
        return status_fail(STATUS_CONFIG, "grpo.epsilon_high is %g; it must be -1 (as epsilon) or "
                           "at least 0", grpo->epsilon_high);
    if (grpo->sync_ref_model && grpo->beta == 0)
        return status_fail(STATUS_CONFIG, "grpo.sync_ref_model is true but grpo.beta is 0, which "
                           "has no reference model; set grpo.beta or leave sync_ref_model out");
    if (grpo->steps_per_generation > grpo->tasks_per_step)
        return status_fail(STATUS_CONFIG, "grpo.steps_per_generation is %lld, more than "
                           "grpo.tasks_per_step %lld: a minibatch needs at least one group",
                           (long long)grpo->steps_per_generation,
                           (long long)grpo->tasks_per_step);
    return STATUS_OK;
}

const struct config_section grpo_config_section = {
    "grpo", "Group Relative Policy Optimization; names as in TRL's GRPOConfig", grpo_fields,
    check_grpo};

#define SFT(key, type, text, low, high, help)                                                      \
    {#key, type, offsetof(struct sft_config, key), text, low, high, NULL, help}
static const struct config_field sft_fields[] = {
    SFT(num_train_epochs, CONFIG_FLOAT, "2", 0, 10000, "passes over the documents"),
    SFT(max_steps, CONFIG_INT, "0", 0, 100000000, "optimizer steps; 0: as num_train_epochs says"),
    SFT(batch_tokens, CONFIG_INT, "4096", 16, 1 << 28,
        "packed tokens of one optimizer step; documents are never split to meet it"),
    SFT(max_length, CONFIG_INT, "1024", 2, 1 << 24, "tokens of one document; the rest is cut off"),
    {0},
};
const struct config_section sft_config_section = {
    "sft", "supervised training: pre-training of the base and fine-tuning", sft_fields, NULL};

#define LORA(key, type, text, low, high, help)                                                     \
    {#key, type, offsetof(struct lora_config, key), text, low, high, NULL, help}
static const struct config_field lora_fields[] = {
    LORA(r, CONFIG_INT, "0", 0, 4096, "rank of the adapters; 0: none, every weight is trained"),
    LORA(lora_alpha, CONFIG_FLOAT, "16", 1e-6, 1e6, "adapters count lora_alpha / r"),
    LORA(target_modules, CONFIG_LIST, "all-linear", 0, 0,
         "projections that get an adapter: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
         "down_proj; all-linear: all of them"),
    {0},
};

/* Bits of model_lora_targets; 0 and a reason when a name is unknown. */
static unsigned lora_targets(const struct lora_config *lora)
{
    char name[64];
    unsigned bits = 0;

    if (strcmp(lora->target_modules, "all-linear") == 0)
        return (1u << MODEL_N_LORA_TARGETS) - 1;
    for (size_t i = 0; config_list_item(lora->target_modules, i, name, sizeof(name)); i++) {
        int t = 0;
        while (t < MODEL_N_LORA_TARGETS && strcmp(model_lora_targets[t], name) != 0)
            t++;
        if (t == MODEL_N_LORA_TARGETS) {
            const char *near = config_nearest(name, model_lora_targets, MODEL_N_LORA_TARGETS);
            status_fail(STATUS_CONFIG, "lora.target_modules: \"%s\" is unknown%s%s%s; it takes "
                        "all-linear or some of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, "
                        "down_proj", name, near ? "; did you mean \"" : "", near ? near : "",
                        near ? "\"" : "");
            return 0;
        }
        bits |= 1u << t;
    }
    if (!bits)
        status_fail(STATUS_CONFIG, "lora.target_modules is empty; all-linear takes every "
                    "projection");
    return bits;
}

static int check_lora(const void *config)
{
    return lora_targets(config) ? STATUS_OK : STATUS_CONFIG;
}

const struct config_section lora_config_section = {
    "lora", "low-rank adapters instead of all weights; names as in PEFT's LoraConfig", lora_fields,
    check_lora};

struct model_options learner_model_options(const struct optimizer_config *optimizer,
                                           const struct lora_config *lora, uint64_t seed)
{
    struct model_options options = {.trainable = 1, .bf16 = optimizer->bf16};

    if (lora->r)
        options.lora =
            (struct model_lora){(int)lora->r, lora->lora_alpha, lora_targets(lora), seed};
    return options;
}
