/*
 * tests/shim/trace.h - what trace.c writes: one record for each change below a directory, in the
 * order in which they took effect. A record, its path or its bytes behind it.
 */
#ifndef HONE_TESTS_SHIM_TRACE_H
#define HONE_TESTS_SHIM_TRACE_H

#include <stdint.h>

enum trace_op {
    TRACE_CREATE,     /* path: file `inode` is new */
    TRACE_WRITE,      /* bytes at `offset` */
    TRACE_TRUNCATE,   /* to `offset` bytes */
    TRACE_SYNC,       /* fsync or fdatasync of the file */
    TRACE_SYNC_DIRECTORY,
    TRACE_MKDIR,
    TRACE_RENAME,     /* "from", NUL, "to" */
    TRACE_REMOVE
};

struct trace_record {
    uint32_t op, n;       /* n bytes follow */
    uint64_t inode, offset;
};

#endif
