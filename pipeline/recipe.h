/*
 * pipeline/recipe.h - a recipe in YAML: settings, and stages wired into a graph. Private to
 * pipeline/, but for what pipeline.h passes on.
 *
 *     run: {name: demo, seed: 1}
 *     grpo: {learning_rate...}          # sections on the top hold for every stage
 *     stages:
 *       - name: rl                      # its own name: [a-z0-9_-]+
 *         stage: rl                     # a row of the table in stages.c
 *         from: coldstart               # whose checkpoint it starts from: a stage, or a folder
 *         sample: zero                  # whose checkpoint writes its data (coldstart, reject, ...)
 *         data_from: reject             # or: whose dataset it learns from
 *         grpo: {max_steps: 60}         # sections here hold for this stage alone
 *
 * A setting comes from, last wins: its default, the stage kind's defaults, the file's top, the
 * stage, --set.
 */
#ifndef HONE_PIPELINE_RECIPE_H
#define HONE_PIPELINE_RECIPE_H

#include "common/config.h"
#include "common/files.h"
#include "learner/learner.h"
#include "reward/reward.h"
#include "rollout/rollout.h"
#include "sandbox/sandbox.h"
#include "tasks/tasks.h"

#define STAGE_NAME_BYTES 64

struct run_config {                  /* section "run" */
    char name[CONFIG_TEXT_BYTES];
    int64_t seed;
    char endpoint[CONFIG_TEXT_BYTES];   /* where workers connect; empty: ipc in the run directory */
    char keys[CONFIG_TEXT_BYTES];       /* directory; empty: "keys" in the run directory */
    int insecure;                       /* a tcp:// endpoint without keys */
    int device;                         /* of the learner: index of rollout_devices[] */
    int64_t threads;                    /* of the learner; 0: one per core */
    int64_t keep_every_steps;
    char metric_for_best_model[CONFIG_TEXT_BYTES];
    int greater_is_better;
    int64_t save_steps, save_total_limit, logging_steps;
    int64_t lease_ms;                   /* a group not back by then is given out again */
    int64_t connect_ms;                 /* a worker must say hello by then */
    int64_t silent_ms;                  /* a worker must speak again by then */
    int64_t stuck_ms;                   /* something must come by then */
    int64_t max_lease_tries;
    int64_t rank_timeout_ms;            /* another rank must bring its part by then */
    int rank_transport;                 /* enum ranks_transport */
    char rank_endpoint[CONFIG_TEXT_BYTES];   /* of rank 0; empty: MASTER_ADDR, or ipc */
    int sample_texts;                   /* store the training samples in run.db */
};

struct model_config {                /* section "model": a new model for a base stage */
    int model_type;
    int64_t hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
    int64_t num_key_value_heads, head_dim, max_position_embeddings;
    double rope_theta, rms_norm_eps;
    int tie_word_embeddings;
    char tokenizer[CONFIG_TEXT_BYTES];   /* folder that holds tokenizer.json */
};

struct data_config {                 /* section "data": sampling and filtering a dataset */
    int64_t n_tasks, max_per_task;
    int require_right, require_format;
    double min_language, max_repetition;
    int64_t max_length;              /* tokens of a completion */
    double general_share;            /* of the dataset, from tasks.general */
};

struct eval_config {                 /* section "eval" */
    int64_t n_tasks, num_generations, eval_steps;
    double temperature, top_p;
};

struct stage_settings {
    struct model_config model;
    struct tasks_config tasks;
    struct grpo_config grpo;
    struct optimizer_config optimizer;
    struct lora_config lora;
    struct guard_config guard;
    struct sft_config sft;
    struct rollout_config rollout;
    struct reward_config reward;
    struct sandbox_config sandbox;
    struct data_config data;
    struct eval_config eval;
};
#define N_STAGE_SECTIONS 12

struct stage_kind;

struct stage {
    char name[STAGE_NAME_BYTES];
    const struct stage_kind *kind;
    char from[FILE_PATH_MAX], sample[STAGE_NAME_BYTES], data[STAGE_NAME_BYTES];
    struct stage_settings settings;
    char *yaml;                      /* resolved settings */
    char hash[DIGEST_HEX_BYTES];     /* of yaml and the wiring */
};

struct recipe {
    char *path;
    struct run_config run;
    struct stage *stages;
    size_t n_stages;
    char *yaml;                      /* the whole, resolved: written to the run directory */
    char hash[DIGEST_HEX_BYTES];
};

/* `overrides` ends with NULL: "section.key=value" for all stages, "stage:section.key=value" for
 * one. Relative paths in the file are taken as they stand: from the working directory. */
int recipe_open(struct recipe *recipe, const char *path, const char *const *overrides);
void recipe_release(struct recipe *recipe);
struct stage *recipe_find(const struct recipe *recipe, const char *name);   /* NULL when absent */

extern const struct config_section run_config_section, model_config_section, data_config_section,
    eval_config_section;

/* The bindings of one stage's sections, in the order of docs/config.md. */
void stage_bind(struct stage_settings *settings, struct config_binding bindings[N_STAGE_SECTIONS]);

#endif
