/* What several ranks do with a command: hone run, hone replay. */
#include "cmd/cmd.h"
#include "common/log.h"
#include "common/status.h"
#include "learner/learner.h"
#include "pipeline/pipeline.h"
#include "ranks/ranks.h"

/* One of several ranks that is not the first: it works for that one. */
static int follow(struct ranks *ranks)
{
    log_set_name(ranks_name(ranks));
    log_set_level(LOG_WARNING);
    return learner_follow(ranks);
}

int run_in_ranks(struct pipeline_options *pipeline,
                 int (*lead)(const struct pipeline_options *pipeline, void *context),
                 void *context)
{
    struct ranks *ranks;

    pipeline->rank_key = worker_environment_key();
    int status = pipeline_join_ranks(pipeline, &ranks);
    worker_forget_key();
    pipeline->ranks = ranks;
    if (status == STATUS_OK)
        status = ranks_index(ranks) ? follow(ranks) : lead(pipeline, context);
    ranks_close(&ranks, status);
    return status;
}
