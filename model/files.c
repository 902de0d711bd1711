/* Weights from files and messages into a model, read as hostile. */
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

/* Which tensors of a map are read: those in which something has changed, or all. */
struct selection {
    const struct file_map *map;    /* NULL: all */
    int (*has_changed)(const void *context, uint64_t from, uint64_t to);
    const void *context;
};

static const struct selection everything;

static int is_selected(const struct selection *selection, struct weight_files *files,
                       const struct parameter *parameter)
{
    struct weight_span span;

    if (!selection->map || weight_files_find(files, parameter, &span) < 0)
        return 1;
    uint64_t from = (uint64_t)(span.bytes - selection->map->bytes);
    uint64_t n = (uint64_t)tensor_count(&parameter->value) * float_bytes(span.kind);
    return selection->has_changed(selection->context, from, from + n);
}

/* Every number of the files once, through one piece of host memory; into the model with `keep`. */
static int read_all(struct model *model, struct weight_files *files,
                    const struct selection *selection, int keep)
{
    struct staging staging;
    int status = staging_open(&staging, model);

    for (size_t i = 0; status == STATUS_OK && i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        int64_t width = parameter_width(parameter), n;
        if (!is_selected(selection, files, parameter))
            continue;
        for (int64_t first = 0; first < parameter_rows(parameter); first += n) {
            n = staging_rows(parameter, first);
            TRY_OUT(weight_files_read(files, parameter, first * width, n * width, staging.host));
            if (keep)
                TRY_OUT(values_write(&staging, model, parameter, first, n));
        }
    }
out:
    staging_close(&staging);
    return status;
}

static int load_parameters(struct model *model, struct weight_files *files,
                           const struct selection *selection)
{
    TRY(read_all(model, files, selection, 1));
    model_weights_changed(model);
    return ops_sync(model->ops);
}

/* A model that holds bfloat16 because its files did cannot hold float32. */
static int check_kinds(const struct model *model, struct weight_files *files)
{
    struct weight_span span;

    for (size_t i = 0; i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        TRY(weight_files_find(files, parameter, &span));
        if (parameter->matrix.dtype == DTYPE_BF16 && !model->options.bf16 &&
            span.kind != FLOAT_BF16)
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is not BF16, and the model that "
                               "is there holds BF16", span.where, parameter->name);
    }
    return STATUS_OK;
}

static int read_files(struct model *model, struct weight_files *files,
                      const struct selection *selection)
{
    TRY(weight_files_check(files, model));
    TRY(check_kinds(model, files));
    TRY(read_all(model, files, selection, 0));   /* finds a NaN before anything changes */
    return load_parameters(model, files, selection);
}

static int read_map(struct model *model, const struct file_map *image, const char *where,
                    const struct selection *selection)
{
    struct weight_files *files = NULL;

    TRY(weight_files_open_map(&files, image, where));
    int status = read_files(model, files, selection);
    weight_files_close(&files);
    return status;
}

int model_read_map(struct model *model, const struct file_map *image, const char *where)
{
    return read_map(model, image, where, &everything);
}

int model_read_changes(struct model *model, const struct file_map *image, const char *where,
                       int (*has_changed)(const void *context, uint64_t from, uint64_t to),
                       const void *context)
{
    const struct selection selection = {image, has_changed, context};

    return read_map(model, image, where, &selection);
}

/* A frozen matrix stays what it is in its file. */
static int choose_dtypes(struct model *model, struct weight_files *files)
{
    struct weight_span span;

    for (size_t i = 0; i < model->n_parameters && !model->options.trainable; i++) {
        struct parameter *parameter = &model->parameters[i];
        TRY(weight_files_find(files, parameter, &span));
        if (parameter->value.n_dims == 2 && span.kind == FLOAT_BF16)
            parameter->matrix.dtype = DTYPE_BF16;
    }
    return STATUS_OK;
}

/* Names and shapes are checked before memory is asked for; the numbers on their way. */
static int load_files(struct model **out, struct ops *ops, const struct model_shape *shape,
                      struct weight_files *files, const struct model_options *options)
{
    struct model *model = model_begin(ops, shape, options);
    int status;

    TRY_OUT(weight_files_check(files, model));
    TRY_OUT(choose_dtypes(model, files));
    TRY_OUT(model_allocate(model));
    TRY_OUT(load_parameters(model, files, &everything));
    TRY_OUT(lora_start(model));
out:
    if (status < 0)
        model_destroy(&model);
    *out = model;
    return status;
}

int model_load_map(struct model **out, struct ops *ops, const char *config_json, size_t n_config,
                   const struct file_map *image, const struct model_options *options)
{
    struct weight_files *files = NULL;
    struct model_shape shape;

    *out = NULL;
    TRY(model_shape_parse(&shape, config_json, n_config, "config.json"));
    TRY(weight_files_open_map(&files, image, "model.safetensors"));
    int status = load_files(out, ops, &shape, files, options);
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

int model_load(struct model **out, struct ops *ops, const char *directory,
               const struct model_options *options)
{
    struct weight_files *files = NULL;
    struct model_shape shape;
    struct text config = {0};
    int status;

    *out = NULL;
    TRY_OUT(folder_read_config(directory, &shape, &config));
    TRY_OUT(weight_files_open(&files, directory));
    TRY_OUT(load_files(out, ops, &shape, files, options));
out:
    weight_files_close(&files);
    text_release(&config);
    return status;
}
