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

/* The instruction that rounds takes numbers below 2^-126 for zero before it does: those that are
 * there, rarely, go the long way. */
INLINE int pair_all_normal(__m512 a, __m512 b)
{
    enum { DENORMAL = 0x20 };

    return !(_mm512_fpclass_ps_mask(a, DENORMAL) | _mm512_fpclass_ps_mask(b, DENORMAL));
}

/* Sixteen words, rounded: of the even and the odd numbers; of 32 that follow each other. */
INLINE struct lanes pair_join(struct lanes even, struct lanes odd)
{
    if (__builtin_expect(!pair_all_normal((__m512)even.part[0], (__m512)odd.part[0]), 0))
        return lanes_pair(even, odd);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9,
                                           24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
                                           16, 0);
    __m512bh both = _mm512_cvtne2ps_pbh((__m512)odd.part[0], (__m512)even.part[0]);
    return (struct lanes){{(vector_f32)_mm512_permutexvar_epi16(order, (__m512i)both)}};
}

INLINE struct lanes pair_row(struct lanes first, struct lanes second)
{
    if (__builtin_expect(!pair_all_normal((__m512)first.part[0], (__m512)second.part[0]), 0))
        return lanes_pair_row(first, second);
    return (struct lanes){
        {(vector_f32)_mm512_cvtne2ps_pbh((__m512)second.part[0], (__m512)first.part[0])}};
}

/* Sixteen words as inputs. */
INLINE void pair_store(float *inputs, struct lanes words)
{
    lanes_store(inputs, words);
}

#endif
