/*
 * The weights of a model in files: model.safetensors, or the files that
 * model.safetensors.index.json lists. Each tensor lies in exactly one of them, the one that the
 * index says.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "common/files.h"
#include "common/status.h"
#include "model/internal.h"

#define MAX_INDEX_BYTES ((size_t)64 << 20)
#define MAX_SHARDS 1024
/* So much of the maps counts as this process's memory at most. */
#define FORGET_BYTES ((size_t)32 << 20)

struct shard {
    const char *name;   /* of the list, borrowed */
    struct file_map map;
    struct safetensors *file;
};

struct weight_files {
    char *index;              /* path; NULL for a single file */
    struct shard_list list;   /* empty for a single file */
    struct shard *shards;
    size_t n;
    size_t n_read;            /* bytes of the maps, since they were last forgotten */
    int is_borrowed;          /* the map is the caller's */
};

/* ---- The index. */

static int check_file_name(const char *name, const char *tensor, const char *where)
{
    if (!name)
        return status_fail(STATUS_FORMAT, "%s: \"weight_map\": the file of tensor \"%s\" is not a "
                           "string", where, tensor);
    if (!name[0] || name[0] == '.' || strchr(name, '/') || strstr(name, "..") ||
        strlen(name) > 255)
        return status_fail(STATUS_FORMAT, "%s: \"weight_map\": \"%s\" of tensor \"%s\" is no plain "
                           "file name", where, name, tensor);
    return STATUS_OK;
}

static int add_name(struct shard_list *list, const char *name, const char *where)
{
    /* Neighbours mostly share a file: from the newest back. */
    for (size_t i = list->n; i-- > 0;)
        if (strcmp(list->names[i], name) == 0)
            return STATUS_OK;
    if (list->n == MAX_SHARDS)
        return status_fail(STATUS_FORMAT, "%s: more than %d files", where, MAX_SHARDS);
    list->names[list->n++] = name;
    return STATUS_OK;
}

static int read_index(struct shard_list *list, const char *where)
{
    void *at;

    list->places = json_object_get(list->index, "weight_map");
    if (!json_is_object(list->places) || !json_object_size(list->places))
        return status_fail(STATUS_FORMAT, "%s: \"weight_map\" is not an object with the files of "
                           "the tensors", where);
    list->names = mem_alloc(MAX_SHARDS, sizeof(*list->names));
    at = json_object_iter((json_t *)(uintptr_t)list->places);
    for (; at; at = json_object_iter_next((json_t *)(uintptr_t)list->places, at)) {
        const char *tensor = json_object_iter_key(at);
        const char *name = json_string_value(json_object_iter_value(at));
        TRY(check_file_name(name, tensor, where));
        TRY(add_name(list, name, where));
    }
    return STATUS_OK;
}

int shard_list_parse(struct shard_list *list, const char *json, size_t n, const char *where)
{
    memset(list, 0, sizeof(*list));
    TRY(json_parse(&list->index, json, n, where));
    int status = read_index(list, where);
    if (status < 0)
        shard_list_release(list);
    return status;
}

void shard_list_release(struct shard_list *list)
{
    json_decref(list->index);
    mem_free(list->names);
    memset(list, 0, sizeof(*list));
}

/* ---- Opening. */

static const char *place_of(const struct weight_files *files, const char *tensor)
{
    return json_string_value(json_object_get(files->list.places, tensor));
}

/* What lies in a shard must be what the index says, or it is not known which one counts. */
static int check_shard(const struct weight_files *files, const struct shard *shard,
                       const char *where)
{
    for (size_t i = 0; i < safetensors_count(shard->file); i++) {
        const char *tensor = safetensors_name(shard->file, i);
        const char *place = place_of(files, tensor);
        if (!place)
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" of %s is not listed", where,
                               tensor, shard->name);
        if (strcmp(place, shard->name) != 0)
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is listed in %s, but lies in %s",
                               where, tensor, place, shard->name);
    }
    return STATUS_OK;
}

static int check_places(const struct weight_files *files, const char *where)
{
    size_t in_shards = 0;

    for (size_t i = 0; i < files->n; i++) {
        TRY(check_shard(files, &files->shards[i], where));
        in_shards += safetensors_count(files->shards[i].file);
    }
    if (in_shards == json_object_size(files->list.places))
        return STATUS_OK;
    for (size_t i = 0; i < files->n; i++) {
        const struct shard *shard = &files->shards[i];
        void *at = json_object_iter((json_t *)(uintptr_t)files->list.places);
        for (; at; at = json_object_iter_next((json_t *)(uintptr_t)files->list.places, at))
            if (strcmp(json_string_value(json_object_iter_value(at)), shard->name) == 0 &&
                !safetensors_has(shard->file, json_object_iter_key(at)))
                return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is missing in %s", where,
                                   json_object_iter_key(at), shard->name);
    }
    BUG("the files hold %zu tensors, the index %zu", in_shards,
        json_object_size(files->list.places));
}

static int open_shard(struct shard *shard, const char *directory, const char *name)
{
    char path[FILE_PATH_MAX];

    shard->name = name;
    TRY(file_join(path, directory, name));
    TRY(file_map_open(&shard->map, path));
    if (shard->map.n)   /* reading ahead beats one fault after another; a failure does no harm */
        madvise((void *)(uintptr_t)shard->map.bytes, shard->map.n, MADV_SEQUENTIAL);
    return safetensors_open(&shard->file, shard->map.bytes, shard->map.n, path);
}

static int open_shards(struct weight_files *files, const char *directory, const char *index_path)
{
    struct text json = {0};
    int status;

    files->index = mem_copy_text(index_path);
    TRY_OUT(file_read(index_path, MAX_INDEX_BYTES, &json));
    TRY_OUT(shard_list_parse(&files->list, json.data ? json.data : "", json.length, index_path));
    files->shards = mem_alloc(files->list.n, sizeof(*files->shards));
    for (size_t i = 0; i < files->list.n; i++) {
        files->n = i + 1;
        TRY_OUT(open_shard(&files->shards[i], directory, files->list.names[i]));
    }
    TRY_OUT(check_places(files, index_path));
out:
    if (status < 0 && files->n)
        status_context(status, "%s", index_path);
    text_release(&json);
    return status;
}

int weight_files_open(struct weight_files **out, const char *directory)
{
    char index_path[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct weight_files *files = mem_alloc(1, sizeof(*files));
    int status;

    TRY_OUT(file_join(path, directory, "model.safetensors"));
    TRY_OUT(file_join(index_path, directory, "model.safetensors.index.json"));
    if (!file_exists(path) && file_exists(index_path)) {
        TRY_OUT(open_shards(files, directory, index_path));
    } else {
        files->n = 1;
        files->shards = mem_alloc(1, sizeof(*files->shards));
        TRY_OUT(open_shard(&files->shards[0], directory, "model.safetensors"));
    }
out:
    if (status < 0)
        weight_files_close(&files);
    *out = files;
    return status;
}

int weight_files_open_map(struct weight_files **out, const struct file_map *map, const char *where)
{
    struct weight_files *files = mem_alloc(1, sizeof(*files));

    files->n = 1;
    files->shards = mem_alloc(1, sizeof(*files->shards));
    files->shards[0].map = *map;
    files->is_borrowed = 1;
    int status = safetensors_open(&files->shards[0].file, map->bytes, map->n, where);
    if (status < 0)
        weight_files_close(&files);
    *out = files;
    return status;
}

static void forget(struct weight_files *files)
{
    for (size_t i = 0; i < files->n; i++)
        file_map_forget(&files->shards[i].map);
    files->n_read = 0;
}

void weight_files_close(struct weight_files **out)
{
    struct weight_files *files = *out;

    if (!files)
        return;
    for (size_t i = 0; i < files->n; i++) {
        safetensors_close(&files->shards[i].file);
        if (!files->is_borrowed)
            file_map_close(&files->shards[i].map);
    }
    shard_list_release(&files->list);
    mem_free(files->index);
    mem_free(files->shards);
    mem_free(files);
    *out = NULL;
}

/* ---- What a model needs of them. */

int weight_files_find(const struct weight_files *files, const struct parameter *parameter,
                      struct weight_span *span)
{
    const char *place = place_of(files, parameter->name);

    for (size_t i = 0; place && i < files->n; i++)
        if (strcmp(files->shards[i].name, place) == 0)
            return safetensors_find(files->shards[i].file, parameter->name, &parameter->value,
                                    span);
    if (files->index)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" is missing", files->index,
                           parameter->name);
    return safetensors_find(files->shards[0].file, parameter->name, &parameter->value, span);
}

int weight_files_read(struct weight_files *files, const struct parameter *parameter, int64_t first,
                      int64_t n, float *out)
{
    struct weight_span span;

    TRY(weight_files_find(files, parameter, &span));
    size_t size = float_bytes(span.kind);
    floats_read(out, span.bytes + (size_t)first * size, n, span.kind);
    int64_t bad = floats_find_bad(out, n);
    if (bad >= 0)
        return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has a NaN or Inf at element %lld",
                           span.where, parameter->name, (long long)(first + bad));
    files->n_read += (size_t)n * size;
    if (files->n_read > FORGET_BYTES)
        forget(files);
    return STATUS_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* One of the model's, or one that other tools write and the maths does not use. */
static int is_expected(const char *const *names, size_t n, const char *name)
{
    if (bsearch(&name, names, n, sizeof(*names), compare_names))
        return 1;
    if (strcmp(name, "lm_head.weight") == 0)
        return 1;   /* a copy of the embedding beside a tied head */
    return strstr(name, ".rotary_emb.inv_freq") != NULL;
}

static int check_names(const struct safetensors *file, const char *const *names, size_t n)
{
    for (size_t i = 0; i < safetensors_count(file); i++)
        if (!is_expected(names, n, safetensors_name(file, i)))
            return status_fail(STATUS_FORMAT, "%s: tensor \"%s\" has no place in the model that "
                               "config.json describes", safetensors_where(file),
                               safetensors_name(file, i));
    return STATUS_OK;
}

int weight_files_check(const struct weight_files *files, const struct model *model)
{
    size_t n = model->n_parameters;
    const char **names = mem_alloc(n, sizeof(*names));
    struct weight_span span;
    int status = STATUS_OK;

    for (size_t i = 0; i < n; i++)
        names[i] = model->parameters[i].name;
    qsort(names, n, sizeof(*names), compare_names);
    for (size_t i = 0; status == STATUS_OK && i < files->n; i++)
        status = check_names(files->shards[i].file, names, n);
    for (size_t i = 0; status == STATUS_OK && i < n; i++)
        status = weight_files_find(files, &model->parameters[i], &span);
    mem_free(names);
    return status;
}
