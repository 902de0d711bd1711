/* One GPU: opening it, its memory, and what went wrong first. */
#include "ops/cuda/cuda.cuh"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

static int device_status(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? STATUS_NOMEM : STATUS_DEVICE;
}

void cuda_check(struct cuda *cuda, cudaError_t error, const char *what)
{
    if (error == cudaSuccess || cuda->status < 0)
        return;
    cuda->status = status_fail(device_status(error), "%s:%d: %s: %s (%s)", cuda_backend_name,
                               cuda->device, what, cudaGetErrorString(error),
                               cudaGetErrorName(error));
}

bool cuda_is_ready(struct cuda *cuda)
{
    if (cuda->status == 0)
        cuda_check(cuda, cudaSetDevice(cuda->device), "cudaSetDevice");
    return cuda->status == 0;
}

/* "" is device 0; "1"; "bf16" or "1,bf16": float32 operands of products rounded to bfloat16. */
static int parse_variant(const char *variant, int *device, int *terms)
{
    char *end;
    long number = strtol(variant, &end, 10);
    const char *rest = end != variant && *end == ',' ? end + 1 : end;
    bool of_bf16 = strcmp(rest, "bf16") == 0;

    *device = (int)number;
    *terms = of_bf16 ? 1 : 3;
    if ((of_bf16 ? rest == end && rest != variant : *end != '\0') || number < 0 || number > 1024)
        return status_fail(STATUS_UNSUPPORTED,
                           "device \"%s:%s\": use \"%s:0\", or \"%s:0,bf16\" for products of "
                           "bfloat16", cuda_backend_name, variant, cuda_backend_name,
                           cuda_backend_name);
    return STATUS_OK;
}

static int find_device(int device)
{
    int n = 0;
    cudaError_t error = cudaGetDeviceCount(&n);

    if (error == cudaErrorInsufficientDriver)
        return status_fail(STATUS_UNSUPPORTED, "device \"%s:%d\": no NVIDIA driver, or one older "
                           "than this build's CUDA; use \"cpu\"", cuda_backend_name, device);
    if (error != cudaSuccess || n == 0)
        return status_fail(STATUS_UNSUPPORTED, "device \"%s:%d\": no NVIDIA card here; use \"cpu\"",
                           cuda_backend_name, device);
    if (device >= n)
        return status_fail(STATUS_UNSUPPORTED, "device \"%s:%d\": there are %d, from 0 on",
                           cuda_backend_name, device, n);
    return STATUS_OK;
}

static void describe_card(struct cuda *cuda, const cudaDeviceProp *card)
{
    int driver = 0, toolkit = 0;

    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&toolkit);
    snprintf(cuda->description, sizeof(cuda->description),
             "%s:%d (%.64s, sm_%d%d, %.0f GiB, driver of CUDA %d.%d, built with %d.%d%s)",
             cuda_backend_name, cuda->device, card->name, card->major, card->minor,
             (double)card->totalGlobalMem / (1 << 30), driver / 1000, driver % 1000 / 10,
             toolkit / 1000, toolkit % 1000 / 10, cuda->terms == 1 ? ", products of bfloat16" : "");
}

int cuda_open(const char *variant, int, void **context)
{
    cudaDeviceProp card;
    int device, terms;

    *context = NULL;
    TRY(parse_variant(variant, &device, &terms));
    TRY(find_device(device));
    struct cuda *cuda = (struct cuda *)calloc(1, sizeof(*cuda));
    if (!cuda)
        return status_fail(STATUS_NOMEM, "device \"%s\"", cuda_backend_name);
    cuda->device = device;
    cuda->terms = terms;
    cuda_check(cuda, cudaSetDevice(device), "cudaSetDevice");
    cuda_check(cuda, cudaGetDeviceProperties(&card, device), "cudaGetDeviceProperties");
    if (cuda->status == 0 && card.major < 8)
        cuda->status = status_fail(STATUS_UNSUPPORTED, "device \"%s:%d\": %s has compute "
                                   "capability %d.%d, 8.0 is the least; use \"cpu\"",
                                   cuda_backend_name, device, card.name, card.major, card.minor);
    if (cuda->status == 0)
        cuda_check(cuda, cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking),
                   "cudaStreamCreate");
    if (cuda->status < 0) {
        int status = cuda->status;
        free(cuda);
        return status;
    }
    describe_card(cuda, &card);
    cuda_name_place(cuda, &card);
    *context = cuda;
    return STATUS_OK;
}

void cuda_close(void *context)
{
    struct cuda *cuda = (struct cuda *)context;

    cudaStreamSynchronize(cuda->stream);
    cuda_side_close(cuda);
    for (int i = 0; i < CUDA_N_SCRATCH; i++)
        cudaFree(cuda->scratch[i]);
    cudaStreamDestroy(cuda->stream);
    free(cuda);
}

int cuda_sync(void *context)
{
    struct cuda *cuda = (struct cuda *)context;

    cuda_refuse_recorded(cuda, "a sync");
    cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel since the last sync");
    int status = cuda->status;
    cuda->status = STATUS_OK;
    return status;
}

const char *cuda_describe(void *context)
{
    return ((struct cuda *)context)->description;
}

double cuda_memory_bytes(void *context)
{
    struct cuda *cuda = (struct cuda *)context;
    size_t available = 0, total = 0;

    cuda_check(cuda, cudaSetDevice(cuda->device), "cudaSetDevice");
    cuda_check(cuda, cudaMemGetInfo(&available, &total), "cudaMemGetInfo");
    return (double)total;
}

int cuda_alloc(void *context, size_t bytes, void **out)
{
    struct cuda *cuda = (struct cuda *)context;
    size_t rounded = (size_t)divide_up(bytes ? (int64_t)bytes : 1, ALLOCATION_BYTES) *
                     ALLOCATION_BYTES;
    size_t available = 0, total = 0;

    cudaError_t error = cudaSetDevice(cuda->device);
    if (error == cudaSuccess)
        error = cudaMalloc(out, rounded);
    if (error == cudaSuccess)
        error = cudaMemsetAsync(*out, 0, rounded, cuda->stream);
    if (error == cudaSuccess)
        return STATUS_OK;
    cudaGetLastError();   /* it was not sticky */
    *out = NULL;
    if (error != cudaErrorMemoryAllocation)
        return status_fail(STATUS_DEVICE, "%s:%d: cudaMalloc: %s", cuda_backend_name, cuda->device,
                           cudaGetErrorString(error));
    cudaMemGetInfo(&available, &total);
    return status_fail(STATUS_NOMEM, "%s:%d: cannot allocate %.1f MiB, %.1f MiB are free; lower "
                       "the batch size", cuda_backend_name, cuda->device,
                       (double)bytes / (1 << 20), (double)available / (1 << 20));
}

void cuda_free(void *context, void *memory)
{
    struct cuda *cuda = (struct cuda *)context;

    cudaStreamSynchronize(cuda->stream);
    cudaFree(memory);
}

static void copy(void *context, void *to, const void *from, size_t bytes, cudaMemcpyKind kind)
{
    struct cuda *cuda = (struct cuda *)context;

    if (kind != cudaMemcpyDeviceToDevice)
        cuda_refuse_recorded(cuda, "a copy from or to the host");
    if (bytes && cuda_is_ready(cuda))
        cuda_check(cuda, cudaMemcpyAsync(to, from, bytes, kind, cuda->stream), "cudaMemcpy");
}

void cuda_upload(void *context, void *device, const void *host, size_t bytes)
{
    copy(context, device, host, bytes, cudaMemcpyHostToDevice);
}

void cuda_download(void *context, void *host, const void *device, size_t bytes)
{
    copy(context, host, device, bytes, cudaMemcpyDeviceToHost);
}

void cuda_copy(void *context, void *to, const void *from, size_t bytes)
{
    copy(context, to, from, bytes, cudaMemcpyDeviceToDevice);
}

void cuda_zero(void *context, void *memory, size_t bytes)
{
    struct cuda *cuda = (struct cuda *)context;

    if (bytes && cuda_is_ready(cuda))
        cuda_check(cuda, cudaMemsetAsync(memory, 0, bytes, cuda->stream), "cudaMemset");
}

void *cuda_scratch(struct cuda *cuda, enum cuda_scratch which, size_t bytes)
{
    /* A recording would keep the address, and scratch memory moves when it grows. */
    cuda_refuse_recorded(cuda, "an op that needs scratch memory");
    if (!cuda_is_ready(cuda))
        return NULL;
    if (cuda->scratch[which] && bytes <= cuda->scratch_bytes[which])
        return cuda->scratch[which];
    cuda_check(cuda, cudaStreamSynchronize(cuda->stream), "a kernel before scratch memory grew");
    cudaFree(cuda->scratch[which]);
    cuda->scratch[which] = NULL;
    cuda_check(cuda, cudaMalloc(&cuda->scratch[which], bytes), "scratch memory of an op");
    if (cuda->status < 0)
        return NULL;
    cuda->scratch_bytes[which] = bytes;
    return cuda->scratch[which];
}
