#include "learner/learner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/random.h"
#include "common/status.h"
#include "learner/batch.h"
#include "learner/grpo.h"
#include "learner/guard.h"
#include "learner/internal.h"
#include "learner/optimizer.h"

#define STEP_ARENA_BYTES ((size_t)8 << 30)

/* What one optimizer step averages over. */
struct denominators {
    double n_completions, n_tokens;
};

int learner_create_here(struct learner **out, struct ranks *ranks, struct model *policy,
                        struct model *reference, const struct grpo_config *grpo,
                        const struct optimizer_config *optimizer, int64_t total_updates)
{
    struct learner *learner = mem_alloc(1, sizeof(*learner));
    int status;

    learner->ranks = ranks;
    learner->policy = policy;
    learner->reference = reference;
    learner->grpo = *grpo;
    learner->config = *optimizer;
    learner->guard = mem_alloc(1, sizeof(*learner->guard));
    if (learner->grpo.epsilon_high < 0)
        learner->grpo.epsilon_high = learner->grpo.epsilon;
    arena_init(&learner->arena, STEP_ARENA_BYTES);
    if (grpo->beta > 0 && !reference && (!model_has_adapters(policy) || grpo->sync_ref_model))
        BUG("learner_create: beta is %g without a reference model", grpo->beta);
    TRY_OUT(optimizer_create(&learner->optimizer, ranks, policy, optimizer, total_updates));
    TRY_OUT(model_tape_create(&learner->tape, policy));
    if (reference)
        TRY_OUT(model_tape_create(&learner->reference_tape, reference));
out:
    if (status < 0)
        learner_destroy_here(&learner);
    *out = learner;
    return status;
}

void learner_destroy_here(struct learner **learner)
{
    if (*learner) {
        model_tape_destroy(&(*learner)->tape);
        model_tape_destroy(&(*learner)->reference_tape);
        optimizer_destroy(&(*learner)->optimizer);
        mem_free((*learner)->guard);
        arena_release(&(*learner)->arena);
        mem_free(*learner);
    }
    *learner = NULL;
}

static int is_trained(const struct grpo_config *grpo, const struct sample *sample)
{
    int truncated = grpo->mask_truncated_completions && sample->finish == SAMPLE_FINISH_LENGTH;

    return !sample->masked && !truncated && sample->n_tokens > 0;
}

/* Room for those of all items, one after another: ranks gather them. */
static int make_logprobs(struct learner *learner, struct item *items, size_t n)
{
    size_t n_tokens = 0;

    for (size_t i = 0; i < n; i++)
        n_tokens += items[i].sample->n_tokens;
    float *old = ARENA_NEW(&learner->arena, float, n_tokens + 1);
    float *ref = ARENA_NEW(&learner->arena, float, n_tokens + 1);
    if (!old || !ref)
        return status_fail(STATUS_NOMEM, "no room for %zu log-probabilities; lower "
                           "grpo.tasks_per_step", n_tokens);
    for (size_t i = 0; i < n; i++) {
        items[i].old_logprob = old;
        items[i].ref_logprob = ref;
        old += items[i].sample->n_tokens;
        ref += items[i].sample->n_tokens;
    }
    return STATUS_OK;
}

static int collect_items(struct learner *learner, const struct learner_batch *batch,
                         struct item **items, size_t *n)
{
    size_t most = 0;

    for (size_t g = 0; g < batch->n_groups; g++)
        most += batch->groups[g].n_samples;
    *n = 0;
    *items = ARENA_NEW(&learner->arena, struct item, most + 1);
    if (!*items)
        return status_fail(STATUS_NOMEM, "no room for %zu samples", most);
    for (size_t g = 0; g < batch->n_groups; g++) {
        const struct sample_group *group = &batch->groups[g];
        for (uint32_t i = 0; i < group->n_samples; i++) {
            const struct sample *sample = &group->samples[i];
            struct item *item = &(*items)[*n];
            if (!is_trained(&learner->grpo, sample))
                continue;
            *item = (struct item){
                .sequence = {group->prompt_tokens, sample->tokens, group->n_prompt,
                             sample->n_tokens},
                .group = group, .sample = sample, .index = i, .order = *n};
            ++*n;
        }
    }
    return make_logprobs(learner, *items, *n);
}

/* Without a KL term a completion of advantage 0 has a loss and a gradient of 0. BNPO's weights
 * depend on what shares its micro-batch. */
static int is_computed(const struct learner *learner, const struct item *item)
{
    return learner->grpo.beta > 0 || item->sample->advantage != 0.0f ||
           learner->grpo.loss_type == GRPO_LOSS_BNPO;
}

static int compare_order(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    return x->order < y->order ? -1 : x->order > y->order;
}

/* Of items, those that need a forward pass: a list of its own, in the order before any shuffle, so
 * that those of a group share the rows of their prompt. */
static int list_computed(struct learner *learner, const struct item *items, size_t n,
                         struct item **out, size_t *n_out)
{
    *n_out = 0;
    *out = ARENA_NEW(&learner->arena, struct item, n + 1);
    if (!*out)
        return status_fail(STATUS_NOMEM, "no room for %zu sequences", n);
    for (size_t i = 0; i < n; i++)
        if (is_computed(learner, &items[i]))
            (*out)[(*n_out)++] = items[i];
    qsort(*out, *n_out, sizeof(**out), compare_order);
    return STATUS_OK;
}

/* This rank's share of the items that need a forward pass, packed: the sequences of micros are
 * those of *out. */
static int pack_items(struct learner *learner, const struct item *items, size_t n,
                      struct item **out, struct micro_batch **micros, size_t *n_micros)
{
    struct sequence *sequences = ARENA_NEW(&learner->arena, struct sequence, n + 1);
    size_t *costs = ARENA_NEW(&learner->arena, size_t, n + 1);
    size_t n_out, first, end;

    TRY(list_computed(learner, items, n, out, &n_out));
    if (!sequences || !costs)
        return status_fail(STATUS_NOMEM, "no room for %zu sequences", n);
    for (size_t i = 0; i < n_out; i++) {
        sequences[i] = (*out)[i].sequence;
        costs[i] = sequence_inputs(&sequences[i]);
    }
    learner_share(learner, costs, n_out, ranks_index(learner->ranks), &first, &end);
    *out += first;
    return batch_pack(sequences + first, end - first, (size_t)learner->config.micro_batch_tokens,
                      &learner->arena, micros, n_micros);
}

static void scatter(const float *values, const struct micro_batch *micro, struct item *items,
                    int to_reference)
{
    for (size_t i = micro->first; i < micro->first + micro->n; i++) {
        size_t n = sequence_targets(&items[i].sequence);
        memcpy(to_reference ? items[i].ref_logprob : items[i].old_logprob, values,
               n * sizeof(float));
        values += n;
    }
}

/* Where the log-probabilities before the step come from: with one update they are those of its own
 * forward pass; with several, what rollout recorded when that is exact, else they take a pass. */
enum old_source { OLD_IS_NEW, OLD_IS_RECORDED, OLD_IS_COMPUTED };

static enum old_source find_old(const struct learner *learner, const struct learner_batch *batch,
                                struct item *items, size_t n)
{
    if (learner->grpo.num_iterations * learner->grpo.steps_per_generation == 1)
        return OLD_IS_NEW;
    if (learner->grpo.exact != GRPO_EXACT_FAIL)
        return OLD_IS_COMPUTED;
    for (size_t i = 0; i < n; i++)
        if (!exact_is_comparable(batch, items[i].sample))
            return OLD_IS_COMPUTED;
    for (size_t i = 0; i < n; i++)
        memcpy(items[i].old_logprob, items[i].sample->logprobs,
               items[i].sequence.n_completion * sizeof(float));
    return OLD_IS_RECORDED;
}

/* What the reference says: a model of its own, or the policy without its adapters. */
static int forward_reference(struct learner *learner, const struct model_batch *packed,
                             float temperature, float *logprobs)
{
    if (learner->reference)
        return model_forward(learner->reference, learner->reference_tape, packed, temperature,
                             TAPE_KEEP_NOTHING, logprobs, NULL);
    model_use_adapters(learner->policy, 0);
    int status = model_forward(learner->policy, learner->tape, packed, temperature,
                               TAPE_KEEP_NOTHING, logprobs, NULL);
    model_use_adapters(learner->policy, 1);
    return status;
}

static int fill_share(struct learner *learner, const struct learner_batch *batch,
                      const struct item *all, size_t n, enum old_source old,
                      struct learner_totals *totals)
{
    struct micro_batch *micros;
    struct item *items;
    size_t n_micros;

    TRY(pack_items(learner, all, n, &items, &micros, &n_micros));
    for (size_t i = 0; i < n_micros; i++) {
        const struct micro_batch *micro = &micros[i];
        const struct model_batch *packed = &micro->batch;
        float *logprobs = ARENA_NEW(&learner->arena, float, packed->n_targets);
        if (!logprobs)
            return status_fail(STATUS_NOMEM, "no room for %d log-probabilities",
                               packed->n_targets);
        if (learner->grpo.beta > 0) {
            TRY(forward_reference(learner, packed, batch->temperature, logprobs));
            scatter(logprobs, micro, items, 1);
        }
        if (old == OLD_IS_COMPUTED) {
            TRY(model_forward(learner->policy, learner->tape, packed, batch->temperature,
                              TAPE_KEEP_NOTHING, logprobs, NULL));
            scatter(logprobs, micro, items, 0);
            for (size_t k = micro->first; k < micro->first + micro->n; k++)
                exact_measure(totals, batch, &items[k], items[k].old_logprob);
            TRY(exact_judge(learner, batch, totals));
        }
    }
    return STATUS_OK;
}

/* Before the first update. */
static int fill_old_and_reference(struct learner *learner, const struct learner_batch *batch,
                                  const struct item *all, size_t n, enum old_source old,
                                  struct learner_totals *totals)
{
    if (old != OLD_IS_COMPUTED && learner->grpo.beta == 0)
        return STATUS_OK;
    struct item *computed;
    size_t n_computed;
    int status = fill_share(learner, batch, all, n, old, totals);
    TRY(ranks_agree(learner->ranks, status));
    TRY(list_computed(learner, all, n, &computed, &n_computed));
    return learner_gather_logprobs(learner, all, computed, n_computed, old == OLD_IS_COMPUTED);
}

static double token_weight(const struct learner *learner, const struct learner_batch *batch,
                           const struct denominators *all, size_t n_micros, int micro_tokens,
                           uint32_t n_completion)
{
    switch ((enum grpo_loss_type)learner->grpo.loss_type) {
    case GRPO_LOSS_GRPO:
        return 1.0 / (all->n_completions * n_completion);
    case GRPO_LOSS_DAPO:
        return 1.0 / all->n_tokens;
    case GRPO_LOSS_DR_GRPO:
        return 1.0 / (all->n_completions * (double)batch->max_completion_length);
    case GRPO_LOSS_BNPO:
        return 1.0 / ((double)n_micros * micro_tokens);
    }
    return 0.0;
}

static int train_micro(struct learner *learner, const struct learner_batch *batch,
                       const struct micro_batch *micro, struct item *items,
                       const struct denominators *all, size_t n_micros, enum old_source old,
                       struct learner_totals *totals)
{
    const struct model_batch *packed = &micro->batch;
    const struct grpo_clip clip = {learner->grpo.epsilon, learner->grpo.epsilon_high,
                                   learner->grpo.beta,
                                   (enum grpo_level)learner->grpo.importance_sampling_level};
    float *logprobs = ARENA_NEW(&learner->arena, float, packed->n_targets);
    float *entropy = ARENA_NEW(&learner->arena, float, packed->n_targets);
    float *d_logprobs = ARENA_NEW(&learner->arena, float, packed->n_targets);
    struct grpo_terms terms = {0};
    size_t at = 0;

    if (!logprobs || !entropy || !d_logprobs)
        return status_fail(STATUS_NOMEM, "no room for %d log-probabilities", packed->n_targets);
    TRY(model_forward(learner->policy, learner->tape, packed, batch->temperature,
                      learner_keep(learner), logprobs, entropy));
    if (old == OLD_IS_NEW)
        scatter(logprobs, micro, items, 0);
    for (size_t i = micro->first; i < micro->first + micro->n; i++) {
        struct item *item = &items[i];
        size_t n = item->sequence.n_completion;
        struct grpo_completion completion = {
            logprobs + at, item->old_logprob, item->ref_logprob, n,
            (double)item->sample->advantage,
            token_weight(learner, batch, all, n_micros, packed->n_targets, (uint32_t)n)};
        grpo_completion_loss(&completion, &clip, d_logprobs + at, &terms);
        if (totals->updates == 0 && old != OLD_IS_COMPUTED)
            exact_measure(totals, batch, item, logprobs + at);
        at += n;
    }
    TRY(exact_judge(learner, batch, totals));
    for (int t = 0; t < packed->n_targets; t++)
        totals->entropy_sum += (double)entropy[t];
    totals->loss_sum += terms.loss;
    totals->kl_sum += terms.kl;
    totals->clip_low += (double)terms.n_clip_low;
    totals->clip_high += (double)terms.n_clip_high;
    totals->entropy_tokens += packed->n_targets;
    return model_backward(learner->policy, learner->tape, packed, batch->temperature, d_logprobs);
}

static int train_share(struct learner *learner, const struct learner_batch *batch,
                       const struct item *items, size_t n, const struct denominators *all,
                       enum old_source old, struct learner_totals *totals)
{
    struct micro_batch *micros;
    struct progress progress;
    struct item *computed;
    size_t n_micros, n_of_all;
    int status = STATUS_OK;

    TRY(pack_items(learner, items, n, &computed, &micros, &n_micros));
    n_of_all = n_micros;
    TRY(learner_count_micros(learner, &n_of_all));
    model_zero_gradients(learner->policy);
    progress_begin(&progress, "learn", 0, (int64_t)n_micros);
    for (size_t i = 0; i < n_micros && status == STATUS_OK; i++) {
        if (i + 1 == n_micros)
            shards_watch(optimizer_shards(learner->optimizer));
        status = train_micro(learner, batch, &micros[i], computed, all, n_of_all, old, totals);
        progress_update(&progress, (int64_t)i + 1, "micro-batches");
    }
    progress_end(&progress);
    return status;
}

/* One optimizer step over items[0..n). */
static int train_minibatch(struct learner *learner, const struct learner_batch *batch,
                           const struct item *items, size_t n, enum old_source old,
                           struct learner_totals *totals)
{
    struct denominators all = {.n_completions = (double)n};

    for (size_t i = 0; i < n; i++)
        all.n_tokens += items[i].sequence.n_completion;
    int passed = train_share(learner, batch, items, n, &all, old, totals);
    TRY(learner_update(learner, passed, totals));
    totals->updates++;
    totals->tokens += (int64_t)all.n_tokens;
    totals->grad_norm_sum += totals->grad_norm;
    return STATUS_OK;
}

int learner_step_here(struct learner *learner, const struct learner_batch *batch,
                      struct learner_stats *stats)
{
    const struct grpo_config *grpo = &learner->grpo;
    size_t n_minibatches = (size_t)grpo->steps_per_generation;
    struct learner_totals totals = {.ratio_min = INFINITY}, sums;
    struct grpo_reward_stats rewards;
    struct item *items;
    size_t n;

    arena_rewind(&learner->arena);
    grpo_fill_advantages(batch->groups, batch->n_groups, (enum grpo_scale)grpo->scale_rewards,
                         &rewards);
    TRY(collect_items(learner, batch, &items, &n));
    enum old_source old = find_old(learner, batch, items, n);
    TRY(fill_old_and_reference(learner, batch, items, n, old, &totals));
    for (int64_t pass = 0; pass < grpo->num_iterations; pass++) {
        if (old != OLD_IS_NEW)
            random_shuffle(random_mix(random_mix(batch->seed, (uint64_t)batch->step),
                                      (uint64_t)pass), items, n, sizeof(*items));
        for (size_t m = 0; m < n_minibatches; m++) {
            size_t first = n * m / n_minibatches, end = n * (m + 1) / n_minibatches;
            if (end > first)
                TRY(train_minibatch(learner, batch, items + first, end - first, old, &totals));
        }
    }
    TRY(learner_merge(learner, STATUS_OK, &totals, &sums));
    learner_fill_stats(stats, &sums, (int64_t)n);
    stats->reward = rewards.reward;
    stats->reward_std = rewards.reward_std;
    stats->zero_std_fraction = rewards.zero_std_fraction;
    return learner_sync_reference(learner, batch->step + 1);
}
