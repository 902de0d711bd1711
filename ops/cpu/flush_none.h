/* ops/cpu/flush_none.h - a processor whose numbers below 2^-126 are kept. Private to the
 * kernels_*.c files. */
#ifndef HONE_OPS_CPU_FLUSH_H
#define HONE_OPS_CPU_FLUSH_H

#include "ops/cpu/lanes.h"

INLINE unsigned flush_start(void)
{
    return 0;
}

INLINE void flush_end(unsigned before)
{
    (void)before;
}

#endif
