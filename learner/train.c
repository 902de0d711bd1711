/* Supervised training, statistics, and the reference model's replacement. */
#include <math.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "learner/batch.h"
#include "learner/internal.h"
#include "learner/optimizer.h"

void learner_fill_stats(struct learner_stats *stats, const struct learner_totals *totals,
                        int64_t n_sequences)
{
    double tokens = totals->tokens ? (double)totals->tokens : 1.0;
    double compared = totals->difference_tokens ? (double)totals->difference_tokens : 1.0;
    double updates = totals->updates ? (double)totals->updates : 1.0;

    *stats = (struct learner_stats){
        .loss = totals->loss_sum / updates,
        .kl = totals->kl_sum / tokens,
        .entropy = totals->entropy_tokens ? totals->entropy_sum / (double)totals->entropy_tokens
                                          : 0.0,
        .grad_norm = totals->grad_norm_sum / updates,
        .learning_rate = totals->learning_rate,
        .clip_low = totals->clip_low / tokens,
        .clip_high = totals->clip_high / tokens,
        .logp_difference_mean = totals->difference_sum / compared,
        .logp_difference_max = totals->difference_max,
        .ratio_min = totals->difference_tokens ? totals->ratio_min : 1.0,
        .ratio_mean = totals->difference_tokens ? totals->ratio_sum / compared : 1.0,
        .ratio_max = totals->difference_tokens ? totals->ratio_max : 1.0,
        .n_tokens = totals->tokens,
        .n_sequences = n_sequences,
        .n_skipped = totals->skipped,
        .n_computed = totals->entropy_tokens,
    };
}

static int train_micro_batch(struct learner *learner, const struct micro_batch *micro,
                             double n_tokens, struct learner_totals *totals)
{
    const struct model_batch *packed = &micro->batch;
    float *logprobs = ARENA_NEW(&learner->arena, float, packed->n_targets);
    float *entropy = ARENA_NEW(&learner->arena, float, packed->n_targets);
    float *d_logprobs = ARENA_NEW(&learner->arena, float, packed->n_targets);

    if (!logprobs || !entropy || !d_logprobs)
        return status_fail(STATUS_NOMEM, "no room for %d log-probabilities; lower "
                           "sft.batch_tokens", packed->n_targets);
    TRY(model_forward(learner->policy, learner->tape, packed, 1.0f,
                      learner_keep(learner), logprobs, entropy));
    for (int t = 0; t < packed->n_targets; t++) {
        totals->loss_sum -= (double)logprobs[t] / n_tokens;
        totals->entropy_sum += (double)entropy[t];
        d_logprobs[t] = (float)(-1.0 / n_tokens);
    }
    totals->entropy_tokens += packed->n_targets;
    return model_backward(learner->policy, learner->tape, packed, 1.0f, d_logprobs);
}

/* My share of the documents, packed. */
static int pack_share(struct learner *learner, const struct sequence *sequences, size_t n,
                      struct micro_batch **micros, size_t *n_micros)
{
    size_t *costs = ARENA_NEW(&learner->arena, size_t, n + 1), first, end;

    if (!costs)
        return status_fail(STATUS_NOMEM, "no room for %zu documents; lower sft.batch_tokens", n);
    for (size_t i = 0; i < n; i++)
        costs[i] = sequence_inputs(&sequences[i]);
    learner_share(learner, costs, n, ranks_index(learner->ranks), &first, &end);
    return batch_pack(sequences + first, end - first, (size_t)learner->config.micro_batch_tokens,
                      &learner->arena, micros, n_micros);
}

static int train_share(struct learner *learner, const struct sequence *sequences, size_t n,
                       double n_tokens, struct learner_totals *totals)
{
    struct micro_batch *micros;
    struct progress progress;
    size_t n_micros;
    int status = STATUS_OK;

    TRY(pack_share(learner, sequences, n, &micros, &n_micros));
    model_zero_gradients(learner->policy);
    progress_begin(&progress, "learn", 0, (int64_t)n_micros);
    for (size_t i = 0; i < n_micros && status == STATUS_OK; i++) {
        if (i + 1 == n_micros)
            shards_watch(optimizer_shards(learner->optimizer));
        status = train_micro_batch(learner, &micros[i], n_tokens, totals);
        progress_update(&progress, (int64_t)i + 1, "micro-batches");
    }
    progress_end(&progress);
    return status;
}

int learner_train_here(struct learner *learner, const struct sequence *sequences, size_t n,
                       struct learner_stats *stats)
{
    struct learner_totals totals = {0}, all;
    double n_tokens = 0.0;

    arena_rewind(&learner->arena);
    for (size_t i = 0; i < n; i++)
        n_tokens += (double)sequence_targets(&sequences[i]);
    if (n_tokens == 0.0)
        return status_fail(STATUS_FORMAT, "none of %zu documents has a token to learn from", n);
    totals.tokens = (int64_t)n_tokens;
    int passed = train_share(learner, sequences, n, n_tokens, &totals);
    TRY(learner_update(learner, passed, &totals));
    totals.updates = 1;
    totals.grad_norm_sum = totals.grad_norm;
    TRY(learner_merge(learner, STATUS_OK, &totals, &all));
    learner_fill_stats(stats, &all, (int64_t)n);
    return STATUS_OK;
}

int learner_sync_reference(struct learner *learner, int64_t step)
{
    const struct grpo_config *grpo = &learner->grpo;

    if (!learner->reference || !grpo->sync_ref_model || step % grpo->ref_model_sync_steps != 0)
        return STATUS_OK;
    return model_mix(learner->reference, learner->policy, grpo->ref_model_mixup_alpha);
}

int64_t learner_updates(const struct learner *learner)
{
    return optimizer_updates(learner->optimizer);
}

void learner_size(const struct model_shape *shape, const struct model_options *options,
                  const struct optimizer_config *optimizer, int with_reference,
                  struct learner_bytes *bytes)
{
    const struct model_options frozen = {.bf16 = options->bf16};
    struct model_bytes policy, reference;
    int tokens = (int)optimizer->micro_batch_tokens;
    enum tape_keep keep =
        optimizer->gradient_checkpointing ? TAPE_KEEP_INPUTS : TAPE_KEEP_ALL;

    model_size(shape, options, &policy);
    model_size(shape, &frozen, &reference);
    *bytes = (struct learner_bytes){
        .weights = policy.weights,
        .gradients = policy.gradients,
        .moments = 2 * policy.trained,
        .activations = model_tape_bytes(shape, options->lora.rank, tokens, tokens, keep),
    };
    if (with_reference)
        bytes->reference = reference.weights +
                           model_tape_bytes(shape, 0, tokens, tokens, TAPE_KEEP_NOTHING);
}
