#include "learner/optimizer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"

#define NAME_BYTES 256

struct optimizer {
    struct model *model;
    struct optimizer_config config;
    int64_t total_updates, updates;
    struct tensor *m, *v;   /* [model_n_weights], device memory */
};

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
    FIELD(gradient_checkpointing, CONFIG_BOOL, "false", 0, 0, NULL,
          "keep only the input of each layer and compute the rest again: less memory, about a "
          "third more time, the same results"),
    {0},
};
const struct config_section optimizer_config_section = {
    "optimizer", "AdamW and its schedule; names as in transformers' TrainingArguments", fields,
    NULL};

static int alloc_moments(struct ops *ops, struct tensor *list, size_t i, const struct tensor *like)
{
    list[i] = *like;
    list[i].data = NULL;
    return ops_alloc(ops, (size_t)tensor_count(like) * sizeof(float), &list[i].data);
}

int optimizer_create(struct optimizer **out, struct model *model,
                     const struct optimizer_config *config, int64_t total_updates)
{
    size_t n = model_n_trained(model);
    struct optimizer *optimizer = mem_alloc(1, sizeof(*optimizer));
    int status = STATUS_OK;

    optimizer->model = model;
    optimizer->config = *config;
    optimizer->total_updates = total_updates;
    optimizer->m = mem_alloc(n, sizeof(*optimizer->m));
    optimizer->v = mem_alloc(n, sizeof(*optimizer->v));
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        struct tensor weight;
        model_trained(model, i, &weight, NULL);
        status = alloc_moments(model_ops(model), optimizer->m, i, &weight);
        if (status == STATUS_OK)
            status = alloc_moments(model_ops(model), optimizer->v, i, &weight);
    }
    if (status < 0)
        optimizer_destroy(&optimizer);
    *out = optimizer;
    return status;
}

void optimizer_destroy(struct optimizer **optimizer)
{
    if (*optimizer) {
        for (size_t i = 0; i < model_n_trained((*optimizer)->model); i++) {
            ops_free(model_ops((*optimizer)->model), (*optimizer)->m[i].data);
            ops_free(model_ops((*optimizer)->model), (*optimizer)->v[i].data);
        }
        mem_free((*optimizer)->m);
        mem_free((*optimizer)->v);
        mem_free(*optimizer);
    }
    *optimizer = NULL;
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

double optimizer_grad_norm(const struct optimizer *optimizer)
{
    double sum = 0.0;

    for (size_t i = 0; i < model_n_trained(optimizer->model); i++) {
        struct tensor weight, gradient;
        model_trained(optimizer->model, i, &weight, &gradient);
        sum += ops_sum_squares(model_ops(optimizer->model), &gradient);
    }
    return sqrt(sum);
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
    for (size_t i = 0; i < model_n_trained(model); i++) {
        struct tensor weight, gradient;
        model_trained(model, i, &weight, &gradient);
        ops_adamw(ops, &weight, &optimizer->m[i], &optimizer->v[i], &gradient, &step);
    }
    optimizer->updates++;
    *learning_rate = step.learning_rate;
    model_weights_changed(model);
    return ops_sync(ops);
}

int64_t optimizer_updates(const struct optimizer *optimizer)
{
    return optimizer->updates;
}

/* Names of the 2n + 1 tensors of a state file: "m.<weight>", "v.<weight>", "updates". */
struct state_names {
    struct named_tensor *tensors;
    char (*names)[NAME_BYTES];
    int32_t updates;
    size_t n;
};

static void list_state(const struct optimizer *optimizer, struct state_names *state)
{
    size_t n = model_n_trained(optimizer->model);

    state->n = 2 * n + 1;
    state->tensors = mem_alloc(state->n, sizeof(*state->tensors));
    state->names = mem_alloc(state->n, sizeof(*state->names));
    state->updates = (int32_t)optimizer->updates;
    for (size_t i = 0; i < n; i++) {
        const char *name = model_trained(optimizer->model, i, NULL, NULL);
        snprintf(state->names[2 * i], NAME_BYTES, "m.%s", name);
        snprintf(state->names[2 * i + 1], NAME_BYTES, "v.%s", name);
        state->tensors[2 * i].tensor = optimizer->m[i];
        state->tensors[2 * i + 1].tensor = optimizer->v[i];
    }
    snprintf(state->names[2 * n], NAME_BYTES, "updates");
    state->tensors[2 * n].tensor = tensor_i32(&state->updates, 1);
    for (size_t i = 0; i < state->n; i++)
        state->tensors[i].name = state->names[i];
}

static void release_state(struct state_names *state)
{
    mem_free(state->tensors);
    mem_free(state->names);
}

int optimizer_save(const struct optimizer *optimizer, const char *path)
{
    struct ops *ops = model_ops(optimizer->model);
    struct state_names state;
    void *updates = NULL;

    list_state(optimizer, &state);
    struct named_tensor *last = &state.tensors[state.n - 1];
    int status = ops_alloc(ops, sizeof(state.updates), &updates);
    if (status == STATUS_OK) {
        ops_upload(ops, updates, &state.updates, sizeof(state.updates));
        last->tensor.data = updates;
        status = safetensors_save(ops, state.tensors, state.n, path);
    }
    ops_free(ops, updates);
    release_state(&state);
    return status;
}

int optimizer_load(struct optimizer *optimizer, const struct file_map *map, const char *path)
{
    struct ops *ops = model_ops(optimizer->model);
    struct safetensors *file = NULL;
    struct state_names state;
    const unsigned char **data;
    int status;

    list_state(optimizer, &state);
    data = mem_alloc(state.n, sizeof(*data));
    status = safetensors_open(&file, map->bytes, map->n, path);
    for (size_t i = 0; i < state.n && status == STATUS_OK; i++)
        status = safetensors_get(file, state.tensors[i].name, &state.tensors[i].tensor, &data[i]);
    if (status == STATUS_OK) {
        memcpy(&state.updates, data[state.n - 1], sizeof(state.updates));
        optimizer->updates = state.updates;
        for (size_t i = 0; i + 1 < state.n && status == STATUS_OK; i++) {
            ops_upload(ops, state.tensors[i].tensor.data, data[i],
                       (size_t)tensor_count(&state.tensors[i].tensor) * sizeof(float));
            status = ops_sync(ops);
            file_map_forget(map);
        }
    }
    safetensors_close(&file);
    mem_free(data);
    release_state(&state);
    return status;
}
