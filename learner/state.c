/* What a checkpoint holds beside the weights: optimizer.safetensors, and where they exist
 * reference.safetensors and adapter.safetensors. */
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "learner/internal.h"
#include "learner/optimizer.h"

#define OPTIMIZER_FILE "optimizer.safetensors"
#define REFERENCE_FILE "reference.safetensors"
#define ADAPTER_FILE "adapter.safetensors"

static int write_file(const char *directory, const char *name, const struct text *text)
{
    char path[FILE_PATH_MAX];

    TRY(file_join(path, directory, name));
    return file_write_atomic(path, text->data, text->length);
}

int learner_save_state(const struct learner *learner, const char *directory)
{
    struct text image = {.maximum = (size_t)1 << 40};
    int status;

    TRY_OUT(optimizer_save(learner->optimizer, &image));
    TRY_OUT(write_file(directory, OPTIMIZER_FILE, &image));
    if (learner->reference) {
        text_clear(&image);
        TRY_OUT(model_write_weights(learner->reference, &image));
        TRY_OUT(write_file(directory, REFERENCE_FILE, &image));
    }
    if (model_has_adapters(learner->policy)) {
        text_clear(&image);
        TRY_OUT(model_write_adapters(learner->policy, &image));
        TRY_OUT(write_file(directory, ADAPTER_FILE, &image));
    }
out:
    text_release(&image);
    return status;
}

/* One file of the directory, read by one of the functions below. */
static int read_file(struct learner *learner, const char *directory, const char *name,
                     int (*read)(struct learner *learner, const struct file_map *map,
                                 const char *path))
{
    char path[FILE_PATH_MAX];
    struct file_map map;

    TRY(file_join(path, directory, name));
    TRY(file_map_open(&map, path));
    int status = read(learner, &map, path);
    file_map_close(&map);
    return status;
}

static int read_optimizer(struct learner *learner, const struct file_map *map, const char *path)
{
    return optimizer_load(learner->optimizer, map->bytes, map->n, path);
}

static int read_reference(struct learner *learner, const struct file_map *map, const char *path)
{
    return model_read_weights(learner->reference, map->bytes, map->n, path);
}

static int read_adapters(struct learner *learner, const struct file_map *map, const char *path)
{
    return model_read_adapters(learner->policy, map->bytes, map->n, path);
}

int learner_load_state(struct learner *learner, const char *directory)
{
    TRY(read_file(learner, directory, OPTIMIZER_FILE, read_optimizer));
    if (learner->reference)
        TRY(read_file(learner, directory, REFERENCE_FILE, read_reference));
    if (model_has_adapters(learner->policy))
        TRY(read_file(learner, directory, ADAPTER_FILE, read_adapters));
    return STATUS_OK;
}
