/*
 * ops/cpu/pairs_native.h - pairs of bfloat16 on a processor that multiplies them itself.
 * Private to the kernels_*.c files; pairs_fma.h is the same without the instruction.
 *
 * A word of inputs is the even number in its low half, the odd one in its high half.
 */
#ifndef HONE_OPS_CPU_PAIRS_H
#define HONE_OPS_CPU_PAIRS_H

#include <immintrin.h>

#include "ops/cpu/lanes.h"

enum { PAIR_WORDS = 1 };   /* of four bytes, that a pair of inputs takes */

/* sum + odd * odd, then + even * even. */
INLINE vector_f32 pair_multiply(vector_f32 sum, const float *inputs, vector_f32 pairs)
{
    int word;
    memcpy(&word, inputs, sizeof(word));
    return (vector_f32)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(word),
                                        (__m512bh)pairs);
}

/* Rounded numbers as inputs: of sixteen pairs; 32 that follow each other. */
INLINE void pair_store(float *words, struct lanes even, struct lanes odd)
{
    lanes_store(words, lanes_join(even, odd));
}

INLINE void pair_store_row(float *words, struct lanes first, struct lanes second)
{
    uint16_t halves[2 * LANES];
    lanes_narrow(halves, first);
    lanes_narrow(halves + LANES, second);
    memcpy(words, halves, sizeof(halves));
}

#endif
