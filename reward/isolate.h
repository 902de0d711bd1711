/*
 * reward/isolate.h - the two sides of a plugin's process, and the frames between them.
 *
 * Frame: kind u32, bytes u32, body. Each request is answered by one frame of the same kind.
 *   LOAD    empty        -> status i32, then struct isolate_description or a reason
 *   CREATE  option lines -> status i32, then a reason when it failed
 *   SCORE   a task       -> struct verifier_verdict, then a byte when the child cannot go on
 * Both ends are the same program, so structs travel as they are.
 */
#ifndef HONE_REWARD_ISOLATE_H
#define HONE_REWARD_ISOLATE_H

#include "reward/internal.h"

#define ISOLATE_MAX_FRAME ((size_t)64 << 20)

enum isolate_kind { ISOLATE_LOAD = 0x31415101, ISOLATE_CREATE, ISOLATE_SCORE };

/* deadline on clock_ms(); 0: wait for ever. STATUS_TIMEOUT, STATUS_CLOSED, STATUS_FORMAT. */
int frame_send(int fd, uint32_t kind, const struct text *body, int64_t deadline);
/* The next frame, which must be of this kind; _any() tells its kind. */
int frame_receive(int fd, uint32_t kind, struct text *body, int64_t deadline);
int frame_receive_any(int fd, uint32_t *kind, struct text *body, int64_t deadline);

void frame_write_task(const struct verifier_task *task, struct text *out);
/* The texts of *task point into `frame`. */
int frame_read_task(const struct text *frame, struct verifier_task *task);

__attribute__((noreturn)) void isolate_child_main(int fd, pid_t parent,
                                                  const struct isolate_source *source,
                                                  const struct sandbox_config *sandbox);

#endif
