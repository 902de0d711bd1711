/*
 * ops/cuda/cuda_attend.cuh - softmax(q k^T / sqrt(D)) v of sixteen queries a warp, on tensor cores.
 *
 * Keys go by in blocks of KEY_BLOCK counted from the first key that a query sees, with a
 * running maximum and sum (Dao et al. 2022); float32 operands in bfloat16 terms as in
 * cuda_product.cuh. A query's bits depend on its keys in their order alone: not on what shares the
 * warp, the block or the launch, nor on where a run of keys ends. So prefill, a shared prompt and
 * decoding agree.
 */
#ifndef HONE_OPS_CUDA_ATTEND_CUH_H
#define HONE_OPS_CUDA_ATTEND_CUH_H

#include "ops/cuda/cuda_product.cuh"

#define ATTEND_WARPS 4
#define ATTEND_THREADS (ATTEND_WARPS * WARP_SIZE)
/* At least one block: else ptxas spills some numbers to make room for another block. */
#define ATTEND_BOUNDS __launch_bounds__(ATTEND_THREADS, 1)
#define ATTEND_ROWS 16           /* queries of a warp */
#define ATTEND_WIDEST 256        /* head width */

/* What a block's shared memory holds of keys and values in three terms. */
template <int D_PAD> static constexpr int KEY_BLOCK = D_PAD > 128 ? 16 : 32;

/* Keys of one head: n[0] from k[0] on, then n[1] from k[1] on. */
struct key_runs {
    const float *k[2], *v[2];
    int64_t n[2], step;
};

/* LINES keys or values as terms, [key][D_PAD] in chunks of eight whose place is turned so that
 * fragments meet no bank twice. */
template <int D_PAD, int TERMS, int LINES = KEY_BLOCK<D_PAD>> struct key_tile {
    static constexpr int SIZE = LINES * D_PAD;

    static __device__ __forceinline__ int place(int key, int d)
    {
        int turn = D_PAD == 32 ? key >> 1 & 3 : (key & 1) << 2 | (key >> 1 & 3);
        return key * D_PAD + (d / 8 ^ turn) * 8 + d % 8;
    }

    /* Keys from `first` on; zeros behind the last one and beyond D. */
    static __device__ __forceinline__ void load(uint16_t *tile, const float *const (&runs)[2],
                                                const struct key_runs &keys, int64_t first, int D,
                                                bool by_four)
    {
        load_rows(
            tile,
            [&](int64_t j) {
                return j < keys.n[0] ? runs[0] + j * keys.step
                                     : runs[1] + (j - keys.n[0]) * keys.step;
            },
            keys.n[0] + keys.n[1], first, D, by_four);
    }

    /* The same of n keys: number j lies at row(j), which is asked for some beyond n too. */
    template <class ROW>
    static __device__ __forceinline__ void load_rows(uint16_t *tile, const ROW &row, int64_t n,
                                                     int64_t first, int D, bool by_four)
    {
        UNROLL_BY((D_PAD > 128 ? 2 : 8))
        for (int i = 0; i < SIZE / 4 / ATTEND_THREADS; i++) {
            int group = i * ATTEND_THREADS + (int)threadIdx.x;
            int key = group / (D_PAD / 4), d = group % (D_PAD / 4) * 4;
            int64_t j = first + key;
            float4 value = load_group(row(j) + d, j < n ? D - d : 0, by_four);
            UNROLL
            for (int term = 0; term < TERMS; term++)
                *(uint2 *)(tile + term * SIZE + place(key, d)) = take_term(value);
        }
    }
};

/* 32 columns of sixteen rows as a warp holds them: eight neighbours of rows g and g + 8 in lane
 * 4 g + t. cut() makes them fragments of two mma; one term is cut once, three again for each tile,
 * as they would take more registers than the numbers. */
template <int TERMS> struct row_chunk {
    float value[2][8];

    __device__ __forceinline__ void set(int half, const float (&from)[8])
    {
        UNROLL
        for (int i = 0; i < 8; i++)
            value[half][i] = from[i];
    }

    __device__ __forceinline__ void cut(unsigned (&a)[TERMS][2][4]) const
    {
        UNROLL
        for (int half = 0; half < 2; half++)
            UNROLL
            for (int i = 0; i < 2; i++) {
                const float *from = value[half] + 4 * i;
                float4 rest = make_float4(from[0], from[1], from[2], from[3]);
                UNROLL
                for (int term = 0; term < TERMS; term++) {
                    uint2 bits = take_term(rest);
                    a[term][i][half] = bits.x;
                    a[term][i][half + 2] = bits.y;
                }
            }
    }
};

template <> struct row_chunk<1> {
    unsigned bits[2][4];

    __device__ __forceinline__ void set(int half, const float (&from)[8])
    {
        UNROLL
        for (int i = 0; i < 2; i++) {
            bits[i][half] = pack_bf16(from[4 * i], from[4 * i + 1]);
            bits[i][half + 2] = pack_bf16(from[4 * i + 2], from[4 * i + 3]);
        }
    }

    __device__ __forceinline__ void cut(unsigned (&a)[1][2][4]) const
    {
        UNROLL
        for (int i = 0; i < 2; i++)
            UNROLL
            for (int r = 0; r < 4; r++)
                a[0][i][r] = bits[i][r];
    }
};

/* Sixteen rows that a warp keeps. Without KEEPS they are read again for every tile, because they do
 * not fit beside what else is kept. */
template <int D_PAD, int TERMS, bool KEEPS, int LINES = KEY_BLOCK<D_PAD>> struct warp_rows {
    using tile = key_tile<D_PAD, TERMS, LINES>;
    const float *row[2];
    int width;
    struct row_chunk<TERMS> kept[KEEPS ? D_PAD / 32 : 1];

    /* Rows whose pointer is NULL are 0. */
    __device__ __forceinline__ void start(const float *const (&rows)[2], int D)
    {
        row[0] = rows[0];
        row[1] = rows[1];
        width = D;
        UNROLL
        for (int c = 0; KEEPS && c < D_PAD / 32; c++)
            read(kept[c], c);
    }

    __device__ __forceinline__ void read(struct row_chunk<TERMS> &to, int c) const
    {
        int first = 32 * c + 8 * ((int)threadIdx.x % 4);
        UNROLL
        for (int half = 0; half < 2; half++) {
            float from[8];
            UNROLL
            for (int i = 0; i < 8; i++)
                from[i] = row[half] && first + i < width ? row[half][first + i] : 0.0f;
            to.set(half, from);
        }
    }

    /* product[n][r] = row g + r / 2 * 8 times line 8 n + 2 t + r % 2 of the tile */
    __device__ __forceinline__ void multiply(float (&product)[LINES / 8][4],
                                             const uint16_t *lines) const
    {
        UNROLL
        for (int n = 0; n < LINES / 8; n++)
            product[n][0] = product[n][1] = product[n][2] = product[n][3] = 0;
        if constexpr (KEEPS) {
            UNROLL
            for (int c = 0; c < D_PAD / 32; c++)
                multiply_chunk(product, lines, kept[c], c);
        } else {
            NO_UNROLL
            for (int c = 0; c < D_PAD / 32; c++) {
                struct row_chunk<TERMS> again;
                read(again, c);
                multiply_chunk(product, lines, again, c);
            }
        }
    }

    /* += what columns 32 c .. 32 c + 31 give */
    static __device__ __forceinline__ void
    multiply_chunk(float (&product)[LINES / 8][4], const uint16_t *lines,
                   const struct row_chunk<TERMS> &rows, int c)
    {
        int lane = (int)threadIdx.x % WARP_SIZE;
        unsigned a[TERMS][2][4];
        rows.cut(a);
        UNROLL
        for (int n = 0; n < LINES / 8; n++)
            UNROLL
            for (int term = 0; term < TERMS; term++) {
                uint4 bits = *(const uint4 *)(lines + term * tile::SIZE +
                                              tile::place(8 * n + lane / 4,
                                                          32 * c + 8 * (lane % 4)));
                const unsigned b[2][2] = {{bits.x, bits.y}, {bits.z, bits.w}};
                UNROLL
                for (int other = 0; other + term < TERMS; other++) {
                    mma_m16n8k16_bf16(product[n], a[other][0], b[0]);
                    mma_m16n8k16_bf16(product[n], a[other][1], b[1]);
                }
            }
    }
};

/* Columns of a sum that fit into a warp's registers; PARTS blocks share the D_PAD of wide heads. */
template <int D_PAD, int TERMS> struct columns {
    static constexpr int COUNT = D_PAD * TERMS > 384 ? D_PAD / 2 : D_PAD, PARTS = D_PAD / COUNT;
};

/* sum[i][r] of row g + r / 2 * 8 and column first + 8 i + 2 t + r % 2 of sixteen rows. */
template <int D_PAD, int TERMS, int LINES = KEY_BLOCK<D_PAD>> struct warp_sums {
    using tile = key_tile<D_PAD, TERMS, LINES>;
    static constexpr int COLUMNS = columns<D_PAD, TERMS>::COUNT;
    float sum[COLUMNS / 8][4];
    int first;

    __device__ __forceinline__ void start(int part)
    {
        first = part * COLUMNS;
        UNROLL
        for (int i = 0; i < COLUMNS / 8; i++)
            sum[i][0] = sum[i][1] = sum[i][2] = sum[i][3] = 0;
    }

    /* += weight[n][r] times the lines of the tile, whose numbers are as warp_rows' products are */
    __device__ __forceinline__ void add(const float (&weight)[LINES / 8][4],
                                        const uint16_t *lines)
    {
        int lane = (int)threadIdx.x % WARP_SIZE;
        UNROLL
        for (int step = 0; step < LINES / 16; step++) {
            unsigned a[TERMS][4];
            UNROLL
            for (int i = 0; i < 2; i++) {
                const float *from = weight[2 * step + i];
                float4 value = make_float4(from[0], from[1], from[2], from[3]);
                UNROLL
                for (int term = 0; term < TERMS; term++) {
                    uint2 bits = take_term(value);
                    a[term][2 * i] = bits.x;
                    a[term][2 * i + 1] = bits.y;
                }
            }
            int line = 16 * step + lane / 8 % 2 * 8 + lane % 8;
            UNROLL
            for (int d = 0; d < COLUMNS / 16; d++)
                UNROLL
                for (int term = 0; term < TERMS; term++) {
                    unsigned r[4];
                    ldmatrix_x4_trans(r, lines + term * tile::SIZE +
                                             tile::place(line, first + 16 * d + lane / 16 * 8));
                    const unsigned b[2][2] = {{r[0], r[1]}, {r[2], r[3]}};
                    UNROLL
                    for (int other = 0; other + term < TERMS; other++) {
                        mma_m16n8k16_bf16(sum[2 * d], a[other], b[0]);
                        mma_m16n8k16_bf16(sum[2 * d + 1], a[other], b[1]);
                    }
                }
        }
    }

    /* The rows, times a factor each; a row whose pointer is NULL is left out. */
    __device__ __forceinline__ void store(float *const (&row)[2], const float (&factor)[2],
                                          int D) const
    {
        int column = first + (int)threadIdx.x % 4 * 2;
        UNROLL
        for (int half = 0; half < 2; half++)
            UNROLL
            for (int i = 0; i < COLUMNS / 8; i++)
                UNROLL
                for (int r = 0; r < 2; r++)
                    if (row[half] && column + 8 * i + r < D)
                        row[half][column + 8 * i + r] = sum[i][2 * half + r] * factor[half];
    }
};

/* A warp's queries on their way through the keys. */
template <int D_PAD, int TERMS> struct attend {
    static constexpr int LINES = KEY_BLOCK<D_PAD>;
    struct warp_rows<D_PAD, TERMS, (D_PAD * TERMS < 256)> query;
    struct warp_sums<D_PAD, TERMS> out;
    float maximum[2], sum[2];

    __device__ __forceinline__ void start(const float *const (&rows)[2], int D, int part)
    {
        query.start(rows, D);
        out.start(part);
        maximum[0] = maximum[1] = -INFINITY;
        sum[0] = sum[1] = 0;
    }

    /* Scores become exp(s - max s) of the first visible[half] keys, 0 for the others. */
    __device__ __forceinline__ void soften(float (&score)[LINES / 8][4],
                                           const int (&visible)[2], float scale)
    {
        int t = (int)threadIdx.x % 4;
        UNROLL
        for (int half = 0; half < 2; half++) {
            float top = maximum[half];
            UNROLL
            for (int n = 0; n < LINES / 8; n++)
                UNROLL
                for (int r = 2 * half; r < 2 * half + 2; r++) {
                    bool seen = 8 * n + 2 * t + r % 2 < visible[half];
                    score[n][r] = seen ? score[n][r] * scale : -INFINITY;
                    top = fmaxf(top, score[n][r]);
                }
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 1));
            top = fmaxf(top, __shfl_xor_sync(FULL_WARP, top, 2));
            float base = top == -INFINITY ? 0.0f : top, keep = exp_f32(maximum[half] - base);
            float part = 0;
            UNROLL
            for (int n = 0; n < LINES / 8; n++)
                UNROLL
                for (int r = 2 * half; r < 2 * half + 2; r++) {
                    score[n][r] = exp_f32(score[n][r] - base);
                    part += score[n][r];
                }
            part += __shfl_xor_sync(FULL_WARP, part, 1);
            part += __shfl_xor_sync(FULL_WARP, part, 2);
            sum[half] = fmaf(sum[half], keep, part);
            maximum[half] = top;
            UNROLL
            for (int i = 0; i < out.COLUMNS / 8; i++) {
                out.sum[i][2 * half] *= keep;
                out.sum[i][2 * half + 1] *= keep;
            }
        }
    }

    __device__ __forceinline__ void add_keys(const uint16_t *keys, const uint16_t *values,
                                             const int (&visible)[2], float scale)
    {
        float score[LINES / 8][4];

        query.multiply(score, keys);
        soften(score, visible, scale);
        out.add(score, values);
    }

    /* Rows whose pointer is NULL are left out; lse may be NULL. */
    __device__ __forceinline__ void finish(float *const (&row)[2], float *const (&lse)[2],
                                           int D) const
    {
        const float factor[2] = {1 / sum[0], 1 / sum[1]};

        out.store(row, factor, D);
        for (int half = 0; half < 2; half++)
            if (lse[half] && threadIdx.x % 4 == 0 && out.first == 0)
                *lse[half] = maximum[half] + logf(sum[half]);
    }
};

static inline bool lies_by_four(const void *a, const void *b, int64_t D)
{
    return D % 4 == 0 && ((uintptr_t)a | (uintptr_t)b) % 16 == 0;
}

#endif
