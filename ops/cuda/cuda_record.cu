/* Launches recorded once and launched together: CUDA graphs. */
#include "ops/cuda/cuda.cuh"

#include "common/status.h"

void cuda_refuse_recorded(struct cuda *cuda, const char *what)
{
    if (cuda->is_recording && cuda->status == 0)
        cuda->status = status_fail(STATUS_UNSUPPORTED, "%s:%d: %s cannot be recorded",
                                   cuda_backend_name, cuda->device, what);
}

void cuda_record_begin(void *context)
{
    struct cuda *cuda = (struct cuda *)context;

    if (!cuda_is_ready(cuda))
        return;
    cuda_check(cuda, cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal),
               "cudaStreamBeginCapture");
    cuda->is_recording = cuda->status == 0;
}

/* Also after a failure: the stream must leave its capture. */
int cuda_record_end(void *context, void **recording)
{
    struct cuda *cuda = (struct cuda *)context;
    cudaGraphExec_t executable = nullptr;
    cudaGraph_t graph = nullptr;

    *recording = nullptr;
    if (cuda->is_recording) {
        cuda->is_recording = false;
        cuda_check(cuda, cudaStreamEndCapture(cuda->stream, &graph), "cudaStreamEndCapture");
    }
    if (cuda->status == 0)
        cuda_check(cuda, cudaGraphInstantiateWithFlags(&executable, graph, 0),
                   "cudaGraphInstantiate");
    if (graph)
        cudaGraphDestroy(graph);
    int status = cuda->status;
    cuda->status = STATUS_OK;
    if (status < 0)
        cudaGetLastError();   /* it was not sticky */
    else
        *recording = executable;
    return status;
}

void cuda_record_launch(void *context, void *recording)
{
    struct cuda *cuda = (struct cuda *)context;

    if (cuda_is_ready(cuda))
        cuda_check(cuda, cudaGraphLaunch((cudaGraphExec_t)recording, cuda->stream),
                   "cudaGraphLaunch");
}

void cuda_record_free(void *context, void *recording)
{
    struct cuda *cuda = (struct cuda *)context;

    cudaStreamSynchronize(cuda->stream);
    cudaGraphExecDestroy((cudaGraphExec_t)recording);
}
