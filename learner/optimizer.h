/*
 * learner/optimizer.h - AdamW over what a model trains, clip and schedule. Private to learner/.
 *
 * One rank alone has the moments of every tensor. Of several, each has those of its slices, and
 * norm, update, save and load are collective.
 */
#ifndef HONE_LEARNER_OPTIMIZER_H
#define HONE_LEARNER_OPTIMIZER_H

#include "common/files.h"
#include "learner/learner.h"

struct optimizer;
int optimizer_create(struct optimizer **out, struct ranks *ranks, struct model *model,
                     const struct optimizer_config *config, int64_t total_updates);
void optimizer_destroy(struct optimizer **optimizer);

/* The learning rate of update number `update` (from 0): linear warm-up over warmup_ratio of all
 * updates, then constant, linear or cosine down to min_lr_ratio. */
double optimizer_learning_rate(const struct optimizer_config *config, int64_t update,
                               int64_t total_updates);

/* NULL of one rank alone. */
struct shards *optimizer_shards(const struct optimizer *optimizer);

/* Global L2 norm of the gradients, which are summed over all ranks. */
int optimizer_grad_norm(const struct optimizer *optimizer, double *norm);
/* Clips the gradients, whose norm is `grad_norm`, to max_grad_norm (0: off); one AdamW step. */
int optimizer_update(struct optimizer *optimizer, double grad_norm, double *learning_rate);

int64_t optimizer_updates(const struct optimizer *optimizer);
/* A safetensors file: the same whatever the number of ranks. Only rank 0 has `path`, and `map`. */
int optimizer_save(const struct optimizer *optimizer, const char *path);
int optimizer_load(struct optimizer *optimizer, const struct file_map *map, const char *path);

#endif
