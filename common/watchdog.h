/*
 * common/watchdog.h - a process that gets nowhere ends with a report instead of idling.
 *
 * Whoever works says so with pulse(); a thread looks whether anybody did. After stuck_ms without it
 * prints what the process was at and the stacks of its threads, and ends it with the exit code of
 * STATUS_STUCK. Time in which the whole process stood still (SIGSTOP, a machine asleep) does not
 * count. One per process.
 */
#ifndef HONE_COMMON_WATCHDOG_H
#define HONE_COMMON_WATCHDOG_H

#include <stdint.h>

#include "common/memory.h"

/* A step was made. `doing`: what begins now, text that lives as long as the program; NULL: what it
 * was. Any thread; costs two stores. */
void pulse(const char *doing);

struct watchdog;
struct watchdog_options {
    int64_t stuck_ms;
    const char *setting;                  /* what people turn: "run.stuck_ms" */
    const char *report;                   /* file to write; NULL: the report goes to stderr */
    /* (optional) What else the report says; must not touch what the stuck threads may hold. */
    void (*describe)(struct text *out, const void *context);
    const void *context;
};
/* The options and what they point to must live until watchdog_stop(). */
int watchdog_start(struct watchdog **out, const struct watchdog_options *options);
void watchdog_stop(struct watchdog **watchdog);

/* ---- stacks.c: what each thread of this process is at, for a report that is the process's last
 * act: the threads are interrupted by a signal. prepare: once, before there is trouble. */
int stacks_prepare(void);
void stacks_print(int fd);

#endif
