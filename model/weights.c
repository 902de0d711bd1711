/*
 * The list of weights, in the order and under the names of Hugging Face files. Values, gradients
 * and packed copies are one device allocation each; a parameter is a view into all three.
 */
#include <stdio.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "model/internal.h"

#define ALIGN_BYTES 64
#define INITIAL_DEVIATION 0.02   /* initializer_range of all families */

static struct parameter *add_parameter(struct model *model, const char *prefix, const char *name,
                                       int64_t rows, int64_t columns)
{
    struct parameter *parameter = &model->parameters[model->n_parameters++];
    int n = snprintf(parameter->name, sizeof(parameter->name), "%s%s", prefix, name);

    if (n < 0 || n >= (int)sizeof(parameter->name))
        BUG("weight name %s%s is too long", prefix, name);
    parameter->value = columns ? tensor_2d(NULL, rows, columns) : tensor_1d(NULL, rows);
    parameter->gradient = parameter->value;
    if (columns)
        parameter->packed = tensor_1d(NULL, ops_packed_count(rows, columns));
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
    model->embedding->packed = tensor_1d(NULL, 0);   /* looked up, never multiplied */
}

/* Returns the offset behind the view; with base NULL it only measures. */
static size_t place(struct tensor *view, unsigned char *base, size_t offset)
{
    size_t bytes = (size_t)tensor_count(view) * sizeof(float);

    if (base)
        view->data = base + offset;
    return offset + (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static int is_packed(const struct parameter *parameter)
{
    return parameter->packed.n_dims == 1 && parameter->packed.shape[0] > 0;
}

static void place_all(struct model *model, size_t *weights_bytes, size_t *packed_bytes)
{
    *weights_bytes = *packed_bytes = 0;
    for (size_t i = 0; i < model->n_parameters; i++) {
        struct parameter *parameter = &model->parameters[i];
        place(&parameter->gradient, model->gradients, *weights_bytes);
        *weights_bytes = place(&parameter->value, model->weights, *weights_bytes);
        if (is_packed(parameter))
            *packed_bytes = place(&parameter->packed, model->packed, *packed_bytes);
    }
}

int model_allocate(struct model *model)
{
    size_t packed_bytes, weights_bytes;
    int V = model->shape.vocab_size;

    place_all(model, &weights_bytes, &packed_bytes);
    model->weights_bytes = weights_bytes;
    int status = ops_alloc(model->ops, weights_bytes, &model->weights);
    if (status == STATUS_OK)
        status = ops_alloc(model->ops, packed_bytes, &model->packed);
    if (status == STATUS_OK && model->trainable)
        status = ops_alloc(model->ops, weights_bytes, &model->gradients);
    if (status == STATUS_OK)
        status = ops_alloc(model->ops, (size_t)V * sizeof(float), &model->row_logits.data);
    if (status == STATUS_OK)
        status = ops_alloc(model->ops, sizeof(int32_t), &model->row_target);
    if (status == STATUS_OK)
        status = ops_alloc(model->ops, sizeof(float), &model->row_logprob);
    if (status < 0)
        return status_context(status, "weights of %lld parameters (%.2f GiB%s)",
                              (long long)model_shape_parameters(&model->shape),
                              (double)weights_bytes / (1 << 30),
                              model->trainable ? ", and as much for gradients" : "");
    model->row_logits = tensor_2d(model->row_logits.data, 1, V);
    place_all(model, &weights_bytes, &packed_bytes);
    return STATUS_OK;
}

struct model *model_begin(struct ops *ops, const struct model_shape *shape, int trainable)
{
    struct model *model = mem_alloc(1, sizeof(*model));

    model->ops = ops;
    model->shape = *shape;
    model->trainable = trainable;
    list_parameters(model);
    return model;
}

void model_destroy(struct model **out)
{
    struct model *model = *out;

    if (!model)
        return;
    ops_free(model->ops, model->weights);
    ops_free(model->ops, model->gradients);
    ops_free(model->ops, model->packed);
    ops_free(model->ops, model->rope.data);
    ops_free(model->ops, model->row_logits.data);
    ops_free(model->ops, model->row_target);
    ops_free(model->ops, model->row_logprob);
    mem_free(model->parameters);
    mem_free(model->layers);
    mem_free(model);
    *out = NULL;
}

const struct model_shape *model_shape(const struct model *model)
{
    return &model->shape;
}

struct ops *model_ops(const struct model *model)
{
    return model->ops;
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

void model_zero_gradients(struct model *model)
{
    if (!model->trainable)
        BUG("model_zero_gradients: the model was made without gradients");
    ops_zero(model->ops, model->gradients, model->weights_bytes);
}

void model_weights_changed(struct model *model)
{
    for (size_t i = 0; i < model->n_parameters; i++)
        if (is_packed(&model->parameters[i]))
            ops_pack(model->ops, &model->parameters[i].packed, &model->parameters[i].value);
}

/* The values a fresh parameter starts with. */
static void fill_initial(const struct parameter *parameter, float *values,
                         struct random_stream *stream)
{
    int64_t n = tensor_count(&parameter->value);
    int is_bias = strstr(parameter->name, ".bias") != NULL;

    for (int64_t i = 0; i < n; i++) {
        if (parameter->value.n_dims == 2)
            values[i] = (float)(INITIAL_DEVIATION * random_normal(stream));
        else
            values[i] = is_bias ? 0.0f : 1.0f;
    }
}

int model_create(struct model **out, struct ops *ops, const struct model_shape *shape,
                 int trainable, uint64_t seed)
{
    struct model *model = model_begin(ops, shape, trainable);
    struct random_stream stream = {.seed = seed};
    int status = model_allocate(model);

    for (size_t i = 0; status == STATUS_OK && i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        size_t n = (size_t)tensor_count(&parameter->value);
        float *values = mem_alloc(n, sizeof(float));
        fill_initial(parameter, values, &stream);
        ops_upload(ops, parameter->value.data, values, n * sizeof(float));
        status = ops_sync(ops);   /* values must live until then */
        mem_free(values);
    }
    if (status == STATUS_OK) {
        model_weights_changed(model);
        status = ops_sync(ops);
    }
    if (status < 0)
        model_destroy(&model);
    *out = model;
    return status;
}
