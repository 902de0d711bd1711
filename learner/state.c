/* What a checkpoint holds beside the weights: optimizer.safetensors, reference.safetensors. */
#include <string.h>

#include "common/files.h"
#include "common/status.h"
#include "learner/internal.h"
#include "learner/optimizer.h"

#define OPTIMIZER_FILE "optimizer.safetensors"
#define REFERENCE_FILE "reference.safetensors"

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
out:
    text_release(&image);
    return status;
}

int learner_load_state(struct learner *learner, const char *directory)
{
    char path[FILE_PATH_MAX];
    struct file_map map;
    int status;

    TRY(file_join(path, directory, OPTIMIZER_FILE));
    TRY(file_map_open(&map, path));
    status = optimizer_load(learner->optimizer, map.bytes, map.n, path);
    file_map_close(&map);
    if (status < 0 || !learner->reference)
        return status;
    TRY(file_join(path, directory, REFERENCE_FILE));
    TRY(file_map_open(&map, path));
    status = model_read_weights(learner->reference, map.bytes, map.n, path);
    file_map_close(&map);
    return status;
}
