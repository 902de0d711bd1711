/* What a checkpoint holds beside the weights: optimizer.safetensors, and where they exist
 * reference.safetensors, adapter.safetensors and guard.json. */
#include "common/files.h"
#include "common/status.h"
#include "learner/guard.h"
#include "learner/internal.h"
#include "learner/optimizer.h"
#include "learner/orders.h"

#define OPTIMIZER_FILE "optimizer.safetensors"
#define REFERENCE_FILE "reference.safetensors"
#define ADAPTER_FILE "adapter.safetensors"
#define GUARD_FILE "guard.json"

/* Rank 0 has the directory; of several ranks the others bring their moments. */
int learner_save_here(const struct learner *learner, const char *directory)
{
    char path[FILE_PATH_MAX];

    if (!directory)
        return optimizer_save(learner->optimizer, NULL);
    TRY(file_join(path, directory, OPTIMIZER_FILE));
    TRY(optimizer_save(learner->optimizer, path));
    if (learner->reference) {
        TRY(file_join(path, directory, REFERENCE_FILE));
        TRY(model_save_weights(learner->reference, path));
    }
    if (model_has_adapters(learner->policy)) {
        TRY(file_join(path, directory, ADAPTER_FILE));
        TRY(model_save_adapters(learner->policy, path));
    }
    if (learner->guard->config.z_score > 0) {
        TRY(file_join(path, directory, GUARD_FILE));
        TRY(guard_save(learner->guard, path));
    }
    return STATUS_OK;
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
    return optimizer_load(learner->optimizer, map, path);
}

static int read_reference(struct learner *learner, const struct file_map *map, const char *path)
{
    return model_read_map(learner->reference, map, path);
}

static int read_adapters(struct learner *learner, const struct file_map *map, const char *path)
{
    return model_read_adapters(learner->policy, map->bytes, map->n, path);
}

static int load_files(struct learner *learner, const char *directory)
{
    char path[FILE_PATH_MAX];

    TRY(read_file(learner, directory, OPTIMIZER_FILE, read_optimizer));
    if (learner->reference)
        TRY(read_file(learner, directory, REFERENCE_FILE, read_reference));
    if (model_has_adapters(learner->policy))
        TRY(read_file(learner, directory, ADAPTER_FILE, read_adapters));
    TRY(file_join(path, directory, GUARD_FILE));
    /* A run that did not look for outliers before has none. */
    if (learner->guard->config.z_score > 0 && file_exists(path))
        TRY(guard_load(learner->guard, path));
    return STATUS_OK;
}

int learner_load_here(struct learner *learner, const char *directory)
{
    if (directory)
        TRY(load_files(learner, directory));
    else
        TRY(optimizer_load(learner->optimizer, NULL, ""));
    if (!learner->ranks)
        return STATUS_OK;
    if (learner->reference)
        TRY(order_send_image(learner->ranks, &learner->reference, NULL, NULL, 1));
    TRY(order_send_trained(learner->ranks, learner->policy));
    return ranks_broadcast(learner->ranks, learner->guard, sizeof(*learner->guard));
}
