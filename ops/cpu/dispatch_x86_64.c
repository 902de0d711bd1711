#include "ops/cpu/kernels.h"

const struct kernels *const *processor_kernels(void)
{
    static const struct kernels *const all[] = {&kernels_avx512, &kernels_avx2, &kernels_baseline,
                                                NULL};

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("fma"))
        return all;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return all + 1;
    return all + 2;
}

void processor_relax(void)
{
    __builtin_ia32_pause();
}
