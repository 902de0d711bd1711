/* The backward pass: forward.c from its end to its start. Norms and the SwiGLU product are computed
 * again instead of kept; gate and up are overwritten by their own gradients. */
#include "common/status.h"
#include "model/internal.h"

static void zero(struct ops *ops, struct tensor *tensor)
{
    ops_zero(ops, tensor->data, (size_t)tensor_count(tensor) * sizeof(float));
}

static struct tensor *gradient_of(struct parameter *parameter)
{
    return parameter ? &parameter->gradient : NULL;
}

/* d_weight += d_out^T in, d_bias += d_out, d_in += d_out weight */
static void project_backward(struct model *model, struct tensor *d_in, struct tensor *d_out,
                             const struct tensor *in, struct parameter *weight,
                             struct parameter *bias)
{
    struct tensor d_rows = view_2d(d_out, in->shape[0], weight->value.shape[0]);

    ops_matmul_backward_weight(model->ops, &weight->gradient, gradient_of(bias), &d_rows, in);
    ops_matmul_backward_input(model->ops, d_in, &d_rows, &weight->value);
}

static void norm_again(struct model *model, struct tensor *out, const struct tensor *in,
                       const struct parameter *weight)
{
    ops_rmsnorm(model->ops, out, NULL, in, &weight->value, (float)model->shape.norm_eps);
}

static void head_backward(struct model *model, struct model_tape *tape, float temperature)
{
    struct ops *ops = model->ops;
    struct tape_views *views = &tape->views;
    int64_t R = tape->n_targets;

    zero(ops, &views->d_final_normed);
    for (int64_t first = 0; first < R; first += MODEL_HEAD_ROWS) {
        int64_t n = R - first < MODEL_HEAD_ROWS ? R - first : MODEL_HEAD_ROWS;
        struct tensor logits = view_rows(&views->logits, 0, n);
        struct tensor targets = view_rows(&views->targets, first, n);
        struct tensor d_logprobs = view_rows(&views->d_logprobs, first, n);
        struct tensor rows = view_rows(&views->final_normed, first, n);
        struct tensor d_rows = view_rows(&views->d_final_normed, first, n);
        if (!tape->logits_kept)
            head_logits(model, views, first, &logits);
        ops_token_logprob_backward(ops, &logits, &d_logprobs, &targets, temperature);
        project_backward(model, &d_rows, &logits, &rows, model->head, NULL);
    }
    zero(ops, &views->d_gathered);
    ops_rmsnorm_backward(ops, &views->d_gathered, &model->final_norm->gradient,
                         &views->d_final_normed, &views->gathered, &model->final_norm->value,
                         &views->final_rstd);
    zero(ops, &views->d_x);
    ops_scatter_add_rows(ops, &views->d_x, &views->d_gathered, &views->target_rows);
}

static void mlp_backward(struct model *model, const struct layer *layer, struct activations *a,
                         struct tape_views *views)
{
    struct ops *ops = model->ops;

    ops_swiglu(ops, &views->hidden, &a->gate, &a->up);
    zero(ops, &views->d_hidden);
    project_backward(model, &views->d_hidden, &views->d_x, &views->hidden, layer->down, NULL);
    ops_swiglu_backward(ops, &a->gate, &a->up, &views->d_hidden, &a->gate, &a->up);
    norm_again(model, &views->normed, &a->middle, layer->mlp_norm);
    zero(ops, &views->d_normed);
    project_backward(model, &views->d_normed, &a->gate, &views->normed, layer->gate, NULL);
    project_backward(model, &views->d_normed, &a->up, &views->normed, layer->up, NULL);
    /* Added to d_x: the residual path is the identity. */
    ops_rmsnorm_backward(ops, &views->d_x, &layer->mlp_norm->gradient, &views->d_normed,
                         &a->middle, &layer->mlp_norm->value, &a->mlp_rstd);
}

static void norm_heads_backward(struct model *model, struct tensor *d_raw,
                                const struct tensor *d_out, const struct tensor *raw,
                                struct parameter *weight, const struct tensor *rstd)
{
    int64_t D = model->shape.head_dim, rows = tensor_count(raw) / D;
    struct tensor d_raw_rows = view_2d(d_raw, rows, D), d_out_rows = view_2d(d_out, rows, D);
    struct tensor raw_rows = view_2d(raw, rows, D);

    zero(model->ops, d_raw);
    ops_rmsnorm_backward(model->ops, &d_raw_rows, &weight->gradient, &d_out_rows, &raw_rows,
                         &weight->value, rstd);
}

static void attention_backward(struct model *model, const struct layer *layer,
                               struct activations *a, struct tape_views *views)
{
    struct ops *ops = model->ops;
    int64_t N = a->x.shape[0], width = tensor_count(&a->attended) / N;
    struct tensor attended = view_2d(&a->attended, N, width);
    struct tensor d_attended = view_2d(&views->d_attended, N, width);
    struct tensor *d_q = &views->d_q, *d_k = &views->d_k;

    zero(ops, &views->d_attended);
    project_backward(model, &d_attended, &views->d_x, &attended, layer->o, NULL);
    ops_attention_backward(ops, d_q, d_k, &views->d_v, &views->d_attended, &a->q, &a->k, &a->v,
                           &a->attended, &a->lse, &views->segments);
    ops_rope(ops, d_q, &model->rope, &views->positions, 1);
    ops_rope(ops, d_k, &model->rope, &views->positions, 1);
    if (model->shape.qk_norm) {
        norm_heads_backward(model, &views->d_q_raw, d_q, &a->q_raw, layer->q_norm, &a->q_rstd);
        norm_heads_backward(model, &views->d_k_raw, d_k, &a->k_raw, layer->k_norm, &a->k_rstd);
        d_q = &views->d_q_raw;
        d_k = &views->d_k_raw;
    }
    norm_again(model, &views->normed, &a->x, layer->attention_norm);
    zero(ops, &views->d_normed);
    project_backward(model, &views->d_normed, d_q, &views->normed, layer->q, layer->q_bias);
    project_backward(model, &views->d_normed, d_k, &views->normed, layer->k, layer->k_bias);
    project_backward(model, &views->d_normed, &views->d_v, &views->normed, layer->v,
                     layer->v_bias);
    ops_rmsnorm_backward(ops, &views->d_x, &layer->attention_norm->gradient, &views->d_normed,
                         &a->x, &layer->attention_norm->value, &a->attention_rstd);
}

int model_backward(struct model *model, struct model_tape *tape, const struct model_batch *batch,
                   float temperature, const float *d_logprobs)
{
    struct tape_views *views = &tape->views;

    if (!model->trainable || tape->model != model || !tape->kept)
        BUG("model_backward: needs a trainable model and its own forward pass with keep set");
    if (batch->n_tokens != tape->n_tokens || batch->n_targets != tape->n_targets)
        BUG("model_backward: %d tokens and %d targets, but the forward pass had %d and %d",
            batch->n_tokens, batch->n_targets, tape->n_tokens, tape->n_targets);
    tape->kept = 0;   /* gate, up and the logits are used up below */
    if (!batch->n_targets)
        return STATUS_OK;
    ops_upload(model->ops, views->d_logprobs.data, d_logprobs,
               (size_t)batch->n_targets * sizeof(float));
    head_backward(model, tape, temperature);
    for (int i = model->shape.n_layers - 1; i >= 0; i--) {
        mlp_backward(model, &model->layers[i], &views->layers[i], views);
        attention_backward(model, &model->layers[i], &views->layers[i], views);
    }
    ops_embedding_backward(model->ops, &model->embedding->gradient, &views->d_x, &views->tokens);
    return ops_sync(model->ops);
}
