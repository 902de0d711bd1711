/* ops/cuda/cuda.cuh - what the kernels share: launches, reductions, exp. Private to ops/cuda/. */
#ifndef HONE_OPS_CUDA_CUH_H
#define HONE_OPS_CUDA_CUH_H

#include "device.h"
#include "ops/cuda/cuda.h"

enum cuda_scratch {
    CUDA_SCRATCH_SUMS,      /* partial sums of a reduction */
    CUDA_SCRATCH_OPERAND,   /* a weight as products see it */
    CUDA_SCRATCH_INDEX,     /* small tables made on the host */
    CUDA_N_SCRATCH
};

struct cuda {
    int device, status;              /* status is sticky until sync */
    bool is_recording;
    int terms;                       /* bfloat16 terms of a float32 in products: 3 (exact) or 1 */
    cudaStream_t stream;
    cudaStream_t side;               /* made when it is first asked for */
    cudaEvent_t mark;
    bool has_side;
    void *scratch[CUDA_N_SCRATCH];   /* grows to the largest op, freed at close */
    size_t scratch_bytes[CUDA_N_SCRATCH];
    char description[224], place[OPS_PLACE_BYTES];
};

/* At least `bytes` of device memory, undefined content; NULL after a failure. */
void *cuda_scratch(struct cuda *cuda, enum cuda_scratch which, size_t bytes);
/* Keeps the first failure, with what was being done. */
void cuda_check(struct cuda *cuda, cudaError_t error, const char *what);

/* The sticky status when ops are being recorded: `what` has no place among them. */
void cuda_refuse_recorded(struct cuda *cuda, const char *what);
/* Where this card's memory is, for cuda_place(). */
void cuda_name_place(struct cuda *cuda, const cudaDeviceProp *card);

/* False after a failure; else this thread speaks to this card. */
bool cuda_is_ready(struct cuda *cuda);

/* Launches unless an earlier op failed. A kernel of a template goes into parentheses. */
#define RUN(cuda, kernel, grid, block, ...)                                                        \
    do {                                                                                           \
        if (cuda_is_ready(cuda)) {                                                                 \
            LAUNCH(kernel, grid, block, (cuda)->stream, __VA_ARGS__);                              \
            cuda_check(cuda, cudaGetLastError(), #kernel);                                         \
        }                                                                                          \
    } while (0)

#define WARP_SIZE 32
#define FULL_WARP 0xffffffffu
#define ROW_THREADS 256   /* of a block that has a row to itself */

static inline int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Blocks for n items, one a thread, that go on in a loop beyond. */
static inline unsigned loop_blocks(int64_t n, int64_t threads)
{
    int64_t blocks = divide_up(n, threads);
    return (unsigned)(blocks < 1 ? 1 : blocks > 16384 ? 16384 : blocks);
}

#define FOR_EACH(i, n)                                                                             \
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < (n);                      \
         i += (int64_t)gridDim.x * blockDim.x)

/* exp(x) within 2 ulp, the same bits on every card; see lanes_exp() in ops/cpu/lanes.h. */
static __device__ __forceinline__ float exp_f32(float x)
{
    const float magic = 12582912.0f;
    float t = fmaf(x, 1.44269504088896341f, magic), n = t - magic;
    float r = fmaf(n, 2.12194440054690583e-4f, fmaf(n, -0.693359375f, x));
    float p = 1.38145406e-3f;
    p = fmaf(p, r, 8.36874545e-3f);
    p = fmaf(p, r, 4.1668389e-2f);
    p = fmaf(p, r, 0.166665211f);
    p = fmaf(p, r, 0.49999994f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    float value = p * __uint_as_float((__float_as_uint(t) << 23) + 0x3f800000u);
    return x < -87.3f ? 0.0f : x > 88.37f ? INFINITY : value;
}

static __device__ __forceinline__ float round_bf16(float x)
{
    return __uint_as_float(pack_bf16(0, x) & 0xffff0000u);
}

static __device__ __forceinline__ float widen_bf16(uint16_t bits)
{
    return __uint_as_float((unsigned)bits << 16);
}

/* splitmix64() of ops/backend.h */
static __device__ __forceinline__ uint64_t splitmix64_at(uint64_t seed, uint64_t n)
{
    uint64_t z = seed + 0x9e3779b97f4a7c15u * (n + 1);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* The sum of the 32 lanes in one tree, in every lane. */
template <typename T> static __device__ __forceinline__ T warp_sum(T value)
{
    for (int half = WARP_SIZE / 2; half; half /= 2)
        value += __shfl_xor_sync(FULL_WARP, value, half);
    return value;
}

static __device__ __forceinline__ float warp_max(float value)
{
    for (int half = WARP_SIZE / 2; half; half /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, half));
    return value;
}

/* Over a block of THREADS threads; the result in every thread. `room` holds a value a warp. */
template <int THREADS, typename T> static __device__ T block_sum(T value, T *room)
{
    value = warp_sum(value);
    __syncthreads();
    if (threadIdx.x % WARP_SIZE == 0)
        room[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    value = room[0];
    for (int i = 1; i < THREADS / WARP_SIZE; i++)
        value += room[i];
    return value;
}

template <int THREADS> static __device__ float block_max(float value, float *room)
{
    value = warp_max(value);
    __syncthreads();
    if (threadIdx.x % WARP_SIZE == 0)
        room[threadIdx.x / WARP_SIZE] = value;
    __syncthreads();
    value = room[0];
    for (int i = 1; i < THREADS / WARP_SIZE; i++)
        value = fmaxf(value, room[i]);
    return value;
}

/* out[C] += sum over rows of d_out[N,C], or of d_out * in * rstd, in a fixed order. */
void cuda_sum_columns(struct cuda *cuda, float *out, const float *d_out, const float *in,
                      const float *rstd, int64_t N, int64_t C);

/* A weight as its bytes lie: row-major [M,C] in both forms. */
static inline bool matrix_is_bf16(const struct matrix *matrix)
{
    return matrix->form == MATRIX_PANELS && matrix->dtype == DTYPE_BF16;
}

#endif
