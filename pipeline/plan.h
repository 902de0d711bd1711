/* pipeline/plan.h - what plan.c prints and plan_sizes.c works out. Private to them. */
#ifndef HONE_PIPELINE_PLAN_H
#define HONE_PIPELINE_PLAN_H

#include "model/model.h"
#include "pipeline/recipe.h"

#define PLAN_WHY_BYTES 512

/* Bytes of one process, part by part. */
enum {
    PART_WEIGHTS,
    PART_GRADIENTS,
    PART_MOMENTS,
    PART_ACTIVATIONS,    /* and scratch */
    PART_REFERENCE,      /* weights and activations */
    PART_CACHE,          /* keys and values */
    PART_TRANSIT,        /* weights that wait in queues, or for who reads them */
    PART_GROUPS,         /* samples of one step */
    PART_BUCKETS,        /* gradients under way between ranks */
    N_PARTS
};
extern const char *const plan_part_names[N_PARTS], *const plan_part_keys[N_PARTS];

struct plan_memory {
    double parts[N_PARTS];
    double total;
};

struct stage_plan {
    int has_shape;
    struct model_shape shape;
    char why_unknown[PLAN_WHY_BYTES];   /* of the shape, when it is not known */
    int64_t parameters;
    int n_rollout, n_reward;            /* processes */
    int n_ranks, learns_on_card;        /* learners */
    struct plan_memory learner, rollout;   /* of one process */
    double reward_bytes;                /* of one process, with its program running */
    double total_bytes;                 /* of all processes */
    /* Tokens of the whole stage; -1: not known, 0: none. What is sampled is an upper bound. */
    double sampled_tokens, trained_tokens, eval_tokens;
    double n_samples, n_rows, n_steps;
};

/* Plans of all stages, in order; `run` may be a directory that does not exist. The caller frees. */
struct stage_plan *plan_sizes(const struct recipe *recipe, const char *run, int n_ranks);
/* Fills the memory of a stage whose shape is known. */
void plan_size_memory(const struct stage *stage, struct stage_plan *plan);
double plan_machine_bytes(void);   /* memory of this machine */
int64_t plan_cache_tokens(const struct stage *stage, const struct stage_plan *plan);
/* plan_advice.c: which settings would lower the memory of a stage, and by how much. */
void plan_print_advice(struct text *out, const struct stage *stage, const struct stage_plan *plan);

#endif
