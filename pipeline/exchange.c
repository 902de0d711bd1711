#include "pipeline/exchange.h"

#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/status.h"
#include "common/watchdog.h"
#include "pipeline/exchange_work.h"

#define POLL_MS 50
#define GONE_MS 5000      /* for a connection to come back */
#define JUDGE_LEASES 4   /* outstanding at one reward worker */

/* What the samples of a group that was never written are: no tokens. */
static int make_empty_samples(struct work *work, size_t i)
{
    struct sample_group *group = &work->job->groups[i];

    *group = (struct sample_group){.task = *work->job->tasks[i],
                                   .n_samples = work->job->sampling.num_generations};
    group->samples = ARENA_NEW(work->job->arena, struct sample, group->n_samples);
    if (!group->samples)
        return status_fail(STATUS_NOMEM, "no room for a group's samples");
    for (uint32_t s = 0; s < group->n_samples; s++) {
        group->samples[s].finish = SAMPLE_FINISH_LENGTH;
        group->samples[s].text.data = "";
    }
    if (++work->n_sampled == work->job->n_tasks)
        work->sampled_ms = clock_ms();
    return STATUS_OK;
}

/* A group that kills or fails each worker: no verdict, said once, and the step goes on. */
static int set_aside(struct work *work, size_t i, const char *why, int is_unsampled)
{
    struct exchange_job *job = work->job;

    log_warning("task %llu (%s) is set aside after %d tries, its samples are masked: %s",
                (unsigned long long)job->tasks[i]->id, job->tasks[i]->kind, work->slots[i].tries,
                why);
    if (is_unsampled)
        TRY(make_empty_samples(work, i));
    struct sample_group *group = &job->groups[i];
    group->n_rewards = (uint32_t)job->n_terms;
    group->rewards = ARENA_NEW(job->arena, struct reward_term, job->n_terms + 1);
    if (!group->rewards)
        return status_fail(STATUS_NOMEM, "no room for a group's rewards");
    if (job->n_terms)
        memcpy(group->rewards, job->terms, job->n_terms * sizeof(*group->rewards));
    for (uint32_t s = 0; s < group->n_samples; s++) {
        struct sample *sample = &group->samples[s];
        sample->masked = 1;
        sample->scores = ARENA_NEW(job->arena, struct score, job->n_terms + 1);
        if (!sample->scores)
            return status_fail(STATUS_NOMEM, "no room for a sample's scores");
        for (size_t t = 0; t < job->n_terms; t++) {
            sample->scores[t].outcome = OUTCOME_ERROR;
            snprintf(sample->scores[t].detail, WIRE_DETAIL_BYTES, "%s", why);
        }
    }
    work->slots[i].state = GROUP_DONE;
    work->progress_ms = clock_ms();
    work->n_done++;
    if (++job->n_set_aside < job->n_tasks || job->n_tasks == 1)
        return STATUS_OK;
    return status_fail(STATUS_FAILED, "all %zu groups were set aside, the last because: %s; no "
                       "worker does its work here, see the lines above", job->n_tasks, why);
}

/* The lease came to nothing: the group waits again, and is given up once blamed too often. */
static int take_back(struct work *work, size_t i, const char *who, const char *why, int is_to_blame)
{
    struct group_slot *slot = &work->slots[i];
    enum group_state before = slot->state;

    slots_remove(&slot->peer->out, slot);
    slot->lease = 0;
    slot->peer->is_alone = 0;
    slot->peer = NULL;
    slot->tries += is_to_blame;
    if (slot->tries >= work->exchange->config.max_lease_tries) {
        char said[WIRE_DETAIL_BYTES];
        snprintf(said, sizeof(said), "%.*s: %.*s", WIRE_NAME_BYTES, who, 60, why);
        return set_aside(work, i, said, before == GROUP_SAMPLING);
    }
    slot->state = before == GROUP_JUDGING ? GROUP_SAMPLED : GROUP_WAITING;
    slots_put_first(slot->state == GROUP_WAITING ? &work->waiting : &work->sampled, slot);
    return STATUS_OK;
}

/* A reward worker judges one group after another: the oldest lease is the one it died of. The
 * newest goes back first, so that they wait in their order. */
static int take_back_all(struct work *work, struct peer *peer, const char *why, int is_to_blame)
{
    const struct group_slot *oldest = peer->out.first;

    for (struct group_slot *slot; (slot = peer->out.last);)
        TRY(take_back(work, (size_t)(slot - work->slots), peer->name, why,
                      is_to_blame && (peer->role == WORKER_ROLLOUT || slot == oldest)));
    peer->n_leases = 0;
    return STATUS_OK;
}

static int send_sample_lease(struct work *work, size_t i, struct peer *peer)
{
    struct exchange *exchange = work->exchange;
    struct wire_sample_lease lease = {++exchange->last_lease, work->job->sampling,
                                      *work->job->tasks[i]};

    text_clear(&exchange->frame);
    TRY(wire_encode_sample_lease(&lease, &exchange->frame));
    return peer_send(exchange, peer, &exchange->frame);
}

static int send_judge_lease(struct work *work, size_t i, struct peer *peer)
{
    struct exchange *exchange = work->exchange;
    struct wire_judge_lease lease = {++exchange->last_lease, work->job->groups[i]};

    lease.group.n_rewards = (uint32_t)work->job->n_terms;
    lease.group.rewards = (struct reward_term *)(uintptr_t)work->job->terms;
    text_clear(&exchange->frame);
    TRY(wire_encode_judge_lease(&lease, &exchange->frame));
    return peer_send(exchange, peer, &exchange->frame);
}

/* Hands group i out. A peer that is gone is no failure: reaping and deadlines deal with it. */
static int hand_out(struct work *work, size_t i, struct peer *peer)
{
    struct group_slot *slot = &work->slots[i];
    int judging = slot->state == GROUP_SAMPLED;
    int status = judging ? send_judge_lease(work, i, peer) : send_sample_lease(work, i, peer);

    if (status == STATUS_CLOSED || status == STATUS_TIMEOUT) {
        peer->is_ready = 0;
        return STATUS_OK;
    }
    TRY(status);
    message_note(work->exchange, 1, peer->name, judging ? WIRE_JUDGE : WIRE_SAMPLE,
                 work->exchange->last_lease);
    work_lend(work, slot, peer);
    return STATUS_OK;
}

/* A suspect waits until a worker has nothing else in hand; the others pass it. */
static int hand_out_waiting(struct work *work)
{
    struct exchange *exchange = work->exchange;
    struct group_slot *next;

    for (struct group_slot *slot = work->waiting.first; slot; slot = next) {
        int is_suspect = slot->tries > 0;
        struct peer *peer = peer_least_loaded(exchange, WORKER_ROLLOUT,
                                              is_suspect ? 1 : work->sample_leases);
        next = slot->next;
        if (!peer && !is_suspect)
            break;
        if (!peer)
            continue;
        TRY(peer_bring_up_to_date(exchange, peer));
        if (peer->is_receiving || !peer->is_ready)
            next = slot;   /* another has it now */
        else
            TRY(hand_out(work, (size_t)(slot - work->slots), peer));
    }
    return STATUS_OK;
}

static int hand_out_sampled(struct work *work)
{
    struct group_slot *next;

    for (struct group_slot *slot = work->sampled.first; slot; slot = next) {
        int is_suspect = slot->tries > 0;
        struct peer *peer = peer_least_loaded(work->exchange, WORKER_REWARD,
                                              is_suspect ? 1 : JUDGE_LEASES);
        next = slot->next;
        if (!peer && !is_suspect)
            break;
        if (peer)
            TRY(hand_out(work, (size_t)(slot - work->slots), peer));
    }
    return STATUS_OK;
}

static int hand_out_all(struct work *work)
{
    struct exchange *exchange = work->exchange;

    for (int p = 0; p < exchange->n_peers; p++)
        if (exchange->peers[p]->is_ready && exchange->peers[p]->is_receiving)
            TRY(peer_bring_up_to_date(exchange, exchange->peers[p]));
    TRY(hand_out_waiting(work));
    return hand_out_sampled(work);
}

/* A reward worker may judge, and nothing else. */
static int is_same_sample(const struct sample *one, const struct sample *other)
{
    return one->n_tokens == other->n_tokens && one->finish == other->finish &&
           (!one->n_tokens ||
            (memcmp(one->tokens, other->tokens, one->n_tokens * sizeof(*one->tokens)) == 0 &&
             memcmp(one->logprobs, other->logprobs, one->n_tokens * sizeof(*one->logprobs)) == 0));
}

static int is_answer(const struct work *work, size_t i, const struct sample_group *group)
{
    const struct exchange_job *job = work->job;
    int judged = work->slots[i].state == GROUP_JUDGING;

    if (group->task.id != job->tasks[i]->id ||
        group->n_samples != job->sampling.num_generations ||
        group->n_rewards != (judged ? job->n_terms : 0))
        return 0;
    for (uint32_t s = 0; s < group->n_samples; s++) {
        const struct sample *sample = &group->samples[s];
        for (uint32_t t = 0; t < sample->n_tokens; t++)
            if (sample->weight_versions[t] != job->sampling.weight_version)
                return 0;
        if (judged && job->n_terms && !sample->scores)
            return 0;
        if (judged && !is_same_sample(sample, &job->groups[i].samples[s]))
            return 0;
    }
    return 1;
}

static int accept_group(struct work *work, struct peer *peer, const struct text *frame)
{
    struct wire_group message;
    uint64_t lease;
    long i = -1;

    int status = wire_group_lease(frame->data, frame->length, &lease);
    if (status == STATUS_OK && (i = work_find_lease(work, lease, peer)) < 0)
        return STATUS_OK;   /* late: the lease was taken back; no memory is spent on it */
    if (status == STATUS_OK)
        status = wire_decode_group(frame->data, frame->length, work->job->arena, &message);
    if (status == STATUS_NOMEM)
        return status;
    if (status < 0) {
        log_warning("a group from %s is dropped: %s", peer->name, status_reason());
        return STATUS_OK;
    }
    struct group_slot *slot = &work->slots[i];
    peer->n_leases--;
    message_note(work->exchange, 0, peer->name, WIRE_GROUP, message.lease);
    if (slot->state == GROUP_SAMPLING && !peer_has_weights(work->exchange, peer))
        return take_back(work, (size_t)i, peer->name,
                         "it sampled without having acknowledged the weights", 1);
    if (!is_answer(work, (size_t)i, &message.group))
        return take_back(work, (size_t)i, peer->name, "it answered with another group", 1);
    peer->is_alone = 0;
    work->progress_ms = clock_ms();
    work->job->groups[i] = message.group;
    slots_remove(&peer->out, slot);
    slot->lease = 0;
    if (slot->state == GROUP_SAMPLING) {
        if (work->job->group_seconds)
            work->job->group_seconds[i] = (float)(clock_seconds() - slot->leased);
        slot->tries = 0;
        slot->state = work->job->n_terms ? GROUP_SAMPLED : GROUP_DONE;
        if (slot->state == GROUP_SAMPLED)
            slots_append(&work->sampled, slot);
        if (++work->n_sampled == work->job->n_tasks)
            work->sampled_ms = clock_ms();
    } else {
        slot->state = GROUP_DONE;
    }
    work->n_done += slot->state == GROUP_DONE;
    return STATUS_OK;
}

static int accept_failure(struct work *work, struct peer *peer, const struct text *frame)
{
    struct wire_failed message;
    char why[WIRE_DETAIL_BYTES];

    if (wire_decode_failed(frame->data, frame->length, work->job->arena, &message) < 0) {
        log_warning("a message from %s is dropped: %s", peer->name, status_reason());
        return STATUS_OK;
    }
    long i = work_find_lease(work, message.lease, peer);
    if (i < 0)
        return STATUS_OK;
    peer->n_leases--;
    message_note(work->exchange, 0, peer->name, WIRE_FAILED, message.lease);
    snprintf(why, sizeof(why), "%.*s", (int)message.reason.bytes, message.reason.data);
    log_warning("%s could not do task %llu: %s", peer->name,
                (unsigned long long)work->job->tasks[i]->id, why);
    return take_back(work, (size_t)i, peer->name, why, 1);
}

/* One that comes back under its name has lost what it held. A link that was cut is no fault of its
 * groups: the same process greets again. */
static int take_hello(struct work *work, struct peer *peer, const char *name,
                      const struct text *frame)
{
    uint64_t pid_before = peer ? peer->pid : 0;

    TRY(peer_hello(work->exchange, name, frame));
    if (!peer)
        return STATUS_OK;
    int has_died = peer->pid != pid_before;
    return take_back_all(work, peer, has_died ? "it started again" : "its connection broke",
                         has_died);
}

int work_take_frame(struct work *work, const char *name, const struct text *frame)
{
    struct exchange *exchange = work->exchange;
    struct peer *peer = peer_find(exchange, name);
    enum wire_kind kind;

    if (wire_kind_of(frame->data, frame->length, &kind) < 0) {
        log_warning("a frame from %s is dropped: %s", name, status_reason());
        return STATUS_OK;
    }
    if (kind == WIRE_HELLO)
        return take_hello(work, peer, name, frame);
    if (!peer)
        return STATUS_OK;   /* nobody speaks before HELLO */
    peer->heard_ms = clock_ms();
    if (!peer->is_ready)
        peer_is_back(peer);
    if (kind == WIRE_GROUP)
        return accept_group(work, peer, frame);
    if (kind == WIRE_FAILED)
        return accept_failure(work, peer, frame);
    if (kind == WIRE_WEIGHTS_STATE)
        return peer_weights_state(exchange, peer, frame);
    if (kind == WIRE_HEARTBEAT)
        return peer_heartbeat(exchange, peer, frame);
    return STATUS_OK;
}

static int replace_dead(struct work *work)
{
    struct exchange *exchange = work->exchange;
    char name[WIRE_NAME_BYTES], how[64];

    while (workers_reap(exchange->workers, name, how)) {
        struct peer *peer = peer_find(exchange, name);
        log_warning("worker %s %s; it is started again and its groups are given out anew", name,
                    how);
        if (peer) {
            if (peer->n_leases)   /* its groups are to blame, and bound how often */
                workers_forgive(exchange->workers, name);
            TRY(take_back_all(work, peer, how, 1));
            peer->is_ready = 0;
        }
        TRY(workers_restart(exchange->workers, name));
    }
    return STATUS_OK;
}

/* A worker that does not answer: ended when it is ours, and in any case left alone until it speaks
 * again. */
static int give_up_on(struct work *work, struct peer *peer, const char *why)
{
    log_warning("%s: %s; its groups are given out anew%s", peer->name, why,
                workers_kill(work->exchange->workers, peer->name) ? " and it is ended" : "");
    /* A worker that can be reached and is silent may hang in what it holds. */
    TRY(take_back_all(work, peer, why, peer->is_ready));
    peer->is_ready = 0;
    return STATUS_OK;
}

static int check_silence(struct work *work, int64_t now)
{
    struct exchange *exchange = work->exchange;
    int64_t silent_ms = exchange->config.silent_ms;
    char why[WIRE_DETAIL_BYTES];

    for (int i = 0; i < exchange->n_peers && silent_ms > 0; i++) {
        struct peer *peer = exchange->peers[i];
        int64_t since = peer->heard_ms > exchange->wait_started_ms ? peer->heard_ms
                                                                   : exchange->wait_started_ms;
        int64_t limit_ms = peer->is_ready || silent_ms < GONE_MS ? silent_ms : GONE_MS;
        int is_awaited = peer->n_leases || (peer->is_ready && peer->is_receiving);
        if (!is_awaited || now - since < limit_ms)
            continue;
        snprintf(why, sizeof(why), "silent for %lld ms (%s)", (long long)limit_ms,
                 limit_ms == silent_ms ? "run.silent_ms" : "and its connection is gone");
        TRY(give_up_on(work, peer, why));
    }
    return STATUS_OK;
}

static int check_deadlines(struct work *work)
{
    struct exchange *exchange = work->exchange;
    int64_t now = clock_ms();
    char why[WIRE_DETAIL_BYTES];

    for (int i = 0; i < exchange->n_peers; i++) {
        struct peer *peer = exchange->peers[i];
        if (!peer->out.first || now < peer->out.first->deadline_ms)
            continue;
        snprintf(why, sizeof(why), "no answer within %lld ms (run.lease_ms)",
                 (long long)exchange->config.lease_ms);
        TRY(give_up_on(work, peer, why));
    }
    TRY(check_silence(work, now));
    if (exchange->config.stuck_ms > 0 && now - work->progress_ms >= exchange->config.stuck_ms)
        return status_fail(STATUS_STUCK, "no group came for %lld ms (run.stuck_ms), %zu of %zu are "
                           "missing", (long long)exchange->config.stuck_ms,
                           work->job->n_tasks - work->n_done, work->job->n_tasks);
    return peer_check_presence(exchange, work->job->n_terms > 0);
}

void exchange_describe(const struct exchange *exchange, const struct work *work,
                       char out[WIRE_DETAIL_BYTES])
{
    (void)exchange;
    if (work)
        snprintf(out, WIRE_DETAIL_BYTES, "waits for GROUP: %zu of %zu of %.24s, %zu sampled",
                 work->job->n_tasks - work->n_done, work->job->n_tasks, work->job->label,
                 work->n_sampled);
    else
        snprintf(out, WIRE_DETAIL_BYTES, "works on what came: learns, stores, or ends a stage");
}

static int tell_state(struct work *work)
{
    char doing[WIRE_DETAIL_BYTES];

    exchange_describe(work->exchange, work, doing);
    state_write(work->exchange, work, 0);
    return peers_beat(work->exchange, doing, clock_ms() - work->progress_ms);
}

static int turn(struct work *work, struct progress *progress)
{
    struct exchange *exchange = work->exchange;
    char name[WIRE_NAME_BYTES];

    pulse("waits for groups");
    if (exchange->config.stop && *exchange->config.stop)
        return status_fail(STATUS_INTERRUPTED, "stopped while waiting for %zu of %zu groups",
                           work->job->n_tasks - work->n_done, work->job->n_tasks);
    TRY(replace_dead(work));
    TRY(tell_state(work));
    TRY(hand_out_all(work));
    int status = wire_hub_receive(exchange->hub, name, &exchange->inbox, POLL_MS);
    while (status == STATUS_OK) {
        TRY(work_take_frame(work, name, &exchange->inbox));
        status = wire_hub_receive(exchange->hub, name, &exchange->inbox, 0);
    }
    if (status != STATUS_TIMEOUT && status != STATUS_INTERRUPTED)
        return status;
    progress_update(progress, (int64_t)work->n_done, "%s", "groups");
    return check_deadlines(work);
}

int exchange_run(struct exchange *exchange, struct exchange_job *job)
{
    struct work work = {.exchange = exchange, .job = job, .started_ms = clock_ms()};
    struct progress progress;
    int status = STATUS_OK;
    int generations = job->sampling.num_generations ? (int)job->sampling.num_generations : 1;

    work.slots = mem_alloc(job->n_tasks, sizeof(*work.slots));
    work_begin(&work);
    work.sample_leases = 1 + (job->max_sequences + generations - 1) / generations;
    work.sampled_ms = work.progress_ms = work.started_ms;
    job->n_set_aside = 0;
    peer_begin_wait(exchange);
    progress_begin(&progress, job->label, 0, (int64_t)job->n_tasks);
    while (status == STATUS_OK && work.n_done < job->n_tasks)
        status = turn(&work, &progress);
    progress_end(&progress);
    if (status == STATUS_STUCK || status == STATUS_TIMEOUT || status == STATUS_FAILED)
        status = state_report_stuck(exchange, &work, status);
    peer_forget_leases(exchange);
    exchange->idle_since_ms = clock_ms();
    state_write(exchange, NULL, 1);
    job->rollout_seconds = (double)(work.sampled_ms - work.started_ms) / 1000.0;
    job->total_seconds = (double)(clock_ms() - work.started_ms) / 1000.0;
    mem_free(work.slots);
    return status;
}
