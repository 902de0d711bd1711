/* The optimizer's state as a file, 2n + 1 tensors: "m.<weight>", "v.<weight>", "updates". Of many
 * ranks each has a part of it; rank 0 reads and writes the file, a tensor at a time. */
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "learner/optimizer_parts.h"

#define NAME_BYTES 256

struct state_names {
    struct named_tensor *tensors;
    char (*names)[NAME_BYTES];
    int32_t updates;
    size_t n;
};

static void list_state(const struct optimizer *optimizer, struct state_names *state)
{
    size_t n = model_n_trained(optimizer->model);

    state->n = 2 * n + 1;
    state->tensors = mem_alloc(state->n, sizeof(*state->tensors));
    state->names = mem_alloc(state->n, sizeof(*state->names));
    state->updates = (int32_t)optimizer->updates;
    for (size_t i = 0; i < n; i++) {
        struct tensor like;
        const char *name = model_trained(optimizer->model, i, &like, NULL);
        like.data = NULL;
        snprintf(state->names[2 * i], NAME_BYTES, "m.%s", name);
        snprintf(state->names[2 * i + 1], NAME_BYTES, "v.%s", name);
        state->tensors[2 * i].tensor = optimizer->shards ? like : optimizer->parts[i].m;
        state->tensors[2 * i + 1].tensor = optimizer->shards ? like : optimizer->parts[i].v;
    }
    snprintf(state->names[2 * n], NAME_BYTES, "updates");
    state->tensors[2 * n].tensor = tensor_i32(&state->updates, 1);
    for (size_t i = 0; i < state->n; i++)
        state->tensors[i].name = state->names[i];
}

static void release_state(struct state_names *state)
{
    mem_free(state->tensors);
    mem_free(state->names);
}

/* ---- Of several ranks: where tensor k of the file lies in the run of what is trained. */

static size_t first_of(const struct optimizer *optimizer, size_t k)
{
    float *weights, *gradients;
    struct tensor weight;

    model_trained_run(optimizer->model, &weights, &gradients);
    model_trained(optimizer->model, k / 2, &weight, NULL);
    return (size_t)((const float *)weight.data - weights);
}

/* What a slice and elements [first, first + n) have in common. */
static struct slice overlap(struct slice slice, size_t first, size_t n)
{
    size_t begin = slice.first > first ? slice.first : first;
    size_t end = slice.first + slice.n < first + n ? slice.first + slice.n : first + n;

    return end > begin ? (struct slice){begin, end - begin} : (struct slice){begin, 0};
}

/* My own elements [own.first, own.first + own.n) of a bucket, m or v as k says. */
static float *moments_of(const struct optimizer *optimizer, size_t bucket, size_t k,
                         const struct slice *own)
{
    const struct part *part = &optimizer->parts[bucket];
    struct slice mine = shards_slice(optimizer->shards, bucket, ranks_index(optimizer->ranks));

    return tensor_f32(k % 2 ? &part->v : &part->m) + (own->first - mine.first);
}

/* Tensor k from all ranks into `all` of rank 0, which is host memory. */
static int collect(const struct optimizer *optimizer, size_t k, size_t n, float *all)
{
    struct ops *ops = model_ops(optimizer->model);
    size_t first = first_of(optimizer, k);
    int me = ranks_index(optimizer->ranks);

    for (size_t b = 0; b < optimizer->n_parts; b++)
        for (int r = 0; r < ranks_count(optimizer->ranks); r++) {
            struct slice part = overlap(shards_slice(optimizer->shards, b, r), first, n);
            float *to = me ? all : all + (part.first - first);
            if (!part.n || (me && me != r))
                continue;
            if (me == r)
                ops_download(ops, to, moments_of(optimizer, b, k, &part),
                             part.n * sizeof(float));
            TRY(ops_sync(ops));
            if (r)
                TRY(ranks_bring(optimizer->ranks, r, to, part.n * sizeof(float)));
        }
    return STATUS_OK;
}

struct fetcher {
    const struct optimizer *optimizer;
    struct state_names *state;
    float *all;          /* host: the largest tensor */
    void *device;        /* the same, where it is written from */
};

static int fetch(void *context, size_t k)
{
    struct fetcher *fetcher = context;
    struct ops *ops = model_ops(fetcher->optimizer->model);
    struct tensor *tensor = &fetcher->state->tensors[k].tensor;
    size_t n = (size_t)tensor_count(tensor);

    if (tensor->data)    /* "updates" */
        return STATUS_OK;
    TRY(collect(fetcher->optimizer, k, n, fetcher->all));
    ops_upload(ops, fetcher->device, fetcher->all, n * sizeof(float));
    tensor->data = fetcher->device;
    return ops_sync(ops);
}

static size_t largest_tensor(const struct state_names *state)
{
    size_t largest = 0;

    for (size_t k = 0; k < state->n; k++) {
        size_t n = (size_t)tensor_count(&state->tensors[k].tensor);
        largest = n > largest ? n : largest;
    }
    return largest;
}

static int save_collected(const struct optimizer *optimizer, struct state_names *state,
                          const char *path)
{
    struct ops *ops = model_ops(optimizer->model);
    size_t largest = largest_tensor(state);
    struct fetcher fetcher = {.optimizer = optimizer, .state = state};
    int status = STATUS_OK;

    fetcher.all = mem_alloc(largest, sizeof(float));
    if (ranks_index(optimizer->ranks) == 0) {
        TRY_OUT(ops_alloc(ops, largest * sizeof(float), &fetcher.device));
        TRY_OUT(safetensors_save_fetched(ops, state->tensors, state->n, path, fetch, &fetcher));
    }
    for (size_t k = 0; k + 1 < state->n && ranks_index(optimizer->ranks); k++)
        TRY_OUT(collect(optimizer, k, (size_t)tensor_count(&state->tensors[k].tensor),
                        fetcher.all));
out:
    ops_free(ops, fetcher.device);
    mem_free(fetcher.all);
    return status;
}

int optimizer_save(const struct optimizer *optimizer, const char *path)
{
    struct ops *ops = model_ops(optimizer->model);
    struct state_names state;
    void *updates = NULL;

    list_state(optimizer, &state);
    struct named_tensor *last = &state.tensors[state.n - 1];
    int status = ops_alloc(ops, sizeof(state.updates), &updates);
    if (status == STATUS_OK) {
        ops_upload(ops, updates, &state.updates, sizeof(state.updates));
        last->tensor.data = updates;
        status = optimizer->shards ? save_collected(optimizer, &state, path)
                                   : safetensors_save(ops, state.tensors, state.n, path);
    }
    ops_free(ops, updates);
    release_state(&state);
    return status;
}

/* ---- Back. */

/* Tensor k of the file, which rank 0 has at `data`, to whom it belongs. */
static int hand_out(struct optimizer *optimizer, size_t k, size_t n, const unsigned char *data)
{
    struct ops *ops = model_ops(optimizer->model);
    size_t first = first_of(optimizer, k);
    int me = ranks_index(optimizer->ranks);
    float *values = mem_alloc(n, sizeof(*values));

    if (me == 0)
        memcpy(values, data, n * sizeof(*values));
    int status = ranks_broadcast(optimizer->ranks, values, n * sizeof(*values));
    for (size_t b = 0; b < optimizer->n_parts && status == STATUS_OK; b++) {
        struct slice part = overlap(shards_slice(optimizer->shards, b, me), first, n);
        if (part.n)
            ops_upload(ops, moments_of(optimizer, b, k, &part), values + (part.first - first),
                       part.n * sizeof(float));
    }
    if (status == STATUS_OK)
        status = ops_sync(ops);
    mem_free(values);
    return status;
}

static int take(struct optimizer *optimizer, struct state_names *state, size_t k,
                const unsigned char *data)
{
    struct ops *ops = model_ops(optimizer->model);
    size_t n = (size_t)tensor_count(&state->tensors[k].tensor);

    if (optimizer->shards)
        return hand_out(optimizer, k, n, data);
    ops_upload(ops, state->tensors[k].tensor.data, data, n * sizeof(float));
    return ops_sync(ops);
}

int optimizer_load(struct optimizer *optimizer, const struct file_map *map, const char *path)
{
    struct safetensors *file = NULL;
    struct state_names state;
    const unsigned char **data;
    int status = STATUS_OK;

    list_state(optimizer, &state);
    data = mem_alloc(state.n, sizeof(*data));
    if (map)
        status = safetensors_open(&file, map->bytes, map->n, path);
    for (size_t k = 0; map && k < state.n && status == STATUS_OK; k++)
        status = safetensors_get(file, state.tensors[k].name, &state.tensors[k].tensor, &data[k]);
    if (status == STATUS_OK && map)
        memcpy(&state.updates, data[state.n - 1], sizeof(state.updates));
    if (status == STATUS_OK)
        status = ranks_broadcast(optimizer->ranks, &state.updates, sizeof(state.updates));
    if (status == STATUS_OK)
        optimizer->updates = state.updates;
    for (size_t k = 0; k + 1 < state.n && status == STATUS_OK; k++) {
        status = take(optimizer, &state, k, data[k]);
        if (map)
            file_map_forget(map);
    }
    safetensors_close(&file);
    mem_free(data);
    release_state(&state);
    return status;
}
