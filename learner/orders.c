/* Weights from rank 0 to the others. */
#include "learner/orders.h"

#include "common/status.h"

#define PIECE_BYTES ((size_t)16 << 20)

static int send_file(struct ranks *ranks, struct file_map *image)
{
    uint64_t n = image->n;
    int status = ranks_broadcast(ranks, &n, sizeof(n));

    for (uint64_t at = 0; at < n && status == STATUS_OK; at += PIECE_BYTES)
        status = ranks_broadcast(ranks, (void *)(uintptr_t)(image->bytes + at),
                                 n - at < PIECE_BYTES ? (size_t)(n - at) : PIECE_BYTES);
    return status;
}

static int receive_file(struct ranks *ranks, struct file_map *image)
{
    struct file_sink sink;
    uint64_t n;

    TRY(ranks_broadcast(ranks, &n, sizeof(n)));
    TRY(file_sink_open_nameless(&sink));
    unsigned char *piece = mem_alloc(PIECE_BYTES, 1);
    int status = STATUS_OK;
    for (uint64_t at = 0; at < n && status == STATUS_OK; at += PIECE_BYTES) {
        size_t count = n - at < PIECE_BYTES ? (size_t)(n - at) : PIECE_BYTES;
        status = ranks_broadcast(ranks, piece, count);
        if (status == STATUS_OK)
            status = file_sink_put(&sink, piece, count);
    }
    mem_free(piece);
    return file_sink_map(&sink, status, image);
}

static int take_image(struct model **model, struct ops *ops, const struct order_create *order,
                      int is_reference, const struct file_map *image)
{
    const struct model_options *options = is_reference ? &order->reference : &order->policy;
    struct text config = {0};

    if (*model)
        return model_read_map(*model, image, "weights of rank 0");
    model_shape_print(&order->shape, -1, -1, &config);
    int status = model_load_map(model, ops, config.data, config.length, image, options);
    text_release(&config);
    return status;
}

int order_send_image(struct ranks *ranks, struct model **model, struct ops *ops,
                     const struct order_create *order, int is_reference)
{
    struct file_map image;
    int status;

    if (ranks_index(ranks)) {
        TRY(receive_file(ranks, &image));
        status = take_image(model, ops, order, is_reference, &image);
    } else {
        TRY(model_map_weights(*model, &image));
        status = send_file(ranks, &image);
    }
    file_map_close(&image);
    return status;
}

int order_send_trained(struct ranks *ranks, struct model *model)
{
    struct ops *ops = model_ops(model);
    float *weights, *gradients;
    size_t n = model_trained_run(model, &weights, &gradients), most = PIECE_BYTES / sizeof(float);
    float *piece = mem_alloc(most, sizeof(*piece));
    int status = STATUS_OK;

    for (size_t at = 0; at < n && status == STATUS_OK; at += most) {
        size_t count = n - at < most ? n - at : most;
        if (ranks_index(ranks) == 0)
            ops_download(ops, piece, weights + at, count * sizeof(*piece));
        TRY_OUT(ops_sync(ops));
        TRY_OUT(ranks_broadcast(ranks, piece, count * sizeof(*piece)));
        if (ranks_index(ranks))
            ops_upload(ops, weights + at, piece, count * sizeof(*piece));
        TRY_OUT(ops_sync(ops));
    }
    model_weights_changed(model);
    status = ops_sync(ops);
out:
    mem_free(piece);
    return status;
}
