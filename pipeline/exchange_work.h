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
    double leased;               /* clock_seconds() */
    int64_t deadline_ms;
    int tries;                   /* leases of this state that came to nothing */
    struct group_slot *before, *next;   /* in its list */
};

struct work {
    struct exchange *exchange;
    struct exchange_job *job;
    struct group_slot *slots;
    size_t n_done, n_sampled;
    struct slot_list waiting, sampled;   /* GROUP_WAITING and GROUP_SAMPLED; those out are in
                                           * their peer's list */
    int64_t started_ms, sampled_ms;
    int64_t progress_ms;         /* when a group last came or was set aside */
    int sample_leases;           /* outstanding at one rollout worker, at most */
};

/* ---- exchange_slots.c */
void slots_append(struct slot_list *list, struct group_slot *slot);
void slots_put_first(struct slot_list *list, struct group_slot *slot);
void slots_remove(struct slot_list *list, struct group_slot *slot);
/* All groups wait. */
void work_begin(struct work *work);
/* The group's lease is at the peer now: GROUP_SAMPLING or GROUP_JUDGING. */
void work_lend(struct work *work, struct group_slot *slot, struct peer *peer);
/* The group that the peer has by this lease; -1: none. A worker has few leases at a time. */
long work_find_lease(const struct work *work, uint64_t lease, const struct peer *peer);

/* ---- exchange.c */
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
