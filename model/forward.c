/*
 * The forward pass of whole sequences, and the parts of it that decoding shares.
 *
 *   x = embedding[tokens]
 *   per layer:  x += o(attention(rope(q(n)), rope(k(n)), v(n)))   n = rmsnorm(x)
 *               x += down(silu(gate(n)) * up(n))                  n = rmsnorm(x)
 *   logits = head(rmsnorm(x[target_rows]))
 */
#include <math.h>

#include "common/status.h"
#include "common/watchdog.h"
#include "model/internal.h"

static const struct tensor *bias_of(const struct parameter *bias)
{
    return bias ? &bias->vector : NULL;
}

/* [N, heads, D] as [N, heads * D] */
static struct tensor flat(const struct tensor *heads)
{
    return view_2d(heads, heads->shape[0], tensor_count(heads) / heads->shape[0]);
}

/* RMSNorm of each head on its own (Qwen3). */
static void norm_heads(struct model *model, struct tensor *out, struct tensor *rstd,
                       const struct tensor *raw, const struct parameter *weight)
{
    int64_t D = model->shape.head_dim;
    struct tensor rows = view_2d(raw, tensor_count(raw) / D, D);
    struct tensor out_rows = view_2d(out, tensor_count(out) / D, D);

    ops_rmsnorm(model->ops, &out_rows, rstd, &rows, &weight->vector, (float)model->shape.norm_eps);
}

void layer_project(struct model *model, const struct layer *layer, struct activations *a,
                   struct tape_views *views)
{
    struct ops *ops = model->ops;
    int qk_norm = model->shape.qk_norm;

    ops_rmsnorm(ops, &views->normed, &a->attention_rstd, &a->x, &layer->attention_norm->vector,
                (float)model->shape.norm_eps);
    struct tensor q = flat(qk_norm ? &a->q_raw : &a->q), k = flat(qk_norm ? &a->k_raw : &a->k);
    struct tensor v = flat(&a->v);
    const struct ops_product products[] = {
        {&q, &layer->q->matrix, bias_of(layer->q_bias), NULL},
        {&k, &layer->k->matrix, bias_of(layer->k_bias), NULL},
        {&v, &layer->v->matrix, bias_of(layer->v_bias), NULL},
    };
    ops_matmul_several(ops, products, 3, &views->normed);
    if (qk_norm) {
        norm_heads(model, &a->q, &a->q_rstd, &a->q_raw, layer->q_norm);
        norm_heads(model, &a->k, &a->k_rstd, &a->k_raw, layer->k_norm);
    }
    ops_rope(ops, &a->q, &model->rope, &views->positions, 0);
    ops_rope(ops, &a->k, &model->rope, &views->positions, 0);
    if (model_is_bf16(model)) {   /* as the cache of decoding keeps them */
        ops_round_bf16(ops, &a->k, &a->k);
        ops_round_bf16(ops, &a->v, &a->v);
    }
}

/* out = in weight^T + residual */
static void add_branch(struct ops *ops, struct tensor *out, const struct tensor *in,
                       const struct parameter *weight, const struct tensor *residual)
{
    const struct ops_product product = {out, &weight->matrix, NULL, residual};

    ops_matmul_several(ops, &product, 1, in);
}

void layer_open_mlp(struct model *model, const struct layer *layer, struct activations *a,
                    struct tape_views *views)
{
    struct ops *ops = model->ops;
    struct tensor attended = flat(&a->attended);
    const struct ops_product products[] = {{&a->gate, &layer->gate->matrix, NULL, NULL},
                                           {&a->up, &layer->up->matrix, NULL, NULL}};

    add_branch(ops, &a->middle, &attended, layer->o, &a->x);
    ops_rmsnorm(ops, &views->normed, &a->mlp_rstd, &a->middle, &layer->mlp_norm->vector,
                (float)model->shape.norm_eps);
    ops_matmul_several(ops, products, 2, &views->normed);
}

void layer_finish(struct model *model, const struct layer *layer, struct activations *a,
                  struct tape_views *views, struct tensor *next)
{
    struct ops *ops = model->ops;

    layer_open_mlp(model, layer, a, views);
    ops_swiglu(ops, &views->hidden, &a->gate, &a->up);
    add_branch(ops, next, &views->hidden, layer->down, &a->middle);
}

struct tensor *layer_output(struct model *model, struct tape_views *views, int i)
{
    return i + 1 < model->shape.n_layers ? &views->layers[i + 1].x : &views->last;
}

void head_begin(struct model *model, struct tape_views *views)
{
    ops_gather_rows(model->ops, &views->gathered, &views->last, &views->target_rows);
    ops_rmsnorm(model->ops, &views->final_normed, &views->final_rstd, &views->gathered,
                &model->final_norm->vector, (float)model->shape.norm_eps);
}

void head_logits(struct model *model, struct tape_views *views, int64_t first,
                 struct tensor *logits)
{
    struct tensor rows = view_rows(&views->final_normed, first, logits->shape[0]);

    ops_matmul(model->ops, logits, &rows, &model->head->matrix, NULL);
}

static int check_batch(const struct model *model, const struct model_batch *batch)
{
    const int32_t *segments = batch->segments;

    if (batch->n_tokens < 1 || batch->n_segments < 1 || segments[0] != 0 ||
        segments[batch->n_segments] != batch->n_tokens)
        BUG("model_forward: %d segments do not cover %d tokens", batch->n_segments,
            batch->n_tokens);
    for (int i = 0; i < batch->n_segments; i++)
        if (segments[i + 1] < segments[i])
            BUG("model_forward: segment %d ends before it starts", i);
    for (int i = 0; batch->prefixes && i < batch->n_segments; i++)
        if (batch->prefixes[i] < -1 || batch->prefixes[i] >= i ||
            (batch->prefixes[i] >= 0 && batch->prefixes[batch->prefixes[i]] >= 0))
            BUG("model_forward: segment %d cannot be the prefix of segment %d",
                (int)batch->prefixes[i], i);
    for (int i = 0; i < batch->n_targets; i++)
        if (batch->target_rows[i] < 0 || batch->target_rows[i] >= batch->n_tokens)
            BUG("model_forward: target row %d of %d tokens", (int)batch->target_rows[i],
                batch->n_tokens);
    TRY(tape_check_tokens(model, batch->tokens, batch->n_tokens));
    return tape_check_tokens(model, batch->targets, batch->n_targets);
}

static int prepare_positions(struct model *model, const struct model_batch *batch)
{
    int last = 0;

    for (int i = 0; i < batch->n_tokens; i++) {
        TRY(tape_check_position(model, batch->positions[i]));
        if (batch->positions[i] > last)
            last = batch->positions[i];
    }
    return model_grow_rope(model, last + 1);
}

static void upload_indices(struct ops *ops, struct tensor *to, const int32_t *from)
{
    ops_upload(ops, to->data, from, (size_t)to->shape[0] * sizeof(int32_t));
}

static void run_layers(struct model *model, struct tape_views *views)
{
    ops_embedding(model->ops, &views->layers[0].x, &model->embedding->matrix, &views->tokens);
    for (int i = 0; i < model->shape.n_layers; i++) {
        struct activations *a = &views->layers[i];
        pulse("computes: forward");
        layer_project(model, &model->layers[i], a, views);
        ops_attention(model->ops, &a->attended, &a->lse, &a->q, &a->k, &a->v, &views->segments,
                      views->prefixes);
        layer_finish(model, &model->layers[i], a, views, layer_output(model, views, i));
    }
}

static void run_head(struct model *model, struct tape_views *views, float temperature,
                     int wants_entropy)
{
    int64_t R = views->gathered.shape[0], most = views->logits.shape[0];

    head_begin(model, views);
    for (int64_t first = 0; first < R; first += most) {
        int64_t n = R - first < most ? R - first : most;
        struct tensor logits = view_rows(&views->logits, 0, n);
        struct tensor targets = view_rows(&views->targets, first, n);
        struct tensor logprobs = view_rows(&views->logprobs, first, n);
        struct tensor entropy = view_rows(&views->entropy, first, n);
        head_logits(model, views, first, &logits);
        ops_token_logprob(model->ops, &logprobs, wants_entropy ? &entropy : NULL, &logits,
                          &targets, temperature);
    }
}

int model_forward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                  float temperature, enum tape_keep keep, float *logprobs, float *entropy)
{
    struct tape_views *views = &tape->views;
    size_t bytes = (size_t)batch->n_targets * sizeof(float);

    if (tape->model != model)
        BUG("model_forward: the tape belongs to another model");
    TRY(check_batch(model, batch));
    TRY(prepare_positions(model, batch));
    TRY(tape_prepare(tape, batch->n_tokens, batch->n_segments, batch->n_targets, keep));
    views->prefixes = batch->prefixes ? &views->prefix_indices : NULL;
    if (batch->n_targets) {
        upload_indices(model->ops, &views->tokens, batch->tokens);
        upload_indices(model->ops, &views->positions, batch->positions);
        upload_indices(model->ops, &views->segments, batch->segments);
        if (batch->prefixes)
            upload_indices(model->ops, &views->prefix_indices, batch->prefixes);
        upload_indices(model->ops, &views->target_rows, batch->target_rows);
        upload_indices(model->ops, &views->targets, batch->targets);
        run_layers(model, views);
        run_head(model, views, temperature, entropy != NULL);
        ops_download(model->ops, logprobs, views->logprobs.data, bytes);
        if (entropy)
            ops_download(model->ops, entropy, views->entropy.data, bytes);
    }
    TRY(ops_sync(model->ops));
    tape->kept = keep;
    tape->logits_kept = keep && batch->n_targets <= views->logits.shape[0];
    return STATUS_OK;
}
