#include "learner/shards.h"

#include "common/memory.h"
#include "common/status.h"

#define UNIT 16                              /* floats: slices begin at whole cache lines */
#define BUCKET_FLOATS ((size_t)4 << 20)
#define LEAST_BUCKETS 8                      /* of small models too: the last one ends the wait */

struct shards {
    struct ranks *ranks;
    struct model *model;
    float *weights, *gradients;
    int is_bf16, count;
    size_t n_buckets, n_begun;
    size_t *cuts;                            /* [n_buckets][count + 1] */
};

static size_t *cuts_of(const struct shards *shards, size_t bucket)
{
    return shards->cuts + bucket * ((size_t)shards->count + 1);
}

size_t *shards_cut(size_t n, size_t count, size_t *n_buckets)
{
    size_t stride = UNIT * count, size = n / LEAST_BUCKETS;

    size = size < BUCKET_FLOATS ? size : BUCKET_FLOATS;
    size = size > stride ? size / stride * stride : stride;
    *n_buckets = (n + size - 1) / size;
    size_t *cuts = mem_alloc(*n_buckets * (count + 1), sizeof(*cuts));
    for (size_t b = 0; b < *n_buckets; b++) {
        size_t end = n - b * size, begin = end > size ? end - size : 0;
        size_t n_units = (end - begin) / UNIT;
        for (size_t r = 0; r <= count; r++)
            cuts[b * (count + 1) + r] = begin + n_units * r / count * UNIT;
    }
    return cuts;
}

int shards_create(struct shards **out, struct ranks *ranks, struct model *model, int is_bf16)
{
    struct shards *shards;

    *out = NULL;
    if (!ranks)
        return STATUS_OK;
    *out = shards = mem_alloc(1, sizeof(*shards));
    shards->ranks = ranks;
    shards->model = model;
    shards->is_bf16 = is_bf16;
    shards->count = ranks_count(ranks);
    size_t n = model_trained_run(model, &shards->weights, &shards->gradients);
    shards->cuts = shards_cut(n, (size_t)shards->count, &shards->n_buckets);
    return ranks_use_device(ranks, model_ops(model));
}

void shards_destroy(struct shards **shards)
{
    if (*shards)
        mem_free((*shards)->cuts);
    mem_free(*shards);
    *shards = NULL;
}

size_t shards_count(const struct shards *shards)
{
    return shards->n_buckets;
}

struct slice shards_slice(const struct shards *shards, size_t bucket, int rank)
{
    const size_t *cuts = cuts_of(shards, bucket);

    return (struct slice){cuts[rank], cuts[rank + 1] - cuts[rank]};
}

/* Begins the sums of all buckets whose gradients are there. */
static int begin_sums(struct shards *shards, size_t first)
{
    while (shards->n_begun < shards->n_buckets && cuts_of(shards, shards->n_begun)[0] >= first)
        TRY(ranks_sum_begin(shards->ranks, shards->gradients, cuts_of(shards, shards->n_begun++),
                            shards->is_bf16));
    return STATUS_OK;
}

/* A failure here breaks the ranks, and shows when the sums are to end. */
static void take_ready(void *context, size_t first)
{
    begin_sums(context, first);
}

void shards_watch(struct shards *shards)
{
    if (shards)
        model_watch_gradients(shards->model, &(struct model_watcher){take_ready, shards});
}

int shards_end(struct shards *shards)
{
    if (!shards)
        return STATUS_OK;
    model_watch_gradients(shards->model, &(struct model_watcher){NULL, NULL});
    TRY(begin_sums(shards, 0));
    shards->n_begun = 0;
    return ranks_sum_end(shards->ranks);
}

int shards_spread(struct shards *shards, size_t bucket)
{
    return shards ? ranks_spread_begin(shards->ranks, shards->weights, cuts_of(shards, bucket))
                  : STATUS_OK;
}

int shards_spread_end(struct shards *shards)
{
    return shards ? ranks_spread_end(shards->ranks) : STATUS_OK;
}
