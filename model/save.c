/*
 * Weights out: to a file without a name, to a folder, and from folder to folder in another dtype.
 * They pass through the host a piece at a time; a folder's file appears whole or not at all.
 */
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

#define PIECE_BYTES ((size_t)1 << 20)

/* Where the numbers come from: the model's device, or files. */
struct source {
    const struct model *model;   /* the list; with memory unless files is set */
    struct weight_files *files;
};

/* Into staging->host. */
static int read_rows(const struct source *source, struct staging *staging,
                     const struct parameter *parameter, int64_t first, int64_t n)
{
    int64_t width = parameter_width(parameter);

    if (source->files)
        return weight_files_read(source->files, parameter, first * width, n * width,
                                 staging->host);
    return values_read(staging, source->model, parameter, first, n);
}

/* A policy that has diverged reaches neither workers nor files. */
static int refuse_bad(const struct parameter *parameter, const float *values, int64_t first_row,
                      int64_t count)
{
    int64_t bad = floats_find_bad(values, count);

    if (bad < 0)
        return STATUS_OK;
    return status_fail(STATUS_FAILED, "weight \"%s\" has a NaN or Inf at element %lld: the policy "
                       "has diverged; go on from an earlier checkpoint with a smaller "
                       "optimizer.learning_rate", parameter->name,
                       (long long)(first_row * parameter_width(parameter) + bad));
}

static int write_values(const struct source *source, enum dtype dtype, struct file_sink *file)
{
    struct staging staging;
    int status = staging_open(&staging, source->model);
    uint16_t *halves = mem_alloc(staging.n_numbers, sizeof(*halves));

    for (size_t i = 0; status == STATUS_OK && i < source->model->n_parameters; i++) {
        const struct parameter *parameter = &source->model->parameters[i];
        int64_t n;
        for (int64_t first = 0; first < parameter_rows(parameter); first += n) {
            n = staging_rows(parameter, first);
            int64_t count = n * parameter_width(parameter);
            TRY_OUT(read_rows(source, &staging, parameter, first, n));
            TRY_OUT(refuse_bad(parameter, staging.host, first, count));
            if (dtype == DTYPE_BF16) {
                floats_to_bf16(halves, staging.host, count);
                TRY_OUT(file_sink_put(file, halves, (size_t)count * sizeof(*halves)));
            } else {
                TRY_OUT(file_sink_put(file, staging.host, (size_t)count * sizeof(float)));
            }
        }
    }
out:
    mem_free(halves);
    staging_close(&staging);
    return status;
}

static int print_header(const struct model *model, enum dtype dtype, struct text *out)
{
    struct named_tensor *list = mem_alloc(model->n_parameters, sizeof(*list));

    for (size_t i = 0; i < model->n_parameters; i++) {
        list[i].name = model->parameters[i].name;
        list[i].tensor = model->parameters[i].value;
        list[i].tensor.dtype = dtype;
    }
    int status = safetensors_write_header(out, list, model->n_parameters);
    mem_free(list);
    return status;
}

/* Rounding on the way out gives what products see. */
static enum dtype seen_dtype(const struct model *model)
{
    return model->options.bf16 ? DTYPE_BF16 : DTYPE_F32;
}

/* ---- A file. */

static int write_content(const struct source *source, enum dtype dtype, struct file_sink *file)
{
    struct text header = {0};
    int status = print_header(source->model, dtype, &header);

    if (status == STATUS_OK)
        status = file_sink_put(file, header.data, header.length);
    if (status == STATUS_OK)
        status = write_values(source, dtype, file);
    text_release(&header);
    return status;
}

static int write_file(const struct source *source, enum dtype dtype, const char *path)
{
    struct file_sink file;

    TRY(file_sink_open(&file, path));
    return file_sink_close(&file, write_content(source, dtype, &file));
}

int model_save_weights(const struct model *model, const char *path)
{
    const struct source source = {.model = model};

    return write_file(&source, seen_dtype(model), path);
}

int model_map_weights(const struct model *model, struct file_map *image)
{
    const struct source source = {.model = model};
    struct file_sink file;
    int status = file_sink_open_nameless(&file);

    if (status == STATUS_OK)
        status = write_content(&source, seen_dtype(model), &file);
    return file_sink_map(&file, status, image);
}

/* The tensors' bytes through one piece of host memory. */
static int put_tensors(struct ops *ops, const struct named_tensor *tensors, size_t n,
                       int (*fetch)(void *context, size_t i), void *context,
                       struct file_sink *file)
{
    unsigned char *piece = mem_alloc(PIECE_BYTES, 1);
    struct text header = {0};
    int status = safetensors_write_header(&header, tensors, n);

    if (status == STATUS_OK)
        status = file_sink_put(file, header.data, header.length);
    for (size_t i = 0; i < n && status == STATUS_OK; i++) {
        status = fetch ? fetch(context, i) : STATUS_OK;
        const unsigned char *data = tensors[i].tensor.data;
        size_t left = (size_t)tensor_count(&tensors[i].tensor) *
                      (tensors[i].tensor.dtype == DTYPE_BF16 ? 2 : 4);
        for (size_t count; status == STATUS_OK && left > 0; data += count, left -= count) {
            count = left < PIECE_BYTES ? left : PIECE_BYTES;
            ops_download(ops, piece, data, count);
            status = ops_sync(ops);
            if (status == STATUS_OK)
                status = file_sink_put(file, piece, count);
        }
    }
    text_release(&header);
    mem_free(piece);
    return status;
}

int safetensors_save(struct ops *ops, const struct named_tensor *tensors, size_t n,
                     const char *path)
{
    struct file_sink file;

    TRY(file_sink_open(&file, path));
    return file_sink_close(&file, put_tensors(ops, tensors, n, NULL, NULL, &file));
}

int safetensors_save_fetched(struct ops *ops, struct named_tensor *tensors, size_t n,
                             const char *path, int (*fetch)(void *context, size_t i),
                             void *context)
{
    struct file_sink file;

    TRY(file_sink_open(&file, path));
    return file_sink_close(&file, put_tensors(ops, tensors, n, fetch, context, &file));
}

/* ---- Folders. */

/* `meant` is what config.json tells a reader to make of the weights. */
static int write_folder(const struct source *source, int bos_id, int eos_id, enum dtype dtype,
                        enum dtype meant, const char *directory)
{
    char config_path[FILE_PATH_MAX], weights_path[FILE_PATH_MAX];
    struct text config = {0};
    int status;

    if (dtype != DTYPE_F32 && dtype != DTYPE_BF16)
        BUG("weights are written as float32 or bfloat16, not as %d", (int)dtype);
    TRY(file_join(config_path, directory, "config.json"));
    TRY(file_join(weights_path, directory, "model.safetensors"));
    TRY(write_file(source, dtype, weights_path));
    shape_print(&source->model->shape, bos_id, eos_id, meant, &config);
    status = file_write_atomic(config_path, config.data, config.length);
    text_release(&config);
    return status;
}

int model_save_as(const struct model *model, int bos_id, int eos_id, enum dtype dtype,
                  const char *directory)
{
    const struct source source = {.model = model};

    return write_folder(&source, bos_id, eos_id, dtype,
                        model->options.bf16 ? DTYPE_BF16 : dtype, directory);
}

int model_save(const struct model *model, int bos_id, int eos_id, const char *directory)
{
    return model_save_as(model, bos_id, eos_id, DTYPE_F32, directory);
}

/* An id, or the first of a list of them; -1 when there is none. */
static int id_of(const json_t *config, const char *key)
{
    const json_t *value = json_object_get(config, key);

    if (json_is_array(value))
        value = json_array_get(value, 0);
    json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
    return id >= 0 && id <= INT32_MAX ? (int)id : -1;
}

int model_convert(const char *from, const char *to, enum dtype dtype)
{
    struct weight_files *files = NULL;
    struct model *model = NULL;
    struct model_shape shape;
    struct text text = {0};
    json_t *config = NULL;
    int status;

    TRY_OUT(folder_read_config(from, &shape, &text));
    TRY_OUT(json_parse(&config, text.data, text.length, from));
    TRY_OUT(weight_files_open(&files, from));
    model = model_begin(NULL, &shape, &model_frozen);   /* the list alone */
    TRY_OUT(weight_files_check(files, model));
    const struct source source = {.model = model, .files = files};
    TRY_OUT(write_folder(&source, id_of(config, "bos_token_id"), id_of(config, "eos_token_id"),
                         dtype, dtype, to));
out:
    model_destroy(&model);
    weight_files_close(&files);
    json_decref(config);
    text_release(&text);
    return status;
}

int model_folder_dtype(const char *directory, enum dtype *dtype)
{
    struct weight_files *files = NULL;
    struct model *model = NULL;
    struct model_shape shape;
    struct text text = {0};
    struct weight_span span;
    int status;

    *dtype = DTYPE_BF16;
    TRY_OUT(folder_read_config(directory, &shape, &text));
    TRY_OUT(weight_files_open(&files, directory));
    model = model_begin(NULL, &shape, &model_frozen);
    TRY_OUT(weight_files_check(files, model));
    for (size_t i = 0; i < model->n_parameters; i++) {
        TRY_OUT(weight_files_find(files, &model->parameters[i], &span));
        if (span.kind != FLOAT_BF16)
            *dtype = DTYPE_F32;
    }
out:
    model_destroy(&model);
    weight_files_close(&files);
    text_release(&text);
    return status;
}
