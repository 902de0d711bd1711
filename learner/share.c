/* One step's work among ranks: who takes what, and the sums of all. */
#include <math.h>

#include "common/status.h"
#include "learner/batch.h"
#include "learner/grpo.h"
#include "learner/internal.h"

/* The thing whose middle lies in my part of all costs is mine: runs of them, about equal. */
void learner_share_of(const size_t *costs, size_t n, int rank, int n_ranks, size_t *first,
                      size_t *end)
{
    size_t count = (size_t)n_ranks, total = 0, before = 0;

    for (size_t i = 0; i < n; i++)
        total += costs[i];
    *first = *end = 0;
    for (size_t i = 0; i < n; i++) {
        size_t owner = total ? (2 * before + costs[i]) * count / (2 * total) : 0;
        before += costs[i];
        *first += owner < (size_t)rank;
        *end += owner <= (size_t)rank;
    }
    if ((size_t)rank + 1 == count)
        *end = n;
}

void learner_share(const struct learner *learner, const size_t *costs, size_t n, int rank,
                   size_t *first, size_t *end)
{
    learner_share_of(costs, n, rank, ranks_count(learner->ranks), first, end);
}

int learner_gather_logprobs(struct learner *learner, const struct item *all,
                            const struct item *items, size_t n, int with_old)
{
    size_t cuts[RANKS_MAX + 1] = {0}, first, end;

    if (!learner->ranks || !n)
        return STATUS_OK;
    size_t *costs = ARENA_NEW(&learner->arena, size_t, n);
    if (!costs)
        return status_fail(STATUS_NOMEM, "no room for %zu items", n);
    for (size_t i = 0; i < n; i++)
        costs[i] = sequence_inputs(&items[i].sequence);
    for (int r = 0; r < ranks_count(learner->ranks); r++) {
        learner_share(learner, costs, n, r, &first, &end);
        if (end)
            cuts[r + 1] = (size_t)(items[end - 1].old_logprob - all[0].old_logprob +
                                   items[end - 1].sample->n_tokens) * sizeof(float);
    }
    if (with_old)
        TRY(ranks_gather(learner->ranks, all[0].old_logprob, cuts));
    if (learner->grpo.beta > 0)
        TRY(ranks_gather(learner->ranks, all[0].ref_logprob, cuts));
    return STATUS_OK;
}

int learner_count_micros(const struct learner *learner, size_t *n_micros)
{
    uint64_t mine = *n_micros, all[RANKS_MAX];

    if (!learner->ranks || learner->grpo.loss_type != GRPO_LOSS_BNPO)
        return STATUS_OK;
    TRY(ranks_share(learner->ranks, &mine, all, sizeof(mine)));
    *n_micros = 0;
    for (int r = 0; r < ranks_count(learner->ranks); r++)
        *n_micros += all[r];
    return STATUS_OK;
}

static void add(struct learner_totals *all, const struct learner_totals *part)
{
    all->loss_sum += part->loss_sum;
    all->kl_sum += part->kl_sum;
    all->entropy_sum += part->entropy_sum;
    all->clip_low += part->clip_low;
    all->clip_high += part->clip_high;
    all->difference_sum += part->difference_sum;
    all->difference_max = fmax(all->difference_max, part->difference_max);
    all->ratio_sum += part->ratio_sum;
    all->ratio_min = fmin(all->ratio_min, part->ratio_min);
    all->ratio_max = fmax(all->ratio_max, part->ratio_max);
    all->entropy_tokens += part->entropy_tokens;
    all->difference_tokens += part->difference_tokens;
}

int learner_merge(const struct learner *learner, int status, const struct learner_totals *totals,
                  struct learner_totals *all)
{
    int count = ranks_count(learner->ranks);

    TRY(ranks_agree(learner->ranks, status));
    *all = *totals;
    if (!learner->ranks)
        return STATUS_OK;
    struct learner_totals *parts = mem_alloc((size_t)count, sizeof(*parts));
    status = ranks_share(learner->ranks, totals, parts, sizeof(*parts));
    if (status == STATUS_OK) {
        *all = parts[0];
        for (int r = 1; r < count; r++)
            add(all, &parts[r]);
    }
    mem_free(parts);
    return status;
}
