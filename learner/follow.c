/* What every rank but rank 0 does: orders, one after another, until the last one. It has no run
 * directory, and reads no files. */
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "learner/orders.h"

#define ARENA_BYTES ((size_t)8 << 30)

struct follower {
    struct ranks *ranks;
    struct ops *ops;
    struct model *policy, *reference;
    struct learner *learner;
    struct arena arena;               /* the batch of one order */
    struct text order;
    size_t at;                        /* bytes of it that are read */
};

/* The next n bytes; all ranks are one program, so that a short order is a mistake of ours. */
static const void *take(struct follower *follower, size_t n)
{
    if (n > follower->order.length - follower->at)
        BUG("an order of %zu bytes ends at byte %zu", follower->order.length, follower->at);
    const void *bytes = follower->order.data + follower->at;
    follower->at += n;
    return bytes;
}

static void take_into(struct follower *follower, void *out, size_t n)
{
    memcpy(out, take(follower, n), n);
}

static int begin(struct follower *follower)
{
    struct ranks *ranks = follower->ranks;
    struct order_begin order;

    take_into(follower, &order, sizeof(order));
    ranks_set_timeout(ranks, order.timeout_ms);
    return ranks_open_device(ranks, &follower->ops, order.device, order.threads);
}

static void forget_learner(struct follower *follower)
{
    learner_destroy_here(&follower->learner);
    model_destroy(&follower->policy);
    model_destroy(&follower->reference);
}

static int create(struct follower *follower)
{
    struct ranks *ranks = follower->ranks;
    struct order_create order;

    take_into(follower, &order, sizeof(order));
    forget_learner(follower);
    if (order.policy.lora.rank)
        TRY(order_send_image(ranks, &follower->policy, follower->ops, &order, 0));
    else
        TRY(model_create(&follower->policy, follower->ops, &order.shape, &order.policy, 0));
    TRY(order_send_trained(ranks, follower->policy));
    if (order.has_reference)
        TRY(order_send_image(ranks, &follower->reference, follower->ops, &order, 1));
    int status = learner_create_here(&follower->learner, ranks, follower->policy,
                                     follower->reference, &order.grpo, &order.optimizer,
                                     order.total_updates);
    return ranks_agree(ranks, status);
}

static int step(struct follower *follower)
{
    struct learner_stats stats;
    struct order_step order;

    take_into(follower, &order, sizeof(order));
    struct sample_group *groups =
        ARENA_NEW(&follower->arena, struct sample_group, order.n_groups + 1);
    for (uint64_t g = 0; g < order.n_groups && groups; g++) {
        struct wire_group group;
        uint64_t n;
        take_into(follower, &n, sizeof(n));
        TRY(wire_decode_group(take(follower, n), n, &follower->arena, &group));
        groups[g] = group.group;
    }
    if (!groups)
        return status_fail(STATUS_NOMEM, "no room for %llu groups",
                           (unsigned long long)order.n_groups);
    const struct learner_batch batch = {
        .groups = groups,
        .n_groups = order.n_groups,
        .temperature = order.temperature,
        .seed = order.seed,
        .step = order.step,
        .max_completion_length = order.max_completion_length,
        .weight_version = order.weight_version,
    };
    return learner_step_here(follower->learner, &batch, &stats);
}

static int train(struct follower *follower)
{
    struct learner_stats stats;
    uint64_t n;

    take_into(follower, &n, sizeof(n));
    struct sequence *list = ARENA_NEW(&follower->arena, struct sequence, n + 1);
    if (!list)
        return status_fail(STATUS_NOMEM, "no room for %llu documents", (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        struct sequence *s = &list[i];
        take_into(follower, &s->n_prompt, sizeof(s->n_prompt));
        take_into(follower, &s->n_completion, sizeof(s->n_completion));
        s->prompt = take(follower, s->n_prompt * sizeof(*s->prompt));
        s->completion = take(follower, s->n_completion * sizeof(*s->completion));
    }
    return learner_train_here(follower->learner, list, n, &stats);
}

static int set_guard(struct follower *follower)
{
    struct guard_config config;

    take_into(follower, &config, sizeof(config));
    learner_set_guard_here(follower->learner, &config);
    return STATUS_OK;
}

static int obey(struct follower *follower, enum order_kind kind)
{
    switch (kind) {
    case ORDER_BEGIN:
        return begin(follower);
    case ORDER_CREATE:
        return create(follower);
    case ORDER_GUARD:
        return set_guard(follower);
    case ORDER_STEP:
        return step(follower);
    case ORDER_TRAIN:
        return train(follower);
    case ORDER_SAVE:
        return learner_save_here(follower->learner, NULL);
    case ORDER_LOAD:
        return learner_load_here(follower->learner, NULL);
    case ORDER_DESTROY:
        forget_learner(follower);
        return STATUS_OK;
    case ORDER_END:
        return STATUS_OK;
    }
    BUG("order %d", (int)kind);
}

static int follow(struct follower *follower)
{
    uint32_t kind = 0;

    while (kind != ORDER_END) {
        TRY(ranks_order_receive(follower->ranks, &follower->order));
        follower->at = 0;
        arena_rewind(&follower->arena);
        take_into(follower, &kind, sizeof(kind));
        int status = obey(follower, (enum order_kind)kind);
        if (status == STATUS_OK)
            ranks_order_done(follower->ranks);
        else if (!ranks_have_agreed(follower->ranks))
            return status;   /* else rank 0 writes down why, and ends us */
    }
    return STATUS_OK;
}

int learner_follow(struct ranks *ranks)
{
    struct follower follower = {.ranks = ranks};

    arena_init(&follower.arena, ARENA_BYTES);
    follower.order.maximum = (size_t)1 << 40;
    int status = follow(&follower);
    forget_learner(&follower);
    ranks_leave_device(ranks);
    ops_destroy(&follower.ops);
    arena_release(&follower.arena);
    text_release(&follower.order);
    return status;
}
