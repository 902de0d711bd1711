/*
 * Decoding with a cache. Per layer, keys and values lie as
 *   prompts [n_prompts][max_prompt][K][D], then sequences [n_sequences][max_completion][K][D].
 * The arithmetic is that of forward.c, so that a token's logits are the same bits in both.
 */
#include <string.h>

#include "common/status.h"
#include "model/internal.h"

/* Prompts are computed in batches of about this many tokens, which bounds the scratch memory. */
#define PREFILL_TOKENS 4096

struct model_cache {
    struct model *model;
    int n_prompts, max_prompt, n_sequences, max_completion;
    int64_t width;               /* K * D */
    int64_t layer_rows;          /* rows of keys per layer */
    float *keys, *values;        /* device; [n_layers][layer_rows][width] */
    int32_t *prompt_lengths;     /* [n_prompts] */
    int32_t *segments;           /* [n_prompts + 1] of one batch of prompts */
    struct model_tape *tape;     /* scratch */
    int32_t *positions;          /* host staging for one batch */
    int32_t *tokens, *rows;
    struct attention_keys *runs;
    int capacity;                /* rows of the staging */
};

static int64_t prompt_row(const struct model_cache *cache, int layer, int slot)
{
    return layer * cache->layer_rows + (int64_t)slot * cache->max_prompt;
}

static int64_t sequence_row(const struct model_cache *cache, int layer, int slot)
{
    return layer * cache->layer_rows + (int64_t)cache->n_prompts * cache->max_prompt +
           (int64_t)slot * cache->max_completion;
}

static int allocate_cache(struct model_cache *cache)
{
    struct ops *ops = cache->model->ops;
    size_t bytes = 0, layers = (size_t)cache->model->shape.n_layers;
    void *keys = NULL, *values = NULL;

    if (__builtin_mul_overflow((size_t)cache->layer_rows * layers,
                               (size_t)cache->width * sizeof(float), &bytes))
        return status_fail(STATUS_NOMEM, "a cache of %lld rows is too large",
                           (long long)cache->layer_rows);
    int status = ops_alloc(ops, bytes, &keys);
    cache->keys = keys;
    if (status == STATUS_OK)
        status = ops_alloc(ops, bytes, &values);
    cache->values = values;
    if (status < 0)
        return status_context(status, "a cache of %d prompts of %d tokens and %d completions of "
                              "%d needs %.2f GiB: lower one of them", cache->n_prompts,
                              cache->max_prompt, cache->n_sequences, cache->max_completion,
                              2.0 * (double)bytes / (1 << 30));
    return STATUS_OK;
}

int model_cache_create(struct model_cache **out, struct model *model, int n_prompts,
                       int max_prompt, int n_sequences, int max_completion)
{
    struct model_cache *cache = mem_alloc(1, sizeof(*cache));
    int status;

    if (n_prompts < 1 || max_prompt < 1 || n_sequences < 0 || max_completion < 0)
        BUG("model_cache_create: %d prompts of %d, %d sequences of %d", n_prompts, max_prompt,
            n_sequences, max_completion);
    cache->model = model;
    cache->n_prompts = n_prompts;
    cache->max_prompt = max_prompt;
    cache->n_sequences = n_sequences;
    cache->max_completion = max_completion;
    cache->width = (int64_t)model->shape.n_kv_heads * model->shape.head_dim;
    cache->layer_rows = (int64_t)n_prompts * max_prompt + (int64_t)n_sequences * max_completion;
    cache->prompt_lengths = mem_alloc((size_t)n_prompts, sizeof(*cache->prompt_lengths));
    cache->segments = mem_alloc((size_t)n_prompts + 1, sizeof(*cache->segments));
    TRY_OUT(model_tape_create(&cache->tape, model));
    TRY_OUT(allocate_cache(cache));
out:
    if (status < 0)
        model_cache_destroy(&cache);
    *out = cache;
    return status;
}

void model_cache_destroy(struct model_cache **out)
{
    struct model_cache *cache = *out;

    if (!cache)
        return;
    ops_free(cache->model->ops, cache->keys);
    ops_free(cache->model->ops, cache->values);
    model_tape_destroy(&cache->tape);
    mem_free(cache->prompt_lengths);
    mem_free(cache->segments);
    mem_free(cache->positions);
    mem_free(cache->tokens);
    mem_free(cache->rows);
    mem_free(cache->runs);
    mem_free(cache);
    *out = NULL;
}

static void grow_staging(struct model_cache *cache, int n)
{
    if (n <= cache->capacity)
        return;
    size_t count = (size_t)n;
    cache->positions = mem_resize(cache->positions, count, sizeof(*cache->positions));
    cache->tokens = mem_resize(cache->tokens, count, sizeof(*cache->tokens));
    cache->rows = mem_resize(cache->rows, count, sizeof(*cache->rows));
    cache->runs = mem_resize(cache->runs, count, sizeof(*cache->runs));
    cache->capacity = n;
}

/* n rows from row `from` of a layer's fresh keys and values to row `to` of the cache. */
static void store_rows(struct model_cache *cache, const struct activations *a, int64_t from,
                       int64_t to, int64_t n)
{
    struct ops *ops = cache->model->ops;
    int64_t width = cache->width;
    size_t bytes = (size_t)(n * width) * sizeof(float);

    ops_copy(ops, cache->keys + to * width, tensor_f32(&a->k) + from * width, bytes);
    ops_copy(ops, cache->values + to * width, tensor_f32(&a->v) + from * width, bytes);
}

static void upload(struct model_cache *cache, struct tensor *to, const int32_t *from)
{
    ops_upload(cache->model->ops, to->data, from, (size_t)to->shape[0] * sizeof(int32_t));
}

/* Logits of the rows in views->target_rows, a chunk at a time, to the host. */
static void download_logits(struct model_cache *cache, int n, float *logits)
{
    struct model *model = cache->model;
    struct tape_views *views = &cache->tape->views;
    int64_t V = model->shape.vocab_size, most = views->logits.shape[0];

    head_begin(model, views);
    for (int64_t first = 0; first < n; first += most) {
        int64_t rows = n - first < most ? n - first : most;
        struct tensor chunk = view_rows(&views->logits, 0, rows);
        head_logits(model, views, first, &chunk);
        ops_download(model->ops, logits + first * V, chunk.data,
                     (size_t)(rows * V) * sizeof(float));
    }
}

static int check_prompts(const struct model_cache *cache, int n_prompts, const int32_t *tokens,
                         const int32_t *segments, const int32_t *slots)
{
    int longest = 0;

    if (segments[0] != 0)
        BUG("model_prefill: the first prompt starts at %d", (int)segments[0]);
    for (int i = 0; i < n_prompts; i++) {
        int length = segments[i + 1] - segments[i];
        if (slots[i] < 0 || slots[i] >= cache->n_prompts || length < 1 ||
            length > cache->max_prompt)
            BUG("model_prefill: %d tokens for slot %d; the cache has %d slots of %d", length,
                (int)slots[i], cache->n_prompts, cache->max_prompt);
        if (length > longest)
            longest = length;
    }
    TRY(tape_check_tokens(cache->model, tokens, segments[n_prompts]));
    TRY(tape_check_position(cache->model, longest - 1));
    return model_grow_rope(cache->model, longest);
}

/* segments is of this batch alone: from 0. */
static int prefill_batch(struct model_cache *cache, int n_prompts, const int32_t *tokens,
                         const int32_t *segments, const int32_t *slots, float *logits)
{
    struct model *model = cache->model;
    struct tape_views *views = &cache->tape->views;

    TRY(tape_prepare(cache->tape, segments[n_prompts], n_prompts, n_prompts,
                     TAPE_KEEP_NOTHING));
    for (int i = 0; i < n_prompts; i++)
        for (int32_t t = segments[i]; t < segments[i + 1]; t++)
            cache->positions[t] = t - segments[i];
    for (int i = 0; i < n_prompts; i++)
        cache->rows[i] = segments[i + 1] - 1;
    upload(cache, &views->tokens, tokens);
    upload(cache, &views->positions, cache->positions);
    upload(cache, &views->segments, segments);
    upload(cache, &views->target_rows, cache->rows);
    ops_embedding(model->ops, &views->layers[0].x, &model->embedding->matrix, &views->tokens);
    for (int l = 0; l < model->shape.n_layers; l++) {
        struct activations *a = &views->layers[l];
        layer_project(model, &model->layers[l], a, views);
        for (int i = 0; i < n_prompts; i++)
            store_rows(cache, a, segments[i], prompt_row(cache, l, slots[i]),
                       segments[i + 1] - segments[i]);
        ops_attention(model->ops, &a->attended, &a->lse, &a->q, &a->k, &a->v, &views->segments,
                      NULL);
        layer_finish(model, &model->layers[l], a, views, layer_output(model, views, l));
    }
    download_logits(cache, n_prompts, logits);
    return ops_sync(model->ops);
}

/* How many prompts from `first` on fit into one batch; at least one. */
static int count_batch(const int32_t *segments, int first, int n_prompts)
{
    int end = first + 1;

    while (end < n_prompts && segments[end + 1] - segments[first] <= PREFILL_TOKENS)
        end++;
    return end - first;
}

int model_prefill(struct model *model, struct model_cache *cache, int n_prompts,
                  const int32_t *tokens, const int32_t *segments, const int32_t *prompt_slots,
                  float *logits)
{
    int status = STATUS_OK;

    if (cache->model != model || n_prompts > cache->n_prompts)
        BUG("model_prefill: %d prompts for a cache of %d, or one of another model", n_prompts,
            cache->n_prompts);
    TRY(check_prompts(cache, n_prompts, tokens, segments, prompt_slots));
    int32_t *local = cache->segments;
    for (int first = 0; status == STATUS_OK && first < n_prompts;) {
        int n = count_batch(segments, first, n_prompts);
        for (int i = 0; i <= n; i++)
            local[i] = segments[first + i] - segments[first];
        grow_staging(cache, local[n]);
        status = prefill_batch(cache, n, tokens + segments[first], local, prompt_slots + first,
                               logits + (int64_t)first * model->shape.vocab_size);
        first += n;
    }
    for (int i = 0; status == STATUS_OK && i < n_prompts; i++)
        cache->prompt_lengths[prompt_slots[i]] = segments[i + 1] - segments[i];
    return status;
}

static int stage_rows(struct model_cache *cache, int n, const struct model_decode_row *rows)
{
    int last = 0;

    for (int i = 0; i < n; i++) {
        const struct model_decode_row *row = &rows[i];
        if (row->prompt_slot < 0 || row->prompt_slot >= cache->n_prompts ||
            row->sequence_slot < 0 || row->sequence_slot >= cache->n_sequences ||
            row->position < 0 || row->position >= cache->max_completion)
            BUG("model_decode: prompt slot %d, sequence slot %d, position %d: the cache has %d, "
                "%d and %d", (int)row->prompt_slot, (int)row->sequence_slot, (int)row->position,
                cache->n_prompts, cache->n_sequences, cache->max_completion);
        int position = cache->prompt_lengths[row->prompt_slot] + row->position;
        TRY(tape_check_position(cache->model, position));
        cache->tokens[i] = row->token;
        cache->positions[i] = position;
        cache->rows[i] = i;
        if (position > last)
            last = position;
    }
    TRY(tape_check_tokens(cache->model, cache->tokens, n));
    return model_grow_rope(cache->model, last + 1);
}

/* Appends the layer's new keys and lists the two runs that each row sees. */
static void extend_runs(struct model_cache *cache, int layer, const struct activations *a, int n,
                        const struct model_decode_row *rows)
{
    for (int i = 0; i < n; i++) {
        struct attention_keys *run = &cache->runs[i];
        int64_t prompt = prompt_row(cache, layer, rows[i].prompt_slot) * cache->width;
        int64_t row = sequence_row(cache, layer, rows[i].sequence_slot);
        store_rows(cache, a, i, row + rows[i].position, 1);
        run->k[0] = cache->keys + prompt;
        run->v[0] = cache->values + prompt;
        run->n[0] = cache->prompt_lengths[rows[i].prompt_slot];
        run->k[1] = cache->keys + row * cache->width;
        run->v[1] = cache->values + row * cache->width;
        run->n[1] = rows[i].position + 1;
    }
}

int model_decode(struct model *model, struct model_cache *cache, int n,
                 const struct model_decode_row *rows, float *logits)
{
    struct tape_views *views = &cache->tape->views;

    if (cache->model != model)
        BUG("model_decode: the cache belongs to another model");
    if (n < 1)
        return STATUS_OK;
    grow_staging(cache, n);
    TRY(stage_rows(cache, n, rows));
    TRY(tape_prepare(cache->tape, n, 1, n, TAPE_KEEP_NOTHING));
    upload(cache, &views->tokens, cache->tokens);
    upload(cache, &views->positions, cache->positions);
    upload(cache, &views->target_rows, cache->rows);
    ops_embedding(model->ops, &views->layers[0].x, &model->embedding->matrix, &views->tokens);
    for (int l = 0; l < model->shape.n_layers; l++) {
        struct activations *a = &views->layers[l];
        layer_project(model, &model->layers[l], a, views);
        extend_runs(cache, l, a, n, rows);
        ops_attention_decode(model->ops, &a->attended, &a->q, cache->runs,
                             model->shape.n_kv_heads);
        layer_finish(model, &model->layers[l], a, views, layer_output(model, views, l));
    }
    download_logits(cache, n, logits);
    return ops_sync(model->ops);
}
