/* Messages under way, and the one place that waits for them. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/files.h"
#include "common/memory.h"
#include "common/status.h"
#include "ranks/internal.h"

#define LOOK_MS 100
#define FIRST_SLEEP_NS 20000
#define LONGEST_SLEEP_NS 1000000         /* a rank that waits for an order leaves the cores alone */

static struct pending *add(struct post *post, int peer, int is_receive)
{
    if (post->n == post->capacity) {
        post->capacity = post->capacity ? 2 * post->capacity : 16;
        post->list = mem_resize(post->list, post->capacity, sizeof(*post->list));
    }
    struct pending *pending = &post->list[post->n++];
    *pending = (struct pending){.peer = peer, .is_receive = is_receive};
    return pending;
}

int ranks_break(struct ranks *ranks, int status)
{
    if (!ranks->is_broken)
        snprintf(ranks->why, sizeof(ranks->why), "%s", status_reason());
    ranks->is_broken = 1;
    return status;
}

/* What rank `rank` said when it ended all, or that it did not. */
static int fail_lost(struct ranks *ranks, int rank, const char *reason)
{
    char name[sizeof(ranks->name)];

    ranks_print_name(ranks, rank, name, sizeof(name));
    if (reason[0])
        return ranks_break(ranks, status_fail(STATUS_CLOSED, "%s (said by %s)", reason, name));
    return ranks_break(ranks, status_fail(STATUS_CLOSED, "%s is gone: it was killed, or has said "
                                          "why", name));
}

static int refuse(struct ranks *ranks, int peer)
{
    char name[sizeof(ranks->name)];

    ranks_print_name(ranks, peer, name, sizeof(name));
    return ranks_break(ranks, status_fail(STATUS_CLOSED, "mail with %s fails: %s", name,
                                          ranks->mail->reason()));
}

int post_send(struct ranks *ranks, struct post *post, int to, enum mail_tag tag, const void *bytes,
              size_t n)
{
    for (size_t at = 0; at < n; at += MAIL_MOST_BYTES) {
        size_t piece = n - at < MAIL_MOST_BYTES ? n - at : MAIL_MOST_BYTES;
        struct pending *pending = add(post, to, 0);
        if (ranks->mail->send(to, tag, (const char *)bytes + at, piece, &pending->request))
            return refuse(ranks, to);
    }
    return STATUS_OK;
}

int post_receive(struct ranks *ranks, struct post *post, int from, enum mail_tag tag, void *bytes,
                 size_t n)
{
    for (size_t at = 0; at < n; at += MAIL_MOST_BYTES) {
        size_t piece = n - at < MAIL_MOST_BYTES ? n - at : MAIL_MOST_BYTES;
        struct pending *pending = add(post, from, 1);
        if (ranks->mail->receive(from, tag, (char *)bytes + at, piece, &pending->request))
            return refuse(ranks, from);
    }
    return STATUS_OK;
}

/* Takes what is done off the list; the number of them, or a status. */
static int sweep(struct ranks *ranks, struct post *post)
{
    int n_done = 0;

    for (size_t i = 0; i < post->n;) {
        int is_done = 0;
        if (ranks->mail->test(&post->list[i].request, &is_done))
            return refuse(ranks, post->list[i].peer);
        if (is_done)
            post->list[i] = post->list[--post->n];
        else
            i++;
        n_done += is_done;
    }
    return n_done;
}

/* Those from whom something is to come, or who do not take anything, in their order. */
static void list_missing(const struct ranks *ranks, const struct post *post, int is_receive,
                         struct text *out)
{
    for (int r = 0; r < ranks->place.count; r++) {
        char name[sizeof(ranks->name)];
        size_t i = 0;
        while (i < post->n && (post->list[i].peer != r || post->list[i].is_receive != is_receive))
            i++;
        if (i == post->n)
            continue;
        ranks_print_name(ranks, r, name, sizeof(name));
        text_print(out, "%s%s", out->length ? " and " : "", name);
    }
}

static int name_missing(struct ranks *ranks, const struct post *post, const char *what,
                        int64_t timeout_ms)
{
    struct text names = {0};
    int is_receive = 1;

    list_missing(ranks, post, 1, &names);
    if (!names.length) {
        is_receive = 0;
        list_missing(ranks, post, 0, &names);
    }
    int status = status_fail(STATUS_TIMEOUT, "%s: nothing %s for %lld ms (%s), %s waits no longer; "
                             "a rank that is only slow needs a larger run.rank_timeout_ms",
                             names.data, is_receive ? "came" : "was taken", (long long)timeout_ms,
                             what, ranks->name);
    text_release(&names);
    return ranks_break(ranks, status);
}

int ranks_look_for_dead(struct ranks *ranks)
{
    const struct rank_info *infos = ranks->infos, *me = infos + ranks->place.rank;
    struct mail_loss loss;

    if (ranks->mail->find_loss && ranks->mail->find_loss(&loss))
        return fail_lost(ranks, loss.rank, loss.reason);
    if (!infos || !me->pid_space || clock_ms() - ranks->looked_ms < LOOK_MS)
        return STATUS_OK;
    ranks->looked_ms = clock_ms();
    for (int r = 0; r < ranks->place.count; r++) {
        if (infos[r].pid_space != me->pid_space || strcmp(infos[r].host, me->host) != 0 ||
            kill((pid_t)infos[r].pid, 0) == 0 || errno != ESRCH)
            continue;
        return fail_lost(ranks, r, "");
    }
    return STATUS_OK;
}

int post_wait(struct ranks *ranks, struct post *post, const char *what, int64_t timeout_ms)
{
    int64_t progress_ms = clock_ms();
    long sleep_ns = 0;

    while (post->n) {
        int n = sweep(ranks, post);
        TRY(n);
        if (n) {
            progress_ms = clock_ms();
            sleep_ns = 0;
            continue;
        }
        if (timeout_ms && clock_ms() - progress_ms > timeout_ms)
            return name_missing(ranks, post, what, timeout_ms);
        TRY(ranks_look_for_dead(ranks));
        if (sleep_ns)
            nanosleep(&(struct timespec){.tv_nsec = sleep_ns}, NULL);
        else
            sched_yield();
        sleep_ns = sleep_ns ? 2 * sleep_ns : FIRST_SLEEP_NS;
        if (sleep_ns > LONGEST_SLEEP_NS)
            sleep_ns = LONGEST_SLEEP_NS;
    }
    return STATUS_OK;
}

void post_release(struct post *post)
{
    mem_free(post->list);
    *post = (struct post){.n = 0};
}
