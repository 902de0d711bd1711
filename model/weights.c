/*
 * The list of weights, in the order and under the names of Hugging Face files. Values, panels,
 * rounded vectors and gradients are one device allocation each; a parameter is a view into them.
 */
#include <stdio.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "model/internal.h"

#define ALIGN_BYTES 64
#define INITIAL_DEVIATION 0.02   /* initializer_range of all families */

const struct model_options model_frozen = {0}, model_trainable = {.trainable = 1};

static struct parameter *add_parameter(struct model *model, const char *prefix, const char *name,
                                       int64_t rows, int64_t columns)
{
    struct parameter *parameter = &model->parameters[model->n_parameters++];
    int n = snprintf(parameter->name, sizeof(parameter->name), "%s%s", prefix, name);

    if (n < 0 || n >= (int)sizeof(parameter->name))
        BUG("weight name %s%s is too long", prefix, name);
    parameter->value = columns ? tensor_2d(NULL, rows, columns) : tensor_1d(NULL, rows);
    parameter->gradient = parameter->vector = parameter->value;
    parameter->matrix = (struct matrix){
        .form = model->options.trainable ? MATRIX_ROWS : MATRIX_PANELS,
        .dtype = model->options.bf16 ? DTYPE_BF16 : DTYPE_F32,
        .M = rows,
        .C = columns,
    };
    return parameter;
}

static void list_layer(struct model *model, int i)
{
    const struct model_shape *shape = &model->shape;
    struct layer *layer = &model->layers[i];
    int64_t C = shape->channels, F = shape->hidden_channels, D = shape->head_dim;
    int64_t q_width = shape->n_heads * D, kv_width = shape->n_kv_heads * D;
    char prefix[40];

    snprintf(prefix, sizeof(prefix), "model.layers.%d.", i);
    layer->attention_norm = add_parameter(model, prefix, "input_layernorm.weight", C, 0);
    layer->q = add_parameter(model, prefix, "self_attn.q_proj.weight", q_width, C);
    if (shape->qkv_bias)
        layer->q_bias = add_parameter(model, prefix, "self_attn.q_proj.bias", q_width, 0);
    layer->k = add_parameter(model, prefix, "self_attn.k_proj.weight", kv_width, C);
    if (shape->qkv_bias)
        layer->k_bias = add_parameter(model, prefix, "self_attn.k_proj.bias", kv_width, 0);
    layer->v = add_parameter(model, prefix, "self_attn.v_proj.weight", kv_width, C);
    if (shape->qkv_bias)
        layer->v_bias = add_parameter(model, prefix, "self_attn.v_proj.bias", kv_width, 0);
    if (shape->qk_norm) {
        layer->q_norm = add_parameter(model, prefix, "self_attn.q_norm.weight", D, 0);
        layer->k_norm = add_parameter(model, prefix, "self_attn.k_norm.weight", D, 0);
    }
    layer->o = add_parameter(model, prefix, "self_attn.o_proj.weight", C, q_width);
    layer->mlp_norm = add_parameter(model, prefix, "post_attention_layernorm.weight", C, 0);
    layer->gate = add_parameter(model, prefix, "mlp.gate_proj.weight", F, C);
    layer->up = add_parameter(model, prefix, "mlp.up_proj.weight", F, C);
    layer->down = add_parameter(model, prefix, "mlp.down_proj.weight", C, F);
}

static void list_parameters(struct model *model)
{
    const struct model_shape *shape = &model->shape;
    const size_t most_per_layer = 14;

    model->parameters = mem_alloc(3 + most_per_layer * (size_t)shape->n_layers,
                                  sizeof(*model->parameters));
    model->layers = mem_alloc((size_t)shape->n_layers, sizeof(*model->layers));
    model->embedding = add_parameter(model, "", "model.embed_tokens.weight", shape->vocab_size,
                                     shape->channels);
    for (int i = 0; i < shape->n_layers; i++)
        list_layer(model, i);
    model->final_norm = add_parameter(model, "", "model.norm.weight", shape->channels, 0);
    model->head = model->embedding;
    if (shape->tied_head)
        return;
    model->head = add_parameter(model, "", "lm_head.weight", shape->vocab_size, shape->channels);
}

static size_t round_up(size_t bytes)
{
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* Carves `n` bytes at *used; with base NULL it only measures. */
static void *place(void *base, size_t *used, size_t n)
{
    void *at = base ? (unsigned char *)base + *used : NULL;

    *used += round_up(n);
    return at;
}

static void place_trained(struct model *model, struct parameter *parameter,
                          struct model_sizes *used)
{
    size_t bytes = (size_t)tensor_count(&parameter->value) * sizeof(float);

    parameter->value.data = place(model->values, &used->values, bytes);
    if (model->options.trainable)
        parameter->gradient.data = place(model->gradients, &used->gradients, bytes);
    parameter->matrix.data = parameter->value.data;
    parameter->vector.data = parameter->value.data;
}

static void place_frozen(struct model *model, struct parameter *parameter,
                         struct model_sizes *used)
{
    size_t bytes = (size_t)tensor_count(&parameter->value) * sizeof(float);

    if (parameter->value.n_dims == 2 && parameter->matrix.form == MATRIX_PANELS) {
        bytes = ops_matrix_bytes(&parameter->matrix);
        parameter->matrix.data = place(model->panels, &used->panels, bytes);
        return;
    }
    parameter->value.data = place(model->values, &used->values, bytes);
    parameter->matrix.data = parameter->value.data;
    parameter->vector.data = parameter->value.data;
}

static void place_all(struct model *model, struct model_sizes *used)
{
    memset(used, 0, sizeof(*used));
    for (size_t i = 0; i < model->n_parameters; i++) {
        struct parameter *parameter = &model->parameters[i];
        if (is_trained(model))
            place_trained(model, parameter, used);
        else
            place_frozen(model, parameter, used);
        if (model->options.trainable && model->options.bf16 && parameter->value.n_dims == 1)
            parameter->vector.data =
                place(model->rounded, &used->rounded,
                      (size_t)tensor_count(&parameter->value) * sizeof(float));
    }
    for (size_t i = 0; i < model->n_adapters; i++)
        place_trained(model, &model->adapters[i], used);
    for (size_t i = 0; i < model->n_parameters; i++) {
        struct parameter *parameter = &model->parameters[i];
        if (!parameter->lora_a)
            continue;
        parameter->matrix.adapter = (struct adapter){
            .rank = model->options.lora.rank,
            .scale = (float)(model->options.lora.alpha / model->options.lora.rank),
            .a = parameter->lora_a->value.data,
            .b = parameter->lora_b->value.data,
        };
    }
}

static int allocate_unused_gradient(struct model *model)
{
    struct ops *ops = model->ops;
    int widest = model->shape.channels;

    if (model->shape.head_dim > widest)
        widest = model->shape.head_dim;
    if (!model->n_adapters)
        return STATUS_OK;
    return ops_alloc(ops, (size_t)widest * sizeof(float), &model->unused_gradient);
}

int model_allocate(struct model *model)
{
    struct model_sizes *bytes = &model->bytes;
    struct ops *ops = model->ops;
    int status = STATUS_OK;

    place_all(model, bytes);
    if (bytes->values)
        status = ops_alloc(ops, bytes->values, &model->values);
    if (status == STATUS_OK && bytes->panels)
        status = ops_alloc(ops, bytes->panels, &model->panels);
    if (status == STATUS_OK && bytes->rounded)
        status = ops_alloc(ops, bytes->rounded, &model->rounded);
    if (status == STATUS_OK && bytes->gradients)
        status = ops_alloc(ops, bytes->gradients, &model->gradients);
    if (status == STATUS_OK)
        status = allocate_unused_gradient(model);
    if (status < 0)
        return status_context(status, "weights of %lld parameters (%.2f GiB, and %.2f GiB for "
                              "gradients)", (long long)model_shape_parameters(&model->shape),
                              (double)(bytes->values + bytes->panels + bytes->rounded) / (1 << 30),
                              (double)bytes->gradients / (1 << 30));
    place_all(model, bytes);
    return STATUS_OK;
}

void model_size(const struct model_shape *shape, const struct model_options *options,
                struct model_bytes *bytes)
{
    struct model *model = model_begin(NULL, shape, options);

    place_all(model, &model->bytes);
    bytes->weights = model->bytes.values + model->bytes.panels + model->bytes.rounded;
    bytes->gradients = bytes->trained = model->bytes.gradients;
    model_destroy(&model);
}

struct model *model_begin(struct ops *ops, const struct model_shape *shape,
                          const struct model_options *options)
{
    struct model *model = mem_alloc(1, sizeof(*model));

    if (options->lora.rank && !options->trainable)
        BUG("adapters of a model that is not trained");
    model->ops = ops;
    model->shape = *shape;
    model->options = *options;
    list_parameters(model);
    if (options->lora.rank)
        lora_list(model);
    return model;
}

void model_destroy(struct model **out)
{
    struct model *model = *out;

    if (!model)
        return;
    if (model->ops) {
        void *const memory[] = {model->values, model->panels, model->rounded, model->gradients,
                                model->unused_gradient, model->rope.data};
        for (size_t i = 0; i < sizeof(memory) / sizeof(memory[0]); i++)
            ops_free(model->ops, memory[i]);
    }
    mem_free(model->parameters);
    mem_free(model->adapters);
    mem_free(model->layers);
    mem_free(model);
    *out = NULL;
}

const struct model_shape *model_shape(const struct model *model)
{
    return &model->shape;
}

int model_is_bf16(const struct model *model)
{
    return model->layers[0].k->matrix.dtype == DTYPE_BF16;
}

struct ops *model_ops(const struct model *model)
{
    return model->ops;
}

const struct model_options *model_options(const struct model *model)
{
    return &model->options;
}

size_t model_n_weights(const struct model *model)
{
    return model->n_parameters;
}

const char *model_weight(const struct model *model, size_t i, struct tensor *weight,
                         struct tensor *gradient)
{
    if (i >= model->n_parameters)
        BUG("weight %zu of %zu", i, model->n_parameters);
    if (weight)
        *weight = model->parameters[i].value;
    if (gradient)
        *gradient = model->parameters[i].gradient;
    return model->parameters[i].name;
}

size_t model_n_trained(const struct model *model)
{
    if (!model->options.trainable)
        return 0;
    return model->n_adapters ? model->n_adapters : model->n_parameters;
}

const char *model_trained(const struct model *model, size_t i, struct tensor *weight,
                          struct tensor *gradient)
{
    if (i >= model_n_trained(model))
        BUG("trained weight %zu of %zu", i, model_n_trained(model));
    const struct parameter *parameter =
        model->n_adapters ? &model->adapters[i] : &model->parameters[i];
    if (weight)
        *weight = parameter->value;
    if (gradient)
        *gradient = parameter->gradient;
    return parameter->name;
}

size_t model_trained_run(const struct model *model, float **weights, float **gradients)
{
    struct tensor weight, gradient;

    model_trained(model, 0, &weight, &gradient);
    *weights = weight.data;
    *gradients = gradient.data;
    return model->bytes.gradients / sizeof(float);
}

void model_watch_gradients(struct model *model, const struct model_watcher *watcher)
{
    model->watcher = *watcher;
}

void model_zero_gradients(struct model *model)
{
    if (!model->options.trainable)
        BUG("model_zero_gradients: the model was made without gradients");
    ops_zero(model->ops, model->gradients, model->bytes.gradients);
}

/* Products round matrices on their way; only the small vectors have copies. */
void model_weights_changed(struct model *model)
{
    for (size_t i = 0; i < model->n_parameters; i++) {
        struct parameter *parameter = &model->parameters[i];
        if (parameter->value.n_dims == 1 && parameter->vector.data != parameter->value.data)
            ops_round_bf16(model->ops, &parameter->vector, &parameter->value);
    }
}

/* The values a fresh parameter starts with. */
static void fill_initial(const struct parameter *parameter, float *values, int64_t n,
                         struct random_stream *stream)
{
    int is_bias = strstr(parameter->name, ".bias") != NULL;

    for (int64_t i = 0; i < n; i++) {
        if (parameter->value.n_dims == 2)
            values[i] = (float)(INITIAL_DEVIATION * random_normal(stream));
        else
            values[i] = is_bias ? 0.0f : 1.0f;
    }
}

static int fill_all(struct model *model, uint64_t seed)
{
    struct random_stream stream = {.seed = seed};
    struct staging staging;
    int status = staging_open(&staging, model);

    for (size_t i = 0; status == STATUS_OK && i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        int64_t n, rows = parameter_rows(parameter);
        for (int64_t first = 0; status == STATUS_OK && first < rows; first += n) {
            n = staging_rows(parameter, first);
            fill_initial(parameter, staging.host, n * parameter_width(parameter), &stream);
            status = values_write(&staging, model, parameter, first, n);
        }
    }
    staging_close(&staging);
    return status;
}

int model_create(struct model **out, struct ops *ops, const struct model_shape *shape,
                 const struct model_options *options, uint64_t seed)
{
    struct model *model = model_begin(ops, shape, options);
    int status;

    TRY_OUT(model_allocate(model));
    TRY_OUT(fill_all(model, seed));
    TRY_OUT(lora_start(model));
    model_weights_changed(model);
    status = ops_sync(ops);
out:
    if (status < 0)
        model_destroy(&model);
    *out = model;
    return status;
}
