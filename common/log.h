/*
 * common/log.h - one emitter for what people read while hone runs.
 *
 * Lines go to stderr: "12:03:55 info  learner  step=12 text". With log_set_json(1) they are JSON
 * lines. A progress bar is drawn on a terminal, and is plain lines every few seconds in a pipe.
 */
#ifndef HONE_COMMON_LOG_H
#define HONE_COMMON_LOG_H

#include <stdint.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);   /* default LOG_INFO */
void log_set_json(int on);
void log_set_name(const char *name);        /* of this process, "rollout-1"; default "hone" */

void log_write(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)

/* Progress of something that may take over two seconds. `label` names it; `done` of `total`.
 * The tail (may be "") shows the latest figures. Quiet until two seconds have passed. */
struct progress {
    const char *label;
    int64_t total, done, done_before;
    int64_t started_ms, shown_ms;
    int shown;
};
/* `done` of it was done before, in an earlier run, and does not count for the ETA. */
void progress_begin(struct progress *progress, const char *label, int64_t done, int64_t total);
void progress_update(struct progress *progress, int64_t done, const char *tail_format, ...)
    __attribute__((format(printf, 3, 4)));
void progress_end(struct progress *progress);   /* clears the bar */

#endif
