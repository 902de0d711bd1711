#include "common/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON_BYTES 1024

static _Thread_local char reason[REASON_BYTES] = "no reason recorded";

int status_fail(int status, const char *format, ...)
{
    /* The arguments may point into the old reason: format beside it, then copy. */
    char fresh[REASON_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(fresh, sizeof(fresh), format, arguments);
    va_end(arguments);
    memcpy(reason, fresh, sizeof(reason));
    return status;
}

int status_context(int status, const char *format, ...)
{
    char before[REASON_BYTES];
    char joined[2 * REASON_BYTES + 2];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(before, sizeof(before), format, arguments);
    va_end(arguments);
    snprintf(joined, sizeof(joined), "%s: %s", before, reason);
    memcpy(reason, joined, sizeof(reason) - 1);
    return status;
}

const char *status_name(int status)
{
    switch (status) {
    case STATUS_OK:
        return "STATUS_OK";
#define X(name, value, exit_code, text)                                                            \
    case STATUS_##name:                                                                            \
        return "STATUS_" #name;
        STATUS_MAP(X)
#undef X
    default:
        return "STATUS_?";
    }
}

int status_exit_code(int status)
{
    switch (status) {
    case STATUS_OK:
        return 0;
#define X(name, value, exit_code, text)                                                            \
    case STATUS_##name:                                                                            \
        return exit_code;
        STATUS_MAP(X)
#undef X
    default:
        return 1;
    }
}

const char *status_reason(void)
{
    return reason;
}

void status_bug(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    fprintf(stderr, "hone: BUG at %s:%d: ", file, line);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    abort();
}
