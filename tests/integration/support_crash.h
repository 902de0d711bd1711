/*
 * tests/integration/support_crash.h - what a disk holds after the power failed.
 *
 * A trace (tests/shim/trace.h) is every change of a directory in order. crash_write() makes the
 * directory as it would be found when the power fails behind record `n`. What was synced is there;
 * of the rest:
 *   CRASH_KILL     everything: a killed process, not a power cut
 *   CRASH_STRICT   nothing: neither bytes of a file nor names in a directory that were not synced
 *   CRASH_NAMES    all names, none of the bytes: what a disk that delays writing may do
 *   CRASH_TORN     each 4 KiB block or not, each file's new length or not, and of the names those
 *                  up to some point in time: what a disk with a journal of names may do
 */
#ifndef HONE_TESTS_INTEGRATION_SUPPORT_CRASH_H
#define HONE_TESTS_INTEGRATION_SUPPORT_CRASH_H

#include <stddef.h>
#include <stdint.h>

enum crash_kind { CRASH_KILL, CRASH_STRICT, CRASH_NAMES, CRASH_TORN };
#define N_CRASH_KINDS 4

struct crash_trace {
    char *bytes;
    size_t *records;      /* where each begins */
    size_t n;
};
void crash_read(struct crash_trace *trace, const char *path);
void crash_release(struct crash_trace *trace);
void crash_write(const struct crash_trace *trace, size_t n, enum crash_kind kind, uint64_t seed,
                 const char *directory);

#endif
