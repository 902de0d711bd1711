/*
 * math/child.h - arithmetic that may hang, crash or take too much memory, in a process of its own.
 *
 * The child is forked at the first request and kept. It gets a frame, answers with one, and is
 * killed when its answer is late (deadline.h). One thread at a time uses a child; each thread may
 * have its own. A child dies with the thread that forked it, and is forked again by the next that
 * asks.
 * The parent must not call what `serve` calls (FLINT): a fork while another thread is inside it
 * would leave its locks held in the child for ever.
 */
#ifndef HONE_MATH_CHILD_H
#define HONE_MATH_CHILD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/memory.h"
#include "math/deadline.h"

enum child_limit {
    CHILD_FRAME_BYTES = 1 << 20,
    CHILD_MEMORY_BYTES = 1 << 30,   /* beyond what it has when it is forked */
};

enum child_outcome {
    CHILD_OK,
    CHILD_LATE,      /* killed at the deadline */
    CHILD_FAILED,    /* crashed, ended, ran out of memory, answered nonsense */
    CHILD_KILLED,    /* from outside, or before it could begin; twice */
    CHILD_ABSENT,    /* could not be started */
};

struct child;
/* Forks nothing yet. `serve` runs in the child and appends an answer to `reply`; it may crash or
 * never return. */
void child_create(struct child **out,
                  void (*serve)(const struct text *request, struct text *reply));
void child_destroy(struct child **child);

/* The child's CPU time is charged to the deadline. A request is sent again, once, when the child
 * was killed from outside meanwhile, or could not begin: serve() must give equal answers to equal
 * requests. */
enum child_outcome child_ask(struct child *child, const struct text *request, struct text *reply,
                             struct deadline *deadline);

pid_t child_pid(const struct child *child);   /* 0: none now; for tests */

#endif
