/* The functions of learner.h on rank 0: an order to the other ranks, then what all ranks do. Of one
 * rank alone there is nobody to order. */
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "learner/orders.h"

static struct text order_of(enum order_kind kind)
{
    uint32_t value = kind;
    struct text order = {.maximum = (size_t)1 << 40};

    text_append(&order, &value, sizeof(value));
    return order;
}

static int send_order(struct ranks *ranks, struct text *order)
{
    int status = order->failed ? status_fail(STATUS_NOMEM, "an order to the ranks is too large")
                               : ranks_order_send(ranks, order);

    text_release(order);
    return status;
}

/* An order that failed otherwise than by agreement ends all ranks. */
static int end_order(struct ranks *ranks, int status)
{
    if (status == STATUS_OK)
        ranks_order_done(ranks);
    return status;
}

int learner_lead(struct ranks *ranks, const char *device, int64_t threads, int64_t timeout_ms)
{
    struct order_begin begin = {.threads = threads, .timeout_ms = timeout_ms};

    if (!ranks)
        return STATUS_OK;
    struct text order = order_of(ORDER_BEGIN);
    snprintf(begin.device, sizeof(begin.device), "%s", device);
    text_append(&order, &begin, sizeof(begin));
    ranks_set_timeout(ranks, timeout_ms);
    TRY(send_order(ranks, &order));
    return end_order(ranks, STATUS_OK);
}

void learner_lead_end(struct ranks *ranks)
{
    struct text order = order_of(ORDER_END);

    if (ranks && send_order(ranks, &order) == STATUS_OK)
        end_order(ranks, STATUS_OK);
    else
        text_release(&order);
    ranks_leave_device(ranks);
}

static int order_create(struct ranks *ranks, struct model *policy, struct model *reference,
                        const struct order_create *create)
{
    struct text order = order_of(ORDER_CREATE);

    text_append(&order, create, sizeof(*create));
    TRY(send_order(ranks, &order));
    if (model_has_adapters(policy))
        TRY(order_send_image(ranks, &policy, NULL, create, 0));
    TRY(order_send_trained(ranks, policy));
    return reference ? order_send_image(ranks, &reference, NULL, create, 1) : STATUS_OK;
}

int learner_create(struct learner **out, struct ranks *ranks, struct model *policy,
                   struct model *reference, const struct grpo_config *grpo,
                   const struct optimizer_config *optimizer, int64_t total_updates)
{
    struct order_create create = {.has_reference = reference != NULL};

    *out = NULL;
    if (ranks) {
        create.shape = *model_shape(policy);
        create.policy = *model_options(policy);
        if (reference)
            create.reference = *model_options(reference);
        create.grpo = *grpo;
        create.optimizer = *optimizer;
        create.total_updates = total_updates;
        TRY(order_create(ranks, policy, reference, &create));
    }
    int status = learner_create_here(out, ranks, policy, reference, grpo, optimizer, total_updates);
    return end_order(ranks, ranks_agree(ranks, status));
}

void learner_destroy(struct learner **learner)
{
    struct ranks *ranks = *learner ? (*learner)->ranks : NULL;

    if (ranks) {
        struct text order = order_of(ORDER_DESTROY);
        end_order(ranks, send_order(ranks, &order));
    }
    learner_destroy_here(learner);
}

int learner_set_guard(struct learner *learner, const struct guard_config *config)
{
    if (learner->ranks) {
        struct text order = order_of(ORDER_GUARD);
        text_append(&order, config, sizeof(*config));
        TRY(send_order(learner->ranks, &order));
    }
    learner_set_guard_here(learner, config);
    return end_order(learner->ranks, STATUS_OK);
}

static int append_groups(struct text *order, const struct learner_batch *batch)
{
    struct text frame = {0};
    int status = STATUS_OK;

    for (size_t g = 0; g < batch->n_groups && status == STATUS_OK; g++) {
        const struct wire_group group = {.lease = g, .group = batch->groups[g]};
        text_clear(&frame);
        status = wire_encode_group(&group, &frame);
        uint64_t n = frame.length;
        text_append(order, &n, sizeof(n));
        text_append(order, frame.data, frame.length);
    }
    text_release(&frame);
    return status;
}

static int order_step(struct ranks *ranks, const struct learner_batch *batch)
{
    struct text order = order_of(ORDER_STEP);
    const struct order_step step = {
        .temperature = batch->temperature,
        .weight_version = batch->weight_version,
        .seed = batch->seed,
        .n_groups = batch->n_groups,
        .step = batch->step,
        .max_completion_length = batch->max_completion_length,
    };

    text_append(&order, &step, sizeof(step));
    int status = append_groups(&order, batch);
    if (status < 0)
        text_release(&order);
    return status < 0 ? status : send_order(ranks, &order);
}

int learner_step(struct learner *learner, const struct learner_batch *batch,
                 struct learner_stats *stats)
{
    if (learner->ranks)
        TRY(order_step(learner->ranks, batch));
    return end_order(learner->ranks, learner_step_here(learner, batch, stats));
}

static int order_train(struct ranks *ranks, const struct sequence *sequences, size_t n)
{
    struct text order = order_of(ORDER_TRAIN);
    uint64_t count = n;

    text_append(&order, &count, sizeof(count));
    for (size_t i = 0; i < n; i++) {
        const struct sequence *s = &sequences[i];
        text_append(&order, &s->n_prompt, sizeof(s->n_prompt));
        text_append(&order, &s->n_completion, sizeof(s->n_completion));
        text_append(&order, s->prompt, s->n_prompt * sizeof(*s->prompt));
        text_append(&order, s->completion, s->n_completion * sizeof(*s->completion));
    }
    return send_order(ranks, &order);
}

int learner_train(struct learner *learner, const struct sequence *sequences, size_t n,
                  struct learner_stats *stats)
{
    if (learner->ranks)
        TRY(order_train(learner->ranks, sequences, n));
    return end_order(learner->ranks, learner_train_here(learner, sequences, n, stats));
}

int learner_save_state(const struct learner *learner, const char *directory)
{
    if (learner->ranks) {
        struct text order = order_of(ORDER_SAVE);
        TRY(send_order(learner->ranks, &order));
    }
    return end_order(learner->ranks, learner_save_here(learner, directory));
}

int learner_load_state(struct learner *learner, const char *directory)
{
    if (learner->ranks) {
        struct text order = order_of(ORDER_LOAD);
        TRY(send_order(learner->ranks, &order));
    }
    return end_order(learner->ranks, learner_load_here(learner, directory));
}
