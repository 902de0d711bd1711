/* tests/shim/limits.h - what the test says to limits.c, and hears from it. */
#ifndef HONE_TESTS_SHIM_LIMITS_H
#define HONE_TESTS_SHIM_LIMITS_H

#include <stdatomic.h>

struct limits_page {
    _Atomic int resource;     /* of setrlimit() that fails; -1: none */
    char file[64];            /* of a control group that cannot be written; "": none */
    atomic_long n_struck;
};

#endif
