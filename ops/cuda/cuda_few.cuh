/*
 * ops/cuda/cuda_few.cuh - the same products for few rows of b: decoding, where reading the weight
 * is the work. A block has sixteen rows of a; its warps take the slices of k in turn, straight from
 * memory to fragments, and add them in order. Bit for bit what cuda_product.cuh gives.
 */
#ifndef HONE_OPS_CUDA_FEW_CUH_H
#define HONE_OPS_CUDA_FEW_CUH_H

#include "ops/cuda/cuda_product.cuh"

#define FEW_WARPS 4
#define FEW_THREADS (FEW_WARPS * WARP_SIZE)
#define FEW_ROWS 16   /* of a */

/* Eight neighbours along k of one row as terms: a lane's part of two mma. */
template <typename T, int TERMS>
static __device__ __forceinline__ void load_eight(unsigned (&bits)[TERMS][4],
                                                  const struct operand &from, int64_t row,
                                                  int64_t k, int64_t depth)
{
    const T *at = (const T *)from.data + row * from.step + k;

    UNROLL
    for (int half = 0; half < 2; half++) {
        float4 value = load_group(at + 4 * half, row < from.rows ? depth - k - 4 * half : 0,
                                  from.by_four);
        UNROLL
        for (int term = 0; term < TERMS; term++) {
            uint2 two = take_term(value);
            bits[term][2 * half] = two.x;
            bits[term][2 * half + 1] = two.y;
        }
    }
}

/* One slice of k for sixteen rows of a and 8 B_TILES rows of b. */
template <class TILING, typename T>
static __device__ __forceinline__ void multiply_slice(struct sums<TILING> &sums,
                                                      const struct product &p, int64_t a_row,
                                                      int64_t b_row, int64_t first, int64_t last)
{
    int lane = (int)threadIdx.x % WARP_SIZE;

    for (int64_t k = first; k < last; k += PRODUCT_K) {
        unsigned of_a[2][TILING::A_TERMS][4], of_b[TILING::B_TILES][TILING::B_TERMS][4];
        int64_t at = k + lane % 4 * 8;
        UNROLL
        for (int half = 0; half < 2; half++)
            load_eight<T, TILING::A_TERMS>(of_a[half], p.a, a_row + lane / 4 + 8 * half, at,
                                           p.depth);
        UNROLL
        for (int j = 0; j < TILING::B_TILES; j++)
            load_eight<float, TILING::B_TERMS>(of_b[j], p.b, b_row + 8 * j + lane / 4, at, p.depth);
        UNROLL
        for (int term_b = 0; term_b < TILING::B_TERMS; term_b++)
            UNROLL
            for (int term_a = 0; term_a < TILING::A_TERMS && term_a + term_b < 3; term_a++)
                UNROLL
                for (int step = 0; step < 2; step++) {
                    const unsigned a[4] = {of_a[0][term_a][2 * step], of_a[1][term_a][2 * step],
                                           of_a[0][term_a][2 * step + 1],
                                           of_a[1][term_a][2 * step + 1]};
                    UNROLL
                    for (int j = 0; j < TILING::B_TILES; j++) {
                        const unsigned b[2] = {of_b[j][term_b][2 * step],
                                               of_b[j][term_b][2 * step + 1]};
                        mma_m16n8k16_bf16(term_a + term_b ? sums.rest[0][j] : sums.lead[0][j], a,
                                          b);
                    }
                }
    }
}

/* TILING: one warp's, 16 x 8 B_TILES. */
template <class TILING, typename T>
static __global__ void __launch_bounds__(FEW_THREADS) multiply_few(const struct product p)
{
    constexpr int COLUMNS = TILING::B_ROWS, OWN = FEW_ROWS * COLUMNS / FEW_THREADS;
    SHARED(float, part, [FEW_WARPS][FEW_ROWS * COLUMNS]);
    int64_t a_row = (int64_t)blockIdx.x * FEW_ROWS, b_row = (int64_t)blockIdx.y * COLUMNS;
    int warp = (int)threadIdx.x / WARP_SIZE, lane = (int)threadIdx.x % WARP_SIZE;
    float total[OWN];

    UNROLL
    for (int i = 0; i < OWN; i++)
        total[i] = 0;
    for (int64_t round = 0; round < p.depth; round += FEW_WARPS * PRODUCT_SLICE) {
        struct sums<TILING> sums;
        int64_t first = round + warp * PRODUCT_SLICE, last = first + PRODUCT_SLICE;
        sums.clear(true);
        if (first < p.depth)
            multiply_slice<TILING, T>(sums, p, a_row, b_row, first,
                                      last < p.depth ? last : p.depth);
        sums.end_slice();
        __syncthreads();
        sums.for_each([&](int, int j, int r) {
            int row = lane / 4 + r / 2 * 8, column = 8 * j + lane % 4 * 2 + r % 2;
            part[warp][column * FEW_ROWS + row] = sums.total[0][j][r];
        });
        __syncthreads();
        for (int i = 0; i < FEW_WARPS && round + i * PRODUCT_SLICE < p.depth; i++)
            UNROLL
            for (int x = 0; x < OWN; x++)
                total[x] += part[i][x * FEW_THREADS + threadIdx.x];
    }
    UNROLL
    for (int x = 0; x < OWN; x++) {
        int at = x * FEW_THREADS + (int)threadIdx.x;
        int64_t row = a_row + at % FEW_ROWS, column = b_row + at / FEW_ROWS;
        if (row < p.a.rows && column < p.b.rows)
            p.out[row * p.a_step + column * p.b_step] =
                p.bias ? total[x] + p.bias[row] : total[x];
    }
}

template <int COLUMNS, typename T, int A_TERMS, int B_TERMS>
static void run_few_columns(struct cuda *cuda, const struct product *p)
{
    using TILING = tiling<FEW_ROWS, COLUMNS, 1, 1, A_TERMS, B_TERMS>;
    dim3 grid((unsigned)divide_up(p->a.rows, FEW_ROWS), (unsigned)divide_up(p->b.rows, COLUMNS));

    RUN(cuda, (multiply_few<TILING, T>), grid, FEW_THREADS, *p);
}

/* Both operands along k, written and not added to. */
template <typename T, int A_TERMS, int B_TERMS>
static void run_few(struct cuda *cuda, const struct product *p)
{
    if (p->b.rows <= 8)
        run_few_columns<8, T, A_TERMS, B_TERMS>(cuda, p);
    else
        run_few_columns<32, T, A_TERMS, B_TERMS>(cuda, p);
}

#endif
