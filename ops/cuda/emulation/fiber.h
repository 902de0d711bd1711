/* ops/cuda/emulation/fiber.h - stacks that take turns on one thread. */
#ifndef HONE_OPS_CUDA_EMULATION_FIBER_H
#define HONE_OPS_CUDA_EMULATION_FIBER_H

#include <stddef.h>
#include <stdint.h>

struct fiber {
    void *state;   /* NULL before its first use */
};

/* The first switch to it calls entry(), which never returns. */
void fiber_start(struct fiber *fiber, void *stack, size_t bytes, void (*entry)(void));
void fiber_switch(struct fiber *from, struct fiber *to);

#endif
