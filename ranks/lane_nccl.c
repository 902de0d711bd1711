/*
 * Vectors in the memory of GPUs, over NCCL. The communicator does not block: every call is polled,
 * up to run.rank_timeout_ms, then aborted. NCCL does not say whom it waits for; so each rank tells
 * rank 0 with every call how far it is, and rank 0 names those who are behind.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/files.h"
#include "common/log.h"
#include "common/status.h"
#include "ranks/internal.h"
#include "ranks/nccl_abi.h"

#define POLL_NS 20000
#define LAST_BEAT UINT64_MAX
#define PANEL OPS_PANEL

/* A slice that travels as bfloat16: its buffer, until the sum is unpacked. */
struct packed {
    float *data;                     /* the bucket */
    const size_t *cuts;
    void *buffer;                    /* device: all slices, one after another */
    size_t bytes;
};

enum kind { REDUCE_SCATTER, REDUCE, ALL_GATHER, BROADCAST };
static const char *const words[] = {"a sum of gradients", "a sum of gradients", "weights",
                                    "weights"};
struct call {
    enum kind kind;
    void *from, *to;
    size_t n;
    int type, root;
};

struct lane {
    struct nccl_table nccl;
    struct nccl_comm *comm;
    struct ops *ops;
    uint64_t n_calls;
    uint64_t *beats;                 /* [count]: calls that each rank has made; of rank 0 alone */
    uint64_t *incoming;              /* where the next ones arrive */
    uint64_t *outgoing;              /* what is being sent; a ring */
    uint64_t n_begun, n_sent;        /* messages; of those that were begun, those that have left */
    uintptr_t *requests;             /* [count] */
    struct call *calls;              /* [most_calls]: those to make, from next_call on; the one */
    size_t next_call, n_calls_listed, most_calls;   /* before it may not be on its way yet */
    struct packed *packed;           /* of the sums that are under way */
    size_t n_packed, most_packed;
};

/* ---- How far everybody is. */

#define N_OUTGOING 64

static int listen_to(struct ranks *ranks, int rank)
{
    struct lane *lane = ranks->lane_context;

    if (ranks->mail->receive(rank, TAG_BEAT, &lane->incoming[rank], sizeof(uint64_t),
                             &lane->requests[rank]))
        return ranks_break(ranks, status_fail(STATUS_CLOSED, "%s", ranks->mail->reason()));
    return STATUS_OK;
}

static int hear(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    for (int r = 1; r < ranks->place.count && !ranks->place.rank;) {
        int is_done = 0;
        if (lane->beats[r] != LAST_BEAT &&
            ranks->mail->test(&lane->requests[r], &is_done))
            return ranks_break(ranks, status_fail(STATUS_CLOSED, "%s", ranks->mail->reason()));
        if (!is_done) {
            r++;
            continue;
        }
        lane->beats[r] = lane->incoming[r];
        if (lane->beats[r] != LAST_BEAT)
            TRY(listen_to(ranks, r));
    }
    return STATUS_OK;
}

static int name_behind(struct ranks *ranks, const char *what)
{
    struct lane *lane = ranks->lane_context;
    struct text names = {0};

    for (int r = 1; r < ranks->place.count && !ranks->place.rank; r++) {
        char name[sizeof(ranks->name)];
        if (lane->beats[r] >= lane->n_calls)
            continue;
        ranks_print_name(ranks, r, name, sizeof(name));
        text_print(&names, "%s%s", names.length ? " and " : "", name);
    }
    int status = status_fail(STATUS_TIMEOUT, "%s: not at %s for %lld ms (NCCL call %llu), %s waits "
                             "no longer; a rank that is only slow needs a larger "
                             "run.rank_timeout_ms", names.length ? names.data : "another rank",
                             what, (long long)ranks->timeout_ms,
                             (unsigned long long)lane->n_calls, ranks->name);
    text_release(&names);
    return ranks_break(ranks, status);
}

/* ---- Calls. */

static int refuse(struct ranks *ranks, enum nccl_result result, const char *what)
{
    struct lane *lane = ranks->lane_context;

    return ranks_break(ranks, status_fail(STATUS_DEVICE, "NCCL: %s: %s (%s)", what,
                                          lane->nccl.GetErrorString(result),
                                          lane->nccl.GetLastError(lane->comm)));
}

/* Until is_over() says 1. */
static int poll_until(struct ranks *ranks, const char *what, int (*is_over)(struct ranks *ranks))
{
    int64_t begun_ms = clock_ms();

    for (;;) {
        int over = is_over(ranks);
        if (over)
            return over < 0 ? ranks_break(ranks, over) : STATUS_OK;
        TRY(hear(ranks));
        TRY(ranks_look_for_dead(ranks));
        if (clock_ms() - begun_ms > ranks->timeout_ms)
            return name_behind(ranks, what);
        nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
    }
}

/* 1 when one more may be sent: what has left is looked at in turn. */
static int has_room(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    for (int is_done = 1; is_done && lane->n_sent < lane->n_begun; lane->n_sent += is_done)
        if (ranks->mail->test(&lane->requests[lane->n_sent % N_OUTGOING], &is_done))
            return status_fail(STATUS_CLOSED, "%s", ranks->mail->reason());
    return lane->n_begun - lane->n_sent < N_OUTGOING;
}

static int beat(struct ranks *ranks, uint64_t n_calls)
{
    struct lane *lane = ranks->lane_context;

    if (!ranks->place.rank)
        return hear(ranks);
    TRY(poll_until(ranks, "taking what this one says", has_room));
    size_t slot = lane->n_begun % N_OUTGOING;
    lane->outgoing[slot] = n_calls;
    if (ranks->mail->send(0, TAG_BEAT, &lane->outgoing[slot], sizeof(lane->outgoing[slot]),
                          &lane->requests[slot]))
        return ranks_break(ranks, status_fail(STATUS_CLOSED, "%s", ranks->mail->reason()));
    lane->n_begun++;
    return STATUS_OK;
}

static int is_enqueued(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;
    enum nccl_result result = NCCL_SUCCESS, got = lane->nccl.CommGetAsyncError(lane->comm, &result);

    if (got != NCCL_SUCCESS || (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS))
        return refuse(ranks, got != NCCL_SUCCESS ? got : result, "a call");
    return result == NCCL_SUCCESS;
}

static enum nccl_result make(struct lane *lane, const struct call *call)
{
    const struct nccl_table *nccl = &lane->nccl;
    void *queue = ops_side_queue(lane->ops);

    switch (call->kind) {
    case REDUCE_SCATTER:
        return nccl->ReduceScatter(call->from, call->to, call->n, call->type, NCCL_SUM, lane->comm,
                                   queue);
    case REDUCE:
        return nccl->Reduce(call->from, call->to, call->n, call->type, NCCL_SUM, call->root,
                            lane->comm, queue);
    case ALL_GATHER:
        return nccl->AllGather(call->from, call->to, call->n, call->type, lane->comm, queue);
    case BROADCAST:
        return nccl->Broadcast(call->from, call->to, call->n, call->type, call->root, lane->comm,
                               queue);
    }
    return NCCL_SUCCESS;
}

/* Makes the calls that can be made: each once the one before it is on its way. Does not wait, since
 * that may need a rank which waits for another message of ours. 1 when all are on their way. */
static int go_on(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    for (;;) {
        int enqueued = is_enqueued(ranks);
        if (enqueued <= 0)
            return enqueued;
        if (lane->next_call == lane->n_calls_listed)
            return 1;
        const struct call *call = &lane->calls[lane->next_call++];
        enum nccl_result result = make(lane, call);
        if (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS)
            return refuse(ranks, result, words[call->kind]);
        lane->n_calls++;
        TRY(beat(ranks, lane->n_calls));
    }
}

static int add_call(struct ranks *ranks, const struct call *call)
{
    struct lane *lane = ranks->lane_context;

    if (lane->next_call == lane->n_calls_listed)
        lane->next_call = lane->n_calls_listed = 0;
    if (lane->n_calls_listed == lane->most_calls) {
        lane->most_calls = lane->most_calls ? 2 * lane->most_calls : 64;
        lane->calls = mem_resize(lane->calls, lane->most_calls, sizeof(*lane->calls));
    }
    lane->calls[lane->n_calls_listed++] = *call;
    int status = go_on(ranks);
    return status < 0 ? status : STATUS_OK;
}

static int is_idle(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    int status = go_on(ranks);   /* an error of another rank's arrives here, too */
    return status == 1 ? ops_side_is_idle(lane->ops) : status;
}

static int wait_idle(struct ranks *ranks, const char *what)
{
    struct lane *lane = ranks->lane_context;

    TRY(poll_until(ranks, what, is_idle));
    return ops_sync(lane->ops);
}

/* All slices of a bucket but the lowest one's are of one size. */
static int are_equal(const struct ranks *ranks, const size_t *cuts)
{
    for (int r = 1; r < ranks->place.count; r++)
        if (cuts[r + 1] - cuts[r] != cuts[1] - cuts[0])
            return 0;
    return 1;
}

/* Slices lie from `base` on, slice r at (cuts[r] - cuts[0]) elements of `width` bytes. */
static int sum_slices(struct ranks *ranks, char *base, const size_t *cuts, int type, size_t width)
{
    int me = ranks->place.rank;
    size_t first = cuts[0];

    if (are_equal(ranks, cuts))
        return add_call(ranks, &(struct call){REDUCE_SCATTER, base,
                                              base + (cuts[me] - first) * width, cuts[1] - first,
                                              type, 0});
    for (int r = 0; r < ranks->place.count; r++) {
        char *slice = base + (cuts[r] - first) * width;
        if (cuts[r + 1] > cuts[r])
            TRY(add_call(ranks, &(struct call){REDUCE, slice, slice, cuts[r + 1] - cuts[r], type,
                                               r}));
    }
    return STATUS_OK;
}

/* ---- As bfloat16. A slice of 16 n floats is a matrix of 16 rows in panels: elements move about,
 * but on every rank alike. */

static struct matrix matrix_of(const struct packed *packed, size_t first, size_t n)
{
    return (struct matrix){
        .form = MATRIX_PANELS,
        .dtype = DTYPE_BF16,
        .M = PANEL,
        .C = (int64_t)(n / PANEL),
        .data = (char *)packed->buffer + (first - packed->cuts[0]) * sizeof(uint16_t),
    };
}

static int take_buffer(struct lane *lane, struct packed **out, size_t bytes)
{
    if (lane->n_packed == lane->most_packed) {
        lane->packed = mem_resize(lane->packed, ++lane->most_packed, sizeof(*lane->packed));
        lane->packed[lane->n_packed] = (struct packed){.bytes = 0};
    }
    struct packed *packed = *out = &lane->packed[lane->n_packed];
    if (packed->bytes < bytes) {
        ops_free(lane->ops, packed->buffer);
        packed->buffer = NULL;
        packed->bytes = 0;
        TRY(ops_alloc(lane->ops, bytes, &packed->buffer));
        packed->bytes = bytes;
    }
    lane->n_packed++;
    return STATUS_OK;
}

static int sum_packed(struct ranks *ranks, float *data, const size_t *cuts)
{
    struct lane *lane = ranks->lane_context;
    size_t n = cuts[ranks->place.count] - cuts[0];
    struct packed *packed;

    TRY(take_buffer(lane, &packed, n * sizeof(uint16_t)));
    packed->data = data;
    packed->cuts = cuts;
    for (int r = 0; r < ranks->place.count; r++) {
        struct matrix matrix = matrix_of(packed, cuts[r], cuts[r + 1] - cuts[r]);
        struct tensor rows = tensor_2d(data + cuts[r], PANEL, matrix.C);
        if (matrix.C)
            ops_matrix_write(lane->ops, &matrix, &rows, 0);
    }
    return sum_slices(ranks, packed->buffer, cuts, NCCL_BFLOAT16, sizeof(uint16_t));
}

static void unpack_all(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;
    int me = ranks->place.rank;

    for (size_t i = 0; i < lane->n_packed; i++) {
        const struct packed *packed = &lane->packed[i];
        size_t first = packed->cuts[me], n = packed->cuts[me + 1] - first;
        struct matrix matrix = matrix_of(packed, first, n);
        struct tensor rows = tensor_2d(packed->data + first, PANEL, matrix.C);
        if (n)
            ops_matrix_read(lane->ops, &rows, &matrix, 0);
    }
    lane->n_packed = 0;
}

/* ---- The lane. */

static int begin_sum(struct ranks *ranks, float *data, const size_t *cuts, int is_bf16)
{
    if (is_bf16)
        return sum_packed(ranks, data, cuts);
    return sum_slices(ranks, (char *)(data + cuts[0]), cuts, NCCL_FLOAT32, sizeof(float));
}

static int end_sums(struct ranks *ranks)
{
    TRY(wait_idle(ranks, "the sums of gradients"));
    unpack_all(ranks);
    return STATUS_OK;
}

static int begin_spread(struct ranks *ranks, float *data, const size_t *cuts)
{
    int me = ranks->place.rank;

    if (are_equal(ranks, cuts))
        return add_call(ranks, &(struct call){ALL_GATHER, data + cuts[me], data + cuts[0],
                                              cuts[1] - cuts[0], NCCL_FLOAT32, 0});
    for (int r = 0; r < ranks->place.count; r++)
        if (cuts[r + 1] > cuts[r])
            TRY(add_call(ranks, &(struct call){BROADCAST, data + cuts[r], data + cuts[r],
                                               cuts[r + 1] - cuts[r], NCCL_FLOAT32, r}));
    return STATUS_OK;
}

static int end_spread(struct ranks *ranks)
{
    return wait_idle(ranks, "the weights");
}

static void free_buffers(struct lane *lane)
{
    for (size_t i = 0; i < lane->most_packed; i++)
        ops_free(lane->ops, lane->packed[i].buffer);
    lane->n_packed = lane->most_packed = 0;
}

static void release(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    mem_free(lane->packed);
    mem_free(lane->calls);
    mem_free(lane->beats);
    mem_free(lane->incoming);
    mem_free(lane->outgoing);
    mem_free(lane->requests);
    mem_free(lane);
    ranks->lane_context = NULL;
}

/* The last beats have arrived, or mine have left. */
static int is_final(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    if (ranks->place.rank) {
        int status = has_room(ranks);
        return status < 0 ? status : lane->n_sent == lane->n_begun;
    }
    for (int r = 1; r < ranks->place.count; r++)
        if (lane->beats[r] != LAST_BEAT)
            return 0;
    return 1;
}

static void close_lane(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    if (lane->comm && lane->nccl.CommFinalize(lane->comm) <= NCCL_IN_PROGRESS)
        poll_until(ranks, "the end", is_enqueued);
    lane->n_calls++;
    if (!ranks->is_broken && beat(ranks, LAST_BEAT) == STATUS_OK)
        poll_until(ranks, "the end", is_final);
    if (lane->comm && !ranks->is_broken)
        lane->nccl.CommDestroy(lane->comm);
    else if (lane->comm)
        lane->nccl.CommAbort(lane->comm);
    free_buffers(lane);
    release(ranks);
}

static void abort_lane(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;

    if (lane->comm)
        lane->nccl.CommAbort(lane->comm);
    lane->comm = NULL;
    free_buffers(lane);
}

static const struct lane_table table = {begin_sum,  end_sums,   begin_spread, end_spread,
                                        close_lane, abort_lane, release};

/* Rank 0's id comes to all by mail; then they meet. */
static int connect(struct ranks *ranks)
{
    struct lane *lane = ranks->lane_context;
    struct nccl_config config = {sizeof(config), NCCL_CONFIG_MAGIC, NCCL_LEAST_VERSION, 0};
    struct nccl_id id = {{0}};
    int version = 0, status = nccl_load(&lane->nccl, &version);

    if (status == STATUS_OK && ranks->place.rank == 0 &&
        lane->nccl.GetUniqueId(&id) != NCCL_SUCCESS)
        status = status_fail(STATUS_DEVICE, "NCCL makes no id: %s", lane->nccl.GetLastError(NULL));
    TRY(ranks_agree(ranks, status));
    TRY(ranks_broadcast(ranks, &id, sizeof(id)));
    for (int r = 1; r < ranks->place.count && !ranks->place.rank; r++)
        TRY(listen_to(ranks, r));
    ops_side_queue(lane->ops);   /* this thread speaks to this rank's card from here on */
    enum nccl_result result = lane->nccl.CommInitRankConfig(&lane->comm, ranks->place.count, id,
                                                            ranks->place.rank, &config);
    if (result != NCCL_SUCCESS && result != NCCL_IN_PROGRESS)
        return refuse(ranks, result, "the start");
    lane->n_calls++;
    TRY(beat(ranks, lane->n_calls));
    TRY(poll_until(ranks, "the start of NCCL", is_enqueued));
    if (!ranks->place.rank)
        log_info("gradients and weights travel over NCCL %d.%d.%d", version / 10000,
                 version / 100 % 100, version % 100);
    return STATUS_OK;
}

int lane_nccl_open(struct ranks *ranks, struct ops *ops)
{
    struct lane *lane = mem_alloc(1, sizeof(*lane));
    size_t count = (size_t)ranks->place.count;

    ranks->lane_context = lane;
    lane->ops = ops;
    lane->beats = mem_alloc(count, sizeof(*lane->beats));
    lane->incoming = mem_alloc(count, sizeof(*lane->incoming));
    lane->outgoing = mem_alloc(N_OUTGOING, sizeof(*lane->outgoing));
    lane->requests = mem_alloc(count > N_OUTGOING ? count : N_OUTGOING, sizeof(*lane->requests));
    int status = connect(ranks);
    if (status == STATUS_OK)
        ranks->lane = &table;
    else if (!lane->comm)
        release(ranks);
    else {
        abort_lane(ranks);
        ranks->aborted_lane = &table;
    }
    return status;
}
