/*
 * pipeline/exchange.h - the coordinator's side of the wire: tasks out, judged groups back. Private.
 *
 * A group handed to a worker is a lease with a deadline. A worker that dies, freezes or fails gives
 * its leases back and they go to another; an answer to a lease that was taken back is dropped, so a
 * group counts once. Since a sample depends on (weights, task, sampling, index) alone, the result
 * is the same whoever wrote it. Groups go to a reward worker as soon as they are sampled.
 *
 * A worker's samples count only after it has acknowledged the weights by version and SHA-256. A
 * group that came to nothing max_lease_tries times is set aside: its samples are masked, those
 * never written have no tokens, and the step goes on without it. A group that was in a worker's
 * hands when that died is next given out alone, so that only the one that kills is blamed twice.
 */
#ifndef HONE_PIPELINE_EXCHANGE_H
#define HONE_PIPELINE_EXCHANGE_H

#include "common/arena.h"
#include "pipeline/workers.h"
#include "wire/wire.h"

struct exchange_config {
    const char *endpoint, *program, *config;
    const struct wire_keys *keys;        /* of a tcp:// endpoint */
    const char *worker_key;              /* file that local workers take; "" for none */
    int64_t lease_ms, connect_ms, max_lease_tries;
    int64_t silent_ms, stuck_ms;         /* 0: never */
    const char *directory;               /* of the run, for state.json; NULL: none is written */
    _Atomic int *stop;          /* set by a signal handler: the wait ends with INTERRUPTED */
};

struct exchange;
int exchange_create(struct exchange **out, const struct exchange_config *config);
void exchange_destroy(struct exchange **exchange);   /* stops the workers */

/* Who works: local processes for stage `stage`. Workers whose settings differ are replaced. */
int exchange_set_workers(struct exchange *exchange, const char *stage, const char *settings_hash,
                         int n_rollout, int n_reward);

/* The model that is sampled (copied), and its weights: a safetensors image in a file, which the
 * exchange takes over (*image is empty afterwards). Sent to each rollout worker before its first
 * lease of that version; a model that is the same as before is not sent again. */
int exchange_set_model(struct exchange *exchange, const struct wire_model *model);
int exchange_publish(struct exchange *exchange, uint32_t version, struct file_map *image);

/* The same of weights in device memory. Workers of that place are offered them; the others get an
 * image, made when the first of them needs it. A worker that cannot open the memory gets images
 * from then on, with a warning, unless is_forced: then nobody does, and the run ends after some
 * refusals. Memory and source must stay as they are until the next publication. */
struct exchange_offer {
    struct wire_shared_weights weights;
    char place[WIRE_DETAIL_BYTES];
    int is_forced;
    int (*make_image)(void *source, struct file_map *image);
    void *source;
};
int exchange_publish_offer(struct exchange *exchange, const struct exchange_offer *offer);
/* What was published is not there any more; nothing is sent until the next publication. */
void exchange_forget(struct exchange *exchange);
/* Waits until no worker that is there may still read the offer of that version: each has answered
 * it. After settle_ms it gives up with a warning; such a worker finds another digest. */
int exchange_settle(struct exchange *exchange, uint32_t version, int64_t settle_ms);

struct exchange_job {
    const char *label;                     /* for the progress line */
    const struct task *const *tasks;       /* [n_tasks] */
    size_t n_tasks;
    struct sampling sampling;              /* weight_version as published */
    const struct reward_term *terms;       /* [n_terms]; none: groups are not judged */
    size_t n_terms;
    int max_sequences;                     /* decoded side by side in one worker */
    struct arena *arena;                   /* where the groups live */
    struct sample_group *groups;           /* [n_tasks], in the order of the tasks */
    float *group_seconds;                  /* [n_tasks], filled: from lease to samples; or NULL */
    size_t n_set_aside;                    /* filled: groups that no worker could do */
    double rollout_seconds, total_seconds; /* filled: until the last group was sampled, in all */
};
int exchange_run(struct exchange *exchange, struct exchange_job *job);

#endif
