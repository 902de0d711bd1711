/*
 * libnccl.so.2 for tests: what ranks/nccl_abi.h uses of NCCL, between processes of one machine,
 * over a file in memory; "devices" are emulated, so that their memory is the host's. Like NCCL's
 * non-blocking communicators: a call says IN_PROGRESS and is over once CommGetAsyncError() says
 * so, when all ranks have made it. One call at a time; sums are made in rank order.
 */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ranks/nccl_abi.h"

#define MOST_RANKS 8
#define SLOT_BYTES ((size_t)32 << 20)
#define INVALID 4

enum kind { START, REDUCE_SCATTER, ALL_GATHER, REDUCE, BROADCAST, FINALIZE };

struct shared {
    _Atomic uint64_t arrived[MOST_RANKS], left[MOST_RANKS];   /* calls of each rank */
    unsigned char slots[MOST_RANKS][SLOT_BYTES];
};

struct nccl_comm {
    struct shared *shared;
    int count, rank;
    uint64_t n_calls;
    enum kind kind;
    void *from, *to;
    unsigned char *made;   /* SLOT_BYTES */
    size_t n;            /* elements that a rank gives */
    int type, root;
    enum { IDLE, GIVING, TAKING } state;
    char name[NCCL_ID_BYTES];
};

#define X(name, arguments) enum nccl_result nccl##name arguments;
NCCL_MAP(X)
#undef X
const char *ncclGetErrorString(enum nccl_result result);
const char *ncclGetLastError(struct nccl_comm *comm);

const char *ncclGetErrorString(enum nccl_result result)
{
    return result == NCCL_SUCCESS ? "no error" : "invalid argument";
}

const char *ncclGetLastError(struct nccl_comm *comm)
{
    (void)comm;
    return "of the shim";
}

enum nccl_result ncclGetVersion(int *version)
{
    *version = 21805;
    return NCCL_SUCCESS;
}

enum nccl_result ncclGetUniqueId(struct nccl_id *id)
{
    memset(id, 0, sizeof(*id));
    snprintf(id->internal, sizeof(id->internal), "/dev/shm/hone-test-nccl-%ld", (long)getpid());
    int file = open(id->internal, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || ftruncate(file, (off_t)sizeof(struct shared)))
        return INVALID;
    close(file);
    return NCCL_SUCCESS;
}

/* To and from "device" memory, which the host may not touch (ops/cuda/emulation/memory.cc): as a
 * card's own transfers do, beside the protection of its pages. */
static void move(int is_write, void *memory, void *host, size_t n)
{
    static int file = -1;

    if (file < 0)
        file = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    for (ssize_t done; n; host = (char *)host + done, memory = (char *)memory + done,
                          n -= (size_t)done) {
        off_t at = (off_t)(uintptr_t)memory;
        done = is_write ? pwrite(file, host, n, at) : pread(file, host, n, at);
        if (done <= 0)
            abort();
    }
}

static size_t width_of(const struct nccl_comm *comm)
{
    return comm->type == NCCL_BFLOAT16 ? 2 : 4;
}

static float value_at(const struct nccl_comm *comm, int rank, size_t i)
{
    const unsigned char *slot = comm->shared->slots[rank];
    uint32_t bits = 0;
    float value;

    if (comm->type == NCCL_BFLOAT16)
        memcpy((char *)&bits + 2, slot + 2 * i, 2);
    else
        memcpy(&bits, slot + 4 * i, 4);
    memcpy(&value, &bits, sizeof(value));
    return value;
}

static void put(const struct nccl_comm *comm, size_t i, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    if (comm->type == NCCL_BFLOAT16)
        bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    memcpy(comm->made + width_of(comm) * i, &bits, width_of(comm));
}

static void sum(const struct nccl_comm *comm, size_t first, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float total = value_at(comm, 0, first + i);
        for (int r = 1; r < comm->count; r++)
            total += value_at(comm, r, first + i);
        put(comm, i, total);
    }
}

static void take(const struct nccl_comm *comm)
{
    size_t width = width_of(comm), part = comm->n / (size_t)comm->count;

    if (comm->kind == REDUCE_SCATTER) {
        sum(comm, (size_t)comm->rank * part, part);
        move(1, comm->to, comm->made, part * width);
    }
    if (comm->kind == REDUCE && comm->rank == comm->root) {
        sum(comm, 0, comm->n);
        move(1, comm->to, comm->made, comm->n * width);
    }
    if (comm->kind == BROADCAST)
        move(1, comm->to, comm->shared->slots[comm->root], comm->n * width);
    for (int r = 0; r < comm->count && comm->kind == ALL_GATHER; r++)
        move(1, (char *)comm->to + (size_t)r * comm->n * width, comm->shared->slots[r],
             comm->n * width);
}

static int all_reached(const struct nccl_comm *comm, _Atomic uint64_t *counters, uint64_t n)
{
    for (int r = 0; r < comm->count; r++)
        if (counters[r] < n)
            return 0;
    return 1;
}

enum nccl_result ncclCommGetAsyncError(struct nccl_comm *comm, enum nccl_result *result)
{
    struct shared *shared = comm->shared;

    if (comm->state == GIVING && all_reached(comm, shared->left, comm->n_calls - 1)) {
        if (comm->from)
            move(0, comm->from, shared->slots[comm->rank], comm->n * width_of(comm));
        shared->arrived[comm->rank] = comm->n_calls;
        comm->state = TAKING;
    }
    if (comm->state == TAKING && all_reached(comm, shared->arrived, comm->n_calls)) {
        take(comm);
        if (comm->kind == START && comm->rank == 0)
            unlink(comm->name);   /* all have opened it */
        shared->left[comm->rank] = comm->n_calls;
        comm->state = IDLE;
    }
    *result = comm->state == IDLE ? NCCL_SUCCESS : NCCL_IN_PROGRESS;
    return NCCL_SUCCESS;
}

static enum nccl_result begin(struct nccl_comm *comm, enum kind kind, const void *from, void *to,
                              size_t n, int type, int root)
{
    if (comm->state != IDLE || n * (type == NCCL_BFLOAT16 ? 2 : 4) > SLOT_BYTES)
        return INVALID;
    comm->kind = kind;
    comm->from = (void *)(uintptr_t)from;
    comm->to = to;
    comm->n = n;
    comm->type = type;
    comm->root = root;
    comm->n_calls++;
    comm->state = GIVING;
    return NCCL_IN_PROGRESS;
}

enum nccl_result ncclCommInitRankConfig(struct nccl_comm **out, int count, struct nccl_id id,
                                        int rank, struct nccl_config *config)
{
    int file = open(id.internal, O_RDWR);

    if (file < 0 || count > MOST_RANKS || config->blocking || config->magic != NCCL_CONFIG_MAGIC)
        return INVALID;
    struct nccl_comm *comm = *out = calloc(1, sizeof(*comm));
    comm->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    comm->made = malloc(SLOT_BYTES);
    comm->count = count;
    comm->rank = rank;
    snprintf(comm->name, sizeof(comm->name), "%s", id.internal);
    return begin(comm, START, NULL, NULL, 0, NCCL_FLOAT32, 0);
}

enum nccl_result ncclCommFinalize(struct nccl_comm *comm)
{
    return begin(comm, FINALIZE, NULL, NULL, 0, NCCL_FLOAT32, 0);
}

enum nccl_result ncclCommDestroy(struct nccl_comm *comm)
{
    munmap(comm->shared, sizeof(struct shared));
    free(comm->made);
    free(comm);
    return NCCL_SUCCESS;
}

enum nccl_result ncclCommAbort(struct nccl_comm *comm)
{
    return ncclCommDestroy(comm);
}

enum nccl_result ncclReduceScatter(const void *from, void *to, size_t n_to, int type, int op,
                                   struct nccl_comm *comm, void *stream)
{
    (void)stream;
    return op == NCCL_SUM
               ? begin(comm, REDUCE_SCATTER, from, to, n_to * (size_t)comm->count, type, 0)
               : INVALID;
}

enum nccl_result ncclAllGather(const void *from, void *to, size_t n_from, int type,
                               struct nccl_comm *comm, void *stream)
{
    (void)stream;
    return begin(comm, ALL_GATHER, from, to, n_from, type, 0);
}

enum nccl_result ncclReduce(const void *from, void *to, size_t n, int type, int op, int root,
                            struct nccl_comm *comm, void *stream)
{
    (void)stream;
    return op == NCCL_SUM ? begin(comm, REDUCE, from, to, n, type, root) : INVALID;
}

enum nccl_result ncclBroadcast(const void *from, void *to, size_t n, int type, int root,
                               struct nccl_comm *comm, void *stream)
{
    (void)stream;
    return begin(comm, BROADCAST, from, to, n, type, root);
}
