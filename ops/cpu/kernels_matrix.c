/* Weights on their way into a product: adapters added, numbers rounded to bfloat16. */
#include "ops/cpu/lanes.h"

void KERNEL(add_scaled)(float *out, const float *in, float factor, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        struct lanes sum = lanes_fma(lanes_all(factor), lanes_get(in + i, n - i, 0),
                                     lanes_get(out + i, n - i, 0));
        lanes_put(out + i, sum, n - i);
    }
}

void KERNEL(round_bf16)(float *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES)
        lanes_put(out + i, lanes_round_bf16(lanes_get(in + i, n - i, 0)), n - i);
}

void KERNEL(round_stochastic)(float *x, uint64_t noise, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits, is_number = (uint32_t)-(x[i] == x[i]);
        memcpy(&bits, x + i, sizeof(bits));
        uint32_t above = (uint32_t)(splitmix64(noise, (uint64_t)(first + i)) >> 48);
        bits = ((bits + above) & is_number) | ((bits | 0x007fffffu) & ~is_number);
        bits &= 0xffff0000u;
        memcpy(x + i, &bits, sizeof(bits));
    }
}
