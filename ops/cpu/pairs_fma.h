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

/* Rounded numbers as inputs: of sixteen pairs; 32 that follow each other. */
INLINE void pair_store(float *words, struct lanes even, struct lanes odd)
{
    float buffer[2][LANES];

    lanes_store(buffer[0], even);
    lanes_store(buffer[1], odd);
    for (int i = 0; i < LANES; i++) {
        words[2 * i] = buffer[0][i];
        words[2 * i + 1] = buffer[1][i];
    }
}

INLINE void pair_store_row(float *words, struct lanes first, struct lanes second)
{
    lanes_store(words, first);
    lanes_store(words + LANES, second);
}

#endif
