/*
 * math/deadline.h - how long a verdict may take.
 *
 * What counts is CPU time, that of the calling thread and of the child together: a verdict must not
 * depend on how busy the machine is. Behind it stands a time on the wall, for what neither works
 * nor ends. Of one thread, which is the one that started it.
 */
#ifndef HONE_MATH_DEADLINE_H
#define HONE_MATH_DEADLINE_H

#include <stdint.h>

enum deadline_limit {
    DEADLINE_CPU_MS = 200,
    DEADLINE_WALL_MS = 2000,
};

struct deadline {
    int64_t cpu_us;                 /* of this thread's CPU clock */
    int64_t wall_ms;                /* of clock_ms() */
    int64_t not_before_ms;          /* of clock_ms(): too early for cpu_us to have come */
};

void deadline_start(struct deadline *deadline, int64_t cpu_ms, int64_t wall_ms);
/* CPU time that another process has used for it. */
void deadline_charge(struct deadline *deadline, int64_t cpu_us);
int64_t deadline_cpu_left_us(const struct deadline *deadline);
int64_t deadline_wall_left_ms(const struct deadline *deadline);
int deadline_is_over(const struct deadline *deadline);

#endif
