/* ops/checks.h - checks of shapes, types and indices for calls*.c. Private to ops/. */
#ifndef HONE_OPS_CHECKS_H
#define HONE_OPS_CHECKS_H

#include "common/status.h"
#include "ops/backend.h"

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition))                                                                          \
            BUG("%s: does not hold: %s", __func__, #condition);                                    \
    } while (0)

#define CHECK_1D(t, a) ops_check_tensor(__func__, #t, t, DTYPE_F32, 1, a, 1, 1)
#define CHECK_2D(t, a, b) ops_check_tensor(__func__, #t, t, DTYPE_F32, 2, a, b, 1)
#define CHECK_3D(t, a, b, c) ops_check_tensor(__func__, #t, t, DTYPE_F32, 3, a, b, c)
#define CHECK_I32(t, a) ops_check_tensor(__func__, #t, t, DTYPE_I32, 1, a, 1, 1)

/* [a,b,c]; pass 1 for the dimensions that it lacks. */
void ops_check_tensor(const char *op, const char *name, const struct tensor *tensor,
                      enum dtype dtype, int n_dims, int64_t a, int64_t b, int64_t c);
/* Any shape, the same for both. */
void ops_check_same(const char *op, const struct tensor *a, const struct tensor *b);
/* Indices are looked at where the device's memory can be read. */
void ops_check_indices(const struct ops *ops, const char *op, const struct tensor *indices,
                       int64_t limit);
void ops_check_matrix(const char *op, const struct matrix *matrix, int64_t M, int64_t C);

#endif
