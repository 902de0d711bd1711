/*
 * ops/cpu/lanes.h - sixteen floats at a time, whatever the processor's width. Private to the
 * kernels_*.c files, which are compiled once per instruction set.
 *
 * Element i of a row is always in lane i % 16 and lanes are added in one fixed tree, so that
 * vectors of 32 and of 64 bytes give the same bits. Sums of products go through lanes_fma() alone,
 * where the compiler makes one fused instruction of them if the processor has it.
 */
#ifndef HONE_OPS_CPU_LANES_H
#define HONE_OPS_CPU_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "ops/cpu/kernels.h"

#define KERNEL_PASTE(name, isa) name##_##isa
#define KERNEL_EXPAND(name, isa) KERNEL_PASTE(name, isa)
#define KERNEL(name) KERNEL_EXPAND(kernel_##name, KERNEL_ISA)
#define X(name, arguments) void KERNEL(name) arguments;
KERNEL_LIST(X)
#undef X
#define X(type, name, arguments) type KERNEL(name) arguments;
KERNEL_LIST_VALUES(X)
#undef X

#define INLINE static inline __attribute__((always_inline, unused))
#define UNROLL _Pragma("GCC unroll 16")

#define vector_f32 float __attribute__((vector_size(VECTOR_BYTES)))
#define vector_i32 int32_t __attribute__((vector_size(VECTOR_BYTES)))
#define vector_u32 uint32_t __attribute__((vector_size(VECTOR_BYTES)))
#define vector_half uint16_t __attribute__((vector_size(VECTOR_BYTES / 2)))

enum { LANES = 16, WIDTH = VECTOR_BYTES / 4, PARTS = LANES / WIDTH };

struct lanes {
    vector_f32 part[PARTS];
};

INLINE int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

INLINE int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

INLINE vector_f32 vector_load(const float *p)
{
    vector_f32 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void vector_store(float *p, vector_f32 v)
{
    memcpy(p, &v, sizeof(v));
}

INLINE struct lanes lanes_load(const float *p)
{
    struct lanes x;
    UNROLL for (int i = 0; i < PARTS; i++) x.part[i] = vector_load(p + i * WIDTH);
    return x;
}

INLINE void lanes_store(float *p, struct lanes x)
{
    UNROLL for (int i = 0; i < PARTS; i++) vector_store(p + i * WIDTH, x.part[i]);
}

INLINE struct lanes lanes_all(float value)
{
    struct lanes x;
    UNROLL for (int i = 0; i < PARTS; i++) x.part[i] = value - (vector_f32){0};
    return x;
}

/* The first n < 16 elements; `fill` in the other lanes. */
INLINE struct lanes lanes_load_part(const float *p, int64_t n, float fill)
{
    float buffer[LANES];
    for (int i = 0; i < LANES; i++)
        buffer[i] = fill;
    memcpy(buffer, p, (size_t)n * sizeof(*p));
    return lanes_load(buffer);
}

INLINE void lanes_store_part(float *p, struct lanes x, int64_t n)
{
    float buffer[LANES];
    lanes_store(buffer, x);
    memcpy(p, buffer, (size_t)n * sizeof(*p));
}

INLINE struct lanes lanes_get(const float *p, int64_t n, float fill)
{
    return n >= LANES ? lanes_load(p) : lanes_load_part(p, n, fill);
}

INLINE void lanes_put(float *p, struct lanes x, int64_t n)
{
    if (n >= LANES)
        lanes_store(p, x);
    else
        lanes_store_part(p, x, n);
}

INLINE struct lanes lanes_add(struct lanes a, struct lanes b)
{
    UNROLL for (int i = 0; i < PARTS; i++) a.part[i] = a.part[i] + b.part[i];
    return a;
}

INLINE struct lanes lanes_subtract(struct lanes a, struct lanes b)
{
    UNROLL for (int i = 0; i < PARTS; i++) a.part[i] = a.part[i] - b.part[i];
    return a;
}

INLINE struct lanes lanes_multiply(struct lanes a, struct lanes b)
{
    UNROLL for (int i = 0; i < PARTS; i++) a.part[i] = a.part[i] * b.part[i];
    return a;
}

INLINE struct lanes lanes_divide(struct lanes a, struct lanes b)
{
    UNROLL for (int i = 0; i < PARTS; i++) a.part[i] = a.part[i] / b.part[i];
    return a;
}

INLINE struct lanes lanes_fma(struct lanes a, struct lanes b, struct lanes c)
{
    UNROLL for (int i = 0; i < PARTS; i++) a.part[i] = a.part[i] * b.part[i] + c.part[i];
    return a;
}

/* A product, rounded: the compiler may not fuse it into the sum that it goes to. Where both terms
 * of an addition are products, it would choose one by how it orders them. */
INLINE struct lanes lanes_settle(struct lanes a)
{
    UNROLL for (int i = 0; i < PARTS; i++) __asm__("" : "+" VECTOR_REGISTER(a.part[i]));
    return a;
}

INLINE vector_f32 vector_choose(vector_i32 mask, vector_f32 yes, vector_f32 no)
{
    return (vector_f32)((mask & (vector_i32)yes) | (~mask & (vector_i32)no));
}

INLINE struct lanes lanes_max(struct lanes a, struct lanes b)
{
    UNROLL for (int i = 0; i < PARTS; i++) a.part[i] =
        vector_choose(a.part[i] > b.part[i], a.part[i], b.part[i]);
    return a;
}

/* To the nearest bfloat16, ties to even; a NaN stays one. */
INLINE struct lanes lanes_round_bf16(struct lanes a)
{
    UNROLL for (int i = 0; i < PARTS; i++)
    {
        vector_u32 bits = (vector_u32)a.part[i];
        vector_u32 rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
        vector_u32 is_number = (vector_u32)(a.part[i] == a.part[i]);
        bits = (rounded & is_number) | ((bits | 0x400000u) & ~is_number);
        a.part[i] = (vector_f32)(bits & 0xffff0000u);
    }
    return a;
}

/* bfloat16 is the upper half of float32: sixteen of them, rounded before. */
INLINE void lanes_narrow(void *out, struct lanes x)
{
    UNROLL for (int i = 0; i < PARTS; i++)
    {
        vector_half halves = __builtin_convertvector((vector_u32)x.part[i] >> 16, vector_half);
        memcpy((uint16_t *)out + i * WIDTH, &halves, sizeof(halves));
    }
}

/* Sixteen words of two bfloat16, the even one in the low half: of the even and the odd numbers; of
 * 32 that follow each other. */
INLINE struct lanes lanes_pair(struct lanes even, struct lanes odd)
{
    even = lanes_round_bf16(even);
    odd = lanes_round_bf16(odd);
    UNROLL for (int i = 0; i < PARTS; i++) even.part[i] =
        (vector_f32)((vector_u32)even.part[i] >> 16 | (vector_u32)odd.part[i]);
    return even;
}

INLINE struct lanes lanes_pair_row(struct lanes first, struct lanes second)
{
    uint16_t halves[2 * LANES];
    struct lanes words;

    lanes_narrow(halves, lanes_round_bf16(first));
    lanes_narrow(halves + LANES, lanes_round_bf16(second));
    memcpy(&words, halves, sizeof(words));
    return words;
}

INLINE struct lanes lanes_sqrt(struct lanes a)
{
    float buffer[LANES];
    lanes_store(buffer, a);
    for (int i = 0; i < LANES; i++)
        buffer[i] = sqrtf(buffer[i]);
    return lanes_load(buffer);
}

#define quad_f32 float __attribute__((vector_size(16)))
#define quad_i32 int32_t __attribute__((vector_size(16)))

INLINE quad_f32 quad_load(const float *p)
{
    quad_f32 v;
    memcpy(&v, p, sizeof(v));
    return v;
}

INLINE void quad_store(float *p, quad_f32 v)
{
    memcpy(p, &v, sizeof(v));
}

/* Four rows of four become four columns. */
INLINE void transpose_quad(float *panel, int64_t panel_row, const float *w, int64_t w_row)
{
    quad_f32 a = quad_load(w), b = quad_load(w + w_row);
    quad_f32 c = quad_load(w + 2 * w_row), d = quad_load(w + 3 * w_row);
    quad_f32 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
    quad_f32 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    quad_f32 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    quad_f32 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);

    quad_store(panel, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
    quad_store(panel + panel_row, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
    quad_store(panel + 2 * panel_row, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
    quad_store(panel + 3 * panel_row, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/* Sixteen rows of sixteen become columns. */
#define wide_f32 float __attribute__((vector_size(64)))
#define WIDE_SHUFFLE(a, b, i0, i1, i2, i3, step)                                                   \
    __builtin_shufflevector(a, b, i0, i1, i2, i3, i0 + step, i1 + step, i2 + step, i3 + step,      \
                            i0 + 2 * step, i1 + 2 * step, i2 + 2 * step, i3 + 2 * step,            \
                            i0 + 3 * step, i1 + 3 * step, i2 + 3 * step, i3 + 3 * step)
#define WIDE_QUADS(a, b, q0, q1, q2, q3)                                                           \
    __builtin_shufflevector(a, b, 4 * q0, 4 * q0 + 1, 4 * q0 + 2, 4 * q0 + 3, 4 * q1, 4 * q1 + 1,  \
                            4 * q1 + 2, 4 * q1 + 3, 4 * q2, 4 * q2 + 1, 4 * q2 + 2, 4 * q2 + 3,    \
                            4 * q3, 4 * q3 + 1, 4 * q3 + 2, 4 * q3 + 3)
INLINE void wide_transpose(wide_f32 *x)
{
    UNROLL for (int i = 0; i < LANES; i += 4)
    {
        wide_f32 ab_low = WIDE_SHUFFLE(x[i], x[i + 1], 0, 16, 1, 17, 4);
        wide_f32 ab_high = WIDE_SHUFFLE(x[i], x[i + 1], 2, 18, 3, 19, 4);
        wide_f32 cd_low = WIDE_SHUFFLE(x[i + 2], x[i + 3], 0, 16, 1, 17, 4);
        wide_f32 cd_high = WIDE_SHUFFLE(x[i + 2], x[i + 3], 2, 18, 3, 19, 4);
        x[i] = WIDE_SHUFFLE(ab_low, cd_low, 0, 1, 16, 17, 4);
        x[i + 1] = WIDE_SHUFFLE(ab_low, cd_low, 2, 3, 18, 19, 4);
        x[i + 2] = WIDE_SHUFFLE(ab_high, cd_high, 0, 1, 16, 17, 4);
        x[i + 3] = WIDE_SHUFFLE(ab_high, cd_high, 2, 3, 18, 19, 4);
    }
    UNROLL for (int i = 0; i < 4; i++)
    {
        wide_f32 ab_low = WIDE_QUADS(x[i], x[i + 4], 0, 1, 4, 5);
        wide_f32 ab_high = WIDE_QUADS(x[i], x[i + 4], 2, 3, 6, 7);
        wide_f32 cd_low = WIDE_QUADS(x[i + 8], x[i + 12], 0, 1, 4, 5);
        wide_f32 cd_high = WIDE_QUADS(x[i + 8], x[i + 12], 2, 3, 6, 7);
        x[i] = WIDE_QUADS(ab_low, cd_low, 0, 2, 4, 6);
        x[i + 4] = WIDE_QUADS(ab_low, cd_low, 1, 3, 5, 7);
        x[i + 8] = WIDE_QUADS(ab_high, cd_high, 0, 2, 4, 6);
        x[i + 12] = WIDE_QUADS(ab_high, cd_high, 1, 3, 5, 7);
    }
}

INLINE void lanes_transpose(struct lanes *rows)
{
    float from[LANES * LANES], to[LANES * LANES];
    wide_f32 wide[LANES];

    if (PARTS == 1) {
        memcpy(wide, rows, sizeof(wide));
        wide_transpose(wide);
        memcpy(rows, wide, sizeof(wide));
        return;
    }
    memcpy(from, rows, sizeof(from));
    for (int k = 0; k < LANES; k += 4)
        for (int r = 0; r < LANES; r += 4)
            transpose_quad(to + k * LANES + r, LANES, from + r * LANES + k, LANES);
    memcpy(rows, to, sizeof(to));
}

/* The tree: lane i with i + 8, then i + 4, i + 2, i + 1. */
INLINE float lanes_sum(struct lanes x)
{
    float buffer[LANES];
    lanes_store(buffer, x);
    quad_f32 a = quad_load(buffer) + quad_load(buffer + 8);
    quad_f32 b = quad_load(buffer + 4) + quad_load(buffer + 12);
    quad_f32 c = a + b;
    c = c + __builtin_shufflevector(c, c, 2, 3, 0, 1);
    return c[0] + c[1];
}

INLINE quad_f32 quad_max(quad_f32 a, quad_f32 b)
{
    quad_i32 mask = a > b;
    return (quad_f32)((mask & (quad_i32)a) | (~mask & (quad_i32)b));
}

INLINE float lanes_largest(struct lanes x)
{
    float buffer[LANES];
    lanes_store(buffer, x);
    quad_f32 a = quad_max(quad_load(buffer), quad_load(buffer + 8));
    quad_f32 b = quad_max(quad_load(buffer + 4), quad_load(buffer + 12));
    quad_f32 c = quad_max(a, b);
    c = quad_max(c, __builtin_shufflevector(c, c, 2, 3, 0, 1));
    return c[0] > c[1] ? c[0] : c[1];
}

/* exp(x) within 2 ulp; 0 below -87.3, inf above 88.37. x = n ln 2 + r with |r| <= ln 2 / 2, then a
 * polynomial 1 + r + r^2 q(r) of least relative error (3e-9). Adding 1.5 * 2^23 rounds to an
 * integer and leaves it in the low bits, where a shift makes the exponent of 2^n. */
INLINE struct lanes lanes_exp(struct lanes x)
{
    const struct lanes magic = lanes_all(12582912.0f);
    struct lanes t = lanes_fma(x, lanes_all(1.44269504088896341f), magic);
    struct lanes n = lanes_subtract(t, magic);
    struct lanes r = lanes_fma(n, lanes_all(-0.693359375f), x);
    r = lanes_fma(n, lanes_all(2.12194440054690583e-4f), r);
    struct lanes p = lanes_all(1.38145406e-3f);
    p = lanes_fma(p, r, lanes_all(8.36874545e-3f));
    p = lanes_fma(p, r, lanes_all(4.1668389e-2f));
    p = lanes_fma(p, r, lanes_all(0.166665211f));
    p = lanes_fma(p, r, lanes_all(0.49999994f));
    p = lanes_fma(p, r, lanes_all(1.0f));
    p = lanes_fma(p, r, lanes_all(1.0f));
    UNROLL for (int i = 0; i < PARTS; i++)
    {
        vector_u32 exponent = ((vector_u32)t.part[i] << 23) + 0x3f800000u;
        vector_f32 value = p.part[i] * (vector_f32)exponent;
        value = (vector_f32)((vector_i32)value & ~(x.part[i] < -87.3f));
        vector_f32 infinite = (float)INFINITY - (vector_f32){0};
        p.part[i] = vector_choose(x.part[i] > 88.37f, infinite, value);
    }
    return p;
}

#endif
