#include <time.h>

#include "common/files.h"
#include "math/deadline.h"

static int64_t thread_cpu_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void deadline_start(struct deadline *deadline, int64_t cpu_ms, int64_t wall_ms)
{
    int64_t now_ms = clock_ms();

    deadline->cpu_us = thread_cpu_us() + cpu_ms * 1000;
    deadline->wall_ms = now_ms + wall_ms;
    deadline->not_before_ms = now_ms + cpu_ms;
}

void deadline_charge(struct deadline *deadline, int64_t cpu_us)
{
    deadline->cpu_us -= cpu_us;
}

int64_t deadline_cpu_left_us(const struct deadline *deadline)
{
    return deadline->cpu_us - thread_cpu_us();
}

int64_t deadline_wall_left_ms(const struct deadline *deadline)
{
    return deadline->wall_ms - clock_ms();
}

/* Asked at every node: a thread and a child that take turns use no more CPU time than goes by on
 * the wall, whose clock is no system call. */
int deadline_is_over(const struct deadline *deadline)
{
    int64_t now_ms = clock_ms();

    if (now_ms >= deadline->wall_ms)
        return 1;
    return now_ms >= deadline->not_before_ms && deadline_cpu_left_us(deadline) <= 0;
}
