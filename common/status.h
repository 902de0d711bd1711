/*
 * common/status.h - how a function in this tree says that it failed.
 *
 * A function that can fail returns int: 0, or a negative STATUS_*. The one that notices first
 * records the reason with status_fail(); the ones above forward the number with TRY(). Only cmd/
 * may exit. A mistake of ours (a wrong shape, a broken invariant) is no status: it is BUG().
 */
#ifndef HONE_COMMON_STATUS_H
#define HONE_COMMON_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

/* name, value, exit code of the program, meaning */
#define STATUS_MAP(X)                                                                              \
    X(NOMEM, -1, 1, "out of memory")                                                               \
    X(IO, -2, 5, "input or output failed")                                                         \
    X(CONFIG, -3, 2, "configuration is invalid")                                                   \
    X(FORMAT, -4, 4, "file or message is malformed")                                               \
    X(VERSION, -5, 4, "version does not match")                                                    \
    X(TIMEOUT, -6, 6, "deadline passed")                                                           \
    X(CLOSED, -7, 6, "peer went away")                                                             \
    X(DEVICE, -8, 7, "accelerator failed")                                                         \
    X(UNSUPPORTED, -9, 7, "not possible in this build or on this machine")                         \
    X(INTERRUPTED, -10, 3, "interrupted; can be resumed")                                          \
    X(FAILED, -11, 1, "failed")                                                                    \
    X(STUCK, -12, 8, "nothing came any more")

enum status {
    STATUS_OK = 0,
#define X(name, value, exit_code, text) STATUS_##name = (value),
    STATUS_MAP(X)
#undef X
};

/* Records why in this thread and returns `status`, so that a caller can write
 *     return status_fail(STATUS_IO, "open %s: %s", path, strerror(errno)); */
int status_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Puts "text: " before the recorded reason and returns `status`: where, after what. */
int status_context(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

const char *status_name(int status);   /* "STATUS_IO"; never NULL */
int status_exit_code(int status);      /* 0 for STATUS_OK; the table above */
const char *status_reason(void);       /* text of this thread's last failure; never NULL */

/* Forwards a failure. For a function that holds nothing yet; one that does uses `goto out`. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int try_status_ = (call);                                                                  \
        if (try_status_ < 0)                                                                       \
            return try_status_;                                                                    \
    } while (0)

/* The same for a function that holds something: sets the int `status` and goes to `out`. */
#define TRY_OUT(call)                                                                              \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status < 0)                                                                            \
            goto out;                                                                              \
    } while (0)

#define BUG(...) status_bug(__FILE__, __LINE__, __VA_ARGS__)
__attribute__((noreturn)) void status_bug(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __cplusplus
}
#endif
#endif
