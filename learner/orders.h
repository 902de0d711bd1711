/*
 * learner/orders.h - what rank 0 tells the others to do, so that all do it. Private to learner/.
 *
 * An order is its kind, then what that takes: structs as they lie in memory, since all ranks are
 * one program, and groups as in wire/. docs/cluster.md says what travels when.
 */
#ifndef HONE_LEARNER_ORDERS_H
#define HONE_LEARNER_ORDERS_H

#include "learner/internal.h"

enum order_kind {
    ORDER_BEGIN = 1,   /* struct order_begin: the first one */
    ORDER_CREATE,      /* struct order_create; weights follow */
    ORDER_GUARD,       /* struct guard_config */
    ORDER_STEP,        /* struct order_step, groups */
    ORDER_TRAIN,       /* sequences */
    ORDER_SAVE,
    ORDER_LOAD,        /* weights, moments and the guard's window follow */
    ORDER_DESTROY,
    ORDER_END
};

struct order_begin {
    char device[64];
    int64_t threads, timeout_ms;
};

struct order_create {
    struct model_shape shape;
    struct model_options policy, reference;
    struct grpo_config grpo;
    struct optimizer_config optimizer;
    int64_t total_updates;
    int32_t has_reference;
};

struct order_step {
    float temperature;
    uint32_t weight_version;
    uint64_t seed, n_groups;
    int64_t step, max_completion_length;
};

/* Collective. All weights of a model as an image, into one of the same shape; *model is made from
 * it where it is NULL. What is trained, bit for bit. */
int order_send_image(struct ranks *ranks, struct model **model, struct ops *ops,
                     const struct order_create *order, int is_reference);
int order_send_trained(struct ranks *ranks, struct model *model);

#endif
