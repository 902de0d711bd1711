/*
 * sandbox/filter.h - the table of system calls, private to sandbox/ and its tests.
 */
#ifndef HONE_SANDBOX_FILTER_H
#define HONE_SANDBOX_FILTER_H

#include <stdint.h>

enum filter_test {
    FILTER_ALWAYS,
    FILTER_EQUAL,       /* the argument is value; 64 bits, as all of these */
    FILTER_NOT_EQUAL,
    FILTER_AT_MOST,
    FILTER_ABOVE,
    FILTER_MASKED       /* (argument & mask) is value */
};

struct filter_rule {
    const char *name;   /* NULL ends the table; unknown to this architecture: no rule */
    int profiles;       /* bits of enum filter_profile */
    int error;          /* answer this errno; 0 allows */
    const char *reason;
    enum filter_test test;
    unsigned argument;
    uint64_t value, mask;
};

extern const struct filter_rule filter_rules[];

#endif
