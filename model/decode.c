/*
 * Decoding with a cache: one pass over tokens of any sequences and pieces of prompts. The keys and
 * values of a token go into the cache first, then its query reads them there. The arithmetic is
 * that of forward.c, so that a token's logits are the same bits in both.
 */
#include <string.h>

#include "common/status.h"
#include "common/watchdog.h"
#include "model/internal.h"

static int allocate_cache(struct model_cache *cache)
{
    const struct model_shape *shape = &cache->model->shape;
    const struct model_cache_size *size = &cache->size;
    int64_t n_pages = size->n_tokens
                          ? size->n_tokens / MODEL_PAGE
                          : size->n_prompts * model_cache_pages(size->max_prompt) +
                                size->n_sequences * model_cache_pages(size->max_completion);
    int64_t n_rows = (n_pages + recorded_spare_pages(cache->model->ops)) * MODEL_PAGE;
    struct kv_cache layer = {.n_rows = n_rows,
                             .K = shape->n_kv_heads,
                             .D = shape->head_dim,
                             .page_rows = MODEL_PAGE};
    size_t bytes = ops_cache_bytes(&layer), layers = (size_t)shape->n_layers;

    if (n_rows > INT32_MAX)
        return status_fail(STATUS_NOMEM, "a cache of %lld tokens is too large", (long long)n_rows);
    int status = ops_alloc(cache->model->ops, bytes * layers, &cache->memory);
    if (status < 0)
        return status_context(status, "a cache of %lld tokens needs %.2f GiB: lower their number "
                              "(rollout.kv_cache_tokens)", (long long)n_rows,
                              (double)bytes * (double)layers / (1 << 30));
    for (size_t i = 0; i < layers; i++) {
        cache->layers[i] = layer;
        cache->layers[i].data = (unsigned char *)cache->memory + i * bytes;
    }
    page_pool_init(&cache->pool, (int32_t)n_pages);
    cache->pages = mem_alloc((size_t)n_pages + 1, sizeof(*cache->pages));
    return STATUS_OK;
}

int model_cache_create(struct model_cache **out, struct model *model,
                       const struct model_cache_size *size)
{
    struct model_cache *cache = mem_alloc(1, sizeof(*cache));
    int status;

    if (size->n_prompts < 1 || size->max_prompt < 1 || size->n_sequences < 0 ||
        size->max_completion < 0 || size->n_tokens < 0)
        BUG("model_cache_create: %d prompts of %d, %d sequences of %d, %lld tokens",
            size->n_prompts, size->max_prompt, size->n_sequences, size->max_completion,
            (long long)size->n_tokens);
    cache->model = model;
    cache->size = *size;
    cache->prompts = mem_alloc((size_t)size->n_prompts, sizeof(*cache->prompts));
    cache->sequences = mem_alloc((size_t)size->n_sequences + 1, sizeof(*cache->sequences));
    cache->prompt_lengths = mem_alloc((size_t)size->n_prompts, sizeof(*cache->prompt_lengths));
    cache->layers = mem_alloc((size_t)model->shape.n_layers, sizeof(*cache->layers));
    TRY_OUT(model_tape_create(&cache->tape, model));
    TRY_OUT(allocate_cache(cache));
    model_cache_record(cache, 1);
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
    recordings_destroy(cache);
    ops_free(cache->model->ops, cache->memory);
    ops_free(cache->model->ops, cache->device);
    model_tape_destroy(&cache->tape);
    page_pool_release(&cache->pool);
    mem_free(cache->layers);
    mem_free(cache->prompts);
    mem_free(cache->sequences);
    mem_free(cache->prompt_lengths);
    mem_free(cache->pages);
    mem_free(cache->tokens);
    mem_free(cache->positions);
    mem_free(cache->rows);
    mem_free(cache->runs);
    mem_free(cache->targets);
    mem_free(cache->target_runs);
    mem_free(cache->places);
    mem_free(cache->draws);
    mem_free(cache);
    *out = NULL;
}

/* ---- What the device is told of a batch. */

static struct tensor carve(struct ops_arena *arena, enum dtype dtype, int64_t n)
{
    return ops_arena_carve(arena, dtype, 1, &n);
}

static void carve_staging(struct model_cache *cache, struct ops_arena *arena)
{
    const struct model_shape *shape = &cache->model->shape;
    int64_t draw_words = (int64_t)(cache->most_draws * sizeof(struct draw) / sizeof(int32_t));
    int64_t width = (int64_t)shape->n_heads * shape->head_dim;

    cache->device_pages = carve(arena, DTYPE_I32, (int64_t)cache->pool.n_pages + 1);
    cache->device_rows = carve(arena, DTYPE_I32, cache->most_rows);
    cache->device_runs = carve(arena, DTYPE_I32, 4 * (int64_t)cache->most_rows);
    cache->device_targets = carve(arena, DTYPE_I32, cache->most_draws);
    cache->device_target_runs = carve(arena, DTYPE_I32, 4 * (int64_t)cache->most_draws);
    cache->last_q = carve(arena, DTYPE_F32, cache->most_draws * width);
    cache->device_draws = carve(arena, DTYPE_I32, draw_words).data;
    cache->device_drawn = carve(arena, DTYPE_I32, cache->most_draws);
    cache->device_logprobs = carve(arena, DTYPE_F32, cache->most_draws);
}

static int grow_staging(struct model_cache *cache, int n, int n_draws)
{
    struct ops *ops = cache->model->ops;
    struct ops_arena measure = {0}, arena = {0};
    void *memory = NULL;

    if (n <= cache->most_rows && n_draws <= cache->most_draws)
        return STATUS_OK;
    n = n > cache->most_rows ? n : cache->most_rows;
    n_draws = n_draws > cache->most_draws ? n_draws : cache->most_draws;
    cache->tokens = mem_resize(cache->tokens, (size_t)n, sizeof(*cache->tokens));
    cache->positions = mem_resize(cache->positions, (size_t)n, sizeof(*cache->positions));
    cache->rows = mem_resize(cache->rows, (size_t)n, sizeof(*cache->rows));
    cache->runs = mem_resize(cache->runs, (size_t)n * 4, sizeof(*cache->runs));
    size_t most = (size_t)n_draws;
    cache->targets = mem_resize(cache->targets, most, sizeof(*cache->targets));
    cache->target_runs = mem_resize(cache->target_runs, most * 4, sizeof(*cache->target_runs));
    cache->places = mem_resize(cache->places, most, sizeof(*cache->places));
    cache->draws = mem_resize(cache->draws, most, sizeof(*cache->draws));
    cache->most_rows = n;
    cache->most_draws = n_draws;
    carve_staging(cache, &measure);
    ops_free(ops, cache->device);
    cache->device = NULL;
    int status = ops_alloc(ops, measure.high_water, &memory);
    if (status < 0) {
        cache->most_rows = cache->most_draws = 0;
        return status_context(status, "a batch of %d tokens and %d draws", n, n_draws);
    }
    cache->device = memory;
    arena.base = memory;
    arena.capacity = measure.high_water;
    carve_staging(cache, &arena);
    return STATUS_OK;
}

static void check_row(const struct model_cache *cache, const struct model_decode_row *row)
{
    const struct model_cache_size *size = &cache->size;
    int is_prompt = row->sequence_slot == MODEL_PROMPT;

    if (row->prompt_slot < 0 || row->prompt_slot >= size->n_prompts || row->position < 0 ||
        row->sequence_slot < MODEL_PROMPT || row->sequence_slot >= size->n_sequences ||
        row->position >= (is_prompt ? size->max_prompt : size->max_completion))
        BUG("model_decode: prompt slot %d, sequence slot %d, position %d: the cache has %d of %d "
            "tokens and %d of %d", (int)row->prompt_slot, (int)row->sequence_slot,
            (int)row->position, size->n_prompts, size->max_prompt, size->n_sequences,
            size->max_completion);
    if (is_prompt && row->position && row->position != cache->prompt_lengths[row->prompt_slot])
        BUG("model_decode: token %d of a prompt of which %d are there", (int)row->position,
            (int)cache->prompt_lengths[row->prompt_slot]);
}

/* Pages for all rows of the batch, before one of their slots is shown. */
static int reserve_rows(struct model_cache *cache, int n, const struct model_decode_row *rows)
{
    for (int i = 0; i < n; i++) {
        check_row(cache, &rows[i]);
        if (rows[i].sequence_slot == MODEL_PROMPT)
            cache->prompt_lengths[rows[i].prompt_slot] = rows[i].position + 1;
        if (!model_cache_reserve(cache, rows[i].prompt_slot, rows[i].sequence_slot,
                                 rows[i].position + 1))
            return status_fail(STATUS_NOMEM, "all %d pages of %d tokens are taken: token %d finds "
                               "none (rollout.kv_cache_tokens)", (int)cache->pool.n_pages,
                               MODEL_PAGE, (int)rows[i].position);
    }
    return STATUS_OK;
}

/* The row of the cache that is row `at` of a run. */
static int32_t find_row(const struct model_cache *cache, int32_t place, int32_t at)
{
    return cache->pages[place + at / MODEL_PAGE] * MODEL_PAGE + at % MODEL_PAGE;
}

/* Where the token's keys go and which ones its query reads; the same for all layers. */
static int stage_rows(struct model_cache *cache, int n, const struct model_decode_row *rows)
{
    int last = 0;

    TRY(reserve_rows(cache, n, rows));
    cache->n_batches++;
    cache->n_shown = 0;
    for (int i = 0; i < n; i++) {
        const struct model_decode_row *row = &rows[i];
        int32_t *run = cache->runs + 4 * (size_t)i;
        run[0] = pages_show(cache, &cache->prompts[row->prompt_slot]);
        run[2] = run[3] = 0;
        if (row->sequence_slot == MODEL_PROMPT) {
            cache->positions[i] = row->position;
            cache->rows[i] = find_row(cache, run[0], row->position);
            run[1] = row->position + 1;
        } else {
            run[1] = cache->prompt_lengths[row->prompt_slot];
            run[2] = pages_show(cache, &cache->sequences[row->sequence_slot]);
            run[3] = row->position + 1;
            cache->positions[i] = run[1] + row->position;
            cache->rows[i] = find_row(cache, run[2], row->position);
        }
        cache->tokens[i] = row->token;
        TRY(tape_check_position(cache->model, cache->positions[i]));
        last = cache->positions[i] > last ? cache->positions[i] : last;
    }
    TRY(tape_check_tokens(cache->model, cache->tokens, n));
    return model_grow_rope(cache->model, last + 1);
}

/* The rows that are drawn from, each once; a draw then names its place among them. */
static int stage_draws(struct model_cache *cache, int n, int n_draws, const struct draw *draws)
{
    int n_targets = 0;

    for (int i = 0; i < n_draws; i++) {
        int row = draws[i].row;
        if (row < 0 || row >= n || (n_targets && row < cache->targets[n_targets - 1]))
            BUG("model_decode: draw %d is from row %d of %d, behind row %d", i, row, n,
                n_targets ? (int)cache->targets[n_targets - 1] : -1);
        if (!n_targets || row != cache->targets[n_targets - 1]) {
            memcpy(cache->target_runs + 4 * (size_t)n_targets, cache->runs + 4 * (size_t)row,
                   4 * sizeof(*cache->runs));
            cache->places[n_targets] = n_targets;
            cache->targets[n_targets++] = row;
        }
        cache->draws[i] = draws[i];
        cache->draws[i].row = n_targets - 1;
    }
    return n_targets;
}

/* ---- The pass. */

static struct tensor first_rows(struct tensor rows, int64_t n)
{
    rows.shape[0] = n;
    return rows;
}

/* What follows the keys and values of the last layer is wanted of the rows with draws alone. */
static void finish_targets(struct model_cache *cache, struct activations *a, int n_targets)
{
    struct model *model = cache->model;
    struct tape_views views = cache->tape->views;
    struct activations some = *a;
    int l = model->shape.n_layers - 1;
    int64_t N = a->x.shape[0], H = a->q.shape[1], D = a->q.shape[2];
    struct tensor targets = first_rows(cache->device_targets, n_targets);
    struct tensor pages = first_rows(cache->device_pages, cache->n_shown);
    struct tensor runs = first_rows(cache->device_target_runs, 4 * (int64_t)n_targets);
    struct tensor all_q = view_2d(&a->q, N, H * D);
    struct tensor q = tensor_2d(cache->last_q.data, n_targets, H * D);

    ops_gather_rows(model->ops, &q, &all_q, &targets);
    ops_gather_rows(model->ops, &views.gathered, &a->x, &targets);
    some.x = views.gathered;
    some.q = tensor_3d(q.data, n_targets, H, D);
    some.attended = first_rows(a->attended, n_targets);
    some.middle = first_rows(a->middle, n_targets);
    some.mlp_rstd = first_rows(a->mlp_rstd, n_targets);
    some.gate = first_rows(a->gate, n_targets);
    some.up = first_rows(a->up, n_targets);
    views.normed = first_rows(views.normed, n_targets);
    views.hidden = first_rows(views.hidden, n_targets);
    struct tensor last = first_rows(views.last, n_targets);
    ops_attention_decode(model->ops, &some.attended, &some.q, &cache->layers[l], &pages, &runs);
    layer_finish(model, &model->layers[l], &some, &views, &last);
}

static void run_layers(struct model_cache *cache, int n, int n_targets)
{
    struct model *model = cache->model;
    struct tape_views *views = &cache->tape->views;
    struct tensor rows = first_rows(cache->device_rows, n);
    struct tensor pages = first_rows(cache->device_pages, cache->n_shown);
    struct tensor runs = first_rows(cache->device_runs, 4 * (int64_t)n);

    ops_embedding(model->ops, &views->layers[0].x, &model->embedding->matrix, &views->tokens);
    for (int l = 0; l < model->shape.n_layers; l++) {
        struct activations *a = &views->layers[l];
        pulse("computes: decoding");
        layer_project(model, &model->layers[l], a, views);
        ops_cache_store(model->ops, &cache->layers[l], &a->k, &a->v, &rows);
        if (l + 1 == model->shape.n_layers && n_targets < n) {
            if (n_targets)
                finish_targets(cache, a, n_targets);
            return;
        }
        ops_attention_decode(model->ops, &a->attended, &a->q, &cache->layers[l], &pages, &runs);
        layer_finish(model, &model->layers[l], a, views, layer_output(model, views, l));
    }
}

/* Logits exist for the rows of one chunk at a time. */
static void run_draws(struct model_cache *cache, int n_targets, int n_draws,
                      const struct draw *draws)
{
    struct model *model = cache->model;
    struct tape_views *views = &cache->tape->views;
    int64_t most = views->logits.shape[0];

    head_begin(model, views);
    for (int64_t first = 0, draw = 0; first < n_targets; first += most) {
        int64_t rows = n_targets - first < most ? n_targets - first : most, end = draw;
        struct tensor logits = view_rows(&views->logits, 0, rows);
        while (end < n_draws && draws[end].row <= cache->targets[first + rows - 1])
            end++;
        struct tensor drawn = view_rows(&cache->device_drawn, draw, end - draw);
        struct tensor logprobs = view_rows(&cache->device_logprobs, draw, end - draw);
        head_logits(model, views, first, &logits);
        ops_sample(model->ops, &drawn, &logprobs, &logits, cache->device_draws + draw);
        draw = end;
    }
}

static void upload(struct model_cache *cache, void *device, const void *host, size_t n)
{
    ops_upload(cache->model->ops, device, host, n * sizeof(int32_t));
}

static void upload_batch(struct model_cache *cache, int n, int n_targets, int n_draws)
{
    struct tape_views *views = &cache->tape->views;

    upload(cache, views->tokens.data, cache->tokens, (size_t)n);
    upload(cache, views->positions.data, cache->positions, (size_t)n);
    upload(cache, cache->device_pages.data, cache->pages, (size_t)cache->n_shown);
    upload(cache, cache->device_rows.data, cache->rows, (size_t)n);
    upload(cache, cache->device_runs.data, cache->runs, (size_t)n * 4);
    upload(cache, cache->device_targets.data, cache->targets, (size_t)n_targets);
    upload(cache, cache->device_target_runs.data, cache->target_runs, (size_t)n_targets * 4);
    /* The last layer's output has the rows with draws alone, see finish_targets(). */
    upload(cache, views->target_rows.data, cache->places, (size_t)n_targets);
    /* ops_sample() counts rows within a chunk. */
    for (int i = 0; i < n_draws; i++)
        cache->draws[i].row %= (int32_t)views->logits.shape[0];
    ops_upload(cache->model->ops, cache->device_draws, cache->draws,
               (size_t)n_draws * sizeof(*cache->draws));
}

void decode_run(struct model_cache *cache, const struct decode_pass *pass)
{
    run_layers(cache, pass->n, pass->n_targets);
    if (pass->n_draws)
        run_draws(cache, pass->n_targets, pass->n_draws, pass->draws);
}

int model_decode(struct model *model, struct model_cache *cache, int n,
                 const struct model_decode_row *rows, int n_draws, const struct draw *draws,
                 int32_t *tokens, float *logprobs)
{
    struct ops *ops = model->ops;

    if (cache->model != model)
        BUG("model_decode: the cache belongs to another model");
    if (n < 1)
        return STATUS_OK;
    int recorded = recorded_rows(cache, n, rows, n_draws, draws);
    struct decode_pass pass = {recorded ? recorded : n, 0, recorded ? recorded : n_draws, draws};
    TRY(grow_staging(cache, pass.n, pass.n_draws));
    TRY(stage_rows(cache, n, rows));
    pass.n_targets = stage_draws(cache, n, n_draws, draws);
    if (recorded)
        recorded_pad(cache, n, &pass);
    TRY(tape_prepare(cache->tape, pass.n, 1, pass.n_targets, TAPE_KEEP_NOTHING));
    upload_batch(cache, pass.n, pass.n_targets, pass.n_draws);
    if (recorded)
        TRY(recorded_run(cache, &pass));
    else
        decode_run(cache, &pass);
    ops_download(ops, tokens, cache->device_drawn.data, (size_t)n_draws * sizeof(*tokens));
    ops_download(ops, logprobs, cache->device_logprobs.data, (size_t)n_draws * sizeof(*logprobs));
    return ops_sync(ops);
}
