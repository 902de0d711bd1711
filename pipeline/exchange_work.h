/* pipeline/exchange_work.h - one exchange_run(), and what is written about it. Private to
 * exchange*.c. */
#ifndef HONE_PIPELINE_EXCHANGE_WORK_H
#define HONE_PIPELINE_EXCHANGE_WORK_H

#include "pipeline/exchange_peers.h"

enum group_state { GROUP_WAITING, GROUP_SAMPLING, GROUP_SAMPLED, GROUP_JUDGING, GROUP_DONE };

struct group_slot {
    enum group_state state;
    uint64_t lease;
    struct peer *peer;
    int64_t leased_ms, deadline_ms;
    int tries;                   /* leases of this state that came to nothing */
};

struct work {
    struct exchange *exchange;
    struct exchange_job *job;
    struct group_slot *slots;
    size_t n_done, n_sampled;
    size_t first_waiting;        /* no slot before it is GROUP_WAITING */
    int64_t started_ms, sampled_ms;
    int64_t progress_ms;         /* when a group last came or was set aside */
    int sample_leases;           /* outstanding at one rollout worker, at most */
};

/* One frame of the worker `name`, whatever is in it: malformed, late and uncalled-for ones are
 * dropped. A failure ends the run: no memory, weights refused too often, every group set aside. */
int work_take_frame(struct work *work, const char *name, const struct text *frame);

/* ---- exchange_state.c: <run>/state.json, for `hone status`, and <run>/stuck.txt. */
/* Once a second, and at once when `now` is set. `work` NULL: nothing is waited for. A file that
 * cannot be written is said once; the run goes on. */
void state_write(struct exchange *exchange, const struct work *work, int now);
void state_remove(struct exchange *exchange);
/* Writes the report of a run that ends for `status`; returns `status`, with the file's name. */
int state_report_stuck(struct exchange *exchange, const struct work *work, int status);

#endif
