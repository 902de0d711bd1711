/* What rollout recorded against what the learner computes for the same weights: one arithmetic, so
 * that they are equal to the bit. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common/log.h"
#include "common/status.h"
#include "learner/grpo.h"
#include "learner/internal.h"

int exact_is_comparable(const struct learner_batch *batch, const struct sample *sample)
{
    for (uint32_t t = 0; sample->weight_versions && t < sample->n_tokens; t++)
        if (sample->weight_versions[t] != batch->weight_version)
            return 0;
    return 1;
}

void exact_measure(struct learner_totals *totals, const struct learner_batch *batch,
                   const struct item *item, const float *logprob)
{
    const struct sample *sample = item->sample;

    if (!exact_is_comparable(batch, sample))
        return;
    for (uint32_t t = 0; t < sample->n_tokens; t++) {
        double d = (double)logprob[t] - (double)sample->logprobs[t], ratio = exp(d);
        totals->difference_sum += fabs(d);
        totals->difference_max = fmax(totals->difference_max, fabs(d));
        totals->ratio_sum += ratio;
        totals->ratio_min = fmin(totals->ratio_min, ratio);
        totals->ratio_max = fmax(totals->ratio_max, ratio);
        totals->difference_tokens++;
        if (d != 0.0 && !totals->mismatch.item)
            totals->mismatch = (struct mismatch){item, t, logprob[t]};
    }
}

int exact_judge(const struct learner *learner, const struct learner_batch *batch,
                struct learner_totals *totals)
{
    const struct mismatch *m = &totals->mismatch;
    char what[256];

    if (!m->item || totals->mismatch_told || learner->grpo.exact == GRPO_EXACT_OFF)
        return STATUS_OK;
    totals->mismatch_told = 1;
    snprintf(what, sizeof(what), "step %" PRId64 ", task %" PRIu64 ", sample %u, token %u: rollout "
             "recorded log-probability %.9g, the learner computes %.9g", batch->step + 1,
             m->item->group->task.id, m->item->index, m->token,
             (double)m->item->sample->logprobs[m->token], (double)m->logprob);
    if (learner->grpo.exact == GRPO_EXACT_FAIL)
        return status_fail(STATUS_FAILED, "%s; both must run the same arithmetic: the same device "
                           "and program, or set grpo.exact to warn", what);
    log_warning("%s; see sampling/sampling_logp_difference", what);
    return STATUS_OK;
}
