/* Any bytes as a weight file: headers, offsets, shapes, and the numbers of a small model. */
#include <stdlib.h>
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char config[] =
    "{\"model_type\":\"llama\",\"hidden_size\":2,\"intermediate_size\":2,\"num_hidden_layers\":1,"
    "\"num_attention_heads\":1,\"vocab_size\":2,\"max_position_embeddings\":8,"
    "\"tie_word_embeddings\":true}";

/* Whatever is found lies within the file: the first and the last byte are read. */
static void touch(const struct safetensors *file, const char *name, size_t *sum)
{
    static const int64_t sizes[] = {0, 1, 2, 3, 4, 8};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct tensor like = tensor_1d(NULL, sizes[i]), pair = tensor_2d(NULL, 2, sizes[i]);
        const unsigned char *bytes;
        struct weight_span span;
        if (safetensors_get(file, name, &like, &bytes) == STATUS_OK && sizes[i])
            *sum += bytes[0] + bytes[4 * sizes[i] - 1];
        if (safetensors_find(file, name, &pair, &span) == STATUS_OK && sizes[i])
            *sum += span.bytes[0] +
                    span.bytes[2 * (size_t)sizes[i] * float_bytes(span.kind) - 1];
    }
}

/* What loads is written, and what is written loads and is written the same. */
static void check_back(struct ops *ops, const struct model *model)
{
    struct file_map once, twice;
    struct model *again;

    if (model_map_weights(model, &once) < 0 ||
        model_load_map(&again, ops, config, sizeof(config) - 1, &once, &model_frozen) < 0 ||
        model_map_weights(again, &twice) < 0)
        abort();
    if (once.n != twice.n || memcmp(once.bytes, twice.bytes, once.n) != 0)
        abort();
    file_map_close(&once);
    file_map_close(&twice);
    model_destroy(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct ops *ops;
    struct safetensors *file;
    struct model *model;
    struct file_map image;
    struct file_sink sink;
    size_t total = 0;

    if (!ops && ops_create(&ops, "reference", 1) < 0)
        abort();
    if (safetensors_open(&file, data, n, "fuzz") == STATUS_OK) {
        for (size_t i = 0; i < safetensors_count(file) && i < 64; i++)
            touch(file, safetensors_name(file, i), &total);
        safetensors_close(&file);
    }
    if (total == SIZE_MAX)   /* never; it makes the bytes count */
        abort();
    if (file_sink_open_nameless(&sink) < 0 ||
        file_sink_map(&sink, file_sink_put(&sink, data, n), &image) < 0)
        abort();
    int status = model_load_map(&model, ops, config, sizeof(config) - 1, &image, &model_frozen);
    file_map_close(&image);
    if (status < 0)
        return 0;
    check_back(ops, model);
    model_destroy(&model);
    return 0;
}
