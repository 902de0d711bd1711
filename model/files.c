/* Weights from files and messages into a model, read as hostile. */
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

/* Through one piece of host memory: no second copy of the weights exists. */
static int load_parameters(struct model *model, struct weight_files *files)
{
    float *piece = mem_alloc(FLOATS_PIECE, sizeof(*piece));
    int status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        int64_t n = tensor_count(&parameter->value), count;
        for (int64_t first = 0; status == STATUS_OK && first < n; first += count) {
            count = floats_piece(n - first);
            TRY_OUT(weight_files_read(files, parameter, first, count, piece));
            ops_upload(model->ops, tensor_f32(&parameter->value) + first, piece,
                       (size_t)count * sizeof(float));
            status = ops_sync(model->ops);   /* the piece is used again */
        }
    }
    if (status == STATUS_OK) {
        model_weights_changed(model);
        status = ops_sync(model->ops);
    }
out:
    mem_free(piece);
    return status;
}

static int check_finite(const struct model *model, struct weight_files *files)
{
    float *piece = mem_alloc(FLOATS_PIECE, sizeof(*piece));
    int status = STATUS_OK;

    for (size_t i = 0; status == STATUS_OK && i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        int64_t n = tensor_count(&parameter->value);
        for (int64_t first = 0; status == STATUS_OK && first < n; first += FLOATS_PIECE)
            status = weight_files_read(files, parameter, first, floats_piece(n - first), piece);
    }
    mem_free(piece);
    return status;
}

int model_read_weights(struct model *model, const void *bytes, size_t n, const char *where)
{
    struct weight_files *files = NULL;

    TRY(weight_files_open_memory(&files, bytes, n, where));
    int status = weight_files_check(files, model);
    if (status == STATUS_OK)
        status = check_finite(model, files);
    if (status == STATUS_OK)
        status = load_parameters(model, files);
    weight_files_close(&files);
    return status;
}

/* Names and shapes are checked before memory is asked for; the numbers on their way. */
static int load_files(struct model **out, struct ops *ops, const struct model_shape *shape,
                      struct weight_files *files, int trainable)
{
    struct model *model = model_begin(ops, shape, trainable);
    int status;

    TRY_OUT(weight_files_check(files, model));
    TRY_OUT(model_allocate(model));
    TRY_OUT(load_parameters(model, files));
out:
    if (status < 0)
        model_destroy(&model);
    *out = model;
    return status;
}

int model_load_memory(struct model **out, struct ops *ops, const char *config_json,
                      size_t n_config, const void *safetensors, size_t n_safetensors,
                      int trainable)
{
    struct weight_files *files = NULL;
    struct model_shape shape;

    *out = NULL;
    TRY(model_shape_parse(&shape, config_json, n_config, "config.json"));
    TRY(weight_files_open_memory(&files, safetensors, n_safetensors, "model.safetensors"));
    int status = load_files(out, ops, &shape, files, trainable);
    weight_files_close(&files);
    return status;
}

int folder_read_config(const char *directory, struct model_shape *shape, struct text *config)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, "config.json"));
    TRY(file_read(path, MODEL_MAX_CONFIG_BYTES, config));
    return model_shape_parse(shape, config->data ? config->data : "", config->length, path);
}

int model_load(struct model **out, struct ops *ops, const char *directory, int trainable)
{
    struct weight_files *files = NULL;
    struct model_shape shape;
    struct text config = {0};
    int status;

    *out = NULL;
    TRY_OUT(folder_read_config(directory, &shape, &config));
    TRY_OUT(weight_files_open(&files, directory));
    TRY_OUT(load_files(out, ops, &shape, files, trainable));
out:
    weight_files_close(&files);
    text_release(&config);
    return status;
}
