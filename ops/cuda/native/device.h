/* ops/cuda/native/device.h - the few words that emulation/device.h says otherwise. */
#ifndef HONE_OPS_CUDA_NATIVE_DEVICE_H
#define HONE_OPS_CUDA_NATIVE_DEVICE_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

#include <type_traits>

#define LAUNCH(kernel, grid, block, stream, ...)                                                   \
    do {                                                                                           \
        auto launched_kernel = kernel;                                                             \
        launched_kernel<<<grid, block, 0, stream>>>(__VA_ARGS__);                                  \
    } while (0)

/* An allocation is a multiple of it: a smaller one may lie beside others in a block of the
 * driver's, and who opens it through cudaIpcOpenMemHandle() would see them. */
#define ALLOCATION_BYTES (2 << 20)

#define UNROLL _Pragma("unroll")
#define NO_UNROLL _Pragma("unroll 1")   /* where registers are worth more than branches */
#define PRAGMA(text) _Pragma(#text)
#define UNROLL_BY(n) PRAGMA(unroll n)   /* n may depend on the template */

#define SHARED(type, name, dimensions) __shared__ __align__(16) type name dimensions

/* Two floats rounded to bfloat16, nearest, ties to even; `low` in the low half. */
static __device__ __forceinline__ unsigned pack_bf16(float low, float high)
{
    unsigned packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* d += a b: a is 16x16, b is 16x8, d is 16x8, spread over the lanes as PTX's mma.m16n8k16 says. */
static __device__ __forceinline__ void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4],
                                                         const unsigned (&b)[2])
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit elements, turned: lane i gives the address of row i % 8 of matrix
 * i / 8 in shared memory; lane 4 g + t gets column g, rows 2t and 2t + 1 of each. */
static __device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&r)[4], const uint16_t *row)
{
    unsigned address = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

#endif
