/* The backward pass: forward.c from its end to its start. Norms and the SwiGLU product are computed
 * again instead of kept, whole layers when only their inputs were; gate and up are overwritten by
 * their own gradients. */
#include "common/status.h"
#include "model/internal.h"

static void zero(struct ops *ops, struct tensor *tensor)
{
    ops_zero(ops, tensor->data, (size_t)tensor_count(tensor) * sizeof(float));
}

/* Where the gradient of a bias goes, or NULL when it is not trained. */
static struct tensor *gradient_of(struct parameter *parameter)
{
    return parameter && parameter->gradient.data ? &parameter->gradient : NULL;
}

/* Where that of a norm's weight goes; nobody reads the other place. */
static struct tensor norm_gradient(struct model *model, const struct parameter *weight)
{
    struct tensor gradient = weight->gradient;

    if (!gradient.data)
        gradient.data = model->unused_gradient;
    return gradient;
}

/* With y = x (W + s B A)^T:  dB += s dy^T (x A^T),  dA += s (dy B)^T x. */
static void adapter_backward(struct model *model, struct tape_views *views,
                             const struct tensor *d_out, const struct tensor *in,
                             struct parameter *weight)
{
    struct parameter *a = weight->lora_a, *b = weight->lora_b;
    float scale = weight->matrix.adapter.scale;
    struct ops *ops = model->ops;

    ops_matmul(ops, &views->low_in, in, &a->matrix, NULL);
    ops_scale(ops, &views->low_in, scale);
    ops_matmul_backward_weight(ops, &b->gradient, NULL, d_out, &views->low_in);
    ops_matmul_backward_inputs(
        ops, &views->low_out,
        &(struct ops_product_gradient){.d_out = d_out, .weight = &b->matrix}, 1);
    ops_scale(ops, &views->low_out, scale);
    ops_matmul_backward_weight(ops, &a->gradient, NULL, &views->low_out, in);
}

/* One of the products that read the same input. */
struct branch {
    struct tensor d_out;
    struct parameter *weight, *bias;
};

static struct branch branch_of(const struct tensor *d_out, struct parameter *weight,
                               struct parameter *bias)
{
    return (struct branch){view_2d(d_out, d_out->shape[0], weight->value.shape[0]), weight, bias};
}

/* d_weight += d_out^T in and d_bias += d_out of each, then d_in = the sum of d_out weight. */
static void project_backward(struct model *model, struct tape_views *views, struct tensor *d_in,
                             const struct tensor *in, struct branch *branches, int n)
{
    struct ops_product_gradient inputs[OPS_MOST_PRODUCTS], weights[OPS_MOST_PRODUCTS];
    int n_weights = 0;

    for (int i = 0; i < n; i++) {
        struct branch *x = &branches[i];
        inputs[i] = (struct ops_product_gradient){.d_out = &x->d_out, .weight = &x->weight->matrix};
        if (x->weight->gradient.data)
            weights[n_weights++] = (struct ops_product_gradient){
                &x->d_out, &x->weight->matrix, &x->weight->gradient, gradient_of(x->bias)};
        if (x->weight->lora_a)
            adapter_backward(model, views, &x->d_out, in, x->weight);
    }
    if (n_weights)
        ops_matmul_backward_weights(model->ops, weights, n_weights, in);
    ops_matmul_backward_inputs(model->ops, d_in, inputs, n);
}

static void norm_again(struct model *model, struct tensor *out, const struct tensor *in,
                       const struct parameter *weight)
{
    ops_rmsnorm(model->ops, out, NULL, in, &weight->vector, (float)model->shape.norm_eps);
}

static void head_backward(struct model *model, struct model_tape *tape, float temperature)
{
    struct ops *ops = model->ops;
    struct tape_views *views = &tape->views;
    int64_t R = tape->n_targets, most = views->logits.shape[0];
    struct tensor d_norm = norm_gradient(model, model->final_norm);

    for (int64_t first = 0; first < R; first += most) {
        int64_t n = R - first < most ? R - first : most;
        struct tensor logits = view_rows(&views->logits, 0, n);
        struct tensor targets = view_rows(&views->targets, first, n);
        struct tensor d_logprobs = view_rows(&views->d_logprobs, first, n);
        struct tensor rows = view_rows(&views->final_normed, first, n);
        struct tensor d_rows = view_rows(&views->d_final_normed, first, n);
        if (!tape->logits_kept)
            head_logits(model, views, first, &logits);
        ops_token_logprob_backward(ops, &logits, &d_logprobs, &targets, temperature);
        struct branch head = branch_of(&logits, model->head, NULL);
        project_backward(model, views, &d_rows, &rows, &head, 1);
    }
    zero(ops, &views->d_gathered);
    ops_rmsnorm_backward(ops, &views->d_gathered, &d_norm, &views->d_final_normed,
                         &views->gathered, &model->final_norm->vector, &views->final_rstd);
    zero(ops, &views->d_x);
    ops_scatter_add_rows(ops, &views->d_x, &views->d_gathered, &views->target_rows);
}

static void mlp_backward(struct model *model, const struct layer *layer, struct activations *a,
                         struct tape_views *views)
{
    struct ops *ops = model->ops;
    struct tensor d_norm = norm_gradient(model, layer->mlp_norm);

    struct branch down = branch_of(&views->d_x, layer->down, NULL);
    struct branch open[] = {branch_of(&a->gate, layer->gate, NULL),
                            branch_of(&a->up, layer->up, NULL)};

    ops_swiglu(ops, &views->hidden, &a->gate, &a->up);
    project_backward(model, views, &views->d_hidden, &views->hidden, &down, 1);
    ops_swiglu_backward(ops, &a->gate, &a->up, &views->d_hidden, &a->gate, &a->up);
    norm_again(model, &views->normed, &a->middle, layer->mlp_norm);
    project_backward(model, views, &views->d_normed, &views->normed, open, 2);
    /* Added to d_x: the residual path is the identity. */
    ops_rmsnorm_backward(ops, &views->d_x, &d_norm, &views->d_normed, &a->middle,
                         &layer->mlp_norm->vector, &a->mlp_rstd);
}

static void norm_heads_backward(struct model *model, struct tensor *d_raw,
                                const struct tensor *d_out, const struct tensor *raw,
                                struct parameter *weight, const struct tensor *rstd)
{
    int64_t D = model->shape.head_dim, rows = tensor_count(raw) / D;
    struct tensor d_raw_rows = view_2d(d_raw, rows, D), d_out_rows = view_2d(d_out, rows, D);
    struct tensor raw_rows = view_2d(raw, rows, D), d_norm = norm_gradient(model, weight);

    zero(model->ops, d_raw);
    ops_rmsnorm_backward(model->ops, &d_raw_rows, &d_norm, &d_out_rows, &raw_rows,
                         &weight->vector, rstd);
}

static void attention_backward(struct model *model, const struct layer *layer,
                               struct activations *a, struct tape_views *views)
{
    struct ops *ops = model->ops;
    int64_t N = a->x.shape[0], width = tensor_count(&a->attended) / N;
    struct tensor attended = view_2d(&a->attended, N, width);
    struct tensor d_attended = view_2d(&views->d_attended, N, width);
    struct tensor *d_q = &views->d_q, *d_k = &views->d_k;
    struct tensor d_norm = norm_gradient(model, layer->attention_norm);

    struct branch o = branch_of(&views->d_x, layer->o, NULL);

    project_backward(model, views, &d_attended, &attended, &o, 1);
    ops_attention_backward(ops, d_q, d_k, &views->d_v, &views->d_attended, &a->q, &a->k, &a->v,
                           &a->attended, &a->lse, &views->segments, views->prefixes);
    ops_rope(ops, d_q, &model->rope, &views->positions, 1);
    ops_rope(ops, d_k, &model->rope, &views->positions, 1);
    if (model->shape.qk_norm) {
        norm_heads_backward(model, &views->d_q_raw, d_q, &a->q_raw, layer->q_norm, &a->q_rstd);
        norm_heads_backward(model, &views->d_k_raw, d_k, &a->k_raw, layer->k_norm, &a->k_rstd);
        d_q = &views->d_q_raw;
        d_k = &views->d_k_raw;
    }
    norm_again(model, &views->normed, &a->x, layer->attention_norm);
    struct branch branches[] = {branch_of(d_q, layer->q, layer->q_bias),
                                branch_of(d_k, layer->k, layer->k_bias),
                                branch_of(&views->d_v, layer->v, layer->v_bias)};
    project_backward(model, views, &views->d_normed, &views->normed, branches, 3);
    ops_rmsnorm_backward(ops, &views->d_x, &d_norm, &views->d_normed, &a->x,
                         &layer->attention_norm->vector, &a->attention_rstd);
}

/* What the forward pass of a layer left, made again from its input. */
static void layer_again(struct model *model, const struct layer *layer, struct activations *a,
                        struct tape_views *views)
{
    layer_project(model, layer, a, views);
    ops_attention(model->ops, &a->attended, &a->lse, &a->q, &a->k, &a->v, &views->segments,
                  views->prefixes);
    layer_open_mlp(model, layer, a, views);
}

/* Layer i is done; those below it lie before it. */
static void tell_watcher(struct model *model, int i)
{
    const struct layer *layer = &model->layers[i];
    const struct parameter *first = layer->attention_norm;

    if (!model->watcher.ready)
        return;
    for (const struct parameter *p = first; !first->gradient.data && p <= layer->down; p++)
        if (p->lora_a)
            first = p->lora_a;
    if (first->gradient.data)
        model->watcher.ready(model->watcher.context, (size_t)((const float *)first->gradient.data -
                                                              (const float *)model->gradients));
}

int model_backward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                   float temperature, const float *d_logprobs)
{
    struct tape_views *views = &tape->views;
    enum tape_keep kept = tape->kept;

    if (!model->options.trainable || tape->model != model || kept == TAPE_KEEP_NOTHING)
        BUG("model_backward: needs a trainable model and its own forward pass with keep set");
    if (batch->n_tokens != tape->n_tokens || batch->n_targets != tape->n_targets)
        BUG("model_backward: %d tokens and %d targets, but the forward pass had %d and %d",
            batch->n_tokens, batch->n_targets, tape->n_tokens, tape->n_targets);
    tape->kept = TAPE_KEEP_NOTHING;   /* gate, up and the logits are used up below */
    if (!batch->n_targets)
        return STATUS_OK;
    ops_upload(model->ops, views->d_logprobs.data, d_logprobs,
               (size_t)batch->n_targets * sizeof(float));
    head_backward(model, tape, temperature);
    for (int i = model->shape.n_layers - 1; i >= 0; i--) {
        if (kept == TAPE_KEEP_INPUTS)
            layer_again(model, &model->layers[i], &views->layers[i], views);
        mlp_backward(model, &model->layers[i], &views->layers[i], views);
        attention_backward(model, &model->layers[i], &views->layers[i], views);
        tell_watcher(model, i);
    }
    if (model->embedding->gradient.data)
        ops_embedding_backward(model->ops, &model->embedding->gradient, &views->d_x,
                               &views->tokens);
    return ops_sync(model->ops);
}
