/* The same through ucontext: slower, for every processor. */
#include <stdlib.h>
#include <ucontext.h>

#include "ops/cuda/emulation/fiber.h"

static ucontext_t *context_of(struct fiber *fiber)
{
    if (!fiber->state && !(fiber->state = calloc(1, sizeof(ucontext_t))))
        abort();
    return (ucontext_t *)fiber->state;
}

void fiber_start(struct fiber *fiber, void *stack, size_t bytes, void (*entry)(void))
{
    ucontext_t *context = context_of(fiber);

    getcontext(context);
    context->uc_stack.ss_sp = stack;
    context->uc_stack.ss_size = bytes;
    makecontext(context, entry, 0);
}

void fiber_switch(struct fiber *from, struct fiber *to)
{
    swapcontext(context_of(from), context_of(to));
}
