/*
 * Weights out: to a message, to a folder, and from folder to folder in another dtype. They pass
 * through the host a piece at a time; a folder's file appears whole or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

/* Where the numbers come from: the model's device, or files. */
struct source {
    const struct model *model;   /* the list; with memory unless files is set */
    struct weight_files *files;
};

/* Into staging->host. */
static int read_rows(const struct source *source, struct staging *staging,
                     const struct parameter *parameter, enum value_kind kind, int64_t first,
                     int64_t n)
{
    int64_t width = parameter_width(parameter);

    if (source->files)
        return weight_files_read(source->files, parameter, first * width, n * width,
                                 staging->host);
    return values_read(staging, source->model, parameter, kind, first, n);
}

/* Where the bytes go. */
struct sink {
    int (*put)(struct sink *sink, const void *bytes, size_t n);
    struct text *text;
    int fd;
    const char *path;
};

static int write_values(const struct source *source, enum value_kind kind, enum dtype dtype,
                        struct sink *sink)
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
            TRY_OUT(read_rows(source, &staging, parameter, kind, first, n));
            if (dtype == DTYPE_BF16) {
                floats_to_bf16(halves, staging.host, count);
                TRY_OUT(sink->put(sink, halves, (size_t)count * sizeof(*halves)));
            } else {
                TRY_OUT(sink->put(sink, staging.host, (size_t)count * sizeof(float)));
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

static int put_text(struct sink *sink, const void *bytes, size_t n)
{
    text_append(sink->text, bytes, n);
    return sink->text->failed
               ? status_fail(STATUS_NOMEM, "the weights do not fit into the text's maximum")
               : STATUS_OK;
}

int model_write_weights(const struct model *model, struct text *out)
{
    const struct source source = {.model = model};
    struct sink sink = {.put = put_text, .text = out};
    enum dtype dtype = model->options.bf16 ? DTYPE_BF16 : DTYPE_F32;

    TRY(print_header(model, dtype, out));
    return write_values(&source, VALUES_SEEN, dtype, &sink);
}

/* ---- A file. */

static int put_file(struct sink *sink, const void *bytes, size_t n)
{
    const char *at = bytes;

    while (n > 0) {
        ssize_t written = write(sink->fd, at, n);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return status_fail(STATUS_IO, "cannot write %s: %s", sink->path,
                               strerror(errno));
        at += written;
        n -= (size_t)written;
    }
    return STATUS_OK;
}

static int write_content(const struct source *source, enum dtype dtype, int fd, const char *path)
{
    struct sink sink = {.put = put_file, .fd = fd, .path = path};
    struct text header = {0};
    int status = print_header(source->model, dtype, &header);

    if (status == STATUS_OK)
        status = put_file(&sink, header.data, header.length);
    if (status == STATUS_OK)
        status = write_values(source, VALUES_MASTER, dtype, &sink);
    if (status == STATUS_OK && fsync(fd))
        status = status_fail(STATUS_IO, "cannot sync %s: %s", path, strerror(errno));
    text_release(&header);
    return status;
}

static int write_file(const struct source *source, enum dtype dtype, const char *path)
{
    char temporary[FILE_PATH_MAX];

    if (snprintf(temporary, sizeof(temporary), "%s.tmp", path) >= (int)sizeof(temporary))
        return status_fail(STATUS_CONFIG, "path is too long: %s", path);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        return status_fail(STATUS_IO, "cannot create %s: %s", temporary, strerror(errno));
    int status = write_content(source, dtype, fd, temporary);
    if (close(fd) && status == STATUS_OK)
        status = status_fail(STATUS_IO, "cannot close %s: %s", temporary, strerror(errno));
    if (status == STATUS_OK && rename(temporary, path))
        status = status_fail(STATUS_IO, "cannot rename %s to %s: %s", temporary, path,
                             strerror(errno));
    if (status < 0)
        unlink(temporary);
    return status;
}

/* ---- Folders. */

static int write_folder(const struct source *source, int bos_id, int eos_id, enum dtype dtype,
                        const char *directory)
{
    char config_path[FILE_PATH_MAX], weights_path[FILE_PATH_MAX];
    struct text config = {0};
    int status;

    if (dtype != DTYPE_F32 && dtype != DTYPE_BF16)
        BUG("weights are written as float32 or bfloat16, not as %d", (int)dtype);
    TRY(file_join(config_path, directory, "config.json"));
    TRY(file_join(weights_path, directory, "model.safetensors"));
    TRY(write_file(source, dtype, weights_path));
    shape_print(&source->model->shape, bos_id, eos_id, dtype, &config);
    status = file_write_atomic(config_path, config.data, config.length);
    text_release(&config);
    return status;
}

int model_save_as(const struct model *model, int bos_id, int eos_id, enum dtype dtype,
                  const char *directory)
{
    const struct source source = {.model = model};

    return write_folder(&source, bos_id, eos_id, dtype, directory);
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
                         dtype, to));
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
