/* Inputs, and bits compared, for test_ops_exactness.c and test_ops_exactness_decode.c. */
#ifndef HONE_TESTS_UNIT_TEST_OPS_EXACTNESS_H
#define HONE_TESTS_UNIT_TEST_OPS_EXACTNESS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "common/random.h"
#include "ops/ops.h"

/* Odd on purpose: no dimension is a whole number of vectors, panels or tiles. */
enum { N = 257, C = 100, M = 75, V = 333, H = 6, K = 2, D = 20, KEYS = 70 };

static inline float *random_floats(int64_t n, uint64_t seed)
{
    struct random_stream stream = {.seed = seed};
    float *x = calloc((size_t)n, sizeof(*x));

    for (int64_t i = 0; i < n; i++)
        x[i] = (float)random_normal(&stream);
    return x;
}

static inline int32_t *random_indices(int64_t n, int64_t limit)
{
    struct random_stream stream = {.seed = 99};
    int32_t *x = calloc((size_t)n, sizeof(*x));

    for (int64_t i = 0; i < n; i++)
        x[i] = (int32_t)random_below(&stream, (uint64_t)limit);
    return x;
}

static inline struct ops *open_ops(const char *device, int n_threads)
{
    struct ops *ops = NULL;

    if (ops_create(&ops, device, n_threads) < 0)
        skip();
    return ops;
}

static inline void assert_same_bits(const float *a, const float *b, int64_t n)
{
    assert_memory_equal(a, b, (size_t)n * sizeof(float));
}

#define ON(test, device) {#test " on " device, test, NULL, NULL, (void *)(uintptr_t)(device)}

#endif
