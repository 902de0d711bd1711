/* A second stream: transfers between GPUs beside the kernels. */
#include "common/status.h"
#include "ops/cuda/cuda.cuh"

static void make(struct cuda *cuda)
{
    cuda_check(cuda, cudaStreamCreateWithFlags(&cuda->side, cudaStreamNonBlocking),
               "cudaStreamCreate");
    cuda_check(cuda, cudaEventCreateWithFlags(&cuda->mark, cudaEventDisableTiming),
               "cudaEventCreate");
    cuda->has_side = true;
}

void *cuda_side_queue(void *context)
{
    struct cuda *cuda = (struct cuda *)context;

    if (!cuda_is_ready(cuda))
        return NULL;
    if (!cuda->has_side)
        make(cuda);
    cuda_check(cuda, cudaEventRecord(cuda->mark, cuda->stream), "cudaEventRecord");
    cuda_check(cuda, cudaStreamWaitEvent(cuda->side, cuda->mark, 0), "cudaStreamWaitEvent");
    return cuda->side;
}

int cuda_side_is_idle(void *context)
{
    struct cuda *cuda = (struct cuda *)context;
    cudaError_t error = cuda->has_side ? cudaStreamQuery(cuda->side) : cudaSuccess;

    if (error == cudaErrorNotReady) {
        cudaGetLastError();   /* no failure */
        return 0;
    }
    if (error == cudaSuccess)
        return 1;
    return status_fail(STATUS_DEVICE, "%s:%d: a transfer: %s", cuda_backend_name, cuda->device,
                       cudaGetErrorString(error));
}

void cuda_side_close(void *context)
{
    struct cuda *cuda = (struct cuda *)context;

    if (!cuda->has_side)
        return;
    cudaEventDestroy(cuda->mark);
    cudaStreamDestroy(cuda->side);
}
