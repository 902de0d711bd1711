#include "learner/optimizer.h"

#include <math.h>

#include "common/random.h"
#include "common/status.h"
#include "common/watchdog.h"
#include "learner/optimizer_parts.h"

enum { SCHEDULE_CONSTANT, SCHEDULE_LINEAR, SCHEDULE_COSINE };
static const char *const schedules[] = {"constant", "linear", "cosine", NULL};

#define FIELD(key, type, text, low, high, choices, help)                                           \
    {#key, type, offsetof(struct optimizer_config, key), text, low, high, choices, help}
static const struct config_field fields[] = {
    FIELD(learning_rate, CONFIG_FLOAT, "1e-6", 0, 1, NULL, "peak learning rate of AdamW"),
    FIELD(weight_decay, CONFIG_FLOAT, "0", 0, 1, NULL, "decoupled weight decay of AdamW"),
    FIELD(adam_beta1, CONFIG_FLOAT, "0.9", 0, 0.999999, NULL, "decay of the first moment"),
    FIELD(adam_beta2, CONFIG_FLOAT, "0.999", 0, 0.9999999, NULL, "decay of the second moment"),
    FIELD(adam_epsilon, CONFIG_FLOAT, "1e-8", 1e-20, 1, NULL,
          "added to the root of the second moment"),
    FIELD(max_grad_norm, CONFIG_FLOAT, "1.0", 0, 1e9, NULL,
          "gradients are scaled down to this global norm; 0 switches clipping off"),
    FIELD(lr_scheduler_type, CONFIG_ENUM, "constant", 0, 0, schedules,
          "shape of the learning rate after the warm-up"),
    FIELD(warmup_ratio, CONFIG_FLOAT, "0", 0, 1, NULL,
          "share of all optimizer steps over which the learning rate rises from 0"),
    FIELD(min_lr_ratio, CONFIG_FLOAT, "0", 0, 1, NULL,
          "where linear and cosine schedules end, as a share of learning_rate"),
    FIELD(micro_batch_tokens, CONFIG_INT, "2048", 16, 1 << 24, NULL,
          "tokens packed into one forward pass: lower it to save memory, raise it on a GPU; "
          "results stay (but bnpo)"),
    FIELD(bf16, CONFIG_BOOL, "false", 0, 0, NULL,
          "learner and rollout see the weights rounded to bfloat16; AdamW keeps float32 masters"),
    FIELD(stochastic_rounding, CONFIG_BOOL, "false", 0, 0, NULL,
          "with bf16: no masters; AdamW rounds each weight to one of its neighbours in bfloat16, "
          "at random, so that small updates count on average"),
    FIELD(bf16_gradients, CONFIG_BOOL, "false", 0, 0, NULL,
          "of several ranks: gradients travel rounded to bfloat16, half as many bytes, and are "
          "added as float32"),
    FIELD(gradient_checkpointing, CONFIG_BOOL, "false", 0, 0, NULL,
          "keep only the input of each layer and compute the rest again: less memory, about a "
          "third more time, the same results"),
    {0},
};

static int check_optimizer(const void *config)
{
    const struct optimizer_config *optimizer = config;

    if (optimizer->stochastic_rounding && !optimizer->bf16)
        return status_fail(STATUS_CONFIG, "optimizer.stochastic_rounding is true but "
                           "optimizer.bf16 is false: weights of float32 are not rounded; set "
                           "optimizer.bf16=true or leave stochastic_rounding out");
    return STATUS_OK;
}

const struct config_section optimizer_config_section = {
    "optimizer", "AdamW and its schedule; names as in transformers' TrainingArguments", fields,
    check_optimizer};

static int alloc_moments(struct ops *ops, struct part *part)
{
    size_t bytes = (size_t)tensor_count(&part->weight) * sizeof(float);

    part->m = part->v = part->weight;
    part->m.data = part->v.data = NULL;
    TRY(ops_alloc(ops, bytes, &part->m.data));
    return ops_alloc(ops, bytes, &part->v.data);
}

/* My slices of what all ranks train, or every tensor. */
static void list_parts(struct optimizer *optimizer)
{
    const struct shards *shards = optimizer->shards;
    float *weights, *gradients;

    model_trained_run(optimizer->model, &weights, &gradients);
    optimizer->n_parts = shards ? shards_count(shards) : model_n_trained(optimizer->model);
    optimizer->parts = mem_alloc(optimizer->n_parts, sizeof(*optimizer->parts));
    for (size_t i = 0; i < optimizer->n_parts; i++) {
        struct part *part = &optimizer->parts[i];
        if (!shards) {
            model_trained(optimizer->model, i, &part->weight, &part->gradient);
            part->first = tensor_f32(&part->weight) - weights;
            continue;
        }
        struct slice slice = shards_slice(shards, i, ranks_index(optimizer->ranks));
        part->first = (int64_t)slice.first;
        part->weight = tensor_1d(weights + slice.first, (int64_t)slice.n);
        part->gradient = tensor_1d(gradients + slice.first, (int64_t)slice.n);
    }
}

/* What training starts from, in the values that it may take; nothing changes when it goes on. */
static int round_weights(struct model *model)
{
    for (size_t i = 0; i < model_n_trained(model); i++) {
        struct tensor weight;
        model_trained(model, i, &weight, NULL);
        ops_round_bf16(model_ops(model), &weight, &weight);
    }
    model_weights_changed(model);
    return ops_sync(model_ops(model));
}

int optimizer_create(struct optimizer **out, struct ranks *ranks, struct model *model,
                     const struct optimizer_config *config, int64_t total_updates)
{
    struct optimizer *optimizer = mem_alloc(1, sizeof(*optimizer));

    optimizer->ranks = ranks;
    optimizer->model = model;
    optimizer->config = *config;
    optimizer->total_updates = total_updates;
    int status = shards_create(&optimizer->shards, ranks, model, config->bf16_gradients);
    if (status == STATUS_OK)
        list_parts(optimizer);
    for (size_t i = 0; i < optimizer->n_parts && status == STATUS_OK; i++)
        status = alloc_moments(model_ops(model), &optimizer->parts[i]);
    if (status == STATUS_OK && config->stochastic_rounding)
        status = round_weights(model);
    if (status < 0)
        optimizer_destroy(&optimizer);
    *out = optimizer;
    return status;
}

void optimizer_destroy(struct optimizer **optimizer)
{
    if (*optimizer) {
        for (size_t i = 0; i < (*optimizer)->n_parts; i++) {
            ops_free(model_ops((*optimizer)->model), (*optimizer)->parts[i].m.data);
            ops_free(model_ops((*optimizer)->model), (*optimizer)->parts[i].v.data);
        }
        mem_free((*optimizer)->parts);
        shards_destroy(&(*optimizer)->shards);
        mem_free(*optimizer);
    }
    *optimizer = NULL;
}

struct shards *optimizer_shards(const struct optimizer *optimizer)
{
    return optimizer->shards;
}

double optimizer_learning_rate(const struct optimizer_config *config, int64_t update,
                               int64_t total_updates)
{
    double warmup = floor(config->warmup_ratio * (double)total_updates);
    double done = (double)update;
    double least = config->min_lr_ratio;

    if (done < warmup)
        return config->learning_rate * (done + 1.0) / warmup;
    double rest = (double)total_updates - warmup;
    double share = rest > 0.0 ? (done - warmup) / rest : 0.0;
    if (share > 1.0)
        share = 1.0;
    if (config->lr_scheduler_type == SCHEDULE_LINEAR)
        return config->learning_rate * (least + (1.0 - least) * (1.0 - share));
    if (config->lr_scheduler_type == SCHEDULE_COSINE)
        return config->learning_rate *
               (least + (1.0 - least) * 0.5 * (1.0 + cos(3.141592653589793 * share)));
    return config->learning_rate;
}

int optimizer_grad_norm(const struct optimizer *optimizer, double *norm)
{
    double all[RANKS_MAX], mine = 0.0, sum = 0.0;
    int count = ranks_count(optimizer->ranks);

    for (size_t i = 0; i < optimizer->n_parts; i++)
        mine += ops_sum_squares(model_ops(optimizer->model), &optimizer->parts[i].gradient);
    TRY(ranks_share(optimizer->ranks, &mine, all, sizeof(mine)));
    for (int r = 0; r < count; r++)
        sum += all[r];
    *norm = sqrt(sum);
    return STATUS_OK;
}

int optimizer_update(struct optimizer *optimizer, double grad_norm, double *learning_rate)
{
    struct model *model = optimizer->model;
    struct ops *ops = model_ops(model);
    const struct optimizer_config *config = &optimizer->config;
    struct adamw_step step = {
        .learning_rate =
            optimizer_learning_rate(config, optimizer->updates, optimizer->total_updates),
        .beta1 = config->adam_beta1,
        .beta2 = config->adam_beta2,
        .epsilon = config->adam_epsilon,
        .weight_decay = config->weight_decay,
        .gradient_scale = config->max_grad_norm > 0.0 && grad_norm > config->max_grad_norm
                              ? config->max_grad_norm / (grad_norm + 1e-6)
                              : 1.0,
        .step = optimizer->updates + 1,
    };
    for (size_t i = 0; i < optimizer->n_parts; i++) {
        struct part *part = &optimizer->parts[i];
        pulse("updates the weights");
        ops_adamw(ops, &part->weight, &part->m, &part->v, &part->gradient, &step);
        if (config->stochastic_rounding)
            ops_round_stochastic(ops, &part->weight, random_mix(config->noise, (uint64_t)step.step),
                                 part->first);
        TRY(shards_spread(optimizer->shards, i));
    }
    TRY(shards_spread_end(optimizer->shards));
    optimizer->updates++;
    *learning_rate = step.learning_rate;
    model_weights_changed(model);
    return ops_sync(ops);
}

int64_t optimizer_updates(const struct optimizer *optimizer)
{
    return optimizer->updates;
}
