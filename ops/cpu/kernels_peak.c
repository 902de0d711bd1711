#include "ops/cpu/lanes.h"

#define N_CHAINS 12   /* enough to hide the latency of two units; fits in sixteen registers */

double KERNEL(count_peak_flops)(int64_t n_steps, float *sink)
{
    vector_f32 chain[N_CHAINS], factor = 0.999999f - (vector_f32){0}, sum = {0};

    UNROLL for (int i = 0; i < N_CHAINS; i++) chain[i] = (float)i - (vector_f32){0};
    for (int64_t step = 0; step < n_steps; step++)
        UNROLL for (int i = 0; i < N_CHAINS; i++) chain[i] = chain[i] * factor + factor;
    for (int i = 0; i < N_CHAINS; i++)
        sum += chain[i];
    *sink = sum[0];
    return 2.0 * N_CHAINS * WIDTH * (double)n_steps;
}
