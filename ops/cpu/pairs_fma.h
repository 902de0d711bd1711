/*
 * ops/cpu/pairs_fma.h - pairs of bfloat16 by two multiply-adds of float32: the bits of
 * pairs_native.h. Private to the kernels_*.c files.
 *
 * A product of two bfloat16 is exact in float32, so that even without a fused multiply-add the bits
 * are the same, but where a product alone is beyond the range of float32.
 */
#ifndef HONE_OPS_CPU_PAIRS_H
#define HONE_OPS_CPU_PAIRS_H

#include "ops/cpu/lanes.h"

enum { PAIR_WORDS = 2 };   /* of four bytes, that a pair of inputs takes: they lie widened */

/* sum + odd * odd, then + even * even. */
INLINE vector_f32 pair_multiply(vector_f32 sum, const float *inputs, vector_f32 pairs)
{
    vector_f32 even = (vector_f32)((vector_u32)pairs << 16);
    vector_f32 odd = (vector_f32)((vector_u32)pairs & 0xffff0000u);

    sum = inputs[1] * odd + sum;
    return inputs[0] * even + sum;
}

/* Sixteen words, rounded: of the even and the odd numbers; of 32 that follow each other. */
INLINE struct lanes pair_join(struct lanes even, struct lanes odd)
{
    return lanes_pair(even, odd);
}

INLINE struct lanes pair_row(struct lanes first, struct lanes second)
{
    return lanes_pair_row(first, second);
}

/* Sixteen words as inputs. */
INLINE void pair_store(float *inputs, struct lanes words)
{
    uint32_t from[LANES], to[LANES][2];

    memcpy(from, &words, sizeof(from));
    for (int i = 0; i < LANES; i++) {
        to[i][0] = from[i] << 16;
        to[i][1] = from[i] & 0xffff0000u;
    }
    memcpy(inputs, to, sizeof(to));
}

#endif
