/* Vectors in host memory: slices go straight to their owners, who add them in rank order. */
#include <string.h>

#include "common/status.h"
#include "ranks/internal.h"

#define N_UNDER_WAY 4        /* sums whose buffers exist at a time */
#define BLOCK 4096           /* floats that are added at a time: they stay in the cache */

struct sum {
    float *data;             /* my slice */
    size_t n;
    int is_bf16, is_begun;
    unsigned char *received; /* [count][n]: their versions of it; mine too when it was rounded */
    uint16_t *packed;        /* what was sent, when it was rounded */
    size_t received_bytes, packed_bytes;
    struct post post;
};

struct lane {
    struct sum sums[N_UNDER_WAY];
    size_t next;             /* the oldest of them */
    struct post spread;
};

/* To nearest, ties to even; NaN stays NaN. */
static uint16_t bf16_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof(bits));
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void unpack(float *out, const uint16_t *in, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;
        memcpy(&out[i], &bits, sizeof(bits));
    }
}

static void *room(void *memory, size_t *has, size_t wanted)
{
    if (*has >= wanted)
        return memory;
    *has = wanted;
    return mem_resize(memory, wanted, 1);
}

/* n values of rank r, from element `at` of my slice on. */
static const float *values_of(const struct ranks *ranks, const struct sum *sum, int r, size_t at,
                              size_t n, float *scratch)
{
    if (sum->is_bf16) {
        unpack(scratch, (const uint16_t *)(const void *)sum->received + (size_t)r * sum->n + at, n);
        return scratch;
    }
    if (r == ranks->place.rank)
        return sum->data + at;
    return (const float *)(const void *)sum->received + (size_t)r * sum->n + at;
}

static void add_up(const struct ranks *ranks, struct sum *sum)
{
    float total[BLOCK], scratch[BLOCK];

    for (size_t at = 0; at < sum->n; at += BLOCK) {
        size_t n = sum->n - at < BLOCK ? sum->n - at : BLOCK;
        memcpy(total, values_of(ranks, sum, 0, at, n, scratch), n * sizeof(float));
        for (int r = 1; r < ranks->place.count; r++) {
            const float *values = values_of(ranks, sum, r, at, n, scratch);
            for (size_t i = 0; i < n; i++)
                total[i] += values[i];
        }
        memcpy(sum->data + at, total, n * sizeof(float));
    }
}

static int finish(struct ranks *ranks, struct sum *sum)
{
    if (!sum->is_begun)
        return STATUS_OK;
    sum->is_begun = 0;
    TRY(post_wait(ranks, &sum->post, "gradients", ranks->timeout_ms));
    add_up(ranks, sum);
    return STATUS_OK;
}

static int post_all(struct ranks *ranks, struct sum *sum, const char *from, const size_t *cuts,
                    size_t width)
{
    int me = ranks->place.rank;

    for (int r = 0; r < ranks->place.count; r++)
        if (r != me)
            TRY(post_receive(ranks, &sum->post, r, TAG_SUM,
                             sum->received + (size_t)r * sum->n * width, sum->n * width));
    for (int r = 0; r < ranks->place.count; r++)
        if (r != me)
            TRY(post_send(ranks, &sum->post, r, TAG_SUM, from + (cuts[r] - cuts[0]) * width,
                          (cuts[r + 1] - cuts[r]) * width));
    return STATUS_OK;
}

static int begin_sum(struct ranks *ranks, float *data, const size_t *cuts, int is_bf16)
{
    struct lane *lane = ranks->lane_context;
    struct sum *sum = &lane->sums[lane->next];
    int me = ranks->place.rank, count = ranks->place.count;
    size_t width = is_bf16 ? sizeof(uint16_t) : sizeof(float), total = cuts[count] - cuts[0];

    lane->next = (lane->next + 1) % N_UNDER_WAY;
    TRY(finish(ranks, sum));
    sum->data = data + cuts[me];
    sum->n = cuts[me + 1] - cuts[me];
    sum->is_bf16 = is_bf16;
    sum->is_begun = 1;
    sum->received = room(sum->received, &sum->received_bytes, (size_t)count * sum->n * width + 1);
    if (!is_bf16)
        return post_all(ranks, sum, (const char *)(data + cuts[0]), cuts, width);
    sum->packed = room(sum->packed, &sum->packed_bytes, total * width + 1);
    for (size_t i = 0; i < total; i++)
        sum->packed[i] = bf16_of(data[cuts[0] + i]);
    memcpy(sum->received + (size_t)me * sum->n * width, sum->packed + (cuts[me] - cuts[0]),
           sum->n * width);
    return post_all(ranks, sum, (const char *)sum->packed, cuts, width);
}

static int end_sums(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    for (size_t i = 0; i < N_UNDER_WAY; i++)
        TRY(finish(ranks, &lane->sums[(lane->next + i) % N_UNDER_WAY]));
    return STATUS_OK;
}

static int begin_spread(struct ranks *ranks, float *data, const size_t *cuts)
{
    struct lane *lane = ranks->lane_context;
    int me = ranks->place.rank;

    for (int r = 0; r < ranks->place.count; r++)
        if (r != me)
            TRY(post_receive(ranks, &lane->spread, r, TAG_SPREAD, data + cuts[r],
                             (cuts[r + 1] - cuts[r]) * sizeof(float)));
    for (int r = 0; r < ranks->place.count; r++)
        if (r != me)
            TRY(post_send(ranks, &lane->spread, r, TAG_SPREAD, data + cuts[me],
                          (cuts[me + 1] - cuts[me]) * sizeof(float)));
    return STATUS_OK;
}

static int end_spread(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    return post_wait(ranks, &lane->spread, "weights", ranks->timeout_ms);
}

static void close_lane(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    for (size_t i = 0; i < N_UNDER_WAY; i++) {
        post_release(&lane->sums[i].post);
        mem_free(lane->sums[i].received);
        mem_free(lane->sums[i].packed);
    }
    post_release(&lane->spread);
    mem_free(lane);
    ranks->lane_context = NULL;
}

static void abort_lane(struct ranks *ranks)
{
    (void)ranks;   /* messages may still arrive in its memory */
}

static const struct lane_table table = {begin_sum,  end_sums,   begin_spread, end_spread,
                                        close_lane, abort_lane, close_lane};

int lane_host_open(struct ranks *ranks)
{
    ranks->lane = &table;
    ranks->lane_context = mem_alloc(1, sizeof(struct lane));
    return STATUS_OK;
}
