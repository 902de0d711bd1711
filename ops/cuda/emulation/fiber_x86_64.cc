/* A switch of stacks: what the System V ABI says that a call keeps. */
#include "ops/cuda/emulation/fiber.h"

asm(R"(
    .text
    .globl emulation_switch_stack
    .type emulation_switch_stack, @function
emulation_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size emulation_switch_stack, .-emulation_switch_stack
    .section .note.GNU-stack,"",@progbits
    .text
)");

extern "C" void emulation_switch_stack(void **from, void *to);

void fiber_start(struct fiber *fiber, void *stack, size_t bytes, void (*entry)(void))
{
    void **top = (void **)((uintptr_t)((char *)stack + bytes) & ~(uintptr_t)15);

    *--top = NULL;                  /* where entry would return to; it never does */
    *--top = (void *)entry;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    fiber->state = top;
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    emulation_switch_stack(&from->state, to->state);
}
