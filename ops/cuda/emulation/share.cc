/* Allocations that another process of the same user maps: files in memory, through /proc. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ops/cuda/emulation/memory.h"

struct handle {
    int32_t pid, fd;
    uint32_t number;      /* of all that this process has exported: a descriptor comes again */
    uint64_t page_bytes;  /* guards included */
    uint64_t offset, bytes;
};
static_assert(sizeof(struct handle) <= sizeof(cudaIpcMemHandle_t));

static uint32_t n_exported;

static size_t guard_bytes(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* The same addresses, now those of a file. */
static bool move_to_file(struct allocation *it, uint32_t number)
{
    size_t guard = guard_bytes(), inside = it->page_bytes - 2 * guard;
    char name[64];

    snprintf(name, sizeof(name), "hone-%d-%u", (int)getpid(), number);
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd < 0)
        return false;
    memory_open();
    bool is_moved = ftruncate(fd, (off_t)inside) == 0 &&
                    pwrite(fd, it->pages + guard, inside, 0) == (ssize_t)inside &&
                    mmap(it->pages + guard, inside, PROT_NONE, MAP_SHARED | MAP_FIXED, fd, 0) !=
                        MAP_FAILED;
    memory_close();
    if (is_moved)
        it->fd = fd;
    else
        close(fd);
    return is_moved;
}

cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *out, void *memory)
{
    struct allocation *it = memory_find(memory);
    char path[64], name[64];
    struct handle handle = {};
    ssize_t n;

    if (!it || it->is_imported)
        return cudaErrorInvalidValue;
    if (it->fd < 0 && !move_to_file(it, ++n_exported))
        return cudaErrorMemoryAllocation;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", it->fd);
    n = readlink(path, name, sizeof(name) - 1);
    name[n < 0 ? 0 : n] = '\0';
    if (sscanf(name, "/memfd:hone-%*d-%u", &handle.number) != 1)
        return cudaErrorInvalidValue;
    handle.pid = (int32_t)getpid();
    handle.fd = it->fd;
    handle.page_bytes = it->page_bytes;
    handle.offset = (uint64_t)(it->data - it->pages);
    handle.bytes = it->bytes;
    memset(out, 0, sizeof(*out));
    memcpy(out, &handle, sizeof(handle));
    return cudaSuccess;
}

/* -1 when the exporter is gone or has freed it. */
static int open_file(const struct handle *handle)
{
    char path[64], name[64], wanted[64];
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)handle->pid, (int)handle->fd);
    snprintf(wanted, sizeof(wanted), "/memfd:hone-%d-%u", (int)handle->pid, handle->number);
    n = readlink(path, name, sizeof(name) - 1);
    name[n < 0 ? 0 : n] = '\0';
    char *end = strchr(name, ' ');   /* " (deleted)" */
    if (end)
        *end = '\0';
    return strcmp(name, wanted) == 0 ? open(path, O_RDWR | O_CLOEXEC) : -1;
}

cudaError_t cudaIpcOpenMemHandle(void **out, cudaIpcMemHandle_t from, unsigned)
{
    size_t guard = guard_bytes();
    struct allocation it = {};
    struct handle handle;

    *out = NULL;
    memcpy(&handle, &from, sizeof(handle));
    if (handle.pid == (int32_t)getpid() || handle.page_bytes < 3 * guard ||
        handle.offset > handle.page_bytes - guard)
        return cudaErrorInvalidResourceHandle;
    it.fd = open_file(&handle);
    if (it.fd < 0)
        return cudaErrorInvalidResourceHandle;
    void *pages = mmap(NULL, handle.page_bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    it.pages = (char *)pages;
    it.page_bytes = handle.page_bytes;
    it.data = it.pages + handle.offset;
    it.bytes = handle.bytes;
    it.is_imported = true;
    if (pages == MAP_FAILED ||
        mmap(it.pages + guard, it.page_bytes - 2 * guard, PROT_NONE, MAP_SHARED | MAP_FIXED, it.fd,
             0) == MAP_FAILED ||
        !memory_add(&it)) {
        close(it.fd);
        if (pages != MAP_FAILED)
            munmap(pages, it.page_bytes);
        return cudaErrorMemoryAllocation;
    }
    *out = it.data;
    return cudaSuccess;
}

cudaError_t cudaIpcCloseMemHandle(void *memory)
{
    struct allocation *it = memory_find(memory);

    if (!it || !it->is_imported)
        return cudaErrorInvalidValue;
    memory_remove(it);
    return cudaSuccess;
}
