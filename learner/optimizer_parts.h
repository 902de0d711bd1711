/* learner/optimizer_parts.h - what optimizer.c shares with optimizer_state.c. Private. */
#ifndef HONE_LEARNER_OPTIMIZER_PARTS_H
#define HONE_LEARNER_OPTIMIZER_PARTS_H

#include "learner/optimizer.h"
#include "learner/shards.h"

/* What is updated at once: a tensor, or a slice of several. */
struct part {
    struct tensor weight, gradient, m, v;   /* m, v: device memory of its own */
    int64_t first;                          /* of weight in the run of what is trained */
};

struct optimizer {
    struct ranks *ranks;
    struct shards *shards;                  /* NULL: one rank alone */
    struct model *model;
    struct optimizer_config config;
    int64_t total_updates, updates;
    struct part *parts;
    size_t n_parts;
};

#endif
