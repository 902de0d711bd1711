/*
 * Low-rank adapters: y = x (W + alpha / rank * B A)^T with W frozen (Hu et al. 2021, "LoRA").
 * Products see the sum (ops/ops.h), so that rollout gets a plain model and the same bits. Names and
 * shapes are those that PEFT reads.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/random.h"
#include "common/status.h"
#include "model/internal.h"

const char *const model_lora_targets[MODEL_N_LORA_TARGETS + 1] = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", NULL};

/* ---- The list. */

static struct parameter *add_adapter(struct model *model, const char *target, const char *which,
                                     int64_t rows, int64_t columns)
{
    struct parameter *adapter = &model->adapters[model->n_adapters++];
    int stem = (int)(strlen(target) - strlen(".weight"));
    int n = snprintf(adapter->name, sizeof(adapter->name), "base_model.model.%.*s.lora_%s.weight",
                     stem, target, which);

    if (n < 0 || n >= (int)sizeof(adapter->name))
        BUG("the name of an adapter of %s is too long", target);
    adapter->value = adapter->gradient = tensor_2d(NULL, rows, columns);
    adapter->matrix = matrix_rows(NULL, rows, columns);
    return adapter;
}

void lora_list(struct model *model)
{
    const struct model_lora *lora = &model->options.lora;
    size_t most = 2 * MODEL_N_LORA_TARGETS * (size_t)model->shape.n_layers;

    model->adapters = mem_alloc(most, sizeof(*model->adapters));
    for (int i = 0; i < model->shape.n_layers; i++) {
        struct layer *layer = &model->layers[i];
        struct parameter *const targets[MODEL_N_LORA_TARGETS] = {
            layer->q, layer->k, layer->v, layer->o, layer->gate, layer->up, layer->down};
        for (int t = 0; t < MODEL_N_LORA_TARGETS; t++) {
            struct parameter *target = targets[t];
            if (!(lora->targets >> t & 1u))
                continue;
            target->lora_a = add_adapter(model, target->name, "A", lora->rank, target->matrix.C);
            target->lora_b = add_adapter(model, target->name, "B", target->matrix.M, lora->rank);
        }
    }
    if (!model->n_adapters)
        BUG("adapters of rank %d have no target", lora->rank);
}

/* A as PEFT starts it, uniform in +-1/sqrt(C) (He et al. 2015 with a = sqrt 5); B stays 0. */
int lora_start(struct model *model)
{
    struct random_stream stream = {.seed = model->options.lora.seed};

    for (size_t i = 0; i < model->n_adapters; i += 2) {
        const struct tensor *a = &model->adapters[i].value;
        size_t n = (size_t)tensor_count(a);
        double bound = 1.0 / sqrt((double)a->shape[1]);
        float *values = mem_alloc(n, sizeof(*values));
        for (size_t k = 0; k < n; k++)
            values[k] = (float)(bound * (2.0 * random_real(&stream) - 1.0));
        ops_upload(model->ops, a->data, values, n * sizeof(*values));
        int status = ops_sync(model->ops);   /* values must live until then */
        mem_free(values);
        TRY(status);
    }
    return STATUS_OK;
}

void model_use_adapters(struct model *model, int on)
{
    for (size_t i = 0; i < model->n_parameters; i++) {
        struct parameter *parameter = &model->parameters[i];
        if (parameter->lora_a)
            parameter->matrix.adapter.rank = on ? model->options.lora.rank : 0;
    }
}

/* ---- Out and in. */

int model_has_adapters(const struct model *model)
{
    return model->n_adapters > 0;
}

void model_print_adapter_config(const struct model_lora *lora, const char *base, struct text *out)
{
    const char *comma = "";

    text_print(out, "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n"
                    "  \"base_model_name_or_path\": ");
    json_append_string(out, base, strlen(base));
    text_print(out, ",\n  \"r\": %d,\n  \"lora_alpha\": ", lora->rank);
    shape_print_real(out, lora->alpha);
    text_print(out, ",\n  \"lora_dropout\": 0.0,\n  \"target_modules\": [");
    for (int t = 0; t < MODEL_N_LORA_TARGETS; t++) {
        if (!(lora->targets >> t & 1u))
            continue;
        text_print(out, "%s\"%s\"", comma, model_lora_targets[t]);
        comma = ", ";
    }
    text_print(out, "],\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n"
                    "  \"init_lora_weights\": true,\n  \"inference_mode\": true,\n"
                    "  \"modules_to_save\": null,\n  \"use_dora\": false,\n"
                    "  \"use_rslora\": false\n}\n");
}

int model_save_adapters(const struct model *model, const char *path)
{
    size_t n = model->n_adapters;
    struct named_tensor *list = mem_alloc(n, sizeof(*list));

    for (size_t i = 0; i < n; i++)
        list[i] = (struct named_tensor){model->adapters[i].name, model->adapters[i].value};
    int status = safetensors_save(model->ops, list, n, path);
    mem_free(list);
    return status;
}

int model_read_adapters(struct model *model, const void *bytes, size_t n_bytes, const char *where)
{
    size_t n = model->n_adapters;
    const unsigned char **data = mem_alloc(n, sizeof(*data));
    struct safetensors *file = NULL;
    int status;

    TRY_OUT(safetensors_open(&file, bytes, n_bytes, where));
    for (size_t i = 0; i < n; i++) {
        const struct parameter *adapter = &model->adapters[i];
        int64_t count = tensor_count(&adapter->value);
        TRY_OUT(safetensors_get(file, adapter->name, &adapter->value, &data[i]));
        float *values = mem_alloc((size_t)count, sizeof(*values));
        memcpy(values, data[i], (size_t)count * sizeof(*values));
        int64_t bad = floats_find_bad(values, count);
        mem_free(values);
        if (bad >= 0)
            TRY_OUT(status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has a NaN or Inf at element "
                                "%lld", where, adapter->name, (long long)bad));
    }
    for (size_t i = 0; i < n; i++)
        ops_upload(model->ops, model->adapters[i].value.data, data[i],
                   (size_t)tensor_count(&model->adapters[i].value) * sizeof(float));
    status = ops_sync(model->ops);
out:
    safetensors_close(&file);
    mem_free(data);
    return status;
}
