/* The memory of a pass: what is kept for the backward pass, and scratch, in one allocation. */
#include <math.h>
#include <string.h>

#include "common/status.h"
#include "model/internal.h"

struct tensor view_2d(const struct tensor *tensor, int64_t a, int64_t b)
{
    if (a * b != tensor_count(tensor))
        BUG("view of %lld by %lld over %lld elements", (long long)a, (long long)b,
            (long long)tensor_count(tensor));
    return tensor_2d(tensor->data, a, b);
}

struct tensor view_rows(const struct tensor *tensor, int64_t first, int64_t n)
{
    struct tensor view = *tensor;
    int64_t width = tensor->n_dims == 1 ? 1 : tensor->shape[1];

    if (tensor->n_dims > 2 || first < 0 || n < 0 || first + n > tensor->shape[0])
        BUG("view of rows %lld to %lld of %lld", (long long)first, (long long)(first + n),
            (long long)tensor->shape[0]);
    if (view.data)
        view.data = (unsigned char *)view.data + first * width * 4;
    view.shape[0] = n;
    return view;
}

struct layout {
    const struct model_shape *shape;
    int64_t n_tokens, n_segments, n_targets, lora_rank;
    enum tape_keep keep;
};

/* Logits exist for so many rows at a time, in about so many bytes. */
#define HEAD_BYTES ((int64_t)64 << 20)
#define HEAD_ROWS_MOST 1024
#define HEAD_ROWS_LEAST 64

static int64_t head_rows(const struct layout *layout)
{
    int64_t rows = HEAD_BYTES / (4 * (int64_t)layout->shape->vocab_size);

    rows = rows > HEAD_ROWS_MOST ? HEAD_ROWS_MOST : rows < HEAD_ROWS_LEAST ? HEAD_ROWS_LEAST : rows;
    return rows < layout->n_targets ? rows : layout->n_targets;
}

static struct tensor carve(struct ops_arena *arena, int64_t a, int64_t b, int64_t c)
{
    int64_t shape[3] = {a, b, c};

    return ops_arena_carve(arena, DTYPE_F32, c ? 3 : b ? 2 : 1, shape);
}

static struct tensor carve_indices(struct ops_arena *arena, int64_t n)
{
    return ops_arena_carve(arena, DTYPE_I32, 1, &n);
}

static void carve_layer(struct ops_arena *arena, const struct layout *layout,
                        struct activations *a)
{
    const struct model_shape *shape = layout->shape;
    int64_t N = layout->n_tokens, C = shape->channels, F = shape->hidden_channels;
    int64_t H = shape->n_heads, K = shape->n_kv_heads, D = shape->head_dim;

    a->attention_rstd = carve(arena, N, 0, 0);
    a->q = carve(arena, N, H, D);
    a->k = carve(arena, N, K, D);
    a->v = carve(arena, N, K, D);
    if (shape->qk_norm) {
        a->q_raw = carve(arena, N, H, D);
        a->k_raw = carve(arena, N, K, D);
        a->q_rstd = carve(arena, N * H, 0, 0);
        a->k_rstd = carve(arena, N * K, 0, 0);
    }
    a->attended = carve(arena, N, H, D);
    a->lse = carve(arena, N, H, 0);
    a->middle = carve(arena, N, C, 0);
    a->mlp_rstd = carve(arena, N, 0, 0);
    a->gate = carve(arena, N, F, 0);
    a->up = carve(arena, N, F, 0);
}

static void carve_head(struct ops_arena *arena, const struct layout *layout,
                       struct tape_views *views)
{
    int64_t R = layout->n_targets, C = layout->shape->channels;

    views->gathered = carve(arena, R, C, 0);
    views->final_rstd = carve(arena, R, 0, 0);
    views->final_normed = carve(arena, R, C, 0);
    views->logits = carve(arena, head_rows(layout), layout->shape->vocab_size, 0);
    views->logprobs = carve(arena, R, 0, 0);
    views->entropy = carve(arena, R, 0, 0);
}

static void carve_backward(struct ops_arena *arena, const struct layout *layout,
                           struct tape_views *views)
{
    const struct model_shape *shape = layout->shape;
    int64_t N = layout->n_tokens, R = layout->n_targets, C = shape->channels;
    int64_t H = shape->n_heads, K = shape->n_kv_heads, D = shape->head_dim;

    views->d_x = carve(arena, N, C, 0);
    views->d_normed = carve(arena, N, C, 0);
    views->d_attended = carve(arena, N, H, D);
    views->d_q = carve(arena, N, H, D);
    views->d_k = carve(arena, N, K, D);
    views->d_v = carve(arena, N, K, D);
    if (shape->qk_norm) {
        views->d_q_raw = carve(arena, N, H, D);
        views->d_k_raw = carve(arena, N, K, D);
    }
    views->d_hidden = carve(arena, N, shape->hidden_channels, 0);
    views->d_gathered = carve(arena, R, C, 0);
    views->d_final_normed = carve(arena, R, C, 0);
    views->d_logprobs = carve(arena, R, 0, 0);
    if (layout->lora_rank) {
        views->low_in = carve(arena, N, layout->lora_rank, 0);
        views->low_out = carve(arena, N, layout->lora_rank, 0);
    }
}

/* Inputs are kept by both kinds, the rest by one; else all layers share the memory of the first. */
static void carve_layers(struct ops_arena *arena, const struct layout *layout,
                         struct activations *layers)
{
    for (int i = 0; i < layout->shape->n_layers; i++) {
        layers[i] = layers[0];
        if (i == 0 || layout->keep != TAPE_KEEP_NOTHING)
            layers[i].x = carve(arena, layout->n_tokens, layout->shape->channels, 0);
        if (i == 0 || layout->keep == TAPE_KEEP_ALL)
            carve_layer(arena, layout, &layers[i]);
    }
}

static void carve_tape(struct ops_arena *arena, const struct layout *layout,
                       struct tape_views *views)
{
    const struct model_shape *shape = layout->shape;
    int64_t N = layout->n_tokens, C = shape->channels;

    arena->used = 0;
    views->tokens = carve_indices(arena, N);
    views->positions = carve_indices(arena, N);
    views->segments = carve_indices(arena, layout->n_segments + 1);
    views->prefix_indices = carve_indices(arena, layout->n_segments);
    views->target_rows = carve_indices(arena, layout->n_targets);
    views->targets = carve_indices(arena, layout->n_targets);
    views->last = carve(arena, N, C, 0);
    views->normed = carve(arena, N, C, 0);
    views->hidden = carve(arena, N, shape->hidden_channels, 0);
    carve_head(arena, layout, views);
    if (layout->keep)
        carve_backward(arena, layout, views);
    carve_layers(arena, layout, views->layers);
}

size_t model_tape_bytes(const struct model_shape *shape, int lora_rank, int n_tokens, int n_targets,
                        enum tape_keep keep)
{
    /* Every token a segment of its own is the most that the index arrays can need. */
    struct layout layout = {shape, n_tokens, n_tokens, n_targets, lora_rank, keep};
    struct ops_arena arena = {0};
    struct tape_views views = {0};

    views.layers = mem_alloc((size_t)shape->n_layers, sizeof(*views.layers));
    carve_tape(&arena, &layout, &views);
    mem_free(views.layers);
    return arena.high_water;
}

int model_tape_create(struct model_tape **out, struct model *model)
{
    struct model_tape *tape = mem_alloc(1, sizeof(*tape));

    tape->model = model;
    tape->views.layers = mem_alloc((size_t)model->shape.n_layers, sizeof(*tape->views.layers));
    *out = tape;
    return STATUS_OK;
}

void model_tape_destroy(struct model_tape **out)
{
    struct model_tape *tape = *out;

    if (!tape)
        return;
    ops_free(tape->model->ops, tape->arena.base);
    mem_free(tape->views.layers);
    mem_free(tape);
    *out = NULL;
}

static int grow_tape(struct model_tape *tape, size_t bytes)
{
    struct ops *ops = tape->model->ops;
    void *memory = NULL;

    ops_free(ops, tape->arena.base);
    memset(&tape->arena, 0, sizeof(tape->arena));
    int status = ops_alloc(ops, bytes, &memory);
    if (status < 0)
        return status_context(status, "activations of %d tokens and %d targets need %.2f GiB: "
                              "lower optimizer.micro_batch_tokens, or set "
                              "optimizer.gradient_checkpointing", tape->n_tokens, tape->n_targets,
                              (double)bytes / (1 << 30));
    tape->arena.base = memory;
    tape->arena.capacity = bytes;
    return STATUS_OK;
}

int tape_prepare(struct model_tape *tape, int n_tokens, int n_segments, int n_targets,
                 enum tape_keep keep)
{
    struct layout layout = {&tape->model->shape, n_tokens, n_segments, n_targets,
                            tape->model->options.lora.rank, keep};
    struct ops_arena measure = {0};

    tape->kept = TAPE_KEEP_NOTHING;
    tape->logits_kept = 0;
    tape->n_tokens = n_tokens;
    tape->n_targets = n_targets;
    carve_tape(&measure, &layout, &tape->views);
    if (measure.high_water > tape->arena.capacity)
        TRY(grow_tape(tape, measure.high_water));
    carve_tape(&tape->arena, &layout, &tape->views);
    return STATUS_OK;
}

int tape_check_tokens(const struct model *model, const int32_t *tokens, int n)
{
    for (int i = 0; i < n; i++)
        if (tokens[i] < 0 || tokens[i] >= model->shape.vocab_size)
            return status_fail(STATUS_FORMAT, "token id %d is outside of the vocabulary of %d: "
                               "tokenizer.json and config.json do not belong together",
                               (int)tokens[i], model->shape.vocab_size);
    return STATUS_OK;
}

int tape_check_position(const struct model *model, int position)
{
    if (position < 0 || position >= model->shape.max_positions)
        return status_fail(STATUS_CONFIG, "position %d is beyond the %d of "
                           "\"max_position_embeddings\": lower the length of prompts or "
                           "completions", position, model->shape.max_positions);
    return STATUS_OK;
}

static void fill_rope(const struct model_shape *shape, int n_positions, float *table)
{
    int half = shape->head_dim / 2;
    float *frequencies = mem_alloc((size_t)half, sizeof(*frequencies));
    float magnitude = rope_frequencies(shape, frequencies);

    for (int i = 0; i < half; i++) {
        for (int position = 0; position < n_positions; position++) {
            float angle = (float)position * frequencies[i];
            table[(size_t)position * 2 * half + i] = (float)cos(angle) * magnitude;
            table[((size_t)position * 2 + 1) * half + i] = (float)sin(angle) * magnitude;
        }
    }
    mem_free(frequencies);
}

int model_grow_rope(struct model *model, int n_positions)
{
    int has = model->rope.data ? (int)model->rope.shape[0] : 0;
    int wanted = has ? has : 256;
    void *memory = NULL;

    if (n_positions <= has)
        return STATUS_OK;
    while (wanted < n_positions)
        wanted *= 2;
    if (wanted > model->shape.max_positions)
        wanted = model->shape.max_positions;
    size_t count = (size_t)wanted * (size_t)model->shape.head_dim;
    TRY(ops_sync(model->ops));
    TRY(ops_alloc(model->ops, count * sizeof(float), &memory));
    ops_free(model->ops, model->rope.data);
    model->rope = tensor_3d(memory, wanted, 2, model->shape.head_dim / 2);
    float *table = mem_alloc(count, sizeof(float));
    fill_rope(&model->shape, wanted, table);
    ops_upload(model->ops, memory, table, count * sizeof(float));
    int status = ops_sync(model->ops);
    mem_free(table);
    return status;
}
