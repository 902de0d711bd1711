/* pipeline/weight_share.h - the learner's weights in device memory for workers. Private. */
#ifndef HONE_PIPELINE_WEIGHT_SHARE_H
#define HONE_PIPELINE_WEIGHT_SHARE_H

#include "model/model.h"
#include "pipeline/exchange.h"

/* Two copies in turn: the one that was offered before stays as it is while it may be read. */
struct weight_share {
    struct model *copies[2];
    uint32_t versions[2];        /* that each holds; 0: none */
    int next;
    int has_failed;              /* said once; from then on the files are the way */
};
/* Copies the policy as products see it, and offers it. */
int weight_share_publish(struct weight_share *share, struct exchange *exchange,
                         const struct model *policy, uint32_t version, int is_forced);
void weight_share_release(struct weight_share *share);   /* after the exchange, before the ops */

#endif
