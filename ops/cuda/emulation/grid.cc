/* Runs grids: one block after another, its threads as fibers. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "ops/cuda/emulation/fiber.h"
#include "ops/cuda/emulation/memory.h"

#define STACK_BYTES ((size_t)256 << 10)
#define MOST_SHARED 16
#define SHARED_LIMIT (48 << 10)   /* bytes a block gets without asking for more */

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulation
{
enum thread_state { READY, AT_BARRIER, AT_EXCHANGE, DONE };

struct thread {
    struct fiber fiber;
    enum thread_state state;
    const char *file;   /* of the wait */
    int line;
    unsigned mask;
    unsigned n_exchanges;
};

/* Posts lie twice: who has gone on may post while others still read. */
struct warp {
    unsigned arrived;
    unsigned char posts[2][WARP * POST_BYTES];
};

struct shared {
    const void *site;
    void *data, *pages;
    size_t bytes, page_bytes;
    bool used;   /* by this block */
};

static struct thread threads[MOST_THREADS];
static struct warp warps[MOST_THREADS / WARP];
static struct shared shared[MOST_SHARED];
static struct fiber scheduler;
static char *stacks;
static int n_threads, n_at_barrier;
static unsigned current;
static bool failed;
static const char *kernel_name;
static void (*kernel_call)(void *);
static void *kernel_argument;

int lane_id(void)
{
    return (int)(current % WARP);
}

static void leave(void)
{
    fiber_switch(&threads[current].fiber, &scheduler);
}

void end_launch(const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "cuda emulation: %s, block (%u,%u,%u), thread (%u,%u,%u): ", kernel_name,
            blockIdx.x, blockIdx.y, blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    failed = true;
    leave();
}

bool is_device_pointer(const char *kernel, int argument, const void *pointer)
{
    if (!pointer || memory_is_device(pointer, 1))
        return true;
    fprintf(stderr, "cuda emulation: %s: argument %d is no device memory\n", kernel, argument);
    memory_set_error(cudaErrorLaunchFailure);
    return false;
}

void *shared_memory(const void *site, size_t bytes)
{
    size_t total = 0;

    for (int i = 0; i < MOST_SHARED; i++) {
        struct shared *it = &shared[i];
        if (it->site && it->site != site) {
            total += it->used ? it->bytes : 0;
            continue;
        }
        if (it->site && it->used)
            return it->data;
        if (total + bytes > SHARED_LIMIT)
            end_launch("%zu bytes of shared memory, at most %d", total + bytes, SHARED_LIMIT);
        if (!it->site)
            it->data = memory_map(bytes, &it->pages, &it->page_bytes);
        it->site = site;
        it->bytes = bytes;
        it->used = true;
        memset(it->data, MEMORY_POISON, bytes);
        return it->data;
    }
    end_launch("more than %d shared arrays", MOST_SHARED);
    return NULL;
}

static void free_shared(void)
{
    for (int i = 0; i < MOST_SHARED; i++)
        if (shared[i].site)
            memory_unmap(shared[i].pages, shared[i].page_bytes);
    memset(shared, 0, sizeof(shared));
}

void wait_for_block(const char *file, int line)
{
    struct thread *self = &threads[current];

    self->file = file;
    self->line = line;
    self->state = AT_BARRIER;
    if (++n_at_barrier < n_threads) {
        leave();
        return;
    }
    n_at_barrier = 0;
    for (int i = 0; i < n_threads; i++) {
        if (threads[i].line != line || threads[i].file != file)
            end_launch("%s:%d: a divergent barrier: thread %d waits at %s:%d", file, line, i,
                 threads[i].file, threads[i].line);
        threads[i].state = READY;
    }
}

const unsigned char *exchange(unsigned mask, const void *data, size_t bytes, const char *file,
                              int line)
{
    struct thread *self = &threads[current];
    struct warp *warp = &warps[current / WARP];
    struct thread *lanes = &threads[current / WARP * WARP];
    unsigned char *posts = warp->posts[self->n_exchanges++ % 2];

    if (!(mask >> lane_id() & 1))
        end_launch("%s:%d: lane %d is not in its own mask %08x", file, line, lane_id(), mask);
    if (bytes > POST_BYTES)
        end_launch("%s:%d: an exchange of %zu bytes", file, line, bytes);
    memcpy(posts + lane_id() * POST_BYTES, data, bytes);
    self->file = file;
    self->line = line;
    self->mask = mask;
    self->state = AT_EXCHANGE;
    warp->arrived |= 1u << lane_id();
    if ((warp->arrived & mask) != mask) {
        leave();
        return posts;
    }
    for (int i = 0; i < WARP; i++) {
        if (!(mask >> i & 1))
            continue;
        if (lanes[i].mask != mask || lanes[i].line != line || lanes[i].file != file ||
            lanes[i].n_exchanges % 2 != self->n_exchanges % 2)
            end_launch("%s:%d: lane %d exchanges at %s:%d with mask %08x, not %08x", file, line, i,
                 lanes[i].file, lanes[i].line, lanes[i].mask, mask);
        lanes[i].state = READY;
    }
    warp->arrived &= ~mask;
    return posts;
}

static void run_thread(void)
{
    kernel_call(kernel_argument);
    threads[current].state = DONE;
    leave();
    abort();
}

static void set_current(unsigned i)
{
    current = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
}

/* One turn for every thread that can go on; how many have ended, -1 when none could go on. */
static int run_ready(void)
{
    int n_done = 0, n_run = 0;

    for (int i = 0; i < n_threads && !failed; i++) {
        if (threads[i].state == READY) {
            set_current((unsigned)i);
            fiber_switch(&scheduler, &threads[i].fiber);
            n_run++;
        }
        n_done += threads[i].state == DONE;
    }
    return n_run || n_done == n_threads ? n_done : -1;
}

/* Nobody can go on: names one thread that waits and one that it waits for. */
static void report_stuck(void)
{
    int waits = 0, missing = 0;

    while (threads[waits].state == DONE)
        waits++;
    for (int i = 0; i < n_threads; i++)
        if (threads[i].state != threads[waits].state)
            missing = i;
    fprintf(stderr, "cuda emulation: %s, block (%u,%u,%u): %s:%d: a divergent %s: thread %d waits, "
            "thread %d %s\n", kernel_name, blockIdx.x, blockIdx.y, blockIdx.z, threads[waits].file,
            threads[waits].line, threads[waits].state == AT_BARRIER ? "barrier" : "exchange", waits,
            missing, threads[missing].state == DONE ? "has ended" : "waits elsewhere");
    failed = true;
}

static void run_block(void)
{
    n_at_barrier = 0;
    memset(warps, 0, sizeof(warps));
    for (int i = 0; i < MOST_SHARED; i++)
        shared[i].used = false;
    for (int i = 0; i < n_threads; i++) {
        threads[i].state = READY;
        threads[i].n_exchanges = 0;
        threads[i].file = "";
        fiber_start(&threads[i].fiber, stacks + (size_t)i * STACK_BYTES, STACK_BYTES, run_thread);
    }
    for (int n_done = 0; n_done < n_threads && !failed;) {
        n_done = run_ready();
        if (n_done < 0 && !failed)
            report_stuck();
    }
}

static bool check_shape(dim3 grid, dim3 block)
{
    if (grid.x && grid.y && grid.z && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535 &&
        block.x && block.y && block.z && (uint64_t)block.x * block.y * block.z <= MOST_THREADS)
        return true;
    fprintf(stderr, "cuda emulation: %s: grid (%u,%u,%u), block (%u,%u,%u)\n", kernel_name, grid.x,
            grid.y, grid.z, block.x, block.y, block.z);
    memory_set_error(cudaErrorInvalidValue);
    return false;
}

void run_grid(const char *kernel, dim3 grid, dim3 block, void (*call)(void *), void *argument)
{
    kernel_name = kernel;
    kernel_call = call;
    kernel_argument = argument;
    if (!check_shape(grid, block))
        return;
    if (!stacks)
        stacks = (char *)mmap(NULL, MOST_THREADS * STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stacks == MAP_FAILED)
        abort();
    gridDim = grid;
    blockDim = block;
    n_threads = (int)(block.x * block.y * block.z);
    memory_open();
    memory_forget(stacks, failed ? MOST_THREADS * STACK_BYTES : 0);
    failed = false;
    for (unsigned z = 0; z < grid.z && !failed; z++)
        for (unsigned y = 0; y < grid.y && !failed; y++)
            for (unsigned x = 0; x < grid.x && !failed; x++) {
                blockIdx = {x, y, z};
                run_block();
            }
    free_shared();
    memory_close();
    if (failed)
        memory_set_error(cudaErrorLaunchFailure);
}
}   // namespace emulation

/* Fragments of lane 4 g + t, from the PTX manual: a holds rows g, g + 8, columns 2t, 2t + 1 and
 * those + 8; b holds column g, rows 2t, 2t + 1 and those + 8; d rows g, g + 8, columns 2t, 2t + 1. */
struct mma_post {
    unsigned a[4], b[2];
};

static void unpack(float *pair, unsigned word)
{
    pair[0] = __uint_as_float(word << 16);
    pair[1] = __uint_as_float(word & 0xffff0000u);
}

void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                       const char *file, int line)
{
    struct mma_post post = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    const unsigned char *posts = emulation::exchange(0xffffffffu, &post, sizeof(post), file, line);
    int g = emulation::lane_id() / 4, t = emulation::lane_id() % 4;
    float left[2][16], right[2][16];

    for (int k = 0; k < 4; k++) {
        auto of_row = emulation::fetch<mma_post>(posts, 4 * g + k);
        for (int i = 0; i < 4; i++)
            unpack(left[i % 2] + i / 2 * 8 + 2 * k, of_row.a[i]);
        for (int i = 0; i < 4; i++)
            unpack(right[i % 2] + i / 2 * 8 + 2 * k,
                   emulation::fetch<mma_post>(posts, 4 * (2 * t + i % 2) + k).b[i / 2]);
    }
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++)
            d[i] += left[i / 2][k] * right[i % 2][k];
}

void ldmatrix_x4_trans(unsigned (&r)[4], const uint16_t *row, const char *file, int line)
{
    const unsigned char *posts = emulation::exchange(0xffffffffu, &row, sizeof(row), file, line);
    int g = emulation::lane_id() / 4, t = emulation::lane_id() % 4;

    if ((uintptr_t)row % 16)
        emulation::end_launch("%s:%d: ldmatrix of an address that is no multiple of 16", file,
                              line);
    for (int matrix = 0; matrix < 4; matrix++) {
        auto first = emulation::fetch<const uint16_t *>(posts, 8 * matrix + 2 * t);
        auto second = emulation::fetch<const uint16_t *>(posts, 8 * matrix + 2 * t + 1);
        r[matrix] = first[g] | (unsigned)second[g] << 16;
    }
}
