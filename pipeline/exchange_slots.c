/* Where each group of a step stands: those that wait, those a worker has, those to be judged. What
 * a turn costs depends on what happens in it, not on the number of groups. */
#include "pipeline/exchange_work.h"

void slots_append(struct slot_list *list, struct group_slot *slot)
{
    slot->before = list->last;
    slot->next = NULL;
    *(list->last ? &list->last->next : &list->first) = slot;
    list->last = slot;
}

void slots_put_first(struct slot_list *list, struct group_slot *slot)
{
    slot->before = NULL;
    slot->next = list->first;
    *(list->first ? &list->first->before : &list->last) = slot;
    list->first = slot;
}

void slots_remove(struct slot_list *list, struct group_slot *slot)
{
    *(slot->before ? &slot->before->next : &list->first) = slot->next;
    *(slot->next ? &slot->next->before : &list->last) = slot->before;
}

void work_begin(struct work *work)
{
    work->waiting = work->sampled = (struct slot_list){NULL, NULL};
    for (size_t i = 0; i < work->job->n_tasks; i++)
        slots_append(&work->waiting, &work->slots[i]);
}

void work_lend(struct work *work, struct group_slot *slot, struct peer *peer)
{
    int judging = slot->state == GROUP_SAMPLED;

    slots_remove(judging ? &work->sampled : &work->waiting, slot);
    slots_append(&peer->out, slot);
    slot->state = judging ? GROUP_JUDGING : GROUP_SAMPLING;
    slot->lease = work->exchange->last_lease;
    slot->peer = peer;
    slot->leased = clock_seconds();
    slot->deadline_ms = clock_ms() + work->exchange->config.lease_ms;
    peer->is_alone = slot->tries > 0;
    peer->n_leases++;
}

long work_find_lease(const struct work *work, uint64_t lease, const struct peer *peer)
{
    for (const struct group_slot *slot = peer->out.first; slot; slot = slot->next)
        if (slot->lease == lease)
            return slot - work->slots;
    return -1;
}
