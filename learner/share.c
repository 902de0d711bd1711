/* One step's work among ranks: who takes what, and the sums of all. */
#include <math.h>

#include "common/status.h"
#include "learner/internal.h"

/* The thing whose middle lies in my part of all costs is mine: runs of them, about equal. */
void learner_share(const struct learner *learner, const size_t *costs, size_t n, int rank,
                   size_t *first, size_t *end)
{
    size_t count = (size_t)ranks_count(learner->ranks), total = 0, before = 0;

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
