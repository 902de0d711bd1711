/* Graphs: what a stream was told while it was captured, in its order. */
#include <stdlib.h>

#include "ops/cuda/emulation/memory.h"

struct node {
    const char *kernel;   /* NULL: a copy, or a memset without `from` */
    dim3 grid, block;
    void (*call)(void *);
    void *argument;
    void *to;
    const void *from;
    int value;
    size_t bytes;
};

struct emulated_graph {
    struct node *nodes;
    int n, room, n_owners;   /* owners: the graph, and what was instantiated of it */
};

static struct emulated_graph *recorded;   /* NULL: none is captured */
static bool is_spoilt;

static struct node *add_node(void)
{
    if (recorded->n == recorded->room) {
        recorded->room = 2 * recorded->room + 16;
        recorded->nodes = (struct node *)realloc((void *)recorded->nodes,
                                                 (size_t)recorded->room * sizeof(struct node));
        if (!recorded->nodes)
            abort();
    }
    struct node *node = &recorded->nodes[recorded->n++];
    *node = {};
    return node;
}

static cudaError_t release(struct emulated_graph *graph)
{
    if (--graph->n_owners)
        return cudaSuccess;
    for (int i = 0; i < graph->n; i++)
        if (graph->nodes[i].kernel)
            free(graph->nodes[i].argument);
    free((void *)graph->nodes);
    free(graph);
    return cudaSuccess;
}

namespace emulation
{
bool is_recording(void)
{
    return recorded != NULL;
}

void record_grid(const char *kernel, dim3 grid, dim3 block, void (*call)(void *),
                 const void *argument, size_t bytes)
{
    struct node *node = add_node();

    node->kernel = kernel;
    node->grid = grid;
    node->block = block;
    node->call = call;
    node->argument = malloc(bytes);
    if (!node->argument)
        abort();
    memcpy(node->argument, argument, bytes);
}
}   // namespace emulation

bool record_copy(void *to, const void *from, size_t bytes)
{
    if (!recorded)
        return false;
    struct node *node = add_node();
    node->to = to;
    node->from = from;
    node->bytes = bytes;
    return true;
}

bool record_memset(void *memory, int value, size_t bytes)
{
    if (!recorded)
        return false;
    struct node *node = add_node();
    node->to = memory;
    node->value = value;
    node->bytes = bytes;
    return true;
}

bool record_spoil(void)
{
    is_spoilt |= recorded != NULL;
    return recorded != NULL;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode)
{
    if (record_spoil())
        return cudaErrorStreamCaptureUnsupported;
    recorded = (struct emulated_graph *)calloc(1, sizeof(*recorded));
    is_spoilt = false;
    if (!recorded)
        return cudaErrorMemoryAllocation;
    recorded->n_owners = 1;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *out)
{
    struct emulated_graph *graph = recorded;

    *out = NULL;
    if (!graph)
        return cudaErrorInvalidValue;
    recorded = NULL;
    if (is_spoilt) {
        release(graph);
        return cudaErrorStreamCaptureInvalidated;
    }
    *out = graph;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long)
{
    *out = graph;
    graph->n_owners++;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t)
{
    cudaError_t error = cudaSuccess;

    for (int i = 0; i < graph->n && error == cudaSuccess; i++) {
        const struct node *node = &graph->nodes[i];
        if (node->kernel)
            emulation::run_grid(node->kernel, node->grid, node->block, node->call, node->argument);
        else if (node->from)
            error = cudaMemcpyAsync(node->to, node->from, node->bytes, cudaMemcpyDeviceToDevice,
                                    NULL);
        else
            error = cudaMemsetAsync(node->to, node->value, node->bytes, NULL);
        if (error == cudaSuccess)
            error = cudaGetLastError();
    }
    return error;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return release(graph);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    return release(graph);
}
