/*
 * ops/cuda/emulation/device.h - CUDA's words for a plain C++ compiler: a grid runs on the CPU.
 *
 * The include path chooses between this file and native/device.h; the .cu files are the same.
 * Blocks run one after another, the threads of a block as fibers that switch where they wait for
 * each other. It proves what a kernel means, not how fast it is:
 *  - the host cannot touch device memory, a kernel cannot be passed host memory, and each
 *    allocation ends at a page that cannot be read;
 *  - shared memory is new for every block; all memory is NaN before it is written;
 *  - a barrier that not every thread reaches, or a shuffle with a lane missing, ends the launch
 *    with one line and cudaErrorLaunchFailure.
 */
#ifndef HONE_OPS_CUDA_EMULATION_DEVICE_H
#define HONE_OPS_CUDA_EMULATION_DEVICE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

/* ---- Runtime. */
enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorLaunchFailure = 719,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901,
};
enum cudaMemcpyKind {
    cudaMemcpyHostToDevice = 1,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice
};
enum { cudaStreamNonBlocking = 1 };
typedef struct emulated_stream *cudaStream_t;
struct cudaUUID_t {
    char bytes[16];
};
struct cudaDeviceProp {
    char name[256];
    cudaUUID_t uuid;
    int major, minor, multiProcessorCount;
    size_t totalGlobalMem;
};
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *memory);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
/* Work is done when it is given: nothing to wait for. */
enum { cudaEventDisableTiming = 2 };
typedef struct emulated_event *cudaEvent_t;
static inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned)
{
    *out = NULL;
    return cudaSuccess;
}
static inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
static inline cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned)
{
    return cudaSuccess;
}
cudaError_t cudaGetLastError(void);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
/* Launches, copies on the device and memsets are recorded and run again in their order. Anything
 * else in between is an error and spoils the capture. */
typedef struct emulated_graph *cudaGraph_t, *cudaGraphExec_t;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out);
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *out, cudaGraph_t graph,
                                          unsigned long long flags);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
/* Between processes of one user: an exported allocation becomes a file in memory, which the other
 * one maps. As on a card, the exporter itself cannot open it, and it is gone when it is freed. */
struct cudaIpcMemHandle_t {
    char reserved[64];
};
enum { cudaIpcMemLazyEnablePeerAccess = 1 };
cudaError_t cudaIpcGetMemHandle(cudaIpcMemHandle_t *handle, void *memory);
cudaError_t cudaIpcOpenMemHandle(void **out, cudaIpcMemHandle_t handle, unsigned flags);
cudaError_t cudaIpcCloseMemHandle(void *memory);
const char *cudaGetErrorName(cudaError_t error);
const char *cudaGetErrorString(cudaError_t error);

/* ---- Launches. */
namespace emulation
{
enum { WARP = 32, MOST_THREADS = 1024, POST_BYTES = 64 };

void run_grid(const char *kernel, dim3 grid, dim3 block, void (*call)(void *), void *argument);
bool is_recording(void);
/* Keeps the bytes of the argument: kernels take plain data. */
void record_grid(const char *kernel, dim3 grid, dim3 block, void (*call)(void *),
                 const void *argument, size_t bytes);
/* True when a kernel may use the pointer; else the launch has failed, with a line. */
bool is_device_pointer(const char *kernel, int argument, const void *pointer);
void *shared_memory(const void *site, size_t bytes);
void wait_for_block(const char *file, int line);
/* Posts `bytes` for this lane and waits for the lanes of `mask`; what lane i posted is at
 * [i * POST_BYTES] of the answer, until this lane's next exchange. */
const unsigned char *exchange(unsigned mask, const void *data, size_t bytes, const char *file,
                              int line);
int lane_id(void);
/* Ends the launch and does not return; not marked so, because AddressSanitizer would take the stack
 * of a fiber for the thread's. */
void end_launch(const char *format, ...) __attribute__((format(printf, 1, 2)));

template <typename... P> void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block,
                                     cudaStream_t, std::type_identity_t<P>... arguments)
{
    struct call {
        void (*kernel)(P...);
        std::tuple<P...> arguments;
    } call = {kernel, std::tuple<P...>(arguments...)};
    int n = 0;
    auto check = [&](auto argument) {
        bool good = true;
        if constexpr (std::is_pointer_v<decltype(argument)>)
            good = is_device_pointer(name, n, argument);
        n++;
        return good;
    };
    auto run = [](void *p) {
        auto *it = static_cast<struct call *>(p);
        std::apply(it->kernel, it->arguments);
    };
    if (!(check(arguments) && ...))
        return;
    if (is_recording())
        record_grid(name, grid, block, run, &call, sizeof(call));
    else
        run_grid(name, grid, block, run, &call);
}

template <typename T> T fetch(const unsigned char *posts, int lane)
{
    T value;
    memcpy(&value, posts + lane * POST_BYTES, sizeof(value));
    return value;
}

/* Lane `from` when `inside`, else this one, as in the PTX definition of shfl. */
template <typename T> T shuffle(unsigned mask, T value, int from, bool inside, const char *file,
                                int line)
{
    const unsigned char *posts = exchange(mask, &value, sizeof(value), file, line);
    if (!inside)
        return value;
    if (!(mask >> from & 1))
        end_launch("%s:%d: a shuffle reads lane %d, which is not in mask %08x", file, line, from,
                   mask);
    return fetch<T>(posts, from);
}
}   // namespace emulation

#define LAUNCH(kernel, grid, block, stream, ...)                                                   \
    emulation::launch(#kernel, kernel, grid, block, stream, __VA_ARGS__)

#define ALLOCATION_BYTES 64

#define UNROLL
#define NO_UNROLL
#define UNROLL_BY(n)

/* SHARED(float, tile, [32][33]): poisoned for every block. */
#define SHARED(type, name, dimensions)                                                             \
    using name##_type = type dimensions;                                                           \
    static const char name##_site = 0;                                                             \
    name##_type &name =                                                                            \
        *static_cast<name##_type *>(emulation::shared_memory(&name##_site, sizeof(name##_type)))

#define EMULATION_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(EMULATION_SITE)
{
    emulation::wait_for_block(file, line);
}

inline void __syncwarp(unsigned mask = 0xffffffffu, EMULATION_SITE)
{
    emulation::exchange(mask, "", 1, file, line);
}

template <typename T> T __shfl_sync(unsigned mask, T value, int source, int width = 32,
                                    EMULATION_SITE)
{
    int self = emulation::lane_id();
    return emulation::shuffle(mask, value, (self & ~(width - 1)) | (source & (width - 1)), true,
                              file, line);
}

template <typename T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                       EMULATION_SITE)
{
    int self = emulation::lane_id(), from = self - (int)delta;
    return emulation::shuffle(mask, value, from, from >= (self & ~(width - 1)), file, line);
}

template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                                         EMULATION_SITE)
{
    int self = emulation::lane_id(), from = self + (int)delta;
    return emulation::shuffle(mask, value, from, from <= (self | (width - 1)), file, line);
}

template <typename T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32,
                                        EMULATION_SITE)
{
    int self = emulation::lane_id(), from = self ^ with;
    return emulation::shuffle(mask, value, from, from <= (self | (width - 1)), file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATION_SITE)
{
    const unsigned char *posts =
        emulation::exchange(mask, &predicate, sizeof(predicate), file, line);
    unsigned votes = 0;
    for (int lane = 0; lane < emulation::WARP; lane++)
        if ((mask >> lane & 1) && emulation::fetch<int>(posts, lane))
            votes |= 1u << lane;
    return votes;
}

inline int __any_sync(unsigned mask, int predicate, EMULATION_SITE)
{
    return __ballot_sync(mask, predicate, file, line) != 0;
}

inline int __all_sync(unsigned mask, int predicate, EMULATION_SITE)
{
    return __ballot_sync(mask, predicate, file, line) == mask;
}

inline int __reduce_add_sync(unsigned mask, int value, EMULATION_SITE)
{
    const unsigned char *posts = emulation::exchange(mask, &value, sizeof(value), file, line);
    int sum = 0;
    for (int lane = 0; lane < emulation::WARP; lane++)
        sum += mask >> lane & 1 ? emulation::fetch<int>(posts, lane) : 0;
    return sum;
}

/* ---- Atomics: fibers switch at waits alone. */
template <typename T> T atomicAdd(T *at, T value)
{
    T before = *at;
    *at = before + value;
    return before;
}

inline int atomicOr(int *at, int value)
{
    int before = *at;
    *at = before | value;
    return before;
}

inline int atomicMax(int *at, int value)
{
    int before = *at;
    *at = before > value ? before : value;
    return before;
}

inline int atomicCAS(int *at, int compare, int value)
{
    int before = *at;
    if (before == compare)
        *at = value;
    return before;
}

/* ---- Numbers. */
inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

inline float __fdividef(float a, float b)
{
    return a / b;
}

/* Two floats rounded to bfloat16, nearest, ties to even; `low` in the low half. */
inline unsigned pack_bf16(float low, float high)
{
    unsigned halves[2];
    const float values[2] = {low, high};
    for (int i = 0; i < 2; i++) {
        unsigned bits = __float_as_uint(values[i]);
        halves[i] = values[i] != values[i] ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    }
    return halves[0] | halves[1] << 16;
}

/* d += a b: a is 16x16, b is 16x8, d is 16x8, spread over the lanes as PTX's mma.m16n8k16 says. */
void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                       EMULATION_SITE);

/* Four 8x8 matrices of 16-bit elements, turned: lane i gives the address of row i % 8 of matrix
 * i / 8 in shared memory; lane 4 g + t gets column g, rows 2t and 2t + 1 of each. */
void ldmatrix_x4_trans(unsigned (&r)[4], const uint16_t *row, EMULATION_SITE);

#endif
