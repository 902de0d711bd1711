/* Memory of a card between processes (CUDA IPC), and the checksum of what it holds. */
#include "ops/cuda/cuda.cuh"

#include <stdio.h>
#include <string.h>

#include "common/status.h"

#define MOST_BLOCKS 256
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static_assert(sizeof(cudaIpcMemHandle_t) == OPS_HANDLE_BYTES);

/* This start of this machine, and the card by its own number: cuda:0 of two processes may be two
 * cards (CUDA_VISIBLE_DEVICES). */
void cuda_name_place(struct cuda *cuda, const cudaDeviceProp *card)
{
    char boot[37] = "";
    FILE *file = fopen(BOOT_ID, "re");
    size_t n = file ? fread(boot, 1, sizeof(boot) - 1, file) : 0;

    if (file)
        fclose(file);
    if (n != sizeof(boot) - 1)
        return;   /* no place: nothing is shared */
    char *at = cuda->place + snprintf(cuda->place, sizeof(cuda->place), "%s/", boot);
    for (size_t i = 0; i < sizeof(card->uuid.bytes); i++)
        at += snprintf(at, 3, "%02x", (unsigned char)card->uuid.bytes[i]);
}

const char *cuda_place(void *context)
{
    return ((struct cuda *)context)->place;
}

/* Not sticky: the files are another way. */
static int refuse(const struct cuda *cuda, cudaError_t error, const char *what)
{
    cudaGetLastError();
    return status_fail(STATUS_UNSUPPORTED, "%s:%d: %s: %s (%s)", cuda_backend_name, cuda->device,
                       what, cudaGetErrorString(error), cudaGetErrorName(error));
}

int cuda_export_memory(void *context, void *memory, struct ops_handle *handle)
{
    struct cuda *cuda = (struct cuda *)context;
    cudaError_t error = cudaSetDevice(cuda->device);
    cudaIpcMemHandle_t exported;

    if (error == cudaSuccess)
        error = cudaIpcGetMemHandle(&exported, memory);
    if (error != cudaSuccess)
        return refuse(cuda, error, "memory cannot be shared: cudaIpcGetMemHandle");
    memcpy(handle->bytes, &exported, sizeof(exported));
    return STATUS_OK;
}

int cuda_import_memory(void *context, const struct ops_handle *handle, void **out)
{
    struct cuda *cuda = (struct cuda *)context;
    cudaError_t error = cudaSetDevice(cuda->device);
    cudaIpcMemHandle_t exported;

    memcpy(&exported, handle->bytes, sizeof(exported));
    if (error == cudaSuccess)
        error = cudaIpcOpenMemHandle(out, exported, cudaIpcMemLazyEnablePeerAccess);
    if (error != cudaSuccess)
        return refuse(cuda, error, "memory of another process cannot be opened: "
                      "cudaIpcOpenMemHandle");
    return STATUS_OK;
}

void cuda_import_end(void *context, void *memory)
{
    struct cuda *cuda = (struct cuda *)context;

    cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a copy out of shared memory");
    cuda_check(cuda, cudaIpcCloseMemHandle(memory), "cudaIpcCloseMemHandle");
}

/* ---- The checksum: sums of blocks, added up by the host. */

static __global__ void __launch_bounds__(ROW_THREADS)
    sum_words(uint64_t *part, const uint64_t *words, int64_t count)
{
    SHARED(uint64_t, room, [ROW_THREADS / WARP_SIZE]);
    uint64_t sums[4] = {0, 0, 0, 0};

    FOR_EACH(i, count)
    {
        UNROLL
        for (int j = 0; j < 4; j++)
            sums[j] += splitmix64_at(words[i], 4 * (uint64_t)i + (uint64_t)j);
    }
    for (int j = 0; j < 4; j++) {
        uint64_t sum = block_sum<ROW_THREADS>(sums[j], room);
        if (threadIdx.x == 0)
            part[4 * blockIdx.x + j] = sum;
    }
}

void cuda_checksum(void *context, const void *memory, size_t bytes, struct checksum *out)
{
    struct cuda *cuda = (struct cuda *)context;
    int64_t count = (int64_t)(bytes / sizeof(uint64_t));
    unsigned blocks = loop_blocks(count, ROW_THREADS);
    uint64_t host[4 * MOST_BLOCKS] = {0}, *part;

    blocks = blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS;
    memset(out, 0, sizeof(*out));
    part = (uint64_t *)cuda_scratch(cuda, CUDA_SCRATCH_SUMS, 4 * blocks * sizeof(*part));
    if (!part || !count)
        return;
    RUN(cuda, sum_words, blocks, ROW_THREADS, part, (const uint64_t *)memory, count);
    cuda_download(cuda, host, part, 4 * blocks * sizeof(*part));
    cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a checksum");
    for (unsigned i = 0; i < 4 * blocks; i++)
        out->sums[i % 4] += host[i];
}
