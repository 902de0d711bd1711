/*
 * Weights between the host and the device, some rows at a time: the one way in and out for files,
 * messages, checkpoints and fresh models, whatever form a matrix has on the device.
 */
#include "common/status.h"
#include "model/internal.h"

#define PIECE_NUMBERS 65536

int64_t parameter_rows(const struct parameter *parameter)
{
    return parameter->value.shape[0];
}

int64_t parameter_width(const struct parameter *parameter)
{
    return parameter->value.n_dims == 2 ? parameter->value.shape[1] : 1;
}

int64_t staging_rows(const struct parameter *parameter, int64_t first)
{
    int64_t left = parameter_rows(parameter) - first;
    int64_t rows = PIECE_NUMBERS / parameter_width(parameter) / OPS_PANEL * OPS_PANEL;

    if (rows < OPS_PANEL)
        rows = OPS_PANEL;
    return left < rows ? left : rows;
}

int staging_open(struct staging *staging, const struct model *model)
{
    size_t most = 0;

    staging->ops = model->ops;
    staging->device = NULL;
    for (size_t i = 0; i < model->n_parameters; i++) {
        const struct parameter *parameter = &model->parameters[i];
        size_t n = (size_t)(staging_rows(parameter, 0) * parameter_width(parameter));
        most = n > most ? n : most;
    }
    staging->n_numbers = most;
    staging->host = mem_alloc(most, sizeof(float));
    return model->ops ? ops_alloc(model->ops, most * sizeof(float), &staging->device) : STATUS_OK;
}

void staging_close(struct staging *staging)
{
    mem_free(staging->host);
    if (staging->ops)
        ops_free(staging->ops, staging->device);
}

int values_read(struct staging *staging, const struct model *model,
                const struct parameter *parameter, int64_t first, int64_t n)
{
    struct ops *ops = model->ops;
    int64_t width = parameter_width(parameter);
    size_t bytes = (size_t)(n * width) * sizeof(float);
    struct matrix matrix = parameter->matrix;

    if (parameter->value.n_dims == 1) {
        struct tensor vector = view_rows(&parameter->value, first, n);
        ops_download(ops, staging->host, vector.data, bytes);
        return ops_sync(ops);
    }
    if (matrix.form == MATRIX_ROWS)
        matrix.dtype = DTYPE_F32;
    struct tensor rows = tensor_2d(staging->device, n, width);
    ops_matrix_read(ops, &rows, &matrix, first);
    ops_download(ops, staging->host, rows.data, bytes);
    return ops_sync(ops);
}

int values_write(struct staging *staging, struct model *model, const struct parameter *parameter,
                 int64_t first, int64_t n)
{
    struct ops *ops = model->ops;
    int64_t width = parameter_width(parameter);
    size_t bytes = (size_t)(n * width) * sizeof(float);

    if (parameter->value.data) {
        struct tensor rows = view_rows(&parameter->value, first, n);
        ops_upload(ops, rows.data, staging->host, bytes);
        if (!model->options.trainable && model->options.bf16)
            ops_round_bf16(ops, &rows, &rows);
    } else {
        struct matrix matrix = parameter->matrix;
        struct tensor rows = tensor_2d(staging->device, n, width);
        ops_upload(ops, staging->device, staging->host, bytes);
        ops_matrix_write(ops, &matrix, &rows, first);
    }
    return ops_sync(ops);   /* the host's piece is used again */
}

/* Both pieces lie on the host: this runs once in hundreds of steps. */
static int mix_rows(struct model *to, const struct model *from, size_t i, double alpha,
                    struct staging *mine, struct staging *theirs)
{
    const struct parameter *parameter = &to->parameters[i];
    float keep = 1.0f - (float)alpha, take = (float)alpha;
    int64_t n;

    for (int64_t first = 0; first < parameter_rows(parameter); first += n) {
        n = staging_rows(parameter, first);
        TRY(values_read(theirs, from, &from->parameters[i], first, n));
        TRY(values_read(mine, to, parameter, first, n));
        for (int64_t k = 0; k < n * parameter_width(parameter); k++) {
            float kept = keep * mine->host[k], taken = take * theirs->host[k];
            mine->host[k] = alpha == 1.0 ? theirs->host[k] : kept + taken;
        }
        TRY(values_write(mine, to, parameter, first, n));
    }
    return STATUS_OK;
}

int model_mix(struct model *to, const struct model *from, double alpha)
{
    struct staging mine = {0}, theirs = {0};
    int status;

    if (to->n_parameters != from->n_parameters)
        BUG("model_mix: %zu weights and %zu", to->n_parameters, from->n_parameters);
    TRY_OUT(staging_open(&mine, to));
    TRY_OUT(staging_open(&theirs, from));
    for (size_t i = 0; i < to->n_parameters; i++)
        TRY_OUT(mix_rows(to, from, i, alpha, &mine, &theirs));
    model_weights_changed(to);
    status = ops_sync(to->ops);
out:
    staging_close(&mine);
    staging_close(&theirs);
    return status;
}
