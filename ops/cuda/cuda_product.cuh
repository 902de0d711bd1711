/*
 * ops/cuda/cuda_product.cuh - out[i,j] (+)= bias[i] + sum over k of a[i,k] b[j,k], on tensor cores.
 *
 * A float32 operand is cut into bfloat16 terms, each the rounded rest of those before: three hold
 * all 24 bits, one is the rounded number. Products of two terms are exact; those whose result lies
 * below float32 are left out. A bfloat16 operand is its one term.
 *
 * The order of every sum is fixed and the same in each tiling: slices of PRODUCT_SLICE along k, one
 * after another; within a slice one chain of m16n8k16 for the leading terms and one for the rest.
 * So an output does not depend on how many rows are computed beside it.
 */
#ifndef HONE_OPS_CUDA_PRODUCT_CUH_H
#define HONE_OPS_CUDA_PRODUCT_CUH_H

#include "ops/cuda/cuda.cuh"

#define PRODUCT_K 32        /* of k in shared memory at a time: two mma */
#define PRODUCT_SLICE 256   /* of k in one chain */

/* [rows, k], k the inner dimension or the outer one as the kernel's K_INSIDE says. */
struct operand {
    const void *data;
    int64_t rows, step;   /* step: from one of the outer dimension to the next */
    bool by_four;         /* groups of four along the inner one are aligned to their size */
};

struct product {
    struct operand a, b;
    int64_t depth;
    float *out;
    int64_t a_step, b_step;   /* out[i * a_step + j * b_step] */
    const float *bias;        /* by row of a; may be NULL */
    bool accumulate;
};

/* What a tiling is: rows of a and b a block has, its warps along a and b, terms of a and b. */
template <int A_ROWS_, int B_ROWS_, int A_WARPS_, int B_WARPS_, int A_TERMS_, int B_TERMS_>
struct tiling {
    static constexpr int A_ROWS = A_ROWS_, B_ROWS = B_ROWS_, A_WARPS = A_WARPS_, B_WARPS = B_WARPS_;
    static constexpr int A_TERMS = A_TERMS_, B_TERMS = B_TERMS_;
    static constexpr int THREADS = A_WARPS * B_WARPS * WARP_SIZE;
    static constexpr int A_TILES = A_ROWS / A_WARPS / 16, B_TILES = B_ROWS / B_WARPS / 8;
};

static __device__ __forceinline__ float4 load_four(const float *from)
{
    return *(const float4 *)from;
}

static __device__ __forceinline__ float4 load_four(const uint16_t *from)
{
    uint2 bits = *(const uint2 *)from;
    return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                       __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}

static __device__ __forceinline__ float load_one(const float *from) { return *from; }
static __device__ __forceinline__ float load_one(const uint16_t *from) { return widen_bf16(*from); }

/* Four elements, `left` of which exist; 0 for the others. */
template <typename T>
static __device__ __forceinline__ float4 load_group(const T *at, int64_t left, bool by_four)
{
    if (left <= 0)
        return make_float4(0, 0, 0, 0);
    if (by_four && left >= 4)
        return load_four(at);
    return make_float4(load_one(at), left > 1 ? load_one(at + 1) : 0.0f,
                       left > 2 ? load_one(at + 2) : 0.0f, left > 3 ? load_one(at + 3) : 0.0f);
}

/* The next term of each number, packed; the rest stays. */
static __device__ __forceinline__ uint2 take_term(float4 &value)
{
    uint2 term = make_uint2(pack_bf16(value.x, value.y), pack_bf16(value.z, value.w));

    value.x -= __uint_as_float(term.x << 16);
    value.y -= __uint_as_float(term.x & 0xffff0000u);
    value.z -= __uint_as_float(term.y << 16);
    value.w -= __uint_as_float(term.y & 0xffff0000u);
    return term;
}

/*
 * ROWS x PRODUCT_K of an operand on its way through registers to shared memory. There it lies
 * [ROWS][K] when k is the inner step, else [K][ROWS], in chunks of eight elements whose place is
 * turned so that the loads of fragments meet no bank twice.
 */
template <typename T, bool K_INSIDE, int ROWS, int TERMS, int THREADS> struct staged_tile {
    static constexpr int GROUPS = ROWS * PRODUCT_K / 4 / THREADS;
    static constexpr int TERM_SIZE = ROWS * PRODUCT_K;
    static constexpr int INNER = (K_INSIDE ? PRODUCT_K : ROWS) / 4;   /* groups side by side */
    static constexpr int OUTER = THREADS / INNER;                     /* lines at a time */
    float4 value[GROUPS];

    __device__ __forceinline__ void load(const struct operand &from, int64_t row, int64_t k,
                                         int64_t depth)
    {
        int64_t inner = (K_INSIDE ? k : row) + (int)threadIdx.x % INNER * 4;
        int64_t outer = (K_INSIDE ? row : k) + (int)threadIdx.x / INNER;
        int64_t left = (K_INSIDE ? depth : from.rows) - inner;
        int64_t rows = (K_INSIDE ? from.rows : depth) - outer;
        const T *at = (const T *)from.data + outer * from.step + inner;
        UNROLL
        for (int i = 0; i < GROUPS; i++, at += OUTER * from.step)
            value[i] = load_group(at, i * OUTER < rows ? left : 0, from.by_four);
    }

    /* The place of element (outer, inner). */
    static __device__ __forceinline__ int place(int outer, int inner)
    {
        if (K_INSIDE)
            return outer * PRODUCT_K + (inner / 8 ^ (outer >> 1 & 3)) * 8 + inner % 8;
        int turn = ROWS == 32 ? outer / 8 : outer / 8 * 2 + outer % 2;
        return outer * ROWS + (inner / 8 ^ turn) * 8 + inner % 8;
    }

    __device__ __forceinline__ void store(uint16_t *tile)
    {
        UNROLL
        for (int i = 0; i < GROUPS; i++) {
            int group = i * THREADS + (int)threadIdx.x;
            int at = place(group / INNER, group % INNER * 4);
            UNROLL
            for (int term = 0; term < TERMS; term++)
                *(uint2 *)(tile + term * TERM_SIZE + at) = take_term(value[i]);
        }
    }

    /* The k of slot i of mma `step` is 8 (i / 2 % 4) + i % 2 + 2 (i / 8) + 4 step: eight
     * neighbours in memory are one lane's. */
    static __device__ __forceinline__ void load_a(unsigned (&a)[2][4], const uint16_t *tile,
                                                  int row)
    {
        int lane = (int)threadIdx.x % WARP_SIZE;
        if (K_INSIDE) {
            UNROLL
            for (int half = 0; half < 2; half++) {
                uint4 bits =
                    *(const uint4 *)(tile + place(row + lane / 4 + 8 * half, lane % 4 * 8));
                a[0][half] = bits.x;
                a[0][half + 2] = bits.y;
                a[1][half] = bits.z;
                a[1][half + 2] = bits.w;
            }
            return;
        }
        int k = lane % 8 / 2 * 8 + lane % 2 + lane / 16 * 2, column = row + lane / 8 % 2 * 8;
        UNROLL
        for (int step = 0; step < 2; step++)
            ldmatrix_x4_trans(a[step], tile + place(k + 4 * step, column));
    }

    static __device__ __forceinline__ void load_b(unsigned (&b)[2][2], const uint16_t *tile,
                                                  int row)
    {
        int lane = (int)threadIdx.x % WARP_SIZE;
        if (K_INSIDE) {
            uint4 bits = *(const uint4 *)(tile + place(row + lane / 4, lane % 4 * 8));
            b[0][0] = bits.x;
            b[0][1] = bits.y;
            b[1][0] = bits.z;
            b[1][1] = bits.w;
            return;
        }
        unsigned r[4];
        ldmatrix_x4_trans(r, tile + place(lane % 8 / 2 * 8 + lane % 2 + lane / 8 * 2, row));
        b[0][0] = r[0];
        b[0][1] = r[1];
        b[1][0] = r[2];
        b[1][1] = r[3];
    }
};

/* The three chains of a warp's outputs: this slice's leading terms, its other terms, all slices. */
template <class TILING> struct sums {
    float lead[TILING::A_TILES][TILING::B_TILES][4], rest[TILING::A_TILES][TILING::B_TILES][4];
    float total[TILING::A_TILES][TILING::B_TILES][4];

    __device__ __forceinline__ void clear(bool with_total)
    {
        for_each([&](int i, int j, int r) {
            lead[i][j][r] = rest[i][j][r] = 0;
            if (with_total)
                total[i][j][r] = 0;
        });
    }

    __device__ __forceinline__ void end_slice()
    {
        for_each([&](int i, int j, int r) {
            total[i][j][r] += TILING::B_TERMS > 1 ? lead[i][j][r] + rest[i][j][r] : lead[i][j][r];
        });
        clear(false);
    }

    template <typename F> static __device__ __forceinline__ void for_each(F body)
    {
        UNROLL
        for (int i = 0; i < TILING::A_TILES; i++)
            UNROLL
            for (int j = 0; j < TILING::B_TILES; j++)
                UNROLL
                for (int r = 0; r < 4; r++)
                    body(i, j, r);
    }
};

/* PRODUCT_K of k from shared memory. */
template <class TILING, class A, class B>
static __device__ __forceinline__ void multiply_tile(struct sums<TILING> &sums, const uint16_t *a,
                                                     const uint16_t *b, int a_row, int b_row)
{
    unsigned of_b[TILING::B_TILES][2][2];

    UNROLL
    for (int term_b = 0; term_b < TILING::B_TERMS; term_b++) {
        UNROLL
        for (int j = 0; j < TILING::B_TILES; j++)
            B::load_b(of_b[j], b + term_b * B::TERM_SIZE, b_row + 8 * j);
        UNROLL
        for (int term_a = 0; term_a < TILING::A_TERMS && term_a + term_b < 3; term_a++)
            UNROLL
            for (int i = 0; i < TILING::A_TILES; i++) {
                unsigned of_a[2][4];
                A::load_a(of_a, a + term_a * A::TERM_SIZE, a_row + 16 * i);
                UNROLL
                for (int step = 0; step < 2; step++)
                    UNROLL
                    for (int j = 0; j < TILING::B_TILES; j++)
                        mma_m16n8k16_bf16(term_a + term_b ? sums.rest[i][j] : sums.lead[i][j],
                                          of_a[step], of_b[j][step]);
            }
    }
}

template <class TILING, typename TA, bool A_K_INSIDE, typename TB, bool B_K_INSIDE>
static __global__ void __launch_bounds__(TILING::THREADS, 1) multiply(const struct product p)
{
    using A = staged_tile<TA, A_K_INSIDE, TILING::A_ROWS, TILING::A_TERMS, TILING::THREADS>;
    using B = staged_tile<TB, B_K_INSIDE, TILING::B_ROWS, TILING::B_TERMS, TILING::THREADS>;
    SHARED(uint16_t, a_tile, [TILING::A_TERMS * A::TERM_SIZE]);
    SHARED(uint16_t, b_tile, [TILING::B_TERMS * B::TERM_SIZE]);
    int64_t a_first = (int64_t)blockIdx.x * TILING::A_ROWS;
    int64_t b_first = (int64_t)blockIdx.y * TILING::B_ROWS;
    int warp = (int)threadIdx.x / WARP_SIZE, lane = (int)threadIdx.x % WARP_SIZE;
    int a_row = warp % TILING::A_WARPS * TILING::A_TILES * 16;
    int b_row = warp / TILING::A_WARPS * TILING::B_TILES * 8;
    struct sums<TILING> sums;
    A a;
    B b;

    sums.clear(true);
    a.load(p.a, a_first, 0, p.depth);
    b.load(p.b, b_first, 0, p.depth);
    for (int64_t k = 0; k < p.depth; k += PRODUCT_K) {
        __syncthreads();
        a.store(a_tile);
        b.store(b_tile);
        __syncthreads();
        if (k + PRODUCT_K < p.depth) {
            a.load(p.a, a_first, k + PRODUCT_K, p.depth);
            b.load(p.b, b_first, k + PRODUCT_K, p.depth);
        }
        multiply_tile<TILING, A, B>(sums, a_tile, b_tile, a_row, b_row);
        if ((k + PRODUCT_K) % PRODUCT_SLICE == 0)
            sums.end_slice();
    }
    if (p.depth % PRODUCT_SLICE)
        sums.end_slice();
    sums.for_each([&](int i, int j, int r) {
        int64_t row = a_first + a_row + 16 * i + lane / 4 + r / 2 * 8;
        int64_t column = b_first + b_row + 8 * j + lane % 4 * 2 + r % 2;
        if (row >= p.a.rows || column >= p.b.rows)
            return;
        float *out = p.out + row * p.a_step + column * p.b_step;
        float value = p.bias ? sums.total[i][j][r] + p.bias[row] : sums.total[i][j][r];
        *out = p.accumulate ? *out + value : value;
    });
}

static inline struct operand operand_of(const void *data, size_t element_bytes, int64_t rows,
                                        int64_t step)
{
    return {data, rows, step, (uintptr_t)data % (4 * element_bytes) == 0 && step % 4 == 0};
}

/* The launches of one direction: A_K_INSIDE and B_K_INSIDE say how its operands lie. */
template <typename TA, bool A_K_INSIDE, typename TB, bool B_K_INSIDE, int A_TERMS, int B_TERMS>
static void run_product(struct cuda *cuda, const struct product *p)
{
    using WIDE = std::conditional_t<B_TERMS == 1, tiling<128, 128, 2, 4, 1, 1>,
                               tiling<64, 64, 2, 2, A_TERMS, B_TERMS>>;
    using NARROW = tiling<32, 64, 2, 2, A_TERMS, B_TERMS>;

    if (p->b.rows > 64) {
        dim3 grid((unsigned)divide_up(p->a.rows, WIDE::A_ROWS),
                  (unsigned)divide_up(p->b.rows, WIDE::B_ROWS));
        RUN(cuda, (multiply<WIDE, TA, A_K_INSIDE, TB, B_K_INSIDE>), grid, WIDE::THREADS, *p);
    } else {
        dim3 grid((unsigned)divide_up(p->a.rows, NARROW::A_ROWS),
                  (unsigned)divide_up(p->b.rows, NARROW::B_ROWS));
        RUN(cuda, (multiply<NARROW, TA, A_K_INSIDE, TB, B_K_INSIDE>), grid, NARROW::THREADS, *p);
    }
}

#endif
