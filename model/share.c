/* Weights from device memory to device memory: a frozen model that mirrors another. */
#include <string.h>

#include "common/status.h"
#include "model/internal.h"

#define PIECE_NUMBERS ((int64_t)4 << 20)

enum dtype model_seen_dtype(const struct model *model)
{
    return model->options.bf16 ? DTYPE_BF16 : DTYPE_F32;
}

int model_create_frozen(struct model **out, struct ops *ops, const struct model_shape *shape,
                        enum dtype dtype)
{
    const struct model_options options = {.bf16 = dtype == DTYPE_BF16};
    struct model *model = model_begin(ops, shape, &options);
    int status = model_allocate(model);

    if (status < 0)
        model_destroy(&model);
    *out = model;
    return status;
}

void model_regions(const struct model *model, struct model_region regions[MODEL_N_REGIONS])
{
    regions[0] = (struct model_region){model->values, model->bytes.values};
    regions[1] = (struct model_region){model->panels, model->bytes.panels};
}

static int refuse_bad(const struct parameter *parameter)
{
    return status_fail(STATUS_FAILED, "weight \"%s\" has a NaN or Inf: the policy has diverged; go "
                       "on from an earlier checkpoint with a smaller optimizer.learning_rate",
                       parameter->name);
}

static int64_t piece_rows(const struct parameter *parameter)
{
    int64_t rows = PIECE_NUMBERS / parameter_width(parameter) / OPS_PANEL * OPS_PANEL;

    return rows < OPS_PANEL ? OPS_PANEL : rows;
}

static int freeze_vector(const struct parameter *to, const struct parameter *from, struct ops *ops)
{
    if (!ops_all_finite(ops, &from->vector))
        return refuse_bad(from);
    ops_copy(ops, to->value.data, from->vector.data,
             (size_t)parameter_rows(from) * sizeof(float));
    return STATUS_OK;
}

static int freeze_matrix(const struct parameter *to, const struct parameter *from, struct ops *ops,
                         void *room)
{
    struct matrix matrix = to->matrix;
    int64_t n, left;

    for (int64_t first = 0; (left = parameter_rows(from) - first) > 0; first += n) {
        n = left < piece_rows(from) ? left : piece_rows(from);
        struct tensor rows = tensor_2d(room, n, parameter_width(from));
        ops_matrix_read(ops, &rows, &from->matrix, first);
        if (!ops_all_finite(ops, &rows))
            return refuse_bad(from);
        ops_matrix_write(ops, &matrix, &rows, first);
    }
    return STATUS_OK;
}

int model_freeze_weights(struct model *to, const struct model *from)
{
    struct ops *ops = from->ops;
    int64_t most = 0;
    void *room = NULL;
    int status;

    if (to->options.trainable || to->ops != ops || to->n_parameters != from->n_parameters ||
        model_seen_dtype(to) != model_seen_dtype(from))
        BUG("model_freeze_weights: models that differ");
    for (size_t i = 0; i < from->n_parameters; i++) {
        const struct parameter *parameter = &from->parameters[i];
        int64_t rows = piece_rows(parameter) < parameter_rows(parameter)
                           ? piece_rows(parameter) : parameter_rows(parameter);
        int64_t n = rows * parameter_width(parameter);
        most = n > most ? n : most;
    }
    TRY(ops_alloc(ops, (size_t)most * sizeof(float), &room));
    status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < from->n_parameters; i++)
        status = from->parameters[i].value.n_dims == 1
                     ? freeze_vector(&to->parameters[i], &from->parameters[i], ops)
                     : freeze_matrix(&to->parameters[i], &from->parameters[i], ops, room);
    int synced = ops_sync(ops);
    ops_free(ops, room);
    return synced < 0 ? synced : status;
}

static void put_u64(unsigned char *to, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

int model_digest_regions(struct ops *ops, const struct model_region regions[MODEL_N_REGIONS],
                         struct digest *digest)
{
    unsigned char words[MODEL_N_REGIONS][5 * 8];
    struct checksum checksum;

    for (int i = 0; i < MODEL_N_REGIONS; i++) {
        put_u64(words[i], regions[i].bytes);
        ops_checksum(ops, regions[i].memory, regions[i].bytes, &checksum);
        for (int j = 0; j < 4; j++)
            put_u64(words[i] + 8 * (j + 1), checksum.sums[j]);
    }
    TRY(ops_sync(ops));
    digest_of(digest, words, sizeof(words));
    return STATUS_OK;
}
