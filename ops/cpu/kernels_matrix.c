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

void KERNEL(narrow_bf16)(uint16_t *out, const float *in, int64_t n)
{
    for (int64_t i = 0; i < n; i += LANES) {
        uint32_t bits[LANES];
        struct lanes rounded = lanes_round_bf16(lanes_get(in + i, n - i, 0));
        memcpy(bits, &rounded, sizeof(bits));
        for (int64_t k = 0; k < min_i64(LANES, n - i); k++)
            out[i + k] = (uint16_t)(bits[k] >> 16);
    }
}

void KERNEL(widen_bf16)(float *out, const uint16_t *in, int64_t n)
{
    int64_t whole = n / WIDTH * WIDTH;

    for (int64_t i = 0; i < whole; i += WIDTH)
        vector_store(out + i, vector_widen(in + i));
    for (int64_t i = whole; i < n; i++) {
        uint32_t bits = (uint32_t)in[i] << 16;
        memcpy(&out[i], &bits, sizeof(bits));
    }
}
