/* ops/cpu/flush_x86.h - numbers below 2^-126 are zero meanwhile, as the instruction that multiplies
 * pairs takes and gives them. Private to the kernels_*.c files. */
#ifndef HONE_OPS_CPU_FLUSH_H
#define HONE_OPS_CPU_FLUSH_H

#include "ops/cpu/lanes.h"

enum { FLUSH_BITS = 0x8040 };   /* of MXCSR: results to zero, operands to zero */

INLINE unsigned flush_start(void)
{
    unsigned before = __builtin_ia32_stmxcsr();
    __builtin_ia32_ldmxcsr(before | FLUSH_BITS);
    return before;
}

INLINE void flush_end(unsigned before)
{
    __builtin_ia32_ldmxcsr(before);
}

#endif
