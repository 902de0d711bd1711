/*
 * Device memory of the emulation, and the runtime calls about it.
 *
 * An allocation is pages of its own with one that cannot be read on either side, and ends where the
 * last page ends. Its pages are closed except while a kernel or a copy runs.
 */
#include "ops/cuda/emulation/memory.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define MOST_ALLOCATIONS 4096
#define ALIGNMENT 64

static struct allocation allocations[MOST_ALLOCATIONS];
static int n_allocations;
static cudaError_t last_error;

extern "C" void __asan_poison_memory_region(const volatile void *at, size_t bytes)
    __attribute__((weak));
extern "C" void __asan_unpoison_memory_region(const volatile void *at, size_t bytes)
    __attribute__((weak));

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

void *memory_map(size_t bytes, void **pages, size_t *page_bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = round_up(bytes, ALIGNMENT);

    *page_bytes = round_up(whole, page) + 2 * page;
    *pages = mmap(NULL, *page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*pages == MAP_FAILED)
        return NULL;
    char *data = (char *)*pages + *page_bytes - page - whole;
    if (mprotect((char *)*pages + page, *page_bytes - 2 * page, PROT_READ | PROT_WRITE) != 0)
        abort();
    memset(data, MEMORY_POISON, whole);
    if (__asan_poison_memory_region)
        __asan_poison_memory_region(data + bytes, whole - bytes);
    return data;
}

void memory_unmap(void *pages, size_t page_bytes)
{
    memory_forget(pages, page_bytes);
    munmap(pages, page_bytes);
}

void memory_forget(void *at, size_t bytes)
{
    if (__asan_unpoison_memory_region)
        __asan_unpoison_memory_region(at, bytes);
}

static void protect_all(int protection)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    for (int i = 0; i < n_allocations; i++)
        if (mprotect(allocations[i].pages + page, allocations[i].page_bytes - 2 * page, protection))
            abort();
}

void memory_open(void)
{
    protect_all(PROT_READ | PROT_WRITE);
}

void memory_close(void)
{
    protect_all(PROT_NONE);
}

bool memory_is_device(const void *at, size_t bytes)
{
    for (int i = 0; i < n_allocations; i++)
        if ((const char *)at >= allocations[i].data &&
            (const char *)at + bytes <= allocations[i].data + allocations[i].bytes)
            return true;
    return false;
}

void memory_set_error(cudaError_t error)
{
    if (last_error == cudaSuccess)
        last_error = error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;

    last_error = cudaSuccess;
    return error;
}

struct allocation *memory_find(const void *data)
{
    for (int i = 0; i < n_allocations; i++)
        if (allocations[i].data == data)
            return &allocations[i];
    return NULL;
}

bool memory_add(const struct allocation *allocation)
{
    if (n_allocations == MOST_ALLOCATIONS)
        return false;
    allocations[n_allocations++] = *allocation;
    memory_close();
    return true;
}

void memory_remove(struct allocation *allocation)
{
    memory_unmap(allocation->pages, allocation->page_bytes);
    if (allocation->fd >= 0)
        close(allocation->fd);
    *allocation = allocations[--n_allocations];
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    struct allocation it = {};
    void *pages;

    *out = NULL;
    if (record_spoil())
        return cudaErrorStreamCaptureUnsupported;
    if (n_allocations == MOST_ALLOCATIONS || bytes > (size_t)1 << 40)
        return cudaErrorMemoryAllocation;
    it.bytes = bytes ? bytes : 1;
    it.fd = -1;
    it.data = (char *)memory_map(it.bytes, &pages, &it.page_bytes);
    if (!it.data)
        return cudaErrorMemoryAllocation;
    it.pages = (char *)pages;
    memory_add(&it);
    *out = it.data;
    return cudaSuccess;
}

cudaError_t cudaFree(void *memory)
{
    struct allocation *it = memory_find(memory);

    if (!memory)
        return cudaSuccess;
    if (!it || it->is_imported)
        return cudaErrorInvalidValue;
    memory_remove(it);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t)
{
    bool to_device = kind != cudaMemcpyDeviceToHost, from_device = kind != cudaMemcpyHostToDevice;

    if (!bytes)
        return cudaSuccess;
    if (memory_is_device(to, bytes) != to_device || memory_is_device(from, bytes) != from_device)
        return cudaErrorInvalidValue;
    if (kind != cudaMemcpyDeviceToDevice && record_spoil())
        return cudaErrorStreamCaptureUnsupported;
    if (record_copy(to, from, bytes))
        return cudaSuccess;
    memory_open();
    memmove(to, from, bytes);
    memory_close();
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t)
{
    if (!bytes)
        return cudaSuccess;
    if (!memory_is_device(memory, bytes))
        return cudaErrorInvalidValue;
    if (record_memset(memory, value, bytes))
        return cudaSuccess;
    memory_open();
    memset(memory, value, bytes);
    memory_close();
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    *total_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    *free_bytes = *total_bytes;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    *properties = cudaDeviceProp{};
    strncpy(properties->name, "emulated", sizeof(properties->name) - 1);
    properties->major = 8;
    properties->multiProcessorCount = 2;
    properties->totalGlobalMem = (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
    return cudaSetDevice(device);
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned)
{
    *out = NULL;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t)
{
    return record_spoil() ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorInvalidResourceHandle:
        return "cudaErrorInvalidResourceHandle";
    default:
        return "cudaErrorLaunchFailure";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorLaunchFailure ? "the emulation ended the launch"
                                           : cudaGetErrorName(error);
}
