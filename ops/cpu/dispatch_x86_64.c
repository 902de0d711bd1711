#include <string.h>

#include "ops/cpu/kernels.h"

enum { CHECK_STEPS = 62, CHECK_COLUMNS = OPS_PANEL };

/* out[16] = x[62] w[62][16], with numbers of many sizes; in some columns below 2^-126 too. */
static void multiply_some(const struct kernels *kernels, float *out)
{
    float x[CHECK_STEPS], w[CHECK_STEPS * CHECK_COLUMNS], words[CHECK_STEPS], panel[sizeof(w) / 8];
    uint32_t bits = 1;

    for (int i = 0; i < CHECK_STEPS * (1 + CHECK_COLUMNS); i++) {
        bits = bits * 1664525 + 1013904223;
        int is_small = i >= CHECK_STEPS && i % 4 == 0;
        uint32_t exponent = is_small ? (bits >> 8) % 40 : 96 + (bits >> 8) % 64;
        uint32_t number = (bits & 0x807f0000u) | exponent << 23;
        memcpy(i < CHECK_STEPS ? x + i : w + i - CHECK_STEPS, &number, sizeof(number));
    }
    kernels->pair_rows(words, x, CHECK_STEPS, 1, CHECK_STEPS);
    kernels->pair_columns(panel, w, CHECK_COLUMNS, CHECK_STEPS, CHECK_COLUMNS, 0, 1);
    kernels->product(&(struct product){.a = words,
                                       .blocks = 1,
                                       .b = panel,
                                       .n_steps = CHECK_STEPS / 2,
                                       .pairs = 1,
                                       .out = out,
                                       .n_columns = CHECK_COLUMNS},
                     0, 1, 0, 1);
}

/* The instruction that multiplies pairs does what kernels without it are held to. */
static int pairs_agree(void)
{
    float native[CHECK_COLUMNS], fma[CHECK_COLUMNS];

    multiply_some(&kernels_avx512bf16, native);
    multiply_some(&kernels_avx512, fma);
    return memcmp(native, fma, sizeof(fma)) == 0;
}

const struct kernels *const *processor_kernels(void)
{
    static const struct kernels *const all[] = {&kernels_avx512bf16, &kernels_avx512, &kernels_avx2,
                                                &kernels_baseline, NULL};

    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
        && __builtin_cpu_supports("fma"))
        return __builtin_cpu_supports("avx512bf16") && pairs_agree() ? all : all + 1;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return all + 2;
    return all + 3;
}

void processor_relax(void)
{
    __builtin_ia32_pause();
}
