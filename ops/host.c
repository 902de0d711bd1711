/* Memory of the host as device memory: what the CPU and the reference backend share. */
#include "ops/backend.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/status.h"

#define ALIGNMENT 64
#define HUGE_PAGE ((size_t)2 << 20)

double host_memory_bytes(void *context)
{
    (void)context;
    return (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGE_SIZE);
}

int host_alloc(void *context, size_t bytes, void **out)
{
    (void)context;
    *out = NULL;
    if (bytes > PTRDIFF_MAX - HUGE_PAGE)
        return status_fail(STATUS_NOMEM, "ops: cannot allocate %zu bytes", bytes);
    size_t align = bytes >= HUGE_PAGE ? HUGE_PAGE : ALIGNMENT;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = NULL;
    if (posix_memalign(&memory, align, rounded ? rounded : ALIGNMENT) != 0)
        return status_fail(STATUS_NOMEM, "ops: cannot allocate %.1f MiB; lower the batch size",
                           (double)bytes / (1 << 20));
    /* Fewer page faults and TLB misses; a refusal changes nothing but speed. */
    if (align == HUGE_PAGE)
        madvise(memory, rounded, MADV_HUGEPAGE);
    memset(memory, 0, rounded);
    *out = memory;
    return STATUS_OK;
}

void host_free(void *context, void *memory)
{
    (void)context;
    free(memory);
}

void host_copy(void *context, void *to, const void *from, size_t bytes)
{
    (void)context;
    if (bytes)
        memmove(to, from, bytes);
}

void host_checksum(void *context, const void *memory, size_t bytes, struct checksum *out)
{
    const uint64_t *words = memory;

    (void)context;
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < bytes / sizeof(*words); i++)
        for (int j = 0; j < 4; j++) {
            uint64_t z = words[i] + 0x9e3779b97f4a7c15u * (4 * (uint64_t)i + (uint64_t)j + 1);
            z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
            z = (z ^ z >> 27) * 0x94d049bb133111ebu;
            out->sums[j] += z ^ z >> 31;
        }
}

void host_zero(void *context, void *memory, size_t bytes)
{
    (void)context;
    if (bytes)
        memset(memory, 0, bytes);
}
