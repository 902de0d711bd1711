/* Models as files: config.json and model.safetensors, read as hostile, written as others do. */
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

/* One of the list, or one that other tools write and the maths does not use. */
static int is_expected(const struct model *model, const char *name)
{
    for (size_t i = 0; i < model->n_parameters; i++)
        if (strcmp(model->parameters[i].name, name) == 0)
            return 1;
    if (strcmp(name, "lm_head.weight") == 0)
        return 1;   /* a copy of the embedding beside a tied head */
    return strstr(name, ".rotary_emb.inv_freq") != NULL;
}

static int check_names(const struct model *model, const struct safetensors *file,
                       const char *where)
{
    size_t most = 2 * model->n_parameters + 1;

    /* Bounds the comparison below: weights, perhaps a table per layer, perhaps a head. */
    if (safetensors_count(file) > most)
        return status_fail(STATUS_FORMAT, "%s: %zu tensors, but config.json describes %zu", where,
                           safetensors_count(file), model->n_parameters);
    for (size_t i = 0; i < safetensors_count(file); i++)
        if (!is_expected(model, safetensors_name(file, i)))
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has no place in the model that "
                               "config.json describes", where, safetensors_name(file, i));
    return STATUS_OK;
}

static int check_finite(const unsigned char *bytes, int64_t n, const char *name, const char *where)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, bytes + 4 * i, sizeof(bits));
        if ((bits & 0x7F800000u) == 0x7F800000u)
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has a NaN or Inf at element %lld",
                               where, name, (long long)i);
    }
    return STATUS_OK;
}

/* Everything that can be wrong, before any device memory is asked for or changed. */
static int check_file(const struct model *model, const struct safetensors *file, const char *where)
{
    TRY(check_names(model, file, where));
    for (size_t i = 0; i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        const unsigned char *bytes = NULL;
        TRY(safetensors_get(file, parameter->name, &parameter->value, &bytes));
        TRY(check_finite(bytes, tensor_count(&parameter->value), parameter->name, where));
    }
    return STATUS_OK;
}

static int upload_file(struct model *model, const struct safetensors *file)
{
    for (size_t i = 0; i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        const unsigned char *bytes = NULL;
        TRY(safetensors_get(file, parameter->name, &parameter->value, &bytes));
        ops_upload(model->ops, parameter->value.data, bytes,
                   (size_t)tensor_count(&parameter->value) * sizeof(float));
    }
    model_weights_changed(model);
    return ops_sync(model->ops);
}

int model_read_weights(struct model *model, const void *bytes, size_t n, const char *where)
{
    struct safetensors *file = NULL;

    TRY(safetensors_open(&file, bytes, n, where));
    int status = check_file(model, file, where);
    if (status == STATUS_OK)
        status = upload_file(model, file);
    safetensors_close(&file);
    return status;
}

struct model_image {
    const char *config, *config_name;
    size_t n_config;
    const void *weights;
    size_t n_weights;
    const char *weights_name;
};

static int load_image(struct model **out, struct ops *ops, const struct model_image *image,
                      int trainable)
{
    struct safetensors *file = NULL;
    struct model_shape shape;
    struct model *model = NULL;
    int status;

    *out = NULL;
    TRY(model_shape_parse(&shape, image->config, image->n_config, image->config_name));
    TRY(safetensors_open(&file, image->weights, image->n_weights, image->weights_name));
    model = model_begin(ops, &shape, trainable);
    TRY_OUT(check_file(model, file, image->weights_name));
    TRY_OUT(model_allocate(model));
    TRY_OUT(upload_file(model, file));
out:
    if (status < 0)
        model_destroy(&model);
    safetensors_close(&file);
    *out = model;
    return status;
}

int model_load_memory(struct model **out, struct ops *ops, const char *config_json,
                      size_t n_config, const void *safetensors, size_t n_safetensors,
                      int trainable)
{
    struct model_image image = {config_json,   "config.json", n_config, safetensors,
                                n_safetensors, "model.safetensors"};

    return load_image(out, ops, &image, trainable);
}

int model_load(struct model **out, struct ops *ops, const char *directory, int trainable)
{
    char config_path[FILE_PATH_MAX], weights_path[FILE_PATH_MAX], index_path[FILE_PATH_MAX];
    struct text config = {0};
    struct file_map map = {0};
    int status;

    *out = NULL;
    TRY(file_join(config_path, directory, "config.json"));
    TRY(file_join(weights_path, directory, "model.safetensors"));
    TRY(file_join(index_path, directory, "model.safetensors.index.json"));
    if (!file_exists(weights_path) && file_exists(index_path))
        return status_fail(STATUS_UNSUPPORTED, "%s: weights in several files are not read; merge "
                           "them into one model.safetensors", index_path);
    TRY_OUT(file_read(config_path, MODEL_MAX_CONFIG_BYTES, &config));
    TRY_OUT(file_map_open(&map, weights_path));
    struct model_image image = {config.data, config_path, config.length,
                                map.bytes,   map.n,       weights_path};
    TRY_OUT(load_image(out, ops, &image, trainable));
out:
    file_map_close(&map);
    text_release(&config);
    return status;
}

int model_write_weights(const struct model *model, struct text *out)
{
    struct named_tensor *list = mem_alloc(model->n_parameters, sizeof(*list));
    int64_t largest = 0;

    for (size_t i = 0; i < model->n_parameters; i++) {
        list[i].name = model->parameters[i].name;
        list[i].tensor = model->parameters[i].value;
        if (tensor_count(&list[i].tensor) > largest)
            largest = tensor_count(&list[i].tensor);
    }
    float *values = mem_alloc((size_t)largest, sizeof(float));
    int status = safetensors_write_header(out, list, model->n_parameters);
    for (size_t i = 0; status == STATUS_OK && i < model->n_parameters; i++) {
        size_t bytes = (size_t)tensor_count(&list[i].tensor) * sizeof(float);
        ops_download(model->ops, values, list[i].tensor.data, bytes);
        status = ops_sync(model->ops);
        text_append(out, values, bytes);
    }
    if (status == STATUS_OK && out->failed)
        status = status_fail(STATUS_NOMEM, "the weights do not fit into the text's maximum");
    mem_free(values);
    mem_free(list);
    return status;
}

int model_save(const struct model *model, int bos_id, int eos_id, const char *directory)
{
    char config_path[FILE_PATH_MAX], weights_path[FILE_PATH_MAX];
    struct text config = {0}, weights = {0};
    int status;

    TRY(file_join(config_path, directory, "config.json"));
    TRY(file_join(weights_path, directory, "model.safetensors"));
    model_shape_print(&model->shape, bos_id, eos_id, &config);
    TRY_OUT(model_write_weights(model, &weights));
    TRY_OUT(file_write_atomic(weights_path, weights.data, weights.length));
    TRY_OUT(file_write_atomic(config_path, config.data, config.length));
out:
    text_release(&config);
    text_release(&weights);
    return status;
}
