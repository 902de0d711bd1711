/*
 * bench/free_product.h - a product that may split its sums, beside which bench_exactness sets the
 * kernels that may not. Compiled once per instruction set.
 */
#ifndef HONE_BENCH_FREE_PRODUCT_H
#define HONE_BENCH_FREE_PRODUCT_H

#include "ops/cpu/kernels.h"

/* One or two rows, whole pairs of panels, n_sums (2 or 4, divides n_steps) accumulators for each
 * output; no bias, nothing added. */
#define FREE_PRODUCT(isa)                                                                          \
    __attribute__((weak)) void kernel_free_product_##isa(                                          \
        const struct product *product, int64_t n_rows, int64_t first_panel, int64_t last_panel,    \
        int n_sums);
/* NULL where this build lacks the instruction set. */
FREE_PRODUCT(baseline)
FREE_PRODUCT(avx2)
FREE_PRODUCT(avx512)
FREE_PRODUCT(avx512bf16)

#endif
