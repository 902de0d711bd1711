/* Collective calls on host memory. */
#include <stdio.h>
#include <string.h>

#include "common/status.h"
#include "ranks/internal.h"

#define REASON_BYTES 480

static int check_usable(const struct ranks *ranks)
{
    if (ranks->is_broken)
        return status_fail(STATUS_CLOSED, "%s", ranks->why);
    return STATUS_OK;
}

int ranks_order_send(struct ranks *ranks, const struct text *order)
{
    uint64_t n = order->length;

    if (!ranks)
        return STATUS_OK;
    TRY(check_usable(ranks));
    if (ranks->is_in_order)
        return ranks_break(ranks, status_fail(STATUS_FAILED, "%s", status_reason()));
    ranks->is_in_order = 1;
    for (int r = 1; r < ranks->place.count; r++)
        TRY(post_send(ranks, &ranks->host, r, TAG_ORDER, &n, sizeof(n)));
    for (int r = 1; r < ranks->place.count; r++)
        TRY(post_send(ranks, &ranks->host, r, TAG_ORDER, order->data, n));
    return post_wait(ranks, &ranks->host, "an order", ranks->timeout_ms);
}

int ranks_order_receive(struct ranks *ranks, struct text *order)
{
    uint64_t n;

    text_clear(order);
    TRY(post_receive(ranks, &ranks->host, 0, TAG_ORDER, &n, sizeof(n)));
    TRY(post_wait(ranks, &ranks->host, "an order", 0));
    ranks->is_in_order = 1;
    order->data = mem_resize(order->data, (size_t)n + 1, 1);
    order->capacity = (size_t)n + 1;
    order->length = (size_t)n;
    order->data[n] = '\0';
    TRY(post_receive(ranks, &ranks->host, 0, TAG_ORDER, order->data, (size_t)n));
    return post_wait(ranks, &ranks->host, "an order", ranks->timeout_ms);
}

void ranks_order_done(struct ranks *ranks)
{
    if (ranks)
        ranks->is_in_order = 0;
}

int ranks_broadcast(struct ranks *ranks, void *bytes, size_t n)
{
    if (!ranks)
        return STATUS_OK;
    TRY(check_usable(ranks));
    if (ranks->place.rank)
        TRY(post_receive(ranks, &ranks->host, 0, TAG_HOST, bytes, n));
    else
        for (int r = 1; r < ranks->place.count; r++)
            TRY(post_send(ranks, &ranks->host, r, TAG_HOST, bytes, n));
    return post_wait(ranks, &ranks->host, "a broadcast", ranks->timeout_ms);
}

int ranks_bring(struct ranks *ranks, int from, void *bytes, size_t n)
{
    TRY(check_usable(ranks));
    if (ranks->place.rank == from)
        TRY(post_send(ranks, &ranks->host, 0, TAG_HOST, bytes, n));
    else
        TRY(post_receive(ranks, &ranks->host, from, TAG_HOST, bytes, n));
    return post_wait(ranks, &ranks->host, "moments", ranks->timeout_ms);
}

int ranks_gather(struct ranks *ranks, void *bytes, const size_t *cuts)
{
    int me = ranks_index(ranks), count = ranks_count(ranks);
    char *base = bytes;

    if (!ranks)
        return STATUS_OK;
    TRY(check_usable(ranks));
    for (int r = 0; r < count; r++)
        if (r != me)
            TRY(post_receive(ranks, &ranks->host, r, TAG_HOST, base + cuts[r],
                             cuts[r + 1] - cuts[r]));
    for (int r = 0; r < count; r++)
        if (r != me)
            TRY(post_send(ranks, &ranks->host, r, TAG_HOST, base + cuts[me],
                          cuts[me + 1] - cuts[me]));
    return post_wait(ranks, &ranks->host, "figures of a step", ranks->timeout_ms);
}

int ranks_share(struct ranks *ranks, const void *mine, void *all, size_t n)
{
    size_t cuts[RANKS_MAX + 1];

    memcpy((char *)all + n * (size_t)ranks_index(ranks), mine, n);
    for (int r = 0; r <= ranks_count(ranks); r++)
        cuts[r] = n * (size_t)r;
    return ranks_gather(ranks, all, cuts);
}

struct verdict {
    int32_t status;
    char reason[REASON_BYTES];
};

int ranks_agree(struct ranks *ranks, int status)
{
    struct verdict mine = {.status = status}, *all;

    if (!ranks)
        return status;
    if (status < 0 && ranks->is_broken)
        return status;
    if (status < 0)
        snprintf(mine.reason, sizeof(mine.reason), "%s", status_reason());
    TRY(check_usable(ranks));
    all = mem_alloc((size_t)ranks->place.count, sizeof(*all));
    int shared = ranks_share(ranks, &mine, all, sizeof(mine));
    for (int r = 0; r < ranks->place.count && shared == STATUS_OK; r++) {
        char name[sizeof(ranks->name)];
        if (all[r].status >= 0)
            continue;
        ranks_print_name(ranks, r, name, sizeof(name));
        ranks->has_agreed = 1;
        shared = ranks_break(ranks, r ? status_fail(all[r].status, "%s: %s", name, all[r].reason)
                                      : status_fail(all[r].status, "%s", all[r].reason));
    }
    mem_free(all);
    return shared;
}

int ranks_have_agreed(const struct ranks *ranks)
{
    return ranks && ranks->has_agreed;
}

/* ---- Vectors: whichever way they travel. */

int ranks_sum_begin(struct ranks *ranks, float *data, const size_t *cuts, int is_bf16)
{
    if (!ranks)
        return STATUS_OK;
    TRY(check_usable(ranks));
    return ranks->lane->sum(ranks, data, cuts, is_bf16);
}

int ranks_sum_end(struct ranks *ranks)
{
    if (!ranks)
        return STATUS_OK;
    TRY(check_usable(ranks));
    return ranks->lane->sum_end(ranks);
}

int ranks_spread_begin(struct ranks *ranks, float *data, const size_t *cuts)
{
    return ranks ? ranks->lane->spread(ranks, data, cuts) : STATUS_OK;
}

int ranks_spread_end(struct ranks *ranks)
{
    return ranks ? ranks->lane->spread_end(ranks) : STATUS_OK;
}
