/* A whole model's folder: config.json, generation_config.json and the index up to a NUL each, two
 * bytes for the length of the first shard, and the shards. What loads converts to a folder that
 * says and holds the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "model/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { CONFIG, GENERATION, INDEX, FIRST, SECOND, N_FILES };
static const char *const names[N_FILES] = {"config.json", "generation_config.json",
                                           "model.safetensors.index.json", "a.safetensors",
                                           "b.safetensors"};
static int files[N_FILES];
static char folder[] = "/tmp/hone-fuzz-XXXXXX", copy[64];

static void remove_folders(void)
{
    file_remove_tree(folder);
    file_remove_tree(copy);
}

static void make_folder(void)
{
    char target[64], path[FILE_PATH_MAX];

    log_set_level(LOG_ERROR);
    if (!mkdtemp(folder))
        abort();
    for (int i = 0; i < N_FILES; i++) {
        files[i] = memfd_create(names[i], 0);
        snprintf(target, sizeof(target), "/proc/self/fd/%d", files[i]);
        if (file_join(path, folder, names[i]) < 0 || symlink(target, path))
            abort();
    }
    snprintf(copy, sizeof(copy), "%s.out", folder);
    if (file_make_directories(copy) < 0)
        abort();
    atexit(remove_folders);
}

static void put(int i, const uint8_t *bytes, size_t n)
{
    if (ftruncate(files[i], 0) < 0 || pwrite(files[i], bytes, n, 0) != (ssize_t)n)
        abort();
}

static void write_files(const uint8_t *data, size_t n)
{
    for (int i = CONFIG; i <= INDEX; i++) {
        const uint8_t *nul = n ? memchr(data, 0, n) : NULL;
        size_t part = nul ? (size_t)(nul - data) : n;
        put(i, data, part);
        part += nul != NULL;
        data += part;
        n -= part;
    }
    size_t first = n >= 2 ? (size_t)(data[0] | data[1] << 8) : 0, head = n >= 2 ? 2 : n;
    if (first > n - head)
        first = n - head;
    put(FIRST, data + head, first);
    put(SECOND, data + head + first, n - head - first);
}

static void check_copy(struct ops *ops, const struct model *model)
{
    struct file_map before, after;
    struct model *again;

    if (model_convert(folder, copy, DTYPE_F32) < 0 ||
        model_load(&again, ops, copy, &model_frozen) < 0)
        abort();
    if (model_map_weights(model, &before) < 0 || model_map_weights(again, &after) < 0 ||
        before.n != after.n || memcmp(before.bytes, after.bytes, after.n) != 0)
        abort();
    file_map_close(&before);
    file_map_close(&after);
    model_destroy(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct ops *ops;
    struct model_notes notes;
    struct model *model;
    enum dtype dtype;

    if (!ops) {
        make_folder();
        if (ops_create(&ops, "reference", 1) < 0)
            abort();
    }
    write_files(data, n);
    if (model_notes_read(&notes, folder) == STATUS_OK)
        model_notes_release(&notes);
    if (model_load(&model, ops, folder, &model_frozen) < 0)
        return 0;
    if (model_folder_dtype(folder, &dtype) < 0)
        abort();
    check_copy(ops, model);
    model_destroy(&model);
    return 0;
}
